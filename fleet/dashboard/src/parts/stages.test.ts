import { describe, expect, test } from "vitest";
import type { Stage } from "../api/types";
import { partsOf } from "./stages";

const stage = (fields: Partial<Stage>): Stage => ({
  name: "half", target_devices: 20, handed: 0, permitted: 0, activated: 0, baked: 0, failed: 0, returned: 0, pending: 0, state: "baking", ...fields,
});

describe("a stage's parts", () => {
  test("each device stands in one", () => {
    const parts = partsOf(stage({ handed: 15, permitted: 9, activated: 7, baked: 4, failed: 2, returned: 1 }));
    expect(parts).toEqual({ baked: 4, baking: 3, permitted: 2, asked: 3, failed: 2, returned: 1, left: 5 });
  });
  test.each<Partial<Stage>>([{}, { handed: 20, permitted: 20, activated: 20, baked: 20 }, { handed: 3, failed: 3 }, { handed: 4, permitted: 1, returned: 3 }])(
    "add up to the target in %j",
    (fields) => {
      const sum = Object.values(partsOf(stage(fields))).reduce((a, b) => a + b, 0);
      expect(sum).toBe(20);
    },
  );
});
