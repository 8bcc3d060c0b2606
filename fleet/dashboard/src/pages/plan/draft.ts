// A plan while it is thought up: what the usual one is, how it stands in the address, and what is sent. Pure.
import type { Bundle, NewRollout, StagePlan } from "../../api/types";
import type { NewRolloutSearch } from "../../search";

export interface Draft {
  stages: StagePlan[];
  on_failure: "roll_back" | "hold";
  timing: "as_sites_allow" | "ignore_windows";
  approvals_min: number;
  in_flight_max?: number;
  in_flight_per_site_max?: number;
  rate_per_hour_max?: number;
  install_deadline_s?: number;
}

const hour = 3_600;
const day = 24 * hour;
const stage = (name: string, size: StagePlan["size"], bake_s: number, quorum_percent = 100): StagePlan => ({ name, size, quorum_percent, bake_s, deadline_s: 14 * day });
const rest = { on_failure: "roll_back", timing: "as_sites_allow", approvals_min: 0 } as const;

export const presets = {
  usual: { ...rest, stages: [stage("canary", { count: 1 }, day), stage("tenth", { percent: 10 }, 12 * hour, 90), stage("everybody", { percent: 100 }, 6 * hour, 90)] },
  careful: {
    ...rest,
    approvals_min: 1,
    stages: [
      stage("canary", { count: 1 }, 2 * day),
      stage("few", { percent: 5 }, day, 95),
      stage("quarter", { percent: 25 }, day, 95),
      stage("half", { percent: 50 }, 12 * hour, 90),
      stage("everybody", { percent: 100 }, 12 * hour, 90),
    ],
  },
  quick: { ...rest, stages: [stage("canary", { count: 1 }, hour), stage("everybody", { percent: 100 }, hour, 90)] },
} as const satisfies Record<string, Draft>;

export type Preset = keyof typeof presets;

export function presetOf(draft: Draft): Preset | undefined {
  return (Object.keys(presets) as Preset[]).find((name) => JSON.stringify(presets[name]) === JSON.stringify(draft));
}

/** Junk in an address is the usual plan; whether the plan itself holds together says the server. */
export function draftOf(plan: string | undefined): Draft {
  try {
    const read: unknown = JSON.parse(plan ?? "null");
    if (typeof read === "object" && read !== null && "stages" in read && Array.isArray(read.stages) && read.stages.length > 0 && read.stages.every(isStage)) {
      return { ...presets.usual, ...read, stages: read.stages };
    }
  } catch {
    // Falls through to the usual plan.
  }
  return presets.usual;
}

function isStage(one: unknown): one is StagePlan {
  return typeof one === "object" && one !== null && "name" in one && "size" in one && typeof one.size === "object" && one.size !== null && "bake_s" in one && "deadline_s" in one;
}

export function printDraft(draft: Draft): string | undefined {
  return presetOf(draft) === "usual" ? undefined : JSON.stringify(draft);
}

/** What the server is asked, first only what it would do, then to do it. */
export function askedOf(search: NewRolloutSearch, bundle: Bundle, draft: Draft, reason: string): NewRollout {
  const { cohort, filter, site } = search;
  const selector = { ...(cohort === undefined ? {} : { cohort }), ...(filter === undefined ? {} : { filter }), ...(site === undefined ? {} : { sites: [site] }) };
  return { model: bundle.model, bundle: bundle.sha256, reason, ...(Object.keys(selector).length === 0 ? {} : { selector }), ...draft };
}

/** A free name after the last stage's. */
export function withStage(stages: readonly StagePlan[]): StagePlan[] {
  const last = stages.at(-1);
  const names = new Set(stages.map(({ name }) => name));
  const name = Array.from({ length: stages.length + 1 }, (_, i) => `stage-${i + 1}`).find((one) => !names.has(one)) ?? "stage";
  return [...stages, { ...stage(name, { percent: 100 }, 12 * hour, 90), ...(last === undefined ? {} : { bake_s: last.bake_s, deadline_s: last.deadline_s }) }];
}
