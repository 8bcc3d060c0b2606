// A stage's devices, each in one part: the parts add up to its target. Pure.
import type { Stage } from "../api/types";

export type StagePart = "baked" | "baking" | "permitted" | "asked" | "failed" | "returned" | "left";

export const stageParts: StagePart[] = ["baked", "baking", "permitted", "asked", "failed", "returned", "left"];

/** The server's counts contain each other (who is baked is activated too); here nobody is counted twice. */
export function partsOf(stage: Stage): Record<StagePart, number> {
  const of = (n: number): number => Math.max(0, n);
  return {
    baked: stage.baked,
    baking: of(stage.activated - stage.baked),
    permitted: of(stage.permitted - stage.activated),
    asked: of(stage.handed - stage.permitted - stage.failed - stage.returned),
    failed: stage.failed,
    returned: stage.returned,
    left: of(stage.target_devices - stage.handed),
  };
}
