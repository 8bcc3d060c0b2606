import { expect, test } from "vitest";
import type { Device } from "../api/types";
import { namedMax, selectorOf } from "./selector";

const boxes = (n: number) => Array.from({ length: n }, (_, i) => ({ id: `d-${i}` }) as Device);

test("everything and a site are filters that go on matching", () => {
  expect(selectorOf({}, boxes(3), false)).toEqual({ filter: "", follows: true });
  expect(selectorOf({ site: "er-1" }, boxes(3), false)).toEqual({ filter: "site=er-1", follows: true });
});

test("what the server's filter does not know is named box by box", () => {
  expect(selectorOf({ presence: "offline" }, boxes(2), true)).toEqual({ filter: "device in (d-0, d-1)", follows: false });
  expect(selectorOf({ q: "x", site: "er-1" }, boxes(1), true)).toEqual({ filter: "device=d-0", follows: false });
  expect(selectorOf({ bundle: "ab", site: "er-1" }, boxes(2), true)).toEqual({ filter: "device in (d-0, d-1)", follows: false });
});

test("nobody is left out unsaid", () => {
  expect(selectorOf({ presence: "offline" }, boxes(2), false)).toContain("256");
  expect(selectorOf({ bundle: "ab" }, boxes(2), false)).toContain("256");
  expect(selectorOf({ presence: "offline" }, [...boxes(2), undefined], true)).toContain("256");
  expect(selectorOf({ presence: "offline" }, boxes(namedMax + 1), true)).toContain("256");
  expect(selectorOf({ phase: "failed" }, [], true)).toBe("No device matches.");
});
