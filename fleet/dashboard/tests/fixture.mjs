// A made-up fleet for developing the dashboard: every state a page can show, deterministic but for the present moment.
// It stands for no real server: the test in CI runs against the real one.

import { olderLog, shadows } from "./fixture-rules.mjs";

const hour = 3_600_000;
const day = 24 * hour;
const worldStart = Date.parse("2027-03-01T00:00:00Z");
const factor = 57_600;
const started = Date.now() - 130_000;

export const nowIso = () => new Date().toISOString();
export const worldIso = (real = Date.now()) => new Date(worldStart + (real - started) * factor).toISOString();
const agoIso = (seconds) => new Date(Date.now() - seconds * 1_000).toISOString();
const at = (seconds) => ({ at: agoIso(seconds), world_at: worldIso(Date.now() - seconds * 1_000) });
const id = (prefix, n) => `${prefix}0${String(n).padStart(25, "7qz3m9xk5w2a8c4e6g1hjnprst")}`.slice(0, prefix.length + 26);
const sha = (seed) => Array.from({ length: 64 }, (_, i) => ((seed * 31 + i * 7 + ((i * seed) % 11)) % 16).toString(16)).join("");

/** A small seeded generator, so that pictures can be compared from one run to the next. */
function random(seed) {
  let s = seed >>> 0;
  return () => {
    s = (Math.imul(s, 1_664_525) + 1_013_904_223) >>> 0;
    return s / 2 ** 32;
  };
}

const ref = (model, version, seed, kind = "human") => ({
  path: `bundles/${model}/${kind}/${version}`,
  version,
  sha256: sha(seed),
});
const champion = ref("deterioration", "1.0.0", 3);
const challenger = ref("deterioration", "1.1.0-auto.1", 9, "auto");
const bad = ref("deterioration", "1.2.0-rc1", 14);
const beds = ref("beds", "0.9.2", 21);

const sites = ["er-1", "er-2", "er-3"];
const capabilities = {
  arch: "x86_64",
  cpu_model: "Intel(R) Core(TM) Ultra 5 125H",
  cores: 14,
  memory_bytes: 16_500_000_000,
  cpu_flags: ["avx2", "avx_vnni"],
  devices: ["CPU", "GPU", "NPU"],
  runtime: "ONNX Runtime 1.32.0, OpenVINO 2026.4.1",
};

function device(n) {
  const r = random(n + 5);
  const site = sites[n % 3];
  const offline = n === 4 || n % 97 === 50;
  const failed = n === 5;
  const isNew = n < 2;
  const running = isNew ? challenger : champion;
  return {
    id: id("d-", n),
    name: n < 6 ? `${site}-box-${Math.floor(n / 3) + 1}` : `${site}-box-${n}`,
    site,
    presence: offline ? "offline" : "online",
    last_seen: agoIso(offline ? 5_400 : 2 + r() * 20),
    agent_version: "0.1.0",
    identity: {
      state: "active",
      since: agoIso(86_400 * 12),
      fingerprint: "5be1-0c44-97d2-aa0f-13c8-e6b7-2f90-d4e3",
      certificate_expires: agoIso(-86_400 * 71),
      ...(n === 3 ? { suspect_clone: "b-0c… connected again after b-7f… had taken its place: two machines seem to use one key" } : {}),
    },
    capabilities,
    order_version: 1_790_000_120 + n,
    observed_generation: 1_790_000_120 + n - (failed ? 1 : 0),
    slots: [
      {
        slot: "deterioration",
        phase: failed
          ? { is: "failed", bundle: challenger, code: "self_test_mismatch", sentence: "The golden outputs differ by 0.041, allowed is 0.002: the bundle was not activated." }
          : n === 2
            ? { is: "downloading", bundle: challenger, received_bytes: 1_310_720, total_bytes: 4_218_880 }
            : { is: "running", bundle: running },
        current: { ...running, provider: "openvino", provider_reason: null, since: agoIso(40 + n * 300), variant: "cpu-f32", numerics: "f32" },
        previous: isNew ? champion : null,
        wanted: isNew || n === 2 || failed ? challenger : champion,
      },
      ...(n % 3 === 0
        ? [
            {
              slot: "beds",
              phase: { is: "running", bundle: beds },
              current: { ...beds, provider: "onnx_cpu", provider_reason: "OpenVINO cannot run ai.onnx.ml.TreeEnsembleRegressor; ONNX Runtime's own kernels can.", since: agoIso(90_000), variant: "cpu-f32" },
              previous: null,
              wanted: beds,
            },
          ]
        : []),
    ],
    refusal: null,
    notices: [],
    captures: [],
    health: offline
      ? null
      : {
          cpu_percent: 4 + r() * 30,
          memory_used_bytes: 5.1e9 + r() * 2e9,
          memory_total_bytes: 16.5e9,
          agent_rss_bytes: 1.1e8 + r() * 2e7,
          disk_free_bytes: 2.1e11,
          temperature_c: 48 + r() * 14,
          uptime_s: 86_400 * 12.4,
          at: agoIso(6),
        },
    rollouts: n === 1 ? [{ rollout: rolloutIds.running, model: "deterioration", version: "2.1.0", stage: "half", state: "waiting", code: "stage", sentence: "belongs to stage 'half'; stage 'canary' must pass its gate first", next: "is asked when its stage opens", since: null }] : [],
    waiting_on: offline
      ? { code: "offline", sentence: "The box has been offline for 1 h 30 min; nothing can be handed to it.", next: "It gets its order as soon as it connects." }
      : n === 2
        ? { code: "downloading", sentence: "1.3 of 4.2 MB of 1.1.0-auto.1 have arrived.", next: "Verification, then the self-test." }
        : failed
          ? { code: "self_test_mismatch", sentence: "Self-test failed: golden outputs differ by 0.041, allowed is 0.002.", next: "A person decides: another bundle, or a new variant for this processor." }
          : null,
  };
}

