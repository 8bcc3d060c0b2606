// What the fleet server answers under /api/v1, field by field. Times are RFC 3339; ids and digests are opaque text.

export type Verdict = "pass" | "fail" | "insufficient";

export interface Page<T> {
  items: T[];
  next?: string | null;
}

export interface Reason {
  code: string;
  sentence: string;
}

export interface WaitingOn extends Reason {
  next?: string | null;
  devices?: number | null;
}

export type NeedKind =
  | "device_pending"
  | "device_suspect"
  | "rollout_held"
  | "incident_open"
  | "approval"
  | "device_silent"
  | "activation_failed"
  | "retrain_failed";

export interface Need {
  kind: NeedKind;
  id: string;
  title: string;
  detail: string;
  since: string;
  link: string;
  /** Of a box that asks to join: what a person compares with what the box shows. */
  fingerprint?: string | null;
}

export interface DeviceCounts {
  total: number;
  online: number;
  offline: number;
  running: number;
  failing: number;
}

export interface ModelSpread {
  model: string;
  bundles: { bundle: string; version: string; devices: number }[];
}

export interface Overview {
  needs_you: Need[];
  devices: DeviceCounts;
  rollouts: RolloutSummary[];
  models: ModelSpread[];
  incidents_open: number;
  world_now: string;
  now: string;
}

/** Path and version are absent where the registry does not know the digest any more. */
export interface BundleRef {
  path?: string | null;
  sha256: string;
  version?: string | null;
}

export interface SlotPhase {
  is: "empty" | "downloading" | "verifying" | "self_testing" | "activating" | "running" | "failed" | "stopped";
  bundle?: BundleRef;
  received_bytes?: number;
  total_bytes?: number;
  code?: string;
  sentence?: string;
}

export interface RunningBundle extends BundleRef {
  provider: string;
  provider_reason?: string | null;
  since: string;
  variant?: string;
}

export interface Slot {
  slot: string;
  phase: SlotPhase;
  current?: RunningBundle | null;
  previous?: BundleRef | null;
  wanted?: BundleRef | null;
  /** What a person should know of what runs: yanked, revoked, stopped. */
  notice?: Reason | null;
}

export interface Capabilities {
  arch: string;
  cpu_model: string;
  cores: number;
  memory_bytes: number;
  cpu_flags: string[];
  devices: string[];
  runtime: string;
}

export interface Health {
  cpu_percent?: number | null;
  memory_used_bytes?: number | null;
  memory_total_bytes?: number | null;
  agent_rss_bytes?: number | null;
  disk_free_bytes?: number | null;
  temperature_c?: number | null;
  uptime_s?: number | null;
  at: string;
}

/** Where a device stands in the register of members. */
export interface Standing {
  state: "pending" | "active" | "rejected" | "quarantined" | "revoked";
  since: string;
  reason?: string | null;
  fingerprint: string;
  certificate_expires?: string | null;
  /** Why two machines may use its key. */
  suspect_clone?: string | null;
}

export interface Device {
  id: string;
  name: string;
  site: string;
  presence: "online" | "offline";
  last_seen?: string | null;
  identity?: Standing | null;
  agent_version: string;
  capabilities?: Capabilities | null;
  order_version: number;
  observed_generation: number;
  slots: Slot[];
  refusal?: Reason | null;
  /** What a person should know of the box though it works: its clock, its certificate, the age of what was signed. */
  notices?: Reason[];
  health?: Health | null;
  waiting_on?: WaitingOn | null;
}

export interface Telemetry {
  at: string;
  cpu_percent?: number | null;
  agent_rss_bytes?: number | null;
  requests?: number | null;
  failures?: number | null;
  p95_us?: number | null;
}

export interface DeviceDetail extends Device {
  recent_events: { at: string; kind: string; sentence: string }[];
  telemetry: Telemetry[];
}

export interface Bundle extends BundleRef {
  path: string;
  model: string;
  version: string;
  signer: "human" | "builder";
  created: string;
  accepted?: string | null;
  size_bytes: number;
  description?: string | null;
  evaluation?: unknown;
  lineage?: unknown;
  devices_running: number;
  catalogued: boolean;
}

