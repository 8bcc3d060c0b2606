// One stream's shift by device and window, and which devices a picture has room for. Pure.
import type { Drift } from "../api/types";
import { betweenOf, effectOf } from "../charts/heat";
import { moment } from "../format";

export interface Point {
  device: string;
  site: string;
  from: string;
  to: string;
  n: number;
  state: string;
  effect: number | null;
  b: number | null | undefined;
  between: [number, number] | null;
}

/** The oldest first. */
export function pointsOf(drift: Drift, name: string): Point[] {
  return drift.windows
    .flatMap((window) => {
      const stream = window.streams.find((one) => one.name === name);
      if (stream === undefined) return [];
      const { device, site, from, to, n } = window;
      return [{ device, site, from, to, n, state: stream.state, effect: effectOf(stream), b: stream.b, between: betweenOf(stream) }];
    })
    .toSorted((a, b) => (moment(a.from) ?? 0) - (moment(b.from) ?? 0));
}

/** Who drifts in most windows first: where there is no room for all, the alarms are drawn. */
export function devicesOf(points: Point[]): { device: string; site: string }[] {
  const devices = new Map<string, { device: string; site: string; drifting: number }>();
  for (const { device, site, state } of points) {
    const known = devices.get(device) ?? { device, site, drifting: 0 };
    devices.set(device, { ...known, drifting: known.drifting + Number(state === "drift") });
  }
  return [...devices.values()].toSorted((a, b) => b.drifting - a.drifting).map(({ device, site }) => ({ device, site }));
}
