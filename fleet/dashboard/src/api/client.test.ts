import { afterEach, expect, test, vi } from "vitest";
import { ApiError, get, post, url } from "./client";

afterEach(() => vi.unstubAllGlobals());

const answering = (response: () => Promise<Response>) => vi.stubGlobal("fetch", response);
const failure = async (): Promise<ApiError> => {
  const caught: unknown = await get("/api/v1/overview", {}).catch((error: unknown) => error);
  if (!(caught instanceof ApiError)) throw new Error("it did not fail as it should");
  return caught;
};

test("an address leaves out what is not asked for", () => {
  expect(url("/devices", { query: { q: "a b", site: undefined, limit: 100, cursor: "" } })).toBe("/devices?q=a+b&limit=100");
  expect(url("/devices/{id}/tags", { path: { id: "a/b" } })).toBe("/devices/a%2Fb/tags");
});

test("a problem document becomes its sentence, code and faults", async () => {
  const body = { title: "Conflict", detail: "The rollout moved on.", code: "stale_revision", errors: [{ pointer: "/stages/0/bake_s", detail: "is too long" }, { at: 2 }] };
  answering(() => Promise.resolve(Response.json(body, { status: 409 })));
  const error = await failure();
  expect([error.status, error.code, error.message, error.faults]).toEqual([409, "stale_revision", "The rollout moved on.", ["stages/0/bake_s: is too long", '{"at":2}']]);
});

test.each([["<html>"], ["null"], ['{"detail":""}'], ['{"detail":7}']])("%s still becomes a sentence with its status", async (body) => {
  answering(() => Promise.resolve(new Response(body, { status: 502 })));
  expect((await failure()).message).toContain("502");
});

test("no answer at all names the likely cause", async () => {
  answering(() => Promise.reject(new TypeError("failed to fetch")));
  const error = await failure();
  expect([error.status, error.code]).toEqual([0, "unreachable"]);
});

test("an empty success is one", async () => {
  answering(() => Promise.resolve(new Response(null, { status: 204 })));
  await expect(post("/api/v1/incidents/{id}/close", { reason: "sensor replaced" }, { path: { id: "inc-1" } })).resolves.toBeUndefined();
});
