// Filters of the device list that somebody gave a name, kept in this browser. The address itself is what is shared.
import { devicesSearch, parseAddress, printAddress, type DevicesSearch } from "../search";

export interface SavedView {
  name: string;
  search: DevicesSearch;
}

const key = "muster.devices.views";
const viewsMax = 50;
const nameMax = 40;

export function loadViews(store: Pick<Storage, "getItem">): SavedView[] {
  try {
    const known: unknown = JSON.parse(store.getItem(key) ?? "[]");
    if (!Array.isArray(known)) return [];
    return known.slice(0, viewsMax).flatMap((one: unknown) => {
      if (typeof one !== "object" || one === null || !("name" in one) || !("address" in one)) return [];
      return [{ name: String(one.name).slice(0, nameMax), search: devicesSearch(parseAddress(String(one.address))) }];
    });
  } catch {
    return [];
  }
}

export function storeViews(store: Pick<Storage, "setItem">, views: SavedView[]): void {
  store.setItem(key, JSON.stringify(views.map(({ name, search }) => ({ name, address: printAddress({ ...search }) }))));
}

/** The newest stands first; a name that is taken is given to the new one. */
export function withView(views: SavedView[], view: SavedView): SavedView[] {
  const named = { ...view, name: view.name.trim().slice(0, nameMax) };
  return [named, ...views.filter(({ name }) => name !== named.name)].slice(0, viewsMax);
}

export function sameView(a: DevicesSearch, b: DevicesSearch): boolean {
  return printAddress({ ...devicesSearch({ ...a }) }) === printAddress({ ...devicesSearch({ ...b }) });
}
