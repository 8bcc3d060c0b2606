import { afterEach, expect, test, vi } from "vitest";
import { turn } from "./turn";

afterEach(() => vi.unstubAllGlobals());

test("the policy is turned off as it is by then, and under its revision", async () => {
  const sent: { method: string; match: string | null; body: unknown }[] = [];
  vi.stubGlobal("fetch", (_: string, { method = "GET", headers, body }: { method?: string; headers?: HeadersInit; body?: string }) => {
    sent.push({ method, match: new Headers(headers).get("if-match"), body: body === undefined ? undefined : JSON.parse(body) });
    // Another cooldown than the page's list had.
    return Promise.resolve(Response.json({ model: "beds", enabled: true, cooldown_s: 9 }, { headers: { etag: '"7"' } }));
  });
  await turn("beds", false);
  expect(sent).toEqual([
    { method: "GET", match: null, body: undefined },
    { method: "PUT", match: '"7"', body: { model: "beds", enabled: false, cooldown_s: 9 } },
  ]);
});
