// Days of all bundles of a model, what labels measured beside what scores promise.
import type { BundlePerformance, EstimatedDay, PerformanceDay } from "../api/types";
import type { Line } from "../charts/Series";
import type { VersionMark } from "../charts/versions";
import { moment } from "../format";
import { text } from "../strings";

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

const figures = {
  measured: (day: Day) => day.measured?.loss,
  estimated: (day: Day) => day.estimated?.loss.value,
  holdout: (day: Day) => day.measured?.holdout_loss,
};

export interface DayLine extends Line {
  figure: keyof typeof figures;
  /** As long as the axis; none where the version has no such day. */
  days: (Day | undefined)[];
}

/** One line for each version and figure over one axis: two versions' days are different answers of different models. */
export function linesOf(days: Day[]): { x: number[]; lines: DayLine[] } {
  const x = [...new Set(days.map(seconds))].toSorted((a, b) => a - b);
  const versions = [...new Set(days.map(({ version }) => version))];
  const lines = versions.flatMap((version) => {
    const at = new Map(days.filter((day) => day.version === version).map((day) => [seconds(day), day]));
    const own = x.map((s) => at.get(s));
    return (Object.keys(figures) as (keyof typeof figures)[]).map((figure): DayLine => {
      const label = versions.length === 1 ? text.performance[figure] : `${version}: ${text.performance[figure]}`;
      return { label, figure, days: own, values: own.map((day) => day && (figures[figure](day) ?? null)) };
    });
  });
  return { x, lines: lines.filter(({ values }) => values.some((value) => value != null)) };
}

function seconds({ from }: Day): number {
  return (moment(from) ?? 0) / 1_000;
}

/** Marks that lie on the axis of these days. */
export function eventsOf(marks: VersionMark[], days: { from: string }[]): { at: number; label: string }[] {
  const times = days.map((day) => moment(day.from) ?? 0);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  return marks.map(({ version, from }) => ({ at: moment(from) ?? 0, label: version })).filter(({ at }) => at >= first && at <= last).map(({ at, label }) => ({ at: at / 1_000, label }));
}
