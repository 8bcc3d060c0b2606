import { describe, expect, test } from "vitest";
import type { RolloutAction, Stage } from "../api/types";
import { actions, moved, whyNot } from "./actions";
import { text } from "../strings";
import { metricsOf } from "./metrics";

const stage = (target_devices: number, handed: number, activated: number): Stage => ({ name: "s", target_devices, handed, permitted: activated, activated, baked: 0, failed: 0, returned: 0, pending: 0, state: "baking" });
const rollout = (is: string, stages = [stage(1, 1, 1), stage(5, 2, 1)]) => ({ phase: { is, since: "" }, stages });

describe("acts", () => {
  test.each<[string, RolloutAction[]]>([
    ["proposed", ["approve", "abort"]],
    ["scheduled", ["abort"]],
    ["aborting", ["rollback"]],
    ["superseded", ["rollback"]],
    ["running", ["pause", "promote", "abort", "rollback"]],
    ["paused", ["resume", "promote", "abort", "rollback"]],
    ["held", ["resume", "promote", "abort", "rollback"]],
    ["rolling_back", []],
    ["rolled_back", []],
    ["aborted", ["rollback"]],
    ["completed", ["rollback"]],
  ])("%s allows %j; the others say why not", (is, allowed) => {
    expect(actions.filter((action) => whyNot(action, rollout(is)) === null)).toEqual(allowed);
    for (const action of actions) expect(whyNot(action, rollout(is))).not.toBe("");
  });

  test("nothing to roll back before the first hand-out", () => {
    expect(whyNot("rollback", rollout("running", [stage(1, 0, 0)]))).toBe("No device has the new bundle");
  });

  test("a retry is for installs that failed", () => {
    const failed = { ...stage(2, 2, 1), failed: 1 };
    expect(whyNot("retry", rollout("held", [failed]))).toBeNull();
    expect(whyNot("retry", rollout("held"))).toBe("No install has failed");
    expect(whyNot("retry", rollout("completed", [failed]))).toBeNull();
    expect(whyNot("retry", rollout("superseded", [failed]))).toContain("ended");
    const held = { is: "held", since: "", reason: { code: "quorum_lost", sentence: "" } };
    expect(whyNot("retry", { phase: held, stages: [stage(2, 2, 1)] })).toBeNull();
  });

  test("the dialog names the stage that is acted on, where there is one", () => {
    expect(text.actions.title("Promote", "beds 2", "canary")).toBe("Promote: beds 2, stage 'canary'");
    expect(text.actions.title("Abort", "beds 2", null)).toBe("Abort: beds 2");
  });

  test("a failing gate is not promoted over", () => {
    const failing = { ...stage(1, 1, 1), name: "canary", gate: { verdict: "fail", layers: [], alpha: 0.05, asked_at: "" } };
    expect(whyNot("promote", { phase: { is: "held", since: "", stage: "canary" }, stages: [failing] })).toContain("gate fails");
    expect(whyNot("promote", { phase: { is: "held", since: "", stage: "half" }, stages: [failing] })).toBeNull();
  });

  test("the dialog's numbers", () => expect(moved(rollout("running"))).toEqual({ done: 2, left: 3 }));
});

describe("champion against challenger", () => {
  test("both shapes", () => {
    expect(metricsOf({ evaluation: { recent: { champion: { log_loss: 0.4 }, challenger: { log_loss: 0.3 } } } })).toEqual([{ name: "recent · log loss", champion: 0.4, challenger: 0.3 }]);
    expect(metricsOf({ metrics: { auroc: { champion: 0.7, challenger: 0.8 } } })).toEqual([{ name: "auroc", champion: 0.7, challenger: 0.8 }]);
  });
  test("a bundle's evaluation", () => {
    const evaluation = { metric: "log_loss", sets: [{ name: "recent", rows: 900, challenger: 0.3, champion: 0.4 }, { name: "frozen", rows: 9, challenger: 1, champion: null }] };
    expect(metricsOf({ evaluation })).toEqual([{ name: "log loss · recent", champion: 0.4, challenger: 0.3 }, { name: "log loss · frozen", champion: null, challenger: 1 }]);
  });
  test("the builder's own measurements are shown once, without their row counts", () => {
    const set = { champion: { auc: 0.7, rows: 9 }, challenger: { auc: 0.8, rows: 9 } };
    const evaluation = { metric: "auc", sets: [{ name: "recent", champion: 0.7, challenger: 0.8 }], measured: { metric: "auc", recent: set, frozen: set } };
    expect(metricsOf({ evaluation })).toEqual([{ name: "recent · auc", champion: 0.7, challenger: 0.8 }, { name: "frozen · auc", champion: 0.7, challenger: 0.8 }]);
  });
  test.each([null, undefined, 3, "x", [1], {}, { champion: "0.3" }])("nothing in %j", (result) => expect(metricsOf(result)).toEqual([]));
});
