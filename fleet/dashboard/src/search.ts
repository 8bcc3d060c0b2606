// The URL is the state: what each page reads out of it. Parse once, here; junk in an address becomes the default.

export interface DevicesSearch {
  q?: string;
  site?: string;
  presence?: "online" | "offline";
  phase?: string;
  model?: string;
  /** Digest of the bundle that answers. */
  bundle?: string;
}

export interface DriftSearch {
  model?: string;
  device?: string;
  stream?: string;
  span?: Span;
  at?: string;
}

export interface RolloutsSearch {
  model?: string;
  state?: string;
}

export interface RolloutSearch {
  /** Only devices that are where they are for this reason. */
  reason?: string;
}

/** A rollout that is being thought up; it begins to exist with the last step. */
export interface NewRolloutSearch {
  step?: Step;
  bundle?: string;
  cohort?: string;
  filter?: string;
  site?: string;
  /** What differs from the usual plan, as JSON. */
  plan?: string;
}

export interface AuditSearch {
  subject?: string;
  kind?: string;
  /** What kind of actor: `person`, `device`, and so on. */
  by?: string;
  actor?: string;
}

/** What all pages have. */
export interface SharedSearch {
  /** What times are written in; UTC without it. */
  zone?: string;
}

export const steps = ["bundle", "who", "plan", "foresee", "start"] as const;
export type Step = (typeof steps)[number];

export interface ModelsSearch {
  model?: string;
}

export const spans = ["14", "28", "90"] as const;
export type Span = (typeof spans)[number];

const textMax = 128;
const filterMax = 12_000;
const planMax = 16_000;

export function sharedSearch(raw: Record<string, unknown>): SharedSearch {
  return pruned({ zone: word(raw["zone"]) });
}

export function devicesSearch(raw: Record<string, unknown>): DevicesSearch {
  return pruned({
    q: word(raw["q"]),
    site: word(raw["site"]),
    presence: oneOf(raw["presence"], ["online", "offline"] as const),
    phase: word(raw["phase"]),
    model: word(raw["model"]),
    bundle: word(raw["bundle"]),
  });
}

export function driftSearch(raw: Record<string, unknown>): DriftSearch {
  return pruned({
    model: word(raw["model"]),
    device: word(raw["device"]),
    stream: word(raw["stream"]),
    span: oneOf(raw["span"], spans),
    at: word(raw["at"]),
  });
}

export function rolloutsSearch(raw: Record<string, unknown>): RolloutsSearch {
  return pruned({ model: word(raw["model"]), state: word(raw["state"]) });
}

export function rolloutSearch(raw: Record<string, unknown>): RolloutSearch {
  return pruned({ reason: word(raw["reason"]) });
}

export function newRolloutSearch(raw: Record<string, unknown>): NewRolloutSearch {
  return pruned({
    step: oneOf(raw["step"], steps),
    bundle: word(raw["bundle"]),
    cohort: word(raw["cohort"]),
    filter: word(raw["filter"], filterMax),
    site: word(raw["site"]),
    plan: word(raw["plan"], planMax),
  });
}

export function auditSearch(raw: Record<string, unknown>): AuditSearch {
  return pruned({ subject: word(raw["subject"]), kind: word(raw["kind"]), by: word(raw["by"]), actor: word(raw["actor"]) });
}

export function modelsSearch(raw: Record<string, unknown>): ModelsSearch {
  return pruned({ model: word(raw["model"]) });
}

/** Plain `?q=bed-2&site=er-1`, as people write and share it; the router's own form quotes strings as JSON. */
export function parseAddress(search: string): Record<string, unknown> {
  return Object.fromEntries(new URLSearchParams(search));
}

export function printAddress(search: Record<string, unknown>): string {
  const out = new URLSearchParams();
  for (const [key, value] of Object.entries(search)) {
    if (value !== undefined && value !== null && value !== "") out.set(key, String(value));
  }
  const printed = out.toString();
  return printed === "" ? "" : `?${printed}`;
}

function word(value: unknown, max = textMax): string | undefined {
  if (typeof value !== "string" && typeof value !== "number") return undefined;
  const text = String(value).trim().slice(0, max);
  return text === "" ? undefined : text;
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[]): T | undefined {
  return allowed.find((choice) => choice === String(value));
}

function pruned<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;
}
