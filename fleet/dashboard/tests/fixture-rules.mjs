// The made-up fleet's rules and records: what settings, audit and a new rollout show.
const hour = 3_600_000;
const agoIso = (seconds) => new Date(Date.now() - seconds * 1_000).toISOString();

export const siteRules = [
  { site: "er-1", zone: "Europe/Berlin", download: { windows: ["daily 22:00-05:00"] }, activation: { windows: ["daily 02:00-04:30"] }, consent: "not_needed", in_flight_max: 4, revision: 3 },
  { site: "er-2", zone: "Europe/Berlin", download: { windows: [] }, activation: { windows: ["sat,sun 01:00-06:00"] }, consent: "ask", in_flight_max: null, revision: 2 },
  { site: "er-3", zone: "America/New_York", download: { windows: [] }, activation: { windows: [] }, consent: "not_needed", in_flight_max: null, revision: 0 },
];

export const policies = [
  { model: "deterioration", enabled: true, trigger: { drift: { share_of_streams: 0.2 } }, cooldown_s: 14 * 86_400, min_data_s: 7 * 86_400, max_runs_per_week: 2, on: "world", labels: { horizon_s: 86_400, retrain: true }, rollout: { automatic: true, stages: [] } },
  { model: "beds", enabled: false, trigger: { drift: { share_of_streams: 0.3 } }, cooldown_s: 28 * 86_400, min_data_s: 14 * 86_400, max_runs_per_week: 1, on: "world", labels: { horizon_s: 86_400, retrain: false }, rollout: { automatic: false, stages: [] } },
];

export const trust = {
  files: [
    { name: "root.json", version: 2, bytes: 3_120, published: agoIso(86_400 * 40), expires: agoIso(-86_400 * 325) },
    { name: "catalogue.json", version: 7, bytes: 2_240, published: agoIso(86_400 * 85), expires: agoIso(-86_400 * 5) },
    { name: "revocations.json", version: 3, bytes: 512, published: agoIso(86_400 * 2), expires: agoIso(-86_400 * 28) },
  ],
};

export const kept = {
  kept: [
    { kind: "reports", rows: 812_340, bytes: 310_000_000, bytes_max: 2_500_000_000, seconds_max: 6 * 3_600, since: agoIso(6 * 3_600), dropped_rows: 0, dropped_bytes: 0, dropped_early_rows: 0, dropped_last: null },
    { kind: "rollups_5m", rows: 120_960, bytes: 18_000_000, bytes_max: 2_000_000_000, seconds_max: 14 * 86_400, since: agoIso(14 * 86_400), dropped_rows: 0, dropped_bytes: 0, dropped_early_rows: 0, dropped_last: null },
    { kind: "rollups_1h", rows: 40_320, bytes: 9_400_000, bytes_max: 4_000_000_000, seconds_max: 400 * 86_400, since: agoIso(90 * 86_400), dropped_rows: 0, dropped_bytes: 0, dropped_early_rows: 0, dropped_last: null },
  ],
  lost_reports: 12,
  lost_devices: 1,
};

export const enrolments = [
  { id: "enr-01", site: "er-3", state: "open", count: 4, uses_left: 3, approve: "manual", made: agoIso(86_400), made_by: "m.okafor", expires: agoIso(-86_400 * 6) },
  { id: "enr-00", site: "er-1", state: "used_up", count: 2, uses_left: 0, approve: "auto", made: agoIso(86_400 * 30), made_by: "m.okafor", expires: agoIso(86_400 * 23) },
];

export const cohorts = [
  { name: "icu", filter: "ward=icu", revision: 1 },
  { name: "new-boxes", filter: "agent>=0.3.0, !legacy", revision: 4 },
];

export const tags = (device) => ({ device, revision: 2, tags: { ward: "icu", floor: "3" } });

/** What the device's shadows compared, by day. */
export const shadows = (bundle, against, world) =>
  [1, 2, 3].map((n) => ({ slot: "deterioration", bundle, against, day: new Date(world - n * 24 * hour).toISOString(), rows: 400 - n * 17, differed: n === 1 ? 9 : 2 }));

