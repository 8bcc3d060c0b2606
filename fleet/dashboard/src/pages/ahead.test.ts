import { expect, test } from "vitest";
import { wantsMore } from "./ahead";

test("the next page is asked for near the end, once, and not again by itself after it failed", () => {
  const list = { more: true, isFetchingNextPage: false, isFetchNextPageError: false };
  expect(wantsMore(list, 470, 500)).toBe(true);
  expect(wantsMore(list, 0, 0)).toBe(true);
  expect(wantsMore(list, 300, 500)).toBe(false);
  expect(wantsMore({ ...list, more: false }, 499, 500)).toBe(false);
  expect(wantsMore({ ...list, isFetchingNextPage: true }, 499, 500)).toBe(false);
  expect(wantsMore({ ...list, isFetchNextPageError: true }, 499, 500)).toBe(false);
});
