import { expect, test } from "vitest";
import { pageRows, pagesAround, standing, withNext } from "./paged";

test.each([
  [0, 10, 1, [0]],
  [0, 10, 9, [0, 1]],
  [3 * pageRows + 5, 3 * pageRows + 40, 9, [2, 3, 4]],
  [3 * pageRows - 5, 3 * pageRows + 40, 9, [1, 2, 3, 4]],
  [8 * pageRows, 8 * pageRows + 1, 9, [7, 8]],
])("rows %i to %i of %i pages need the pages %j", (first, last, known, pages) => {
  expect(pagesAround({ first, last }, known)).toEqual(pages);
});

test("where pages begin is learnt from the page before, and forgotten when a page has become the last", () => {
  const one = withNext([undefined], [0, "a"]);
  expect(one).toEqual([undefined, "a"]);
  expect(withNext(one, [0, "a"])).toBe(one);
  const two = withNext(one, [1, "b"]);
  expect(two).toEqual([undefined, "a", "b"]);
  // A device came in before it: the second page begins elsewhere, the third as before.
  expect(withNext(two, [0, "a2"])).toEqual([undefined, "a2", "b"]);
  expect(withNext(two, [1, null])).toEqual([undefined, "a"]);
  expect(withNext(two, [7, "z"])).toBe(two);
});

test("a page that fails is told, with the age of the oldest that came", () => {
  const [came, older, failed] = [{ error: null, dataUpdatedAt: 9 }, { error: null, dataUpdatedAt: 4 }, { error: new Error("away"), dataUpdatedAt: 0 }];
  expect(standing([came, older])).toEqual({ error: null, dataUpdatedAt: 4 });
  expect(standing([came, failed, older])).toEqual({ error: failed.error, dataUpdatedAt: 4 });
  expect(standing([failed])).toEqual({ error: failed.error, dataUpdatedAt: 0 });
});
