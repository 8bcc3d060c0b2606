// A button that says why it cannot be pressed, to eyes on hover or focus and to readers always.
import { Button, Tooltip } from "@mantine/core";

interface ActProps {
  label: string;
  whyNot: string | null;
  /** What it is about, for readers, where the label alone would stand several times on a page. */
  describe?: string;
  danger?: boolean;
  /** The act that one came for. */
  main?: boolean;
  onClick: () => void;
}

export function Act({ label, describe, whyNot, danger = false, main = false, onClick }: ActProps) {
  const button = (
    <Button
      size="xs"
      variant={main && whyNot === null ? "filled" : "default"}
      // data-disabled and not disabled: it stays reachable, so that its reason can be read.
      data-disabled={whyNot === null ? undefined : true}
      aria-disabled={whyNot === null ? undefined : true}
      aria-label={describe}
      aria-description={whyNot ?? undefined}
      style={danger && whyNot === null ? { color: "var(--m-bad)" } : undefined}
      onClick={(event) => {
        if (whyNot === null) onClick();
        else event.preventDefault();
      }}
    >
      {label}
    </Button>
  );
  // Always within it, so that the button stays the same one, with its focus, when its reason comes or goes.
  return (
    <Tooltip label={whyNot ?? ""} disabled={whyNot === null}>
      {button}
    </Tooltip>
  );
}
