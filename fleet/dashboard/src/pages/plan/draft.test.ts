import { describe, expect, test } from "vitest";
import type { Bundle } from "../../api/types";
import { askedOf, draftOf, presetOf, presets, printDraft, withStage } from "./draft";
import { parseSpan, printSpan } from "./spans";
import { planFile } from "./yaml";

describe("a draft in the address", () => {
  test("comes back as it was; the usual one takes no room", () => {
    expect(printDraft(presets.usual)).toBeUndefined();
    const edited = { ...presets.careful, stages: withStage(presets.careful.stages), rate_per_hour_max: 9 };
    expect(draftOf(printDraft(edited))).toEqual(edited);
    expect(presetOf(draftOf(printDraft(presets.quick)))).toBe("quick");
  });
  test.each([undefined, "", "{", "null", '{"stages":[]}', '{"stages":[{"name":"x"}]}', "[1]"])("junk is the usual one: %s", (plan) => {
    expect(draftOf(plan)).toEqual(presets.usual);
  });
  test("a new stage has a name of its own", () => {
    const names = withStage(withStage(presets.quick.stages)).map(({ name }) => name);
    expect(new Set(names).size).toBe(4);
  });
});

const bundle = { model: "beds", sha256: "ab", path: "bundles/beds/2.json" } as Bundle;

test("only what was chosen narrows the devices", () => {
  expect(askedOf({}, bundle, presets.quick, "why")).not.toHaveProperty("selector");
  expect(askedOf({ site: "er-1", filter: "ward=icu" }, bundle, presets.quick, "why")).toMatchObject({ model: "beds", bundle: "ab", reason: "why", selector: { sites: ["er-1"], filter: "ward=icu" }, on_failure: "roll_back" });
});

test.each([
  ["1d", 86_400],
  ["1d 12h", 129_600],
  ["90m", 5_400],
  ["0s", 0],
  ["2H", 7_200],
  ["", null],
  ["12", null],
  ["1d12", null],
  ["-1h", null],
])("the span %j is %j seconds", (line, seconds) => {
  expect(parseSpan(line)).toBe(seconds);
  if (seconds !== null) expect(parseSpan(printSpan(seconds))).toBe(seconds);
});

test("the plan file quotes what could be read as something else", () => {
  const draft = { ...presets.quick, install_deadline_s: 129_600, stages: [{ ...presets.quick.stages[0], gate: { labels_min: 10 } }, { ...presets.quick.stages[1], size: { matching: "ward=icu" } }] };
  expect(planFile({ filter: "ward in (icu, er)", cohort: "no" }, bundle, draft, 'say "yes": now')).toBe(`model: beds
bundle: bundles/beds/2.json
reason: "say \\"yes\\": now"
selector:
  cohort: "no"
  filter: "ward in (icu, er)"
on_failure: roll_back
windows: keep
approvals: 0
install_deadline: 1d12h
stages:
  - name: canary
    size: 1
    quorum: 100%
    bake: 1h
    deadline: 14d
    gate:
      labels_min: 10
  - name: everybody
    size: { matching: "ward=icu" }
    quorum: 90%
    bake: 1h
    deadline: 14d
`);
});
