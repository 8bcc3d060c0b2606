import { expect, test } from "vitest";
import type { Bundle, Device, RolloutSummary } from "../api/types";
import { found } from "./seek";

const devices = Array.from({ length: 9 }, (_, i) => ({ id: `d-${i}`, name: `beds-${i}`, site: "er-1" }) as Device);
const bundles = [{ model: "beds", version: "1.0", sha256: "abc" }, { model: "risk", version: "2.0", sha256: "def" }] as Bundle[];
const rollouts = [{ id: "ro-000001", model: "risk", bundle: { version: "2.0" }, reason: "more beds", phase: { is: "running" } }] as RolloutSummary[];

test("few of each kind, and no kind without any", () => {
  const all = found("Beds", devices, bundles, rollouts);
  expect(all.map(({ group, items }) => [group, items.length])).toEqual([["Devices", 5], ["Models", 1], ["Rollouts", 1]]);
  expect(all[1]?.items[0]).toEqual({ address: "/models/abc", label: "beds 1.0" });
  expect(found("def", [], bundles, rollouts).map(({ group }) => group)).toEqual(["Models"]);
  expect(found("nothing like it", [], bundles, rollouts)).toEqual([]);
});
