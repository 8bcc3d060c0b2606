// What a search shows: few of each kind, each with its address. Pure.
import type { Bundle, Device, RolloutSummary } from "../api/types";
import { text } from "../strings";

export interface Found {
  group: string;
  items: { address: string; label: string }[];
}

const eachMax = 5;

export function found(asked: string, devices: Device[], bundles: Bundle[], rollouts: RolloutSummary[]): Found[] {
  const word = asked.toLowerCase();
  const has = (...parts: (string | null | undefined)[]): boolean => parts.some((part) => part?.toLowerCase().includes(word) === true);
  const groups: Found[] = [
    { group: text.nav.devices, items: devices.map(({ id, name, site }) => ({ address: `/devices/${id}`, label: `${name} · ${site}` })) },
    {
      group: text.nav.models,
      items: bundles.filter(({ model, version, sha256 }) => has(`${model} ${version}`) || sha256.startsWith(word)).map(({ model, version, sha256 }) => ({ address: `/models/${sha256}`, label: `${model} ${version}` })),
    },
    {
      group: text.nav.rollouts,
      items: rollouts
        .filter(({ id, model, bundle, reason }) => has(id, `${model} ${bundle.version ?? ""}`, reason))
        .map(({ id, model, bundle, phase }) => ({ address: `/rollouts/${id}`, label: `${model} ${bundle.version ?? ""} · ${text.rollouts.phases[phase.is] ?? phase.is} · ${id.slice(-6)}` })),
    },
  ];
  return groups.map(({ group, items }) => ({ group, items: items.slice(0, eachMax) })).filter(({ items }) => items.length > 0);
}
