// A draft as the plan file that `muster rollout apply` takes: for review, and to be kept beside the model. Pure.
import type { StagePlan } from "../../api/types";
import type { NewRolloutSearch } from "../../search";
import type { Draft } from "./draft";
import { printSpan } from "./spans";

export function planFile(search: NewRolloutSearch, bundle: { model: string; path: string }, draft: Draft, reason: string): string {
  const selector = [
    search.site === undefined ? [] : [`  sites: [${scalar(search.site)}]`],
    search.cohort === undefined ? [] : [`  cohort: ${scalar(search.cohort)}`],
    search.filter === undefined ? [] : [`  filter: ${scalar(search.filter)}`],
  ].flat();
  const caps = (["in_flight_max", "in_flight_per_site_max", "rate_per_hour_max"] as const).flatMap((cap) => (draft[cap] === undefined ? [] : [`${cap}: ${draft[cap]}`]));
  return [
    `model: ${scalar(bundle.model)}`,
    `bundle: ${scalar(bundle.path)}`,
    `reason: ${scalar(reason)}`,
    ...(selector.length === 0 ? [] : ["selector:", ...selector]),
    `on_failure: ${draft.on_failure}`,
    `windows: ${draft.timing === "ignore_windows" ? "ignore" : "keep"}`,
    `approvals: ${draft.approvals_min}`,
    ...caps,
    ...(draft.install_deadline_s === undefined ? [] : [`install_deadline: ${printSpan(draft.install_deadline_s)}`]),
    "stages:",
    ...draft.stages.flatMap(stage),
    "",
  ].join("\n");
}

function stage({ name, size, quorum_percent = 100, bake_s, deadline_s, exposure_device_hours_max, gate }: StagePlan): string[] {
  const limits = Object.entries(gate ?? {}).filter(([, value]) => value != null);
  return [
    `  - name: ${scalar(name)}`,
    `    size: ${extent(size)}`,
    `    quorum: ${quorum_percent}%`,
    `    bake: ${printSpan(bake_s)}`,
    `    deadline: ${printSpan(deadline_s)}`,
    ...(exposure_device_hours_max == null ? [] : [`    exposure_device_hours_max: ${exposure_device_hours_max}`]),
    ...(limits.length === 0 ? [] : ["    gate:", ...limits.map(([limit, value]) => `      ${limit}: ${value}`)]),
  ];
}

function extent(size: StagePlan["size"]): string {
  if ("count" in size) return String(size.count);
  if ("percent" in size) return `${size.percent}%`;
  if ("matching" in size) return `{ matching: ${scalar(size.matching)} }`;
  return `{ devices: [${size.devices.map(scalar).join(", ")}] }`;
}

/** Double quotes where a plain word could be read as something else; JSON's are YAML's too. */
function scalar(word: string): string {
  return /^[A-Za-z][\w./-]*$/.test(word) && !/^(true|false|yes|no|on|off|null|y|n)$/i.test(word) ? word : JSON.stringify(word);
}
