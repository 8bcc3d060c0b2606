import { expect, test } from "vitest";
import { effectOf } from "./thaw";

const [fleet, icu, er] = [{}, { site: "icu" }, { site: "er-1" }];

test("a thaw promises no movement where another freeze holds", () => {
  expect(effectOf(icu, [icu, er])).toContain("go on in icu, at once");
  expect(effectOf(icu, [fleet, icu])).toBe("Nothing moves in icu yet: the freeze of the whole fleet still holds.");
  expect(effectOf(fleet, [fleet])).not.toContain("still holds");
  expect(effectOf(fleet, [fleet, icu, er])).toContain("not in icu, er-1, whose own freeze still holds");
});
