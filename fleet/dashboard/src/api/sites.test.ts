import { expect, test } from "vitest";
import { withOthers } from "./sites";

test("a site without rules of its own stands among those that have some, once", () => {
  const ruled = [{ site: "er-2", zone: "Europe/Berlin", revision: 3 }];
  expect(withOthers(ruled, ["er-3", "er-2", "er-1", "er-3"])).toEqual([{ site: "er-1", revision: 0 }, ruled[0], { site: "er-3", revision: 0 }]);
});
