// Keys that work anywhere but in a field, and the dialog that lists them.
import { Kbd, Modal } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { text } from "../strings";

const places = { o: "/", r: "/rollouts", d: "/devices", f: "/drift", m: "/models", t: "/runs", a: "/audit", s: "/settings", w: "/access" } as const;
const chordMs = 1_200;

interface Acts {
  search: () => void;
  help: () => void;
  pause: () => void;
}

export function useShortcuts(acts: Acts): void {
  const navigate = useNavigate();
  const latest = useRef(acts);
  useEffect(() => {
    latest.current = acts;
  });
  useEffect(() => {
    let goUntil = 0;
    const pressed = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(event.target)) return;
      const going = performance.now() < goUntil;
      goUntil = 0;
      const place = going ? placeOf(event.key) : null;
      if (place !== null) void navigate({ to: place });
      else if (event.key === "g") goUntil = performance.now() + chordMs;
      else if (event.key === "/") latest.current.search();
      else if (event.key === "?") latest.current.help();
      else if (event.key === "p") latest.current.pause();
      else if (event.key === "n") void navigate({ to: "/rollouts/new" });
      else if (event.key === "j") step(1);
      else if (event.key === "k") step(-1);
      else return;
      event.preventDefault();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, [navigate]);
}

/** To the first link or button of the list's next entry, or of the one before. */
function step(by: 1 | -1): void {
  const entries = [...document.querySelectorAll<HTMLElement>("main [data-row]")];
  const here = entries.findLastIndex((entry) => entry.contains(document.activeElement));
  const reachable = (entry: HTMLElement | undefined): HTMLElement | null => entry?.querySelector<HTMLElement>("a, button") ?? null;
  let next = here === -1 && by === -1 ? entries.length - 1 : here + by;
  while (entries[next] !== undefined && reachable(entries[next]) === null) next += by;
  const found = reachable(entries[next]);
  found?.scrollIntoView({ block: "nearest" });
  found?.focus();
}

function placeOf(key: string): (typeof places)[keyof typeof places] | null {
  return key in places ? places[key as keyof typeof places] : null;
}

function typing(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || target.closest('input, textarea, select, [role="dialog"]') !== null;
}

export function HelpDialog({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  return (
    <Modal opened={opened} onClose={onClose} title={<span className="strong">{text.help.title}</span>}>
      <dl className="facts">
        {text.help.rows.map(([keys, meaning]) => (
          <div key={meaning} style={{ display: "contents" }}>
            <dt>
              {keys.map((key) => (
                <Kbd key={key} mr={4}>
                  {key}
                </Kbd>
              ))}
            </dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
    </Modal>
  );
}
