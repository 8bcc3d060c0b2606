// A number that is typed. What is none yet stays in the field and changes nothing; left like that, the last number comes back.
import { NumberInput, type NumberInputProps } from "@mantine/core";
import { useState } from "react";
import { numberOf } from "./numbers";

interface NumberFieldProps extends Omit<NumberInputProps, "value" | "onChange" | "onBlur"> {
  value: number | undefined;
  change: (value: number) => void;
  /** Where none at all means something. */
  clear?: () => void;
}

export function NumberField({ value, change, clear, ...props }: NumberFieldProps) {
  const [typed, setTyped] = useState<number | string | null>(null);
  return (
    <NumberInput
      min={0}
      hideControls
      {...props}
      value={typed ?? value ?? ""}
      onChange={(next) => {
        setTyped(next);
        const read = numberOf(next);
        if (read !== null) change(read);
        else if (next === "") clear?.();
      }}
      onBlur={() => setTyped(null)}
    />
  );
}
