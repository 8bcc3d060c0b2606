// What was decided about a rollout: which entries of its timeline are decisions, who made them, and what they rest on. Pure.
import type { Stage, TimelineEntry, Verdict, Who } from "../api/types";
import { toneOf, type Tone } from "../palette";
import { text } from "../strings";

const say = text.rollout;

/** Orders going out follow from decisions and are none; there may be very many. */
export function isDecision({ kind }: TimelineEntry): boolean {
  return kind !== "rollout.handed_out";
}

const tones: Record<string, Tone> = {
  approved: "good",
  stage_passed: "good",
  begun: "busy",
  started: "busy",
  created: "busy",
  resumed: "busy",
  promoted: "warn",
  rollback: "warn",
  not_ordered: "bad",
};

export function decisionTone(kind: string): Tone {
  const word = kind.slice(kind.indexOf(".") + 1);
  return tones[word] ?? toneOf(word);
}

/** The stage whose gate an entry rests on; -1 where it rests on none. */
export function gateOf({ kind, sentence }: TimelineEntry, stages: Pick<Stage, "name" | "gate">[]): number {
  if (!["rollout.stage_passed", "rollout.completed", "rollout.rolling_back", "rollout.held"].includes(kind)) return -1;
  // The last stage's gate completes; every other sentence names its stage, and the one that passed before the one that opens.
  if (kind === "rollout.completed") return stages.at(-1)?.gate == null ? -1 : stages.length - 1;
  const named = stages
    .map((stage, index) => ({ index, at: stage.gate == null ? -1 : sentence.indexOf(`'${stage.name}'`) }))
    .filter(({ at }) => at >= 0)
    .toSorted((a, b) => a.at - b.at);
  return named[0]?.index ?? -1;
}

/** Who or what decided: a person by name, a gate by its stage, or the engine by its rules (a deadline, a lost quorum). */
export function decidedBy(entry: TimelineEntry, stages: Pick<Stage, "name" | "gate">[]): string {
  const by: Who | null | undefined = entry.actor;
  if (by != null && by.kind !== "fleet") return by.name;
  const stage = stages[gateOf(entry, stages)];
  // Only an answer decides: a stage may also end by a person's word, or without any answer at its deadline.
  return stage?.gate?.verdict != null && stage.gate.verdict === answers[entry.kind] ? say.decidedBy.gate(stage.name) : say.decidedBy.engine;
}

const answers: Record<string, Verdict> = { "rollout.stage_passed": "pass", "rollout.completed": "pass", "rollout.rolling_back": "fail" };