function deviceDetail(n) {
  const r = random(n + 77);
  const one = device(n);
  return {
    ...one,
    shadows: n === 0 ? shadows(challenger.sha256, champion.sha256, Date.parse(worldIso())) : [],
    lost_reports: [],
    recent_events: [
      { at: agoIso(40), kind: "activated", sentence: "Activated deterioration 1.1.0-auto.1 on OpenVINO: loaded in 212 ms, self-test in 640 ms." },
      { at: agoIso(46), kind: "verified", sentence: "Verified the catalogue, version 7, and all 3 files of the bundle." },
      { at: agoIso(3_000), kind: "started", sentence: "Agent 0.1.0 started; nothing had been left half done." },
    ],
    telemetry: Array.from({ length: 120 }, (_, i) => ({
      at: agoIso((120 - i) * 30),
      cpu_percent: 12 + 6 * Math.sin(i / 9) + r() * 5,
      agent_rss_bytes: 1.18e8 + i * 20_000 + r() * 2e6,
      requests: Math.round(420 + 120 * Math.sin(i / 14) + r() * 40),
      failures: i === 71 ? 6 : 0,
      p95_us: 780 + r() * 160 + (i > 100 ? 120 : 0),
    })),
  };
}

const rolloutIds = { running: id("ro-", 1), held: id("ro-", 2), done: id("ro-", 3), back: id("ro-", 4) };
const incidentId = id("inc-", 1);
const triggerId = id("trg-", 1);
const runIds = { running: id("run-", 1), done: id("run-", 2), rejected: id("run-", 3) };

