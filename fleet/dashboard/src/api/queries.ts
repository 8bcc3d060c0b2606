// Every question the pages ask, with the cache key that live events make stale.
import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { get, type Query } from "./client";
import type {
  Bundle,
  Device,
  DeviceDetail,
  Drift,
  Freeze,
  Histogram,
  Incident,
  LogEntry,
  Overview,
  Page,
  Performance,
  Rollout,
  RolloutDevice,
  RolloutSummary,
  Run,
  Site,
} from "./types";

/** First word of each cache key. */
export type Topic = "overview" | "rollouts" | "devices" | "bundles" | "drift" | "incidents" | "runs" | "log" | "freezes" | "sites";

export interface DeviceFilter {
  q?: string;
  site?: string;
  presence?: string;
  phase?: string;
  model?: string;
}

/** What changes without a log entry (health, counts, world time) is asked for again after this long. */
const slowly = 10_000;
const listLimit = 100;
/** The server's own bound of a page. */
const listLimitMax = 500;

export const overviewQuery = queryOptions({
  queryKey: ["overview"] as const,
  queryFn: ({ signal }) => get<Overview>("/overview", {}, signal),
  refetchInterval: slowly,
});

export const logQuery = (limit: number) =>
  queryOptions({
    queryKey: ["log", limit] as const,
    queryFn: async ({ signal }) => items(await get<Listed<LogEntry>>("/log", { limit }, signal)),
  });

export const rolloutsQuery = queryOptions({
  queryKey: ["rollouts"] as const,
  queryFn: async ({ signal }) => items(await get<Listed<RolloutSummary>>("/rollouts", { limit: listLimit }, signal)),
});

export const rolloutQuery = (id: string) =>
  queryOptions({
    queryKey: ["rollouts", id] as const,
    queryFn: ({ signal }) => get<Rollout>(`/rollouts/${encodeURIComponent(id)}`, {}, signal),
    refetchInterval: slowly,
  });

/** One a site at most, so all of them come. */
export const freezesQuery = queryOptions({
  queryKey: ["freezes"] as const,
  queryFn: async ({ signal }) => items(await get<Listed<Freeze>>("/freezes", {}, signal)),
  refetchInterval: slowly,
});

export const sitesQuery = queryOptions({
  queryKey: ["sites"] as const,
  queryFn: async ({ signal }) => items(await get<Listed<Site>>("/sites", { limit: listLimitMax }, signal)),
});

/** The first page of them: what is counted for all stands in the rollout itself. */
export const rolloutDevicesQuery = (id: string) =>
  queryOptions({
    queryKey: ["rollouts", id, "devices"] as const,
    queryFn: ({ signal }) => get<Page<RolloutDevice>>(`/rollouts/${encodeURIComponent(id)}/devices`, { limit: listLimitMax }, signal),
    refetchInterval: slowly,
  });

export const devicesQuery = (filter: DeviceFilter) =>
  infiniteQueryOptions({
    queryKey: ["devices", "list", filter] as const,
    queryFn: ({ pageParam, signal }) =>
      get<Page<Device>>("/devices", { ...filter, limit: listLimit, cursor: pageParam }, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next ?? undefined,
    refetchInterval: slowly,
  });

export const deviceQuery = (id: string) =>
  queryOptions({
    queryKey: ["devices", id] as const,
    queryFn: ({ signal }) => get<DeviceDetail>(`/devices/${encodeURIComponent(id)}`, {}, signal),
    refetchInterval: slowly,
  });

export const bundlesQuery = (model?: string) =>
  queryOptions({
    queryKey: ["bundles", model ?? ""] as const,
    queryFn: async ({ signal }) => items(await get<Listed<Bundle>>("/bundles", { model, limit: listLimit }, signal)),
  });

export const incidentsQuery = queryOptions({
  queryKey: ["incidents"] as const,
  queryFn: async ({ signal }) => items(await get<Listed<Incident>>("/incidents", { limit: listLimit }, signal)),
});

export const driftQuery = (model: string, device?: string) =>
  queryOptions({
    queryKey: ["drift", model, device ?? ""] as const,
    queryFn: ({ signal }) => get<Drift>("/drift", { model, device }, signal),
    refetchInterval: slowly,
  });

export const performanceQuery = (model: string) =>
  queryOptions({
    queryKey: ["drift", "performance", model] as const,
    queryFn: ({ signal }) => get<Performance>("/drift/performance", { model }, signal),
    refetchInterval: slowly,
  });

export interface HistogramFor {
  bundle: string;
  stream: string;
  device: string;
  from: string;
  to: string;
}

export const histogramQuery = (of: HistogramFor) =>
  queryOptions({
    queryKey: ["drift", "histogram", of] as const,
    queryFn: ({ signal }) => get<Histogram>("/drift/histogram", { ...of } satisfies Query, signal),
  });

export const runsQuery = queryOptions({
  queryKey: ["runs"] as const,
  queryFn: async ({ signal }) => items(await get<Listed<Run>>("/runs", { limit: listLimit }, signal)),
  refetchInterval: slowly,
});

export const runQuery = (id: string) =>
  queryOptions({
    queryKey: ["runs", id] as const,
    queryFn: ({ signal }) => get<Run>(`/runs/${encodeURIComponent(id)}`, {}, signal),
    refetchInterval: (query) => (finished(query.state.data) ? slowly : 2_000),
  });

type Listed<T> = Page<T> | T[];

/** Small collections come whole, large ones as a page. */
function items<T>(answer: Listed<T>): T[] {
  return Array.isArray(answer) ? answer : answer.items;
}

function finished(run: Run | undefined): boolean {
  return run !== undefined && (run.state === "succeeded" || run.state === "failed" || run.state === "rejected");
}
