import { afterEach, expect, test, vi } from "vitest";
import type { Rollout } from "../api/types";
import { actOn } from "./actOn";

afterEach(() => vi.unstubAllGlobals());

interface Sent {
  method: string;
  match: string | null;
}

/** A server whose rollout is saved anew at each look, and refuses what names an older revision so many times. */
function moving({ stage = "canary", refusals = 0 } = {}): Sent[] {
  const sent: Sent[] = [];
  let revision = 40;
  vi.stubGlobal("fetch", (_: string, { method = "GET", headers }: { method?: string; headers?: HeadersInit }) => {
    sent.push({ method, match: new Headers(headers).get("if-match") });
    revision += 1;
    if (method === "POST" && refusals-- > 0) return Promise.resolve(Response.json({ title: "Stale", detail: "somebody was faster", code: "stale_revision" }, { status: 412 }));
    return Promise.resolve(Response.json({ id: "ro-1", revision, phase: { is: "running", since: "", stage } }));
  });
  return sent;
}

const seen = { id: "ro-1", revision: 3, phase: { is: "running", since: "", stage: "canary" } } as unknown as Rollout;

test.each(["pause", "abort", "rollback", "retry"] as const)("%s comes through whatever moved since", async (action) => {
  const sent = moving();
  await actOn(seen, action, "it is 3 a.m.");
  expect(sent).toEqual([{ method: "POST", match: null }]);
});

test("an opening act names the newest revision, as often as it takes", async () => {
  const sent = moving({ refusals: 2 });
  await actOn(seen, "promote", "it is well");
  expect(sent.map(({ method, match }) => `${method} ${match}`)).toEqual(["GET null", 'POST "41"', "GET null", 'POST "43"', "GET null", 'POST "45"']);
});

test("an opening act is not sent for another stage than the one that was seen", async () => {
  const sent = moving({ stage: "everyone" });
  await expect(actOn(seen, "promote", "it is well")).rejects.toThrow("at stage 'everyone' now");
  expect(sent.map(({ method }) => method)).toEqual(["GET"]);
});
