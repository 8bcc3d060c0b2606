import { describe, expect, test } from "vitest";
import type { Drift, StreamWindow } from "../api/types";
import { bandSd, columnsOf, effectOf, fill, mark, strength, worstStream, type Cell } from "./heat";
import { binsOf } from "./Histogram";

const stream = (name: string, state: string, shift: number | null, psi: number | null = null): StreamWindow => ({ name, state, mean_shift_sd: shift, psi_adj: psi, against: "own", broken: [] });
const window = (device: string, dayOfMarch: number, streams: StreamWindow[]) => ({
  device, device_name: device, site: `er-${device}`, bundle: "b", version: "1", n: 100, streams,
  from: `2027-03-${String(dayOfMarch).padStart(2, "0")}T00:00:00Z`, to: `2027-03-${String(dayOfMarch + 1).padStart(2, "0")}T00:00:00Z`,
});

test("the scale grows with the size of a shift, whatever its sign, and ends at full", () => {
  const check = (effect: number | null, expected: number) => expect(strength(effect)).toBeCloseTo(expected, 6);
  check(null, 0);
  check(Number.NaN, 0);
  check(0, 0);
  check(0.375, 0.5);
  check(-0.375, 0.5);
  check(1.5, 1);
  check(40, 1);
});

test("a category has no mean: its size is the root of PSI", () => {
  expect(effectOf(stream("complaint", "drift", null, 0.36))).toBeCloseTo(0.6);
  expect(effectOf(stream("complaint", "ok", null, -0.01))).toBe(0);
  expect(effectOf(stream("complaint", "ok", null))).toBeNull();
  expect(bandSd).toBeCloseTo(0.1414, 3);
});

describe("a cell", () => {
  const cell = (state: string, effect: number | null) => ({ state, effect }) as Cell;
  test("says its figure, and that data lack", () => {
    expect(mark(cell("drift", 0.84))).toBe("+0.8");
    expect(mark(cell("ok", -0.31))).toBe("−0.3");
    expect(mark(cell("insufficient", 2))).toBe("·");
    expect(mark(undefined)).toBe("");
  });
  test("has a hue for its side, and none without data", () => {
    expect(fill(cell("drift", 1.5))).toContain("above) 88%");
    expect(fill(cell("warn", -1.5))).toContain("below) 88%");
    expect(fill(cell("insufficient", 1.5))).not.toContain("heat");
    expect(fill(undefined)).toBe("transparent");
  });
});

test("columns: in order, the last ones, the worst device in each", () => {
  const drift: Drift = {
    devices_left_out: 0,
    streams: ["age", "crp"],
    windows: [
      window("b", 2, [stream("age", "drift", 0.5)]),
      window("a", 1, [stream("age", "ok", 0.1)]),
      window("a", 2, [stream("age", "ok", 0.9), stream("crp", "warn", -0.3)]),
      window("c", 2, [stream("crp", "warn", 0.4)]),
    ],
  };
  const columns = columnsOf(drift, 5);
  expect(columns.map((column) => column.from.slice(8, 10))).toEqual(["01", "02"]);
  expect(columns[1]?.cells.get("age")?.window.device).toBe("b");
  expect(columns[1]?.cells.get("crp")?.window.device).toBe("c");
  expect(columnsOf(drift, 1)).toHaveLength(1);
  expect(worstStream(columns, drift.streams)).toBe("age");
  expect(worstStream([], [])).toBeUndefined();
});

describe("histogram bins", () => {
  test("inner edges", () => {
    const bins = binsOf({ nulls: 0, windows: 1, edges: [1, 2], reference: [1, 1, 2], current: [0, 5, 5] });
    expect(bins.map((bin) => bin.label)).toEqual(["< 1", "1 – 2", "≥ 2"]);
    expect(bins.map((bin) => bin.reference)).toEqual([25, 25, 50]);
    expect(bins.map((bin) => bin.current)).toEqual([0, 50, 50]);
  });
  test("framing edges, categories, nothing counted", () => {
    expect(binsOf({ nulls: 0, windows: 1, edges: [0, 1, 2], reference: [1, 1], current: [0, 0] }).map((bin) => [bin.label, bin.current])).toEqual([["< 1", 0], ["≥ 1", 0]]);
    expect(binsOf({ nulls: 0, windows: 1, categories: ["fever"], reference: [3, 1], current: [1, 1] }).map((bin) => bin.label)).toEqual(["fever", "other"]);
    expect(binsOf({ nulls: 0, windows: 1, reference: [1], current: [] })[0]?.label).toBe("Range 1");
  });
});
