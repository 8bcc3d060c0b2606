// Days of all bundles of a model, what labels measured beside what scores promise.
import type { BundlePerformance, EstimatedDay, PerformanceDay } from "../api/types";
import type { VersionMark } from "../charts/versions";
import { moment } from "../format";

export interface Day {
  version: string;
  from: string;
  /** None while its labels are too young. */
  measured: PerformanceDay | undefined;
  /** None where no score is monitored, and for days of long ago. */
  estimated: EstimatedDay | undefined;
}

export function daysOf(bundles: BundlePerformance[]): Day[] {
  const days = new Map<string, Day>();
  const day = (version: string, from: string): Day => {
    const key = `${version} ${moment(from)}`;
    const known = days.get(key) ?? { version, from, measured: undefined, estimated: undefined };
    days.set(key, known);
    return known;
  };
  for (const { version, days: measured, estimated } of bundles) {
    for (const one of measured) day(version, one.from).measured = one;
    for (const one of estimated ?? []) day(version, one.from).estimated = one;
  }
  return [...days.values()].toSorted((a, b) => (moment(a.from) ?? 0) - (moment(b.from) ?? 0) || a.version.localeCompare(b.version));
}

/** Marks that lie on the axis of these days. */
export function eventsOf(marks: VersionMark[], days: { from: string }[]): { at: number; label: string }[] {
  const times = days.map((day) => moment(day.from) ?? 0);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  return marks.map(({ version, from }) => ({ at: moment(from) ?? 0, label: version })).filter(({ at }) => at >= first && at <= last).map(({ at, label }) => ({ at: at / 1_000, label }));
}
