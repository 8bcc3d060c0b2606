// The page's one ticking clock, for "12 s ago" and the world time in the header.
import { useSyncExternalStore } from "react";
import { moment } from "../format";
import type { Overview } from "../api/types";

const listeners = new Set<() => void>();
let now = Date.now();
let ticking: ReturnType<typeof setInterval> | null = null;

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  ticking ??= setInterval(() => {
    now = Date.now();
    for (const each of listeners) each();
  }, 1_000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0 && ticking !== null) {
      clearInterval(ticking);
      ticking = null;
    }
  };
}

export function useNow(): number {
  return useSyncExternalStore(subscribe, () => now);
}

/** How fast world time runs, learnt from two answers of the server; null until it can be told. */
export function worldFactor(earlier: Overview, later: Overview): number | null {
  const [w0, w1, r0, r1] = [earlier.world_now, later.world_now, earlier.now, later.now].map(moment);
  if (w0 == null || w1 == null || r0 == null || r1 == null || r1 - r0 < 500) return null;
  const factor = (w1 - w0) / (r1 - r0);
  return factor >= 0 && Number.isFinite(factor) ? factor : null;
}
