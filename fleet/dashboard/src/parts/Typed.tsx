// A text field that asks when typing pauses. It follows the address too: Back and a link elsewhere change what it holds.
import { TextInput, type TextInputProps } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { useEffect, useRef, useState } from "react";

export const typingMs = 250;

interface TypedProps extends Omit<TextInputProps, "value" | "onChange"> {
  value?: string | undefined;
  change: (value: string | undefined) => void;
}

export function Typed({ value = "", change, ...props }: TypedProps) {
  const [typed, setTyped] = useState(value);
  const sent = useRef(value);
  const later = useDebouncedCallback((next: string) => {
    sent.current = next;
    change(next === "" ? undefined : next);
  }, typingMs);
  useEffect(() => {
    if (value !== sent.current) {
      sent.current = value;
      setTyped(value);
    }
  }, [value]);
  return (
    <TextInput
      size="xs"
      maxLength={128}
      {...props}
      value={typed}
      onChange={(event) => {
        setTyped(event.currentTarget.value);
        later(event.currentTarget.value.trim());
      }}
    />
  );
}
