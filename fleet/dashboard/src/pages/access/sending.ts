// What the forms of this page have in common: sent once, closed when it is done, and a refusal in words.
import { useState, type FormEvent } from "react";
import type { Person, PersonChange } from "../../api/types";

export const passwordMin = 12;
export const passwordMax = 256;

export interface Sending {
  busy: boolean;
  failure: string | null;
  submit: (event: FormEvent) => void;
}

export function useSending(act: () => Promise<unknown>, done: () => void): Sending {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string | null>(null);
  const run = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      await act();
      done();
    } catch (cause) {
      setFailure(cause instanceof Error ? cause.message : String(cause));
      setBusy(false);
    }
  };
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (!busy) void run();
  };
  return { busy, failure, submit };
}

/** `a, b` as its parts. */
export function listed(line: string): string[] {
  return line.split(",").map((part) => part.trim()).filter((part) => part !== "");
}

export const roleNames = ["viewer", "operator", "approver", "admin"] as const;

/** Lines such as `er: operator` as roles by project, or the first line that is none. */
export function rolesOf(lines: string): Record<string, string> | string {
  const roles: Record<string, string> = {};
  for (const line of lines.split("\n").map((each) => each.trim()).filter((each) => each !== "")) {
    const [project = "", role = "", ...more] = line.split(":").map((part) => part.trim());
    if (project === "" || more.length > 0 || !roleNames.some((name) => name === role)) return line;
    roles[project] = role;
  }
  return roles;
}

/** As `rolesOf` reads them. */
export function rolesLines(roles: Record<string, string>): string {
  return Object.entries(roles).map(([project, role]) => `${project}: ${role}`).join("\n");
}

interface Edited {
  lines: string;
  letIn: boolean;
  password: string;
}

/** Only what was changed here: what is left out stays, also where somebody else has changed it since. */
export function changeOf({ roles: before, disabled }: Pick<Person, "roles" | "disabled">, { lines, letIn, password }: Edited): PersonChange | string {
  const roles = rolesOf(lines);
  if (typeof roles === "string") return roles;
  return {
    ...(lines === rolesLines(before) ? {} : { roles }),
    ...(letIn === !disabled ? {} : { disabled: !letIn }),
    ...(password === "" ? {} : { password }),
  };
}
