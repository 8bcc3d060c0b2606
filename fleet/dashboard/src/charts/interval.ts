// Where a gate's layer stands between nothing and its limit, as positions of a small picture. Pure.
import type { GateLayer } from "../api/types";

/** Layers that gather evidence against a bundle: their limit is where the alarm is raised, and both grow as powers. */
const evidence = new Set(["install", "reverts", "runtime", "silence"]);
/** Layers that ask for enough of something instead of not too much. */
const atLeast = new Set(["coverage"]);

export type LimitKind = "evidence" | "atLeast" | "atMost";

export function limitKind(layer: string): LimitKind {
  if (evidence.has(layer)) return "evidence";
  return atLeast.has(layer) ? "atLeast" : "atMost";
}

/** How much of the way to an alarm has been gone, 0 to 1; null of layers that do not gather evidence. */
export function spent({ layer, measured, limit }: Pick<GateLayer, "layer" | "measured" | "limit">): number | null {
  if (limitKind(layer) !== "evidence" || measured == null || limit == null || limit <= 1) return null;
  return measured <= 1 ? 0 : Math.min(1, Math.log(measured) / Math.log(limit));
}

/** Shares of the picture's width. */
export interface Marks {
  zero: number;
  limit: number;
  measured: number;
  interval: [number, number] | null;
}

/** Null where there is nothing to draw: no limit, or nothing measured. */
export function marks(layer: GateLayer): Marks | null {
  const { measured, limit, interval } = layer;
  if (layer.verdict === "not_asked" || measured == null || limit == null) return null;
  const gone = spent(layer);
  // The interval of such a layer is of the share that it counts, not of the evidence: it stands in words beside.
  if (gone !== null) return { zero: 0, limit: evidenceLimit, measured: gone * evidenceLimit, interval: null };
  const low = Math.min(0, measured, limit, interval?.[0] ?? 0);
  const high = Math.max(measured, limit, interval?.[1] ?? measured);
  const span = high - low;
  if (!Number.isFinite(span) || span <= 0) return null;
  // Room on the right, so that a limit at the end is seen to be a limit.
  const place = (value: number): number => (value - low) / (span * 1.1);
  return { zero: place(0), limit: place(limit), measured: place(measured), interval: interval == null ? null : [place(interval[0] ?? low), place(interval[1] ?? high)] };
}

const evidenceLimit = 1 / 1.1;