export type RolloutPhaseName =
  | "proposed"
  | "scheduled"
  | "running"
  | "paused"
  | "held"
  | "rolling_back"
  | "rolled_back"
  | "aborting"
  | "aborted"
  | "superseded"
  | "completed";

export interface RolloutPhase {
  is: RolloutPhaseName;
  since?: string | null;
  /** Name of the stage that is or was open. */
  stage?: string | null;
  reason?: Reason | null;
}

export interface GateLayer {
  layer: string;
  verdict: Verdict | "not_asked";
  /** The test by name. */
  test?: string;
  /** The chance of a false alarm that it may spend. */
  alpha?: number | null;
  interval?: [number, number] | null;
  /** What is still possible (95 %). */
  bound?: number | null;
  measured?: number | null;
  limit?: number | null;
  n?: number | null;
  missing?: number | null;
  sentence: string;
}

export interface GateReport {
  verdict?: Verdict | null;
  /** Of all layers together. */
  alpha?: number | null;
  layers: GateLayer[];
  asked_at?: string | null;
}

export interface Stage {
  name: string;
  target_devices: number;
  /** Asked to run the bundle; each of the following counts is part of the one before it, but for those that failed or went back. */
  handed: number;
  permitted: number;
  activated: number;
  baked: number;
  failed: number;
  returned: number;
  pending: number;
  bake_until?: string | null;
  state: "waiting" | "handing_out" | "baking" | "judging" | "passed" | "failed" | "stopped";
  gate?: GateReport | null;
}

export interface TimelineEntry {
  at: string;
  world_at?: string | null;
  kind: string;
  sentence: string;
  actor?: Who | null;
}

export interface Who {
  kind: "fleet" | "device" | "person" | "builder" | "policy";
  name: string;
}

/** Nothing is handed out there until somebody thaws it; it has no end of its own. */
export interface Freeze {
  /** Absent: the whole fleet. */
  site?: string | null;
  since: string;
  by: string;
  reason: string;
}

/** What a site allows, as far as the dashboard speaks of it. */
export interface Site {
  site: string;
  zone: string;
}

export interface Actor {
  kind: "person" | "policy" | "fleet";
  name: string;
  trigger?: string | null;
}

export interface RolloutSummary {
  id: string;
  model: string;
  slot: string;
  bundle: BundleRef;
  from: (BundleRef & { devices: number })[];
  phase: RolloutPhase;
  stages: Stage[];
  created: string;
  reason?: string | null;
  started_by?: Actor | null;
}

export interface Rollout extends RolloutSummary {
  waiting_on: WaitingOn[];
  timeline: TimelineEntry[];
  /** People other than its author who must say yes, and who has. */
  approvals_min?: number;
  approvals?: { at: string; by: string; reason: string }[];
  forecast?: Forecast | null;
  revision: number;
}

/** Seconds since the beginning; null where so many runs did not get there. */
export interface Spread {
  p10_s?: number | null;
  p50_s?: number | null;
  p90_s?: number | null;
}

export interface Forecast {
  finish: Spread;
  stages: (Spread & { name: string; actual_s?: number | null })[];
  warnings: string[];
  basis: string;
  actual_s?: number | null;
}

export type RolloutAction = "approve" | "pause" | "resume" | "promote" | "retry" | "abort" | "rollback";

export type RolloutDeviceState =
  | "waiting"
  | "offered"
  | "ready"
  | "permitted"
  | "baking"
  | "done"
  | "failed"
  | "reverted"
  | "returning"
  | "returned"
  | "excluded";

export interface RolloutDevice {
  device: string;
  name: string;
  site: string;
  stage?: number | string | null;
  state: RolloutDeviceState;
  code: string;
  sentence: string;
  next?: string | null;
  since?: string | null;
}

export interface IncidentStream {
  name: string;
  effect_sd?: number | null;
  effect_low?: number | null;
  effect_high?: number | null;
  broken?: string | null;
  psi?: number | null;
  b?: number | null;
  windows?: number | null;
  devices?: number | null;
}

