// When each version of a model began to count: the marks of a rollout on the axis of windows.
import type { Drift, RolloutSummary } from "../api/types";
import { moment } from "../format";

export interface VersionMark {
  version: string;
  /** Start of its first window, world time. */
  from: string;
  /** The rollout that brought it, the newest if there were several. */
  rollout: string | undefined;
}

/** In the order of time; the version that was there first is no change. */
export function versionMarks(drift: Drift, model: string, rollouts: RolloutSummary[]): VersionMark[] {
  const first = new Map<string, string>();
  for (const { version, from } of drift.windows) {
    if (version === undefined) continue;
    const known = first.get(version);
    if (known === undefined || (moment(from) ?? 0) < (moment(known) ?? 0)) first.set(version, from);
  }
  const brought = (version: string): string | undefined =>
    rollouts.filter((one) => one.model === model && one.bundle.version === version).toSorted((a, b) => Date.parse(b.created) - Date.parse(a.created))[0]?.id;
  return [...first]
    .toSorted((a, b) => (moment(a[1]) ?? 0) - (moment(b[1]) ?? 0))
    .slice(1)
    .map(([version, from]) => ({ version, from, rollout: brought(version) }));
}