const asked = { alpha: 0.01, test: "as docs/gates.md describes", interval: null, bound: null };
const layer = (layer_, verdict, measured, limit, n, sentence, more = {}) => ({ ...asked, layer: layer_, verdict, measured, limit, n, missing: 0, sentence, ...more });
const around = (low, high) => ({ interval: [low, high], bound: high });
const shadow = layer("shadow", "not_asked", null, null, 0, "the plan does not ask for the agreement with the bundle before");
const goodGate = {
  verdict: "pass",
  alpha: 0.05,
  asked_at: agoIso(35),
  layers: [
    layer("install", "pass", 0.75, 50, 1, "1 device installed it, none failed: the failure share is below 96 %", around(0, 0.95)),
    layer("runtime", "pass", 3.1, 66.7, 412, "No failure in 412 answers."),
    layer("latency", "pass", 0.91, 5, 412, "95 % of answers within 0.91 ms; the limit is 5 ms."),
    layer("paired_error", "pass", -0.0132, 0.005, 196, "The squared error is 0.0132 lower than the champion's on 196 labelled patients (95 % bound: −0.0041).", around(-0.022, -0.0041)),
    shadow,
  ],
};
const waitingGate = {
  verdict: "insufficient",
  alpha: 0.05,
  asked_at: agoIso(4),
  layers: [
    layer("install", "insufficient", 1.9, 50, 2, "2 of 3 devices activated; er-3-box-1 is still downloading.", { missing: 1, ...around(0.02, 0.86) }),
    layer("runtime", "pass", 3.1, 66.7, 121, "No failure in 121 answers."),
    layer("latency", "pass", 0.94, 5, 121, "95 % of answers within 0.94 ms; the limit is 5 ms."),
    layer("paired_error", "insufficient", -0.0098, 0.005, 38, "38 labels have matured; 100 are needed. They come about 24 h (world) after the patient.", { missing: 2, ...around(-0.031, 0.012) }),
    shadow,
  ],
};
const badGate = {
  verdict: "fail",
  alpha: 0.05,
  asked_at: agoIso(600),
  layers: [
    layer("install", "pass", 0.75, 50, 1, "1 device installed it, none failed: the failure share is below 96 %", around(0, 0.95)),
    layer("runtime", "pass", 3.1, 66.7, 377, "No failure in 377 answers."),
    layer("latency", "pass", 0.88, 5, 377, "95 % of answers within 0.88 ms; the limit is 5 ms."),
    layer("paired_error", "fail", 0.1184, 0.005, 164, "The squared error is 0.1184 higher than the champion's on 164 labelled patients (95 % bound: +0.0871).", around(0.0871, 0.15)),
    shadow,
  ],
};
const stage = (name, target, handed, activated, failed, state, gate = null, bake = null) => ({
  name, target_devices: target, handed, permitted: activated, activated, baked: state === "passed" ? activated : 0, failed, returned: 0,
  pending: target - activated - failed, bake_until: bake, state, gate,
});

