// What stands under the axis of time. Pure.
import { stampClock, stampDay } from "../format";

const dayS = 86_400;

/** Days on an axis of two days or more; below that the clock, with seconds where they tell ticks apart. */
export function tick(s: number, ticks: number[], zone: string): string {
  const wide = (ticks.at(-1) ?? 0) - (ticks[0] ?? 0) >= 2 * dayS;
  if (wide) return stampDay(s * 1_000, zone);
  const step = (ticks[1] ?? 0) - (ticks[0] ?? 0);
  const clock = stampClock(new Date(s * 1_000).toISOString(), zone);
  return step < 60 ? clock : clock.slice(0, 5);
}
