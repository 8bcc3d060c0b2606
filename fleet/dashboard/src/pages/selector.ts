// From what the device list shows to a filter that the server resolves, for acts on all that match. Pure.
import type { Device } from "../api/types";
import type { DevicesSearch } from "../search";
import { text } from "../strings";

/** As many values as a term of the server's filter may have. */
export const namedMax = 256;

export interface Selected {
  filter: string;
  /** Whether what begins to match later is meant too. */
  follows: boolean;
}

/** What only the list can be asked for is named box by box, as long as all are known and not too many; or else why not. */
export function selectorOf(search: DevicesSearch, devices: readonly (Device | undefined)[], whole: boolean): Selected | string {
  const { q, presence, phase, model, bundle } = search;
  if ([q, presence, phase, model, bundle].every((part) => part === undefined)) {
    return { filter: search.site === undefined ? "" : `site=${search.site}`, follows: true };
  }
  const ids = devices.flatMap((device) => device?.id ?? []);
  if (ids.length === 0) return text.bulk.none;
  if (!whole || ids.length < devices.length || ids.length > namedMax) return text.bulk.tooMany(namedMax);
  return { filter: ids.length === 1 ? `device=${ids[0]}` : `device in (${ids.join(", ")})`, follows: false };
}
