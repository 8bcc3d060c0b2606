// Why a rollout does not go on, by reason code. Pure.
import type { RolloutDevice, WaitingOn } from "../api/types";

export interface ReasonGroup {
  code: string;
  sentences: string[];
  devices: number;
  next: string;
}

/** The engine's reasons, each code once, the one that holds up most devices first; next steps are the devices' own. */
export function grouped(waiting: WaitingOn[], devices: RolloutDevice[]): ReasonGroup[] {
  const groups = new Map<string, ReasonGroup>();
  for (const { code, sentence, next, devices: held } of waiting) {
    const group = groups.get(code) ?? { code, sentences: [], devices: 0, next: "" };
    groups.set(code, {
      ...group,
      sentences: [...group.sentences, sentence],
      devices: group.devices + (held ?? 0),
      next: group.next || (next ?? devices.find((device) => device.code === code)?.next ?? ""),
    });
  }
  return [...groups.values()].toSorted((a, b) => b.devices - a.devices);
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
