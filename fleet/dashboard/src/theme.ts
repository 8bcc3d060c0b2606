// Mantine's defaults, corrected once: names of close buttons, focus on tooltips, two accents.
import { createTheme, Modal, Tooltip, type MantineColorsTuple } from "@mantine/core";
import { text } from "./strings";

const blue: MantineColorsTuple = [
  "#e8f3fa", "#cfe4f2", "#a3cbe6", "#73b0d9", "#4a98cc", "#2a86c3", "#0072b2", "#0b5c8f", "#084a74", "#05395a",
];

/** For acts that take something away. */
const bad: MantineColorsTuple = [
  "#fdeee6", "#fbdccb", "#f6b896", "#f0925e", "#ea7533", "#e0651a", "#d55e00", "#b23c00", "#8c3000", "#6b2500",
];

/** Dark surfaces with a trace of blue, as in styles.css. */
const dark: MantineColorsTuple = [
  "#e3e9ee", "#c3ccd5", "#a0adb9", "#7b8895", "#3a4651", "#2e3842", "#1f272f", "#192027", "#151b21", "#11161b",
];

export const theme = createTheme({
  colors: { blue, bad, dark },
  primaryColor: "blue",
  primaryShade: { light: 7, dark: 7 },
  fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
  fontFamilyMonospace: 'ui-monospace, "SF Mono", "Cascadia Mono", "Roboto Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
  fontSizes: { xs: "12px", sm: "13px", md: "14px", lg: "16px", xl: "20px" },
  defaultRadius: "sm",
  cursorType: "pointer",
  focusRing: "auto",
  respectReducedMotion: true,
  components: {
    Modal: Modal.extend({ defaultProps: { closeButtonProps: { "aria-label": text.close }, centered: true } }),
    Tooltip: Tooltip.extend({ defaultProps: { withArrow: true, openDelay: 200, events: { hover: true, focus: true, touch: true } } }),
  },
});
