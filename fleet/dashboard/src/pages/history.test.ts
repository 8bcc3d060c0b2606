import { describe, expect, test } from "vitest";
import type { Stage, TimelineEntry, Verdict, Who } from "../api/types";
import { decidedBy, decisionTone, gateOf, isDecision } from "./history";

const answered = (verdict: Verdict) => ({ verdict, layers: [], alpha: 0.05, asked_at: "" });
const gate = answered("pass");
const stages: Pick<Stage, "name" | "gate">[] = [{ name: "canary", gate }, { name: "half", gate }, { name: "everyone", gate: null }];
const entry = (kind: string, sentence: string, actor: Who = { kind: "fleet", name: "fleet" }): TimelineEntry => ({ at: "2026-11-26T01:00:00Z", world_at: "2026-11-26T01:00:00Z", kind, sentence, actor });

describe("decisions", () => {
  test("orders going out are none", () => {
    expect(isDecision(entry("rollout.handed_out", "er 1.0: handed to 3 devices"))).toBe(false);
    expect(isDecision(entry("rollout.paused", "paused"))).toBe(true);
  });
  test.each([
    ["rollout.stage_passed", "er 1.1: stage 'canary' passed its gate, 'half' opens", 0],
    ["rollout.stage_passed", "er 1.1: stage 'half' passed its gate, 'everyone' opens", 1],
    ["rollout.rolling_back", "er 1.1: stopped at 'half': 3 of 4 installs failed", 1],
    ["rollout.completed", "er 1.1: every stage passed its gate", -1],
    ["rollout.paused", "paused the rollout of er 1.1: look at 'canary'", -1],
  ])("%s rests on the gate that its sentence names first: %s", (kind, sentence, stage) => {
    expect(gateOf(entry(kind, sentence), stages)).toBe(stage);
  });
  test("are a person's, a gate's or the engine's", () => {
    expect(decidedBy(entry("rollout.paused", "", { kind: "person", name: "m.okafor" }), stages)).toBe("m.okafor");
    expect(decidedBy(entry("rollout.stage_passed", "stage 'canary' passed its gate, 'half' opens"), stages)).toBe("the gate of 'canary'");
    expect(decidedBy(entry("rollout.begun", "its time has come"), stages)).toBe("the engine");
  });
  test.each<[string, Verdict, string]>([
    ["rollout.rolling_back", "fail", "the gate of 'canary'"],
    ["rollout.rolling_back", "pass", "the engine"],
    ["rollout.held", "insufficient", "the engine"],
    ["rollout.stage_passed", "insufficient", "the engine"],
  ])("%s with a gate that says %s is %s's", (kind, verdict, by) => {
    expect(decidedBy(entry(kind, "at 'canary'"), [{ name: "canary", gate: answered(verdict) }])).toBe(by);
  });
  test("bad news look bad", () => {
    expect(decisionTone("rollout.rolled_back")).toBe("bad");
    expect(decisionTone("rollout.completed")).toBe("good");
    expect(decisionTone("rollout.held")).toBe("warn");
  });
});
