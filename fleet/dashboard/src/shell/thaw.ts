// What goes on when one freeze is lifted while others stand. Pure.
import type { Freeze } from "../api/types";
import { text } from "../strings";

const say = text.freeze;

export function effectOf({ site }: Pick<Freeze, "site">, all: readonly Pick<Freeze, "site">[]): string {
  if (site == null) return say.effect(say.theFleet, all.flatMap((other) => other.site ?? []));
  return all.some((other) => other.site == null) ? say.effectNone(site) : say.effect(site);
}