export type IncidentKind = "new_regime" | "performance" | "site_change" | "device_fault" | "data_quality" | "known_season" | "site_differs";

export interface Incident {
  id: string;
  model: string;
  bundle: string | BundleRef;
  state: "open" | "acknowledged" | "closed";
  kind?: IncidentKind;
  /** How it was told from the other kinds. */
  why?: string;
  asks_for_retraining?: boolean;
  handled?: { at: string; by: string; reason: string } | null;
  opened: string;
  onset?: string | null;
  world_opened?: string | null;
  scope: { devices: string[]; sites: string[] };
  streams: IncidentStream[];
  sentence: string;
  trigger?: string | null;
}

export type StreamState = "ok" | "warn" | "drift" | "insufficient";

export interface StreamWindow {
  name: string;
  state: StreamState;
  b?: number | null;
  psi_adj?: number | null;
  mean_shift_sd?: number | null;
  shift_low?: number | null;
  shift_high?: number | null;
  js?: number | null;
  /** "training" while the site is being learnt. */
  against?: "own" | "training";
  broken?: string[];
}

export interface DriftWindow {
  device: string;
  site: string;
  bundle: string | BundleRef;
  version?: string;
  from: string;
  to: string;
  n: number;
  streams: StreamWindow[];
}

export interface Drift {
  streams: string[];
  windows: DriftWindow[];
}

export interface Histogram {
  edges?: number[] | null;
  categories?: string[] | null;
  reference: number[];
  current: number[];
}

/** The exact figure is between the limits: counts do not tell where in its bin a row lies. */
export interface Within {
  value: number;
  low: number;
  high: number;
}

export interface PerformanceDay {
  from: string;
  days: number;
  predictions: number;
  labels: number;
  state: StreamState;
  observed: number;
  expected?: number | null;
  z?: number | null;
  loss?: number | null;
  holdout_loss?: number | null;
  loss_z?: number | null;
}

export interface EstimatedDay {
  from: string;
  windows: number;
  predictions: number;
  positives: number;
  loss: Within;
  accuracy?: Within | null;
}

export interface BundlePerformance {
  bundle: string;
  version: string;
  matured: number;
  labelled: number;
  labelled_percent?: number | null;
  waiting: number;
  alarm_since?: string | null;
  days: PerformanceDay[];
  estimated?: EstimatedDay[];
}

export interface Performance {
  horizon_s: number;
  bundles: BundlePerformance[];
}

export type RunState = "collecting" | "queued" | "claimed" | "candidate" | "succeeded" | "failed" | "rejected" | "cancelled";

/** One thing that a candidate was held to before it was signed. */
export interface RunCheck {
  gate: "provenance" | "schema" | "offline" | "golden" | "resources";
  code: string;
  verdict: "passed" | "failed" | "unknown";
  measured?: number | null;
  at_most?: number | null;
  at_least?: number | null;
  sentence: string;
}

export interface Trigger {
  id: string;
  kind: string;
  incident?: string | null;
  onset?: string | null;
  streams?: string[] | null;
  reason?: string | null;
}

export interface Run {
  id: string;
  model: string;
  state: RunState;
  trigger?: Trigger | null;
  created: string;
  claimed_by?: string | null;
  heartbeat_at?: string | null;
  progress?: { fraction?: number | null; message?: string | null } | null;
  log_tail?: string[] | null;
  result?: { bundle?: BundleRef | string | null; [metric: string]: unknown } | null;
  failure?: Reason | null;
  gates?: RunCheck[] | null;
  /** While it waits for people to agree. */
  approval?: { people: number; approved_by: string[]; until: string } | null;
  timeline?: TimelineEntry[] | null;
  rollout?: string | null;
}

export interface LogEntry {
  id: number | string;
  at: string;
  world_at?: string | null;
  kind: string;
  subject?: string | null;
  sentence: string;
  actor?: string | { kind: string; name: string } | null;
}