function rollouts() {
  const person = { kind: "person", name: "m.okafor", trigger: null };
  const engine = { kind: "fleet", name: "fleet" };
  const policy = { kind: "policy", name: "deterioration policy", trigger: triggerId };
  const live = {
    id: rolloutIds.running, model: "deterioration", slot: "deterioration", bundle: challenger,
    from: [{ sha256: champion.sha256, version: champion.version, devices: 6 }],
    phase: { is: "running", since: agoIso(70), stage: "half", reason: null },
    stages: [
      stage("canary", 1, 1, 1, 0, "passed", goodGate, agoIso(36)),
      stage("half", 3, 3, 1, 1, "baking", waitingGate, agoIso(-20)),
      stage("everyone", 2, 0, 0, 0, "waiting"),
    ],
    created: agoIso(70), reason: "Retrained after drift on 9 of 14 streams", started_by: policy,
    waiting_on: [
      { code: "labels", sentence: "The gate after 'half' needs 62 more matured labels.", next: "They arrive with the next world day; the gate is asked again then.", devices: 2 },
      { code: "frozen", sentence: "1 device: its site is frozen by m.okafor: network works", devices: 1 },
      { code: "device_failed", sentence: "er-3-box-2 could not activate: its golden outputs differ by 0.041, allowed is 0.002.", next: "One more failure in this stage holds the rollout.", devices: 1 },
      { code: "downloading", sentence: "er-3-box-1 is downloading: 1.3 of 4.2 MB.", next: "Self-test, then activation.", devices: 1 },
    ],
    timeline: [
      { ...at(70), kind: "rollout.started", sentence: "deterioration 1.1.0-auto.1: rollout starts (canary → half → everyone)", actor: policy },
      { ...at(66), kind: "rollout.handed_out", sentence: "deterioration 1.1.0-auto.1: handed to 1 device", actor: engine },
      { ...at(35), kind: "rollout.stage_passed", sentence: "deterioration 1.1.0-auto.1: stage 'canary' passed its gate, 'half' opens", actor: engine },
      { ...at(34), kind: "rollout.handed_out", sentence: "deterioration 1.1.0-auto.1: handed to 3 devices", actor: engine },
      { ...at(20), kind: "rollout.paused", sentence: "paused the rollout of deterioration 1.1.0-auto.1: shift change", actor: person },
      { ...at(15), kind: "rollout.resumed", sentence: "resumed the rollout of deterioration 1.1.0-auto.1", actor: person },
    ],
    forecast: {
      finish: { p10_s: 5_400, p50_s: 7_200, p90_s: 14_400 }, actual_s: null,
      stages: [{ name: "canary", p10_s: 1_200, p50_s: 1_500, p90_s: 1_900, actual_s: 2_600 }, { name: "half", p10_s: 3_000, p50_s: 4_100, p90_s: 6_000 }, { name: "everyone", p10_s: 5_400, p50_s: 7_200, p90_s: 14_400 }],
      warnings: [], basis: "Foreseen from 31 runs with 6 of 6 devices.",
    },
    revision: 12,
  };
  const held = {
    ...live, id: rolloutIds.held, model: "beds", slot: "beds", bundle: ref("beds", "0.9.3", 33),
    from: [{ sha256: beds.sha256, version: beds.version, devices: 2 }],
    phase: { is: "held", since: agoIso(1_800), stage: "canary", reason: { code: "insufficient_at_deadline", sentence: "The gate after 'canary' still lacks evidence at its deadline: 14 of 40 labels." } },
    stages: [stage("canary", 1, 1, 1, 0, "judging", { ...waitingGate, layers: waitingGate.layers.slice(1) }), stage("everyone", 1, 0, 0, 0, "waiting")],
    created: agoIso(7_200), reason: "Refit on the spring quarter", started_by: person,
    waiting_on: [{ code: "held", sentence: "Held: a person decides.", next: "Promote, abort or roll back.", devices: 1 }],
    revision: 4,
  };
  const back = {
    ...live, id: rolloutIds.back, bundle: bad,
    phase: { is: "rolled_back", since: agoIso(590), stage: "canary", reason: { code: "gate_failed", sentence: "Stopped at the canary: the squared error is 0.1184 higher than the champion's on 164 labelled patients. The canary runs 1.0.0 again." } },
    timeline: [
      { ...at(900), kind: "rollout.started", sentence: "deterioration 1.2.0-rc1: rollout starts (canary → half → everyone)", actor: person },
      { ...at(600), kind: "rollout.rolling_back", sentence: "deterioration 1.2.0-rc1: stopped at 'canary': the squared error is 0.1184 higher than the champion's", actor: engine },
      { ...at(590), kind: "rollout.rolled_back", sentence: "deterioration 1.2.0-rc1: rolled back", actor: engine },
    ],
    stages: [{ ...stage("canary", 1, 1, 0, 0, "failed", badGate), returned: 1, pending: 0 }, stage("half", 3, 0, 0, 0, "waiting"), stage("everyone", 2, 0, 0, 0, "waiting")],
    created: agoIso(900), reason: "Candidate of the spring project", started_by: person, waiting_on: [], revision: 9,
  };
  const done = {
    ...live, id: rolloutIds.done, bundle: champion, from: [],
    phase: { is: "completed", since: agoIso(86_400), stage: null, reason: null },
    stages: [stage("canary", 1, 1, 1, 0, "passed", goodGate), stage("everyone", 5, 5, 5, 0, "passed", goodGate)],
    created: agoIso(90_000), reason: "First bundle", started_by: person, waiting_on: [], revision: 7,
  };
  return [live, held, back, done];
}

const rolloutDevices = [
  ["done", 0, "canary", "proven", "Runs 1.1.0-auto.1 and has proven its digest after the bake.", null],
  ["baking", 1, "half", "baking", "Runs 1.1.0-auto.1; bakes until 9 Apr 06:00 (world).", "The gate is asked when the stage has baked."],
  ["ready", 2, "half", "downloading", "1.3 of 4.2 MB have arrived.", "Verification, then the self-test."],
  ["failed", 5, "half", "self_test_mismatch", "Golden outputs differ by 0.041, allowed is 0.002; it stays on 1.0.0.", "A person decides: another bundle, or a new variant."],
  ["waiting", 3, "everyone", "stage_not_open", "Stage 'everyone' is not open: 'half' has not passed its gate.", "It is asked when the gate passes."],
  ["waiting", 4, "everyone", "offline", "Offline for 1 h 30 min and not yet asked.", "It is asked when its stage opens and it is online."],
].map(([state, n, stageName, code, sentence, next]) => ({
  device: device(n).id, name: device(n).name, site: device(n).site, stage: stageName, state, code, sentence, next: next ?? "", since: agoIso(20 + n * 7),
}));

const streams = ["age", "heart_rate", "resp_rate", "spo2", "systolic_bp", "temperature", "gcs", "news2", "lactate", "wbc", "crp", "arrivals_1h", "complaint", "score"];
const epidemic = { age: 0.35, heart_rate: 0.52, resp_rate: 0.95, spo2: -0.88, temperature: 1.22, news2: 0.81, wbc: 0.4, crp: 1.05, arrivals_1h: 1.4, complaint: 0.6 };

