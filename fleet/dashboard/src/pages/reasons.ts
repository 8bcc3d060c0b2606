// Why a rollout does not go on, by reason code. Pure.
import type { Page, RolloutDevice, WaitingFor } from "../api/types";

export interface ReasonGroup {
  code: string;
  sentences: string[];
  /** That say this very reason of themselves; 0 where it is one of the rollout as a whole. */
  devices: number;
  next: string;
}

/** The engine's reasons, each code once, the one that holds up most devices first; next steps are the devices' own. */
export function grouped(waiting: WaitingFor[], { items, next: more }: Page<RolloutDevice>): ReasonGroup[] {
  return [...new Set(waiting.map(({ code }) => code))]
    .map((code) => {
      const said = waiting.filter((one) => one.code === code);
      const held = items.filter((device) => device.code === code);
      // The engine counts all devices, a page of them only its own.
      const all = more == null ? held.length : said.reduce((sum, { devices }) => sum + (devices ?? 0), 0);
      const next = said.find((one) => one.next != null)?.next ?? held[0]?.next ?? "";
      return { code, sentences: said.map(({ sentence }) => sentence), devices: held.length === 0 ? 0 : all, next };
    })
    .toSorted((a, b) => b.devices - a.devices);
}

export interface ReasonCount {
  code: string;
  devices: number;
}

/** How many devices are where they are for which reason, the most frequent first. */
export function byReason(devices: Pick<RolloutDevice, "code">[]): ReasonCount[] {
  const counts = new Map<string, number>();
  for (const { code } of devices) counts.set(code, (counts.get(code) ?? 0) + 1);
  return [...counts].map(([code, n]) => ({ code, devices: n })).toSorted((a, b) => b.devices - a.devices || a.code.localeCompare(b.code));
}
