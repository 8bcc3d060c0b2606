import { expect, test } from "vitest";
import { settledTags, tagsOf } from "./tags";

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

test("what is still typed is not sent as what stood there before", () => {
  expect(typeof settledTags("ward=icu", "ward=ic")).toBe("string");
  expect(settledTags("ward=icu", "ward=icu")).toEqual(tagsOf("ward=icu"));
});
