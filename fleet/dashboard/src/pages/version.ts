// How a bundle is called on a screen: by its version, else by the last part of its path, else by its digest.
import type { BundleName } from "../api/types";
import { none, short } from "../format";

export function versionOf(bundle: BundleName | string | null | undefined): string {
  if (bundle === null || bundle === undefined) return none;
  if (typeof bundle === "string") return bundle.includes("/") ? lastPart(bundle) : short(bundle);
  if (bundle.version != null && bundle.version !== "") return bundle.version;
  return bundle.path == null || bundle.path === "" ? short(bundle.sha256) : lastPart(bundle.path);
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
