import { expect, test } from "vitest";
import { numberOf } from "./numbers";

test.each([
  [7, 7],
  ["0.", 0],
  ["2.", 2],
  ["0.50", 0.5],
  ["007", 7],
  ["", null],
  [" ", null],
  ["-", null],
  [".", null],
  [Number.NaN, null],
])("%j is typed: %j", (typed, number) => expect(numberOf(typed)).toBe(number));
