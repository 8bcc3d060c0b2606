import { QueryClient } from "@tanstack/react-query";
import { afterEach, describe, expect, test, vi } from "vitest";
import { EventParser, Live, Throttle, topicsOf } from "./live";
import type { Topic } from "./queries";

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("events out of bytes", () => {
  const stream = 'id: 7\nevent: gate\ndata: {"subject":"ro-1"}\n\n: keep-alive\n\nid: 8\r\nevent: device\r\ndata: a\r\ndata: b\r\n\r\n';
  const expected = [
    { id: "7", kind: "gate", data: '{"subject":"ro-1"}' },
    { id: "8", kind: "device", data: "a\nb" },
  ];

  test.each([1, 2, 3, 7, 1_000])("in pieces of %i characters", (size) => {
    const parser = new EventParser();
    const out = [];
    for (let at = 0; at < stream.length; at += size) out.push(...parser.push(stream.slice(at, at + size)));
    expect(out).toEqual(expected);
  });

  test("an endless event is refused", () => {
    const parser = new EventParser();
    expect(() => parser.push(`data: ${"x".repeat(70_000)}`)).toThrow("exceeds its bound");
  });
});

describe("what an event makes stale", () => {
  const check = (kind: string, data: string, topic: Topic, stale: boolean) => expect(topicsOf({ kind, data }).includes(topic)).toBe(stale);

  test("by kind and by subject", () => {
    check("rollout_held", "{}", "rollouts", true);
    check("rollout_held", "{}", "bundles", true);
    check("device.event.activated", "{}", "bundles", true);
    check("incident.opened", "{}", "bundles", false);
    check("changed", '{"subject":"run-7zzz"}', "runs", true);
    check("changed", '{"subject":"inc-7zzz"}', "drift", true);
    check("device.online", "{}", "devices", true);
    check("bundle_accepted", "not json", "bundles", true);
    check("rollout_held", "{}", "overview", true);
  });

  test("an unknown kind makes all stale", () => {
    check("reset", "{}", "devices", true);
    for (const topic of ["rollouts", "devices", "runs", "bundles", "drift", "log"] as const) check("novelty", "null", topic, true);
  });
});

test("the throttle lets the first out at once, then one a second, and loses none", () => {
  vi.useFakeTimers();
  const out: Topic[][] = [];
  const throttle = new Throttle((topics) => out.push(topics), { set: (run, ms) => setTimeout(run, ms), clear: (h) => clearTimeout(h as never) });
  throttle.add(["log"]);
  throttle.add(["runs"]);
  throttle.add(["runs", "drift"]);
  expect(out).toEqual([["log"]]);
  vi.advanceTimersByTime(999);
  expect(out).toHaveLength(1);
  vi.advanceTimersByTime(1);
  expect(out).toEqual([["log"], ["runs", "drift"]]);
  vi.advanceTimersByTime(5_000);
  expect(out).toHaveLength(2);
  throttle.add(["log"]);
  throttle.add(["overview"]);
  throttle.stop();
  vi.advanceTimersByTime(5_000);
  expect(out).toEqual([["log"], ["runs", "drift"], ["log"]]);
});

describe("the stream", () => {
  const open = () => {
    let control: ReadableStreamDefaultController<Uint8Array> | undefined;
    const body = new ReadableStream<Uint8Array>({ start: (c) => void (control = c) });
    return { response: new Response(body), say: (line: string) => control?.enqueue(new TextEncoder().encode(line)), close: () => control?.close() };
  };
  const until = async (condition: () => boolean) => vi.waitFor(() => expect(condition()).toBe(true));

  test("says that it reconnects, resumes after the last id and then asks for everything again", async () => {
    const [one, two] = [open(), open()];
    const asked: (string | null)[] = [];
    const answers = [one.response, two.response];
    vi.stubGlobal("fetch", (_: string, init: RequestInit) => {
      asked.push(new Headers(init.headers).get("last-event-id"));
      return Promise.resolve(answers.shift() ?? new Response(null, { status: 503 }));
    });
    const cache = new QueryClient();
    const stale = vi.spyOn(cache, "invalidateQueries").mockResolvedValue();
    const live = new Live(cache);
    const states: string[] = [];
    live.subscribe(() => states.push(live.current()));
    live.setPaused(false);
    await until(() => live.current() === "live");
    expect(stale).not.toHaveBeenCalled();
    one.say("id: 41\nevent: run_claimed\ndata: {}\n\n");
    await until(() => stale.mock.calls.some(([filter]) => filter?.queryKey?.[0] === "runs"));
    one.close();
    await until(() => states.includes("reconnecting"));
    await until(() => live.current() === "live");
    await until(() => stale.mock.calls.some(([filter]) => filter?.queryKey?.[0] === "bundles"));
    expect(asked).toEqual([null, "41"]);
    live.setPaused(true);
    expect(live.current()).toBe("paused");
  });
});