function drift(model, only) {
  if (model !== "deterioration") return { streams: [], windows: [], devices_left_out: 0 };
  const windows = [];
  const end = Math.floor(Date.parse(worldIso()) / day) * day;
  sites.forEach((site, s) => {
    const r = random(40 + s);
    for (let i = 0; i < 60; i += 1) {
      const n = i === 21 && s === 1 ? 34 : Math.round(110 + r() * 70);
      const ramp = Math.min(1, Math.max(0, (i - 46) / 6)) * (s === 2 ? 0.8 : 1);
      windows.push({
        device: device(s).id, device_name: device(s).name, site, bundle: champion.sha256, version: i >= 40 ? champion.version : "0.9.0",
        from: new Date(end - (60 - i) * day).toISOString(), to: new Date(end - (59 - i) * day).toISOString(), n,
        streams: streams.map((name) => {
          const shift = (epidemic[name] ?? 0) * ramp + (r() - 0.5) * 0.22;
          const state = n < 50 ? "insufficient" : Math.abs(shift) > 0.42 && ramp > 0.3 ? "drift" : Math.abs(shift) > 0.26 ? "warn" : "ok";
          return { name, state, b: state === "drift" ? 10 ** -(4 + Math.abs(shift) * 6) : r(), psi_adj: shift ** 2, mean_shift_sd: name === "complaint" ? null : shift, js: shift ** 2 / 8, shift_low: shift - 0.16, shift_high: shift + 0.16, against: i < 26 ? "training" : "own", broken: [] };
        }),
      });
    }
  });
  return { streams, windows: windows.filter((window) => [null, window.device].includes(only)), devices_left_out: 0 };
}

function performance(model) {
  if (model !== "deterioration") return { horizon_s: 86_400, bundles: [] };
  const end = Math.floor(Date.parse(worldIso()) / day) * day;
  const r = random(77);
  const from = (i) => new Date(end - (30 - i) * day).toISOString();
  const rise = (i) => Math.max(0, i - 18) * 0.006;
  const days = Array.from({ length: 28 }, (_, i) => ({
    from: from(i), days: 1, predictions: 360, labels: 300, state: i > 21 ? "drift" : i > 20 ? "warn" : "ok", observed: Math.round(7 + rise(i) * 320), expected: 7.4 + r(),
    z: (r() - 0.5) * 2 + rise(i) * 60, loss: 0.023 + (r() - 0.5) * 0.006 + rise(i), holdout_loss: 0.0236, loss_z: rise(i) * 100,
  }));
  const estimated = Array.from({ length: 14 }, (_, k) => {
    const value = 0.0225 + (r() - 0.5) * 0.003;
    return { from: from(16 + k), windows: 3, predictions: 360, positives: 7.5 + r(), loss: { value, low: value - 0.002, high: value + 0.003 }, accuracy: { value: 0.64, low: 0.62, high: 0.66 } };
  });
  return { horizon_s: 86_400, bundles: [{ bundle: champion.sha256, version: champion.version, matured: 10_080, labelled: 8_400, labelled_percent: 83.3, waiting: 720, alarm_since: from(22), days, estimated }] };
}

function histogram(stream) {
  if (stream === "complaint") {
    return { categories: ["chest_pain", "dyspnoea", "fever", "trauma", "abdominal", "other"], reference: [2100, 1600, 900, 2500, 1800, 1100], current: [14, 41, 52, 19, 16, 9] };
  }
  const shift = epidemic[stream] ?? 0;
  const edges = Array.from({ length: 19 }, (_, i) => Math.round((37 + 0.55 * (i - 9) * 0.24) * 100) / 100);
  return { edges, reference: Array.from({ length: 20 }, () => 500), current: Array.from({ length: 20 }, (_, i) => Math.max(0, Math.round(7 + shift * (i - 9.5) * 0.62))) };
}

