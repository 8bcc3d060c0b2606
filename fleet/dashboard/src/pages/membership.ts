// Which decisions about a member there are from where it stands, and why not the others.
import type { DeviceStanding } from "../api/types";
import { text } from "../strings";

export type MemberVerb = "quarantine" | "release" | "revoke" | "dismiss";

const say = text.member;

export function memberWhyNot(verb: MemberVerb, state: DeviceStanding["state"]): string | null {
  if (state !== "active" && state !== "quarantined") return say.whyNot.noMember(say.states[state] ?? state);
  if (verb === "quarantine" && state === "quarantined") return say.whyNot.alreadyApart;
  if (verb === "release" && state === "active") return say.whyNot.notApart;
  return null;
}
