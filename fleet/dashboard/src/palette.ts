// Colours by meaning. Hues after Okabe and Ito, which stay apart for every common kind of colour blindness; a word or
// a shape always says the same thing again. Values live in styles.css, one set for light and one for dark.

export type Tone = "good" | "busy" | "warn" | "bad" | "idle";

export const toneColour: Record<Tone, string> = {
  good: "var(--m-good)",
  busy: "var(--m-busy)",
  warn: "var(--m-warn)",
  bad: "var(--m-bad)",
  idle: "var(--m-idle)",
};

/** For lines and stacked parts, in the order they are given out. */
export const series = Array.from({ length: 7 }, (_, i) => `var(--m-series-${i + 1})`);

export function seriesColour(index: number): string {
  return series[index % series.length] ?? "var(--m-series-1)";
}

/** The second time round, lines are dashed. */
export function seriesDash(index: number): number[] {
  return index < series.length ? [] : [5, 4];
}

const tones: Record<string, Tone> = {
  // presence
  online: "good",
  offline: "idle",
  // slot phases
  empty: "idle",
  downloading: "busy",
  verifying: "busy",
  self_testing: "busy",
  activating: "busy",
  running: "good",
  failed: "bad",
  // rollouts and their stages
  proposed: "warn",
  scheduled: "idle",
  aborting: "warn",
  superseded: "idle",
  paused: "warn",
  held: "warn",
  rolling_back: "warn",
  rolled_back: "bad",
  aborted: "bad",
  completed: "good",
  waiting: "idle",
  handing_out: "busy",
  baking: "busy",
  judging: "busy",
  passed: "good",
  stopped: "warn",
  // devices in a rollout
  offered: "busy",
  ready: "busy",
  permitted: "busy",
  done: "good",
  reverted: "bad",
  returning: "warn",
  returned: "warn",
  excluded: "idle",
  // verdicts
  pass: "good",
  fail: "bad",
  insufficient: "warn",
  not_asked: "idle",
  // incidents and streams
  open: "bad",
  acknowledged: "warn",
  closed: "idle",
  ok: "good",
  warn: "warn",
  drift: "bad",
  // runs
  collecting: "busy",
  queued: "busy",
  claimed: "busy",
  candidate: "warn",
  succeeded: "good",
  rejected: "bad",
};

export function toneOf(state: string): Tone {
  return tones[state] ?? "idle";
}

/** A rollout under way is work, not yet success. */
export function rolloutTone(phase: string): Tone {
  return phase === "running" ? "busy" : toneOf(phase);
}