const incidents = () => [
  {
    id: incidentId, model: "deterioration", bundle: champion.sha256, state: "open", opened: agoIso(95), onset: new Date(Date.parse(worldIso()) - 13 * day).toISOString(), world_opened: worldIso(Date.now() - 95_000),
    scope: { devices: [0, 1, 2].map((n) => device(n).id), sites },
    streams: Object.entries(epidemic).map(([name, effect]) => ({ name, effect_sd: name === "complaint" ? null : effect, psi: effect ** 2, b: 1e-8, windows: 6 })),
    sentence: "10 of 14 streams have drifted in 2 of the last 3 windows at 3 sites, most of all arrivals_1h (+1.40 sd) and temperature (+1.22 sd).", trigger: triggerId,
  },
  {
    id: id("inc-", 2), model: "beds", bundle: beds.sha256, state: "closed", opened: agoIso(40_000), onset: worldIso(Date.now() - 90_000), world_opened: worldIso(Date.now() - 88_000),
    scope: { devices: [device(0).id], sites: ["er-1"] }, streams: [{ name: "arrivals_24h", effect_sd: 0.3, psi: 0.09, b: 1e-5, windows: 3 }], sentence: "arrivals_24h had drifted at er-1; three quiet windows closed the incident.", trigger: null,
  },
];

function runs() {
  const trigger = { id: triggerId, kind: "drift", incident: incidentId, onset: worldIso(Date.now() - 100_000), streams: Object.keys(epidemic), reason: "Input drift on 10 of 14 streams (71 %); the policy asks for 20 %." };
  const base = { model: "deterioration", trigger, claimed_by: "builder-a", heartbeat_at: agoIso(3), failure: null, result: null, rollout: null };
  const done = {
    ...base, id: runIds.done, state: "succeeded", created: agoIso(120), progress: { fraction: 1, message: "published" },
    log_tail: ["read 30 baseline days, 28 epidemic days: 21,884 rows", "progress 0.10 reading", "progress 0.40 fitting", "fitted in 11 iterations", "progress 0.80 exporting", "progress 1.00 done"],
    result: {
      bundle: challenger,
      evaluation: {
        frozen: { champion: { log_loss: 0.2315, auroc: 0.861 }, challenger: { log_loss: 0.2341, auroc: 0.858 } },
        recent: { champion: { log_loss: 0.4127, auroc: 0.742 }, challenger: { log_loss: 0.2988, auroc: 0.829 } },
      },
    },
    timeline: [
      { ...at(120), kind: "queued", sentence: "Queued by the policy: drift on 10 of 14 streams." },
      { ...at(119), kind: "claimed", sentence: "builder-a took the run." },
      { ...at(88), kind: "published", sentence: "1.1.0-auto.1 beat the champion on recent data and was signed and published." },
    ],
    rollout: rolloutIds.running,
  };
  const running = {
    ...base, id: runIds.running, model: "beds", state: "claimed", created: agoIso(30), progress: { fraction: 0.42, message: "fitting" },
    trigger: { id: id("trg-", 2), kind: "manual", incident: null, onset: null, streams: [], reason: "Asked for by m.okafor: new ward opened." },
    log_tail: ["read 420 days", "progress 0.10 reading", "progress 0.42 fitting"], timeline: [{ ...at(30), kind: "queued", sentence: "Asked for by m.okafor." }],
  };
  const rejected = {
    ...base, id: runIds.rejected, state: "rejected", created: agoIso(60_000), progress: { fraction: 1, message: "scored" },
    failure: { code: "not_better", sentence: "The challenger's log loss on recent data is 0.4301, the champion's 0.4127: nothing was published." },
    log_tail: [], timeline: [],
  };
  return [running, done, rejected];
}

const bundles = (model) =>
  [
    { ...challenger, model: "deterioration", signer: "builder", created: agoIso(88), accepted: agoIso(87), size_bytes: 4_218_880, devices_running: 2, catalogued: true },
    { ...bad, model: "deterioration", signer: "human", created: agoIso(1_000), accepted: agoIso(990), size_bytes: 4_218_112, devices_running: 0, catalogued: false },
    { ...champion, model: "deterioration", signer: "human", created: agoIso(95_000), accepted: agoIso(94_000), size_bytes: 4_218_880, devices_running: 4, catalogued: true },
    { ...beds, model: "beds", signer: "human", created: agoIso(200_000), accepted: agoIso(199_000), size_bytes: 61_440, devices_running: 2, catalogued: true },
  ]
    .map((bundle) => ({ description: bundle.model === "beds" ? "Beds needed tomorrow, gradient boosting." : "Risk that a patient deteriorates within 24 hours, logistic regression.", evaluation: { metric: "log_loss", sets: [{ name: "frozen", rows: 4_120, champion: 0.2315, challenger: 0.2341 }, { name: "recent", rows: 1_980, champion: 0.4127, challenger: 0.2988 }] }, lineage: { trainer: "er.train 1.4", champion: champion.sha256, run: runIds.done, trigger: triggerId, datasets: [{ name: "er-1 2025", rows: 21_884, sha256: sha(77) }, { name: "er-2 2025", rows: 20_117, sha256: sha(78) }] }, ...bundle }))
    .filter((bundle) => model === null || bundle.model === model);

