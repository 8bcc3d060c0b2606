import { expect, test } from "vitest";
import type { Drift, RolloutSummary } from "../api/types";
import { versionMarks } from "./versions";

const window = (device: string, version: string, day: number) => ({
  device, device_name: device, site: device, bundle: "b", version, n: 100, streams: [], from: `2027-03-0${day}T00:00:00Z`, to: `2027-03-0${day + 1}T00:00:00Z`,
});
const rollout = (id: string, model: string, version: string, created: string) => ({ id, model, bundle: { path: "p", sha256: "s", version }, created }) as unknown as RolloutSummary;

test("a version is marked where its first window begins, and links to its newest rollout", () => {
  const drift: Drift = { devices_left_out: 0, streams: [], windows: [window("b", "2", 5), window("a", "1", 1), window("a", "2", 3), window("a", "3", 6)] };
  const rollouts = [
    rollout("old", "er", "2", "2027-03-01T00:00:00Z"),
    rollout("new", "er", "2", "2027-03-02T00:00:00Z"),
    rollout("other", "beds", "3", "2027-03-02T00:00:00Z"),
  ];
  expect(versionMarks(drift, "er", rollouts)).toEqual([
    { version: "2", from: "2027-03-03T00:00:00Z", rollout: "new" },
    { version: "3", from: "2027-03-06T00:00:00Z", rollout: undefined },
  ]);
});

test("what was there first is no change", () => {
  expect(versionMarks({ devices_left_out: 0, streams: [], windows: [window("a", "1", 1)] }, "er", [])).toEqual([]);
  expect(versionMarks({ devices_left_out: 0, streams: [], windows: [] }, "er", [])).toEqual([]);
});
