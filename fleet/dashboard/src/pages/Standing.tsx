// Where a bundle stands with the catalogue that boxes believe.
import type { Bundle } from "../api/types";
import { State } from "../parts/State";
import { text } from "../strings";

const say = text.models;

export function Standing({ bundle: { revoked, catalogued } }: { bundle: Bundle }) {
  if (revoked != null) return <State is="revoked" tone="bad" word={say.revocations[revoked.action] ?? say.revoked} />;
  return <State is="catalogue" tone={catalogued ? "good" : "warn"} word={catalogued ? say.inCatalogue : say.notInCatalogue} />;
}