function overview(total) {
  const [live, held] = rollouts();
  return {
    needs_you: [
      { kind: "device_suspect", urgent: true, id: device(3).id, title: `${device(3).name} may not be the only one with its key`, detail: "b-0c… connected again after b-7f… had taken its place: two machines seem to use one key", since: agoIso(240), link: `/devices/${device(3).id}` },
      { kind: "device_pending", urgent: false, id: id("d-", 900), title: "er-3-box-3 asks to join er-3", detail: "compare the fingerprint with the one that the box shows, then accept or reject it", since: agoIso(75), link: "/", fingerprint: "1f3c-09aa-7be2-4d10-c3f8-55e1-0b6d-9a27" },
      { kind: "rollout_held", urgent: false, id: held.id, title: "beds 0.9.3 is held after its canary", detail: held.phase.reason.sentence, since: agoIso(1_800), link: `/rollouts/${held.id}` },
      { kind: "incident_open", urgent: false, id: incidentId, title: "deterioration drifts at 3 sites", detail: incidents()[0].sentence, since: agoIso(95), link: `/drift?model=deterioration` },
      { kind: "activation_failed", urgent: false, id: device(5).id, title: `${device(5).name} cannot run 1.1.0-auto.1`, detail: "Golden outputs differ by 0.041, allowed is 0.002.", since: agoIso(12), link: `/devices/${device(5).id}` },
      { kind: "device_silent", urgent: false, id: device(4).id, title: `${device(4).name} is silent`, detail: "Nothing was heard for 1 h 30 min.", since: agoIso(5_400), link: `/devices/${device(4).id}` },
    ],
    devices: { total, online: total - 1, offline: 1, running: total - 2, failing: 1 },
    rollouts: [live, held],
    models: [
      { model: "deterioration", bundles: [{ bundle: champion.sha256, version: champion.version, devices: 4 }, { bundle: challenger.sha256, version: challenger.version, devices: 2 }] },
      { model: "beds", bundles: [{ bundle: beds.sha256, version: beds.version, devices: 2 }] },
    ],
    incidents_open: 1, world_now: worldIso(), now: nowIso(),
  };
}

const log = () =>
  [
    [12, "activation_failed", device(5).id, `${device(5).name} failed its self-test: golden outputs differ by 0.041.`, null],
    [34, "stage", rolloutIds.running, "Stage 'half' of deterioration 1.1.0-auto.1 began: 3 devices.", null],
    [35, "gate", rolloutIds.running, "The gate after 'canary' passed: all 4 layers pass.", null],
    [58, "activated", device(0).id, `${device(0).name} activated deterioration 1.1.0-auto.1 on OpenVINO.`, null],
    [70, "rollout_started", rolloutIds.running, "deterioration 1.1.0-auto.1 started: canary on 1 of 6 devices.", "deterioration policy"],
    [88, "bundle_accepted", "deterioration/1.1.0-auto.1", "The registry accepted deterioration 1.1.0-auto.1, signed by builder-a.", "builder-a"],
    [95, "incident_opened", incidentId, "deterioration drifts: 10 of 14 streams at 3 sites.", null],
    [119, "run_claimed", runIds.done, "builder-a took the retraining of deterioration.", "builder-a"],
    [1_800, "rollout_held", rolloutIds.held, "beds 0.9.3 is held: not enough evidence at the gate's deadline.", null],
  ]
    .map(([seconds, kind, subject, sentence, actor], i) => ({ id: 4_000 - i, ...at(seconds), kind, subject, sentence, actor: actor === null ? { kind: "fleet", name: "fleet" } : { kind: "person", name: actor } }))
    .concat(olderLog(3_990, 1_500));

const freezes = () => [{ site: "er-3", since: agoIso(2_400), by: "m.okafor", reason: "network works" }];

export const fixture = { bundles, device, deviceDetail, drift, freezes, histogram, incidents, log, overview, performance, rolloutDevices, rollouts, runs, streams };
