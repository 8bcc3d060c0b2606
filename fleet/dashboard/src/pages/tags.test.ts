import { expect, test } from "vitest";
import { tagsOf } from "./tags";

test.each([
  ["ward=icu", { set: { ward: "icu" }, remove: [] }],
  ["ward = icu , -legacy,", { set: { ward: "icu" }, remove: ["legacy"] }],
  ["a=b=c", { set: { a: "b=c" }, remove: [] }],
])("%s is understood", (line, change) => {
  expect(tagsOf(line)).toEqual(change);
});

test.each(["", " , ", "ward", "-", "=x", "-a=b"])("%j is none, and says so", (line) => {
  expect(typeof tagsOf(line)).toBe("string");
});
