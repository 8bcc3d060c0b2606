import { expect, test } from "vitest";
import { loadViews, sameView, storeViews, withView } from "./views";

const memory = () => {
  const kept = new Map<string, string>();
  return { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => void kept.set(key, value) };
};

test("what is kept comes back, the newest first and a name once", () => {
  const store = memory();
  const one = withView([], { name: "gone quiet ", search: { presence: "offline" } });
  const two = withView(withView(one, { name: "er-1", search: { site: "er-1" } }), { name: "gone quiet", search: { presence: "offline", site: "er-2" } });
  storeViews(store, two);
  expect(loadViews(store)).toEqual([
    { name: "gone quiet", search: { presence: "offline", site: "er-2" } },
    { name: "er-1", search: { site: "er-1" } },
  ]);
});

test.each(["", "{", "7", '[{"name":1}]', '[{"name":"x","address":"?presence=asleep"}]'])("junk in the store is no view, or an empty one: %s", (junk) => {
  expect(loadViews({ getItem: () => junk }).every(({ search }) => Object.keys(search).length === 0)).toBe(true);
});

test("views are the same if they ask the same", () => {
  expect(sameView({ site: "er-1", q: "" }, { q: undefined, site: "er-1" })).toBe(true);
  expect(sameView({ site: "er-1" }, { site: "er-2" })).toBe(false);
});
