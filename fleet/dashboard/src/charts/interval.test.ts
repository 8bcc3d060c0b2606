import { describe, expect, test } from "vitest";
import type { GateLayer } from "../api/types";
import { marks, spent } from "./interval";

const layer = (fields: Partial<GateLayer>): GateLayer => ({ layer: "latency", verdict: "pass", test: "", n: 0, missing: 0, sentence: "", ...fields });

describe("the way to an alarm", () => {
  test.each([
    [1, 0],
    [0.2, 0],
    [10, 0.5],
    [100, 1],
    [5_000, 1],
  ])("evidence of %d against an alarm at 100 is %d of it", (measured, share) => {
    expect(spent(layer({ layer: "runtime", measured, limit: 100 }))).toBeCloseTo(share);
  });
  test("is told of no layer that measures", () => expect(spent(layer({ measured: 3, limit: 5 }))).toBeNull());
});

describe("the picture", () => {
  test("keeps order, and stays inside", () => {
    const drawn = marks(layer({ measured: 2, limit: 5, interval: [-1, 4] }));
    const [low, high] = drawn?.interval ?? [NaN, NaN];
    const places = [low, drawn?.zero, drawn?.measured, high, drawn?.limit, 1] as number[];
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(low).toBe(0);
  });
  test("what is beyond the limit stands right of it", () => {
    const drawn = marks(layer({ layer: "paired_error", measured: 0.12, limit: 0.005, interval: [0.08, 0.15] }));
    expect(drawn?.interval?.[0]).toBeGreaterThan(drawn?.limit ?? Infinity);
    expect(drawn?.interval?.[1]).toBeLessThan(1);
  });
  test("an interval in another unit than the limit is not drawn beside it", () => {
    expect(marks(layer({ layer: "install", measured: 1, limit: 80, interval: [0, 0.63] }))?.interval).toBeNull();
  });
  test.each<[string, Partial<GateLayer>]>([
    ["no limit", { measured: 1 }],
    ["nothing measured", { limit: 1 }],
    ["not asked", { verdict: "not_asked", measured: 1, limit: 2 }],
    ["all zero", { measured: 0, limit: 0 }],
  ])("there is none with %s", (_, fields) => expect(marks(layer(fields))).toBeNull());
});
