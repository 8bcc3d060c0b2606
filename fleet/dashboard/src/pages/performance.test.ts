import { expect, test } from "vitest";
import type { BundlePerformance, EstimatedDay, PerformanceDay } from "../api/types";
import { daysOf, eventsOf, linesOf } from "./performance";

const measured = (from: string): PerformanceDay => ({ from, days: 1, predictions: 10, labels: 5, state: "ok", observed: 1 });
const estimated = (from: string): EstimatedDay => ({ from, windows: 1, predictions: 10, positives: 2, loss: { value: 0.1, low: 0.09, high: 0.12 } });
const bundle = (version: string, days: PerformanceDay[], promised: EstimatedDay[]): BundlePerformance => ({
  bundle: version, version, matured: 10, labelled: 5, waiting: 0, days, estimated: promised,
});

test("what was measured stands beside what was promised, and young days have a promise alone", () => {
  const [one, two, three] = ["2027-03-01T00:00:00Z", "2027-03-02T00:00:00.000Z", "2027-03-02T00:00:00Z"] as const;
  const days = daysOf([bundle("2", [measured(two)], [estimated(three)]), bundle("1", [measured(one)], [])]);
  expect(days.map((day) => [day.version, day.measured !== undefined, day.estimated !== undefined])).toEqual([
    ["1", true, false],
    ["2", true, true],
  ]);
  expect(daysOf([bundle("1", [], [estimated(one)])])[0]?.measured).toBeUndefined();
});

test("a mark outside the axis is not drawn", () => {
  const days = [{ from: "2027-03-01T00:00:00Z" }, { from: "2027-03-05T00:00:00Z" }];
  const mark = (from: string) => ({ version: "2", from, rollout: undefined });
  expect(eventsOf([mark("2027-02-01T00:00:00Z"), mark("2027-03-03T00:00:00Z")], days)).toEqual([{ at: Date.parse("2027-03-03T00:00:00Z") / 1000, label: "2" }]);
  expect(eventsOf([mark("2027-03-03T00:00:00Z")], [])).toEqual([]);
});

test("each version has its own line for each figure, and none bridges to another's", () => {
  const [one, two, three] = ["2027-03-01T00:00:00Z", "2027-03-02T00:00:00Z", "2027-03-03T00:00:00Z"] as const;
  const days = daysOf([bundle("2", [{ ...measured(two), loss: 0.2 }, measured(three)], []), bundle("1", [{ ...measured(one), loss: 0.3 }, { ...measured(three), loss: 0.4 }], [estimated(one)])]);
  const { x, lines } = linesOf(days);
  expect(x).toEqual([one, two, three].map((from) => Date.parse(from) / 1_000));
  expect(lines.map(({ label, values }) => [label, ...values])).toEqual([
    ["1: By labels", 0.3, undefined, 0.4],
    ["1: Promised by scores", 0.1, undefined, null],
    ["2: By labels", undefined, 0.2, null],
  ]);
  expect(linesOf(daysOf([bundle("1", [{ ...measured(one), loss: 0.3 }], [])])).lines.map(({ label }) => label)).toEqual(["By labels"]);
});
