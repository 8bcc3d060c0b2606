// Every site that is known of: those with rules of their own, and those of devices, which allow everything.
import { useQuery, type UseQueryResult } from "@tanstack/react-query";
import { deviceSitesQuery, sitesQuery } from "./queries";
import type { Site } from "./types";

export function useSites(): Pick<UseQueryResult<Site[]>, "data" | "error" | "dataUpdatedAt" | "refetch"> {
  const { data, error, dataUpdatedAt, refetch } = useQuery(sitesQuery);
  const { data: others = [] } = useQuery(deviceSitesQuery);
  return { data: data === undefined ? undefined : withOthers(data, others), error, dataUpdatedAt, refetch };
}

/** What a site without rules of its own allows: everything. */
const FREE: Omit<Site, "site"> = { zone: "UTC", download: {}, activation: {}, consent: "not_needed", revision: 0 };

export function withOthers(ruled: Site[], others: string[]): Site[] {
  const known = new Set(ruled.map(({ site }) => site));
  const free = [...new Set(others)].filter((site) => !known.has(site)).map((site): Site => ({ site, ...FREE }));
  return [...ruled, ...free].toSorted((a, b) => a.site.localeCompare(b.site));
}
