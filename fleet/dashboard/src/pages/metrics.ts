// Champion against challenger, out of the figures a run brings home. Their names are the trainer's own, so both shapes
// are read: {champion: {m: 1}, challenger: {m: 2}}, however deep, and {m: {champion: 1, challenger: 2}}; and a bundle's own
// evaluation, {metric: "m", sets: [{name, champion, challenger}]}.

export interface Metric {
  name: string;
  champion: number | null;
  challenger: number | null;
}

const sides = ["champion", "challenger"] as const;
const depthMax = 6;
const metricsMax = 100;

export function metricsOf(result: unknown): Metric[] {
  const found = new Map<string, Metric>();
  visit(measured(result) ?? result, [], 0, found);
  return [...found.values()].slice(0, metricsMax);
}

/** The builder's own measurements, where there are some: they hold all that the shorter summary beside them says. */
function measured(result: unknown): unknown {
  const inside = (value: unknown, key: string): unknown =>
    typeof value === "object" && value !== null && key in value ? (value as Record<string, unknown>)[key] : undefined;
  const found = inside(inside(result, "evaluation"), "measured");
  const [recent, frozen] = [inside(found, "recent"), inside(found, "frozen")];
  return recent === undefined || frozen === undefined ? undefined : { recent, frozen };
}

function visit(value: unknown, path: string[], depth: number, found: Map<string, Metric>): void {
  if (depth > depthMax) return;
  if (typeof value === "number") {
    note(path, value, found);
    return;
  }
  if (typeof value !== "object" || value === null) return;
  if (Array.isArray(value)) {
    for (const part of value) visit(part, "name" in Object(part) ? [...path, String(part.name)] : path, depth + 1, found);
    return;
  }
  const inside = "metric" in value && typeof value.metric === "string" ? [...path, value.metric] : path;
  for (const [key, part] of Object.entries(value)) visit(part, key === "sets" ? inside : [...inside, key], depth + 1, found);
}

function note(path: string[], value: number, found: Map<string, Metric>): void {
  const side = sides.find((one) => path.includes(one));
  if (side === undefined || path.at(-1) === "rows") return;
  const at = path.indexOf(side);
  // What stands around the side ("evaluation", "holdout") helps only where it tells two metrics apart.
  const name = [...path.slice(0, at).filter((part) => part !== "evaluation" && part !== "metrics"), ...path.slice(at + 1)]
    .filter((part) => part !== "metrics")
    .join(" · ")
    .replaceAll("_", " ");
  const metric = found.get(name) ?? { name, champion: null, challenger: null };
  metric[side] = value;
  found.set(name, metric);
}
