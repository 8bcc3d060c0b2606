import { expect, test } from "vitest";
import { none } from "../format";
import { span } from "./span";

test.each<[number | null, string]>([
  [null, none],
  [0, "0s"],
  [59, "59s"],
  [3600, "1h"],
  [90_061, "1d 1h"],
])("%j is said as %s", (seconds, said) => expect(span(seconds)).toBe(said));
