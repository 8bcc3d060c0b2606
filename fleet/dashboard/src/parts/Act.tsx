// A button that says why it cannot be pressed, to eyes on hover or focus and to readers always.
import { Button, Tooltip } from "@mantine/core";

interface ActProps {
  label: string;
  whyNot: string | null;
  danger?: boolean;
  onClick: () => void;
}

export function Act({ label, whyNot, danger = false, onClick }: ActProps) {
  const button = (
    <Button
      size="xs"
      variant="default"
      // data-disabled and not disabled: it stays reachable, so that its reason can be read.
      data-disabled={whyNot === null ? undefined : true}
      aria-disabled={whyNot === null ? undefined : true}
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
  return whyNot === null ? button : <Tooltip label={whyNot}>{button}</Tooltip>;
}
