import { describe, expect, test } from "vitest";
import { devicesSearch, driftSearch, parseAddress, printAddress, rolloutsSearch } from "./search";

const read = (address: string) => devicesSearch(parseAddress(address));

describe("the address is the state", () => {
  test.each([
    ["", {}],
    ["?q=box-2&site=er-1&presence=online", { q: "box-2", site: "er-1", presence: "online" }],
    ["?q=007", { q: "007" }],
    ["?q=true", { q: "true" }],
    ["?presence=sideways&evil=1", {}],
    ["?q=%20%20", {}],
    ["?q=a%26b%3D%22c%22", { q: 'a&b="c"' }],
  ])("%s", (address, expected) => expect(read(address)).toEqual(expected));

  test("what was printed is read back", () => {
    const search = { q: 'ä &="x"', site: "er-1", presence: "offline" as const, phase: "failed" };
    expect(read(printAddress(search))).toEqual(search);
    expect(printAddress({ q: undefined, site: "" })).toBe("");
  });

  test("a long word is cut, an odd value dropped", () => {
    expect(read(`?q=${"x".repeat(500)}`).q).toHaveLength(128);
    expect(driftSearch({ span: 28, stream: ["a"], model: "m" })).toEqual({ span: "28", model: "m" });
    expect(driftSearch({ span: "29" })).toEqual({});
    expect(rolloutsSearch({ state: "held", model: 7 })).toEqual({ state: "held", model: "7" });
  });
});
