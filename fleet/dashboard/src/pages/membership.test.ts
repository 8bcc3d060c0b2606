import { expect, test } from "vitest";
import type { DeviceStanding } from "../api/types";
import { memberWhyNot, type MemberVerb } from "./membership";

test.each<[DeviceStanding["state"], MemberVerb[]]>([
  ["active", ["quarantine", "revoke", "dismiss"]],
  ["quarantined", ["release", "revoke", "dismiss"]],
  ["pending", []],
  ["rejected", []],
  ["revoked", []],
])("what a person may decide about a device that is %s", (state, expected) => {
  const verbs: MemberVerb[] = ["quarantine", "release", "revoke", "dismiss"];
  expect(verbs.filter((verb) => memberWhyNot(verb, state) === null)).toEqual(expected);
});
