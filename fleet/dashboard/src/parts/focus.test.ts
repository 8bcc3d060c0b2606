import { afterEach, expect, test, vi } from "vitest";
import { giveBack } from "./focus";

afterEach(() => vi.unstubAllGlobals());

/** Who is given the focus, if it was on `active` when the dialog went. */
function given(before: "button" | "body" | "gone" | null, active: "body" | "field" | null): string | null {
  let focused: string | null = null;
  const element = (name: string) => ({ isConnected: name !== "gone", focus: () => void (focused = name) }) as unknown as HTMLElement;
  const all = { body: element("body"), button: element("button"), field: element("field"), gone: element("gone") };
  vi.stubGlobal("document", { body: all.body, activeElement: active === null ? null : all[active], getElementById: () => element("main") });
  giveBack(before === null ? null : all[before]);
  return focused;
}

test("the keyboard goes back to the button that opened the dialog", () => {
  expect(given("button", "body")).toBe("button");
  expect(given("button", null)).toBe("button");
});

test("it goes to the content where the button is gone with what it was about", () => {
  expect(given("gone", "body")).toBe("main");
  expect(given("body", "body")).toBe("main");
  expect(given(null, "body")).toBe("main");
});

test("it stays where it was taken meanwhile", () => expect(given("button", "field")).toBeNull());

test("only a dialog that stays is made otherwise", () => {
  const sources = import.meta.glob<string>("../**/*.tsx", { query: "?raw", import: "default", eager: true });
  const made = Object.entries(sources).filter(([, source]) => source.includes("<Modal"));
  expect(made.map(([path]) => path)).toEqual(["./Dialog.tsx", "../shell/shortcuts.tsx"]);
});
