import { expect, test } from "vitest";
import { withOthers } from "./sites";

test("a site without rules of its own stands among those that have some, once", () => {
  const free = { zone: "UTC", download: {}, activation: {}, consent: "not_needed" as const, revision: 0 };
  const ruled = [{ ...free, site: "er-2", zone: "Europe/Berlin", revision: 3 }];
  const all = [{ ...free, site: "er-1" }, ruled[0], { ...free, site: "er-3" }];
  expect(withOthers(ruled, ["er-3", "er-2", "er-1", "er-3"])).toEqual(all);
});