/** The answer to "what would happen", or the problem that speaks against it. */
export function rehearse(body, { bundle, boxes }) {
  const { filter = "", sites, cohort } = body.selector ?? {};
  const stages = body.stages ?? [{ name: "canary", size: { count: 1 }, bake_s: 86_400, deadline_s: 14 * 86_400 }, { name: "everybody", size: { percent: 100 }, bake_s: 86_400, deadline_s: 14 * 86_400 }];
  const wrong = stages.findIndex((stage) => stage.bake_s > 90 * 86_400);
  if (wrong >= 0) return problem("invalid", "the plan does not hold together", [{ pointer: `/stages/${wrong}/bake_s`, detail: "is longer than 90 days" }]);
  if (filter.includes("==")) return problem("invalid", "the filter cannot be read", [{ pointer: "/selector/filter", detail: `'${filter}' is no term of a filter; write such as 'ward=icu'` }]);
  const named = filter.startsWith("device") ? filter.match(/d-\w+/g) : null;
  const site = /^site=([\w-]+)$/.exec(filter)?.[1] ?? sites?.[0];
  const chosen = boxes.filter((box) => (site === undefined || box.site === site) && (named === null || named.includes(box.id)) && (cohort === undefined || box.name.endsWith("1")));
  const known = filter === "" || named !== null || filter.startsWith("site=");
  const cohortBoxes = known ? chosen : chosen.filter((_, i) => i % 2 === 0 && filter !== "ward=none");
  if (cohortBoxes.length === 0) return problem("empty_cohort", "no device matches this plan's selector", []);
  let before = 0;
  const foreseen = stages.map((stage, i) => {
    const reaches = Math.min(cohortBoxes.length, "count" in stage.size ? stage.size.count : Math.ceil((cohortBoxes.length * (stage.size.percent ?? 50)) / 100));
    const own = Math.max(0, reaches - before);
    const first = cohortBoxes.slice(before, before + Math.min(own, 20)).map(({ name }) => name);
    before = Math.max(before, reaches);
    const at = (i + 1) * (stage.bake_s + 3_600);
    return { name: stage.name, target_devices: own, reaches: before, bake_s: stage.bake_s, deadline_s: stage.deadline_s, first, forecast: { p10_s: Math.round(at * 0.9), p50_s: at, p90_s: Math.round(at * 1.4) } };
  });
  const bySite = Map.groupBy?.(cohortBoxes, (box) => box.site) ?? new Map([["er-1", cohortBoxes]]);
  return {
    dry_run: true, bundle, slot: body.model, cohort: cohortBoxes.length, stages: foreseen,
    forecast: {
      cohort: cohortBoxes.length, runs: 31, simulated: 31, actual_s: null,
      finish: foreseen.at(-1).forecast, stages: foreseen.map(({ name, forecast }) => ({ name, ...forecast, actual_s: null })),
      sites: [...bySite].map(([name, of]) => ({ site: name, devices: of.length, bytes: of.length * 4_218_880 })),
      bugs: [
        { share: 0.1, at: "install", sentence: "A bug that breaks the install of 10 % of devices is stopped in 64 % of runs, after 3 devices in half of them.", stopped_share: 0.64, first_stage_power: 0.1, exposed_p50: 3, exposed_p90: 6, device_hours_p50: 40, stopped_after_p50_s: 90_000 },
        { share: 1, at: "later", sentence: "A bug that hits every device two hours later is stopped in every run, at the canary.", stopped_share: 1, first_stage_power: 1, exposed_p50: 1, exposed_p90: 1, device_hours_p50: 24, stopped_after_p50_s: 86_400 },
      ],
      warnings: cohortBoxes.length < 8 ? ["With fewer than 8 devices no stage can prove an install failure share below 20 %."] : [],
      basis: `Foreseen from 31 runs with ${cohortBoxes.length} of ${cohortBoxes.length} devices.`,
    },
  };
}

function problem(code, detail, errors) {
  return { type: "about:blank", title: "Not valid", status: 422, code, detail, errors };
}

/** Older than anything the pages link to: something to scroll through. */
export function olderLog(from, n) {
  return Array.from({ length: n }, (_, i) => {
    const at = agoIso(4_000 + i * 60);
    const kind = ["rollout.handed_out", "device.online", "device.offline", "policy.set"][i % 4];
    return { id: from - i, at, world_at: at, kind, subject: `er-${(i % 3) + 1}`, sentence: `${kind.replace(".", " ")}: entry ${from - i}`, actor: i % 4 === 3 ? { kind: "person", name: "m.okafor" } : { kind: "fleet", name: "fleet" } };
  });
}

export const checkup = () => ({
  version: "0.1.0",
  now: new Date().toISOString(),
  checks: [
    { check: "database", state: "ok", says: "/srv/muster/fleet.db takes writes", do_next: null },
    { check: "disk", state: "warn", says: "4.2 GB are free where /srv/muster is, of 64.0 GB", do_next: "free some, keep less of what boxes report ([telemetry]), or move the data folder" },
    { check: "broker", state: "ok", says: "connected to the broker in this server (connection 3)", do_next: null },
  ],
});

const ago = (minutes) => new Date(Date.now() - minutes * 60_000).toISOString();

export const mail = () => ({
  relay: "smtps://mail.hospital.example:465",
  from: "Muster <muster@hospital.example>",
  quiet_until: new Date(Date.now() + 5 * 3_600_000).toISOString(),
  items: [
    { project: null, to: ["oncall@hospital.example"], standing: 2, waiting: 1, next: new Date(Date.now() + 300_000).toISOString(), sent: ago(42), failing: null, refused: [] },
    { project: "wards", to: ["ward-it@hospital.example", "gone@hospital.example"], standing: 1, waiting: 0, next: null, sent: ago(90), failing: null, refused: [{ to: "gone@hospital.example", at: ago(90), why: "550 no such user" }] },
  ],
});

export const webhooks = [{ name: "pager", url: "https://pager.hospital.example/hook", events: ["rollout.", "incident.opened"], behind: 0, undelivered: 1 }];

export const undelivered = () => [
  { entry: 4711, kind: "incident.opened", subject: "inc-1", sentence: "opened an incident of deterioration: the world has changed", at: ago(12), why: "answered 422 nine times in an hour", again: false },
];
