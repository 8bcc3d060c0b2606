// Every question the pages ask, with the cache key that live events make stale.
import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { get, post, problem } from "./client";
import { pageRows, type Ask } from "./paged";
import type { Device, NewRollout, Run, TagMany } from "./types";

/** First word of each cache key. */
export type Topic = "overview" | "rollouts" | "devices" | "bundles" | "drift" | "incidents" | "runs" | "log" | "freezes" | "sites";

export interface DeviceFilter {
  q?: string;
  site?: string;
  presence?: string;
  phase?: string;
  model?: string;
  bundle?: string;
}

/** What changes without a log entry (health, counts, world time) is asked for again after this long. */
const slowly = 10_000;
const listLimit = 100;
/** The server's own bound of a page. */
const listLimitMax = 500;

export const overviewQuery = queryOptions({
  queryKey: ["overview"] as const,
  queryFn: ({ signal }) => get("/api/v1/overview", { signal }),
  refetchInterval: slowly,
});

export const logQuery = (limit: number) =>
  queryOptions({
    queryKey: ["log", limit] as const,
    queryFn: async ({ signal }) => (await get("/api/v1/log", { query: { limit }, signal })).items,
  });

export const rolloutsQuery = queryOptions({
  queryKey: ["rollouts"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/rollouts", { query: { limit: listLimit }, signal })).items,
});

export const rolloutListQuery = ({ model, state }: { model?: string; state?: string }) =>
  infiniteQueryOptions({
    queryKey: ["rollouts", "list", model ?? "", state ?? ""] as const,
    queryFn: ({ pageParam, signal }) => get("/api/v1/rollouts", { query: { model, phase: state, limit: listLimit, cursor: pageParam }, signal }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next ?? undefined,
  });

export const rolloutQuery = (id: string) =>
  queryOptions({
    queryKey: ["rollouts", id] as const,
    queryFn: ({ signal }) => get("/api/v1/rollouts/{id}", { path: { id }, signal }),
    refetchInterval: slowly,
  });

/** One a site at most, so all of them come. */
export const freezesQuery = queryOptions({
  queryKey: ["freezes"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/freezes", { signal })).items,
  refetchInterval: slowly,
});

export const sitesQuery = queryOptions({
  queryKey: ["sites"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/sites", { query: { limit: listLimitMax }, signal })).items,
});

/** Of as many devices as one page holds: a site with rules of its own is in the list of sites anyway. */
export const deviceSitesQuery = queryOptions({
  queryKey: ["devices", "sites"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/devices", { query: { limit: listLimitMax }, signal })).items.map(({ site }) => site),
  staleTime: 60_000,
});

/** The first page of them: what is counted for all stands in the rollout itself. */
export const rolloutDevicesQuery = (id: string) =>
  queryOptions({
    queryKey: ["rollouts", id, "devices"] as const,
    queryFn: ({ signal }) => get("/api/v1/rollouts/{id}/devices", { path: { id }, query: { limit: listLimitMax }, signal }),
    refetchInterval: slowly,
  });

export const cohortsQuery = queryOptions({
  queryKey: ["cohorts"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/cohorts", { query: { limit: listLimitMax }, signal })).items,
});

/** Whom setting and removing tags would change. */
export const tagRehearsalQuery = (body: TagMany) =>
  queryOptions({
    queryKey: ["tags", body] as const,
    queryFn: ({ signal }) => post("/api/v1/tags", body, { query: { dry_run: true }, signal }),
    gcTime: 60_000,
  });

/** What a rollout would do, asked of the server itself: the same checks and the same draw as for a real one. */
export const rehearsalQuery = (body: NewRollout, forecast = true) =>
  queryOptions({
    queryKey: ["rehearsal", body, forecast] as const,
    queryFn: async ({ signal }) => {
      const said = await post("/api/v1/rollouts", body, { query: { dry_run: true, forecast }, signal });
      if (!("cohort" in said)) throw new Error("a rehearsal was answered with a rollout");
      return said;
    },
    staleTime: 30_000,
    gcTime: 60_000,
  });

/** How many devices a selector means, and who they are: a rehearsal that is not played through. */
export const countQuery = ({ model, bundle, selector }: Pick<NewRollout, "model" | "bundle" | "selector">) =>
  rehearsalQuery({ model, bundle, reason: "", selector, stages: [{ name: "all", size: { percent: 100 }, quorum_percent: 100, bake_s: 0, deadline_s: 60 }] }, false);

/** The log as an auditor reads it: it never moves by itself. */
export const auditQuery = (subject: string | undefined) =>
  infiniteQueryOptions({
    queryKey: ["audit", subject ?? ""] as const,
    queryFn: ({ pageParam, signal }) => get("/api/v1/log", { query: { subject, limit: listLimitMax, cursor: pageParam }, signal }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next ?? undefined,
    staleTime: Infinity,
  });

export const policiesQuery = queryOptions({
  queryKey: ["runs", "policies"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/policies", { query: { limit: listLimitMax }, signal })).items,
});

export const trustQuery = queryOptions({
  queryKey: ["bundles", "trust"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/trust", { signal })).files,
});

export const keptQuery = queryOptions({
  queryKey: ["telemetry"] as const,
  queryFn: ({ signal }) => get("/api/v1/telemetry", { signal }),
  refetchInterval: slowly,
});

/** Asks every part of the server: not more often than a person looks. */
export const checkupQuery = queryOptions({
  queryKey: ["doctor"] as const,
  queryFn: ({ signal }) => get("/api/v1/doctor", { signal }),
  staleTime: slowly,
  refetchInterval: 60_000,
});

export const mailQuery = queryOptions({
  queryKey: ["mail"] as const,
  queryFn: ({ signal }) => get("/api/v1/mail", { signal }),
  refetchInterval: slowly,
});

export const webhooksQuery = queryOptions({
  queryKey: ["webhooks"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/webhooks", { signal })).items,
  refetchInterval: slowly,
});

export const undeliveredQuery = (name: string) =>
  queryOptions({
    queryKey: ["webhooks", name] as const,
    queryFn: async ({ signal }) => (await get("/api/v1/webhooks/{name}/undelivered", { path: { name }, query: { limit: listLimit }, signal })).items,
    refetchInterval: slowly,
  });

export const leasesQuery = queryOptions({
  queryKey: ["leases"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/leases", { query: { limit: listLimit }, signal })).items,
  refetchInterval: slowly,
});

export const enrolmentsQuery = queryOptions({
  queryKey: ["enrolments"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/enrolments", { query: { limit: listLimit }, signal })).items,
  refetchInterval: slowly,
});

export const meQuery = queryOptions({
  queryKey: ["me"] as const,
  queryFn: ({ signal }) => get("/api/v1/me", { signal }),
  staleTime: 60_000,
});

export const peopleQuery = queryOptions({
  queryKey: ["people"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/people", { query: { limit: listLimit }, signal })).items,
});

export const projectsQuery = queryOptions({
  queryKey: ["projects"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/projects", { query: { limit: listLimit }, signal })).items,
});

export const sessionsQuery = queryOptions({
  queryKey: ["sessions"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/sessions", { signal })).items,
  refetchInterval: slowly,
});

export const tokensQuery = (all: boolean) =>
  queryOptions({
    queryKey: ["tokens", all] as const,
    queryFn: async ({ signal }) => (await get("/api/v1/tokens", { query: { all, limit: listLimit }, signal })).items,
    refetchInterval: slowly,
  });

/** Outside the API: what a load balancer asks. */
export const serverQuery = queryOptions({
  queryKey: ["server"] as const,
  queryFn: async ({ signal }): Promise<{ status: string; version: string }> => {
    const answer = await fetch("/healthz", { signal });
    if (!answer.ok) throw await problem(answer);
    return (await answer.json()) as { status: string; version: string };
  },
});

export const deviceTagsQuery = (id: string) =>
  queryOptions({
    queryKey: ["devices", id, "tags"] as const,
    queryFn: ({ signal }) => get("/api/v1/devices/{id}/tags", { path: { id }, signal }),
  });

/** The first few that a name or an id begins or contains. */
export const devicesFoundQuery = (q: string) =>
  queryOptions({
    queryKey: ["devices", "found", q] as const,
    queryFn: async ({ signal }) => (await get("/api/v1/devices", { query: { q, limit: 5 }, signal })).items,
    gcTime: 60_000,
  });

/** For `usePaged`. */
export const devicesKey = (filter: DeviceFilter) => ["devices", "list", filter] as const;

export const askDevices =
  (filter: DeviceFilter): Ask<Device> =>
  (cursor, signal) =>
    get("/api/v1/devices", { query: { ...filter, limit: pageRows, cursor }, signal });

/** Asked beside the list, which does not wait for it. */
export const deviceCountQuery = (filter: DeviceFilter) =>
  queryOptions({
    queryKey: ["devices", "count", filter] as const,
    queryFn: async ({ signal }) => (await get("/api/v1/devices/count", { query: filter, signal })).devices,
    refetchInterval: slowly,
  });

export const deviceQuery = (id: string) =>
  queryOptions({
    queryKey: ["devices", id] as const,
    queryFn: ({ signal }) => get("/api/v1/devices/{id}", { path: { id }, signal }),
    refetchInterval: slowly,
  });

export const bundleQuery = (sha256: string) =>
  queryOptions({
    queryKey: ["bundles", "one", sha256] as const,
    queryFn: ({ signal }) => get("/api/v1/bundles/{sha256}", { path: { sha256 }, signal }),
  });

export const bundlesQuery = (model?: string) =>
  queryOptions({
    queryKey: ["bundles", model ?? ""] as const,
    queryFn: async ({ signal }) => (await get("/api/v1/bundles", { query: { model, limit: listLimit }, signal })).items,
  });

export const incidentsQuery = queryOptions({
  queryKey: ["incidents"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/incidents", { query: { limit: listLimit }, signal })).items,
});

export const driftQuery = (model: string, device?: string) =>
  queryOptions({
    queryKey: ["drift", model, device ?? ""] as const,
    queryFn: ({ signal }) => get("/api/v1/drift", { query: { model, device }, signal }),
    refetchInterval: slowly,
  });

export const performanceQuery = (model: string) =>
  queryOptions({
    queryKey: ["drift", "performance", model] as const,
    queryFn: ({ signal }) => get("/api/v1/drift/performance", { query: { model }, signal }),
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
    queryFn: ({ signal }) => get("/api/v1/drift/histogram", { query: of, signal }),
  });

export const runsQuery = queryOptions({
  queryKey: ["runs"] as const,
  queryFn: async ({ signal }) => (await get("/api/v1/runs", { query: { limit: listLimit }, signal })).items,
  refetchInterval: slowly,
});

export const runQuery = (id: string) =>
  queryOptions({
    queryKey: ["runs", id] as const,
    queryFn: ({ signal }) => get("/api/v1/runs/{id}", { path: { id }, signal }),
    refetchInterval: (query) => (finished(query.state.data) ? slowly : 2_000),
  });

function finished(run: Run | undefined): boolean {
  return run !== undefined && (run.state === "succeeded" || run.state === "failed" || run.state === "rejected");
}
