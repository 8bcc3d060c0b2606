// One stream of server-sent events makes cached answers stale. It never carries data into the page itself: what a
// person sees always comes from a whole answer, so a lost event can only delay it.
//
// fetch and not EventSource: EventSource hears only the event names registered beforehand, cannot send Last-Event-ID
// after a pause, and does not notice a connection that went dead without closing.
import type { QueryClient } from "@tanstack/react-query";
import { base } from "./client";
import type { Topic } from "./queries";

export type LiveState = "connecting" | "live" | "reconnecting" | "paused";

export interface LiveEvent {
  id: string;
  kind: string;
  data: string;
}

/** The server says something at least every 15 s; three missed times mean that nobody is there. */
const silenceMs = 45_000;
const backoffMs = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
const throttleMs = 1_000;
const eventBytesMax = 64 * 1024;

/** Cuts a byte stream into events, whatever the sizes of its pieces. */
export class EventParser {
  private rest = "";
  private id = "";

  push(piece: string): LiveEvent[] {
    const blocks = (this.rest + piece).replaceAll("\r\n", "\n").split("\n\n");
    this.rest = blocks.pop() ?? "";
    if (this.rest.length > eventBytesMax) throw new Error("an event of the live stream exceeds its bound");
    return blocks.flatMap((block) => this.read(block) ?? []);
  }

  private read(block: string): LiveEvent | null {
    let kind = "message";
    const data: string[] = [];
    let meant = false;
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      if (colon === 0) continue; // a comment: the server's keep-alive
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "id") this.id = value;
      else if (field === "event") [kind, meant] = [value, true];
      else if (field === "data") {
        data.push(value);
        meant = true;
      }
    }
    return meant ? { id: this.id, kind, data: data.join("\n") } : null;
  }
}

const everything: Topic[] = ["overview", "rollouts", "devices", "bundles", "drift", "incidents", "runs", "log", "freezes", "sites"];

/** Which cached answers an event makes stale. An unknown kind makes all stale: too much asked, never too little. */
export function topicsOf(event: Pick<LiveEvent, "kind" | "data">): Topic[] {
  const always: Topic[] = ["overview", "log"];
  const found = new Set<Topic>();
  const words = `${event.kind} ${subjectOf(event.data)}`.toLowerCase();
  const touches: [RegExp, Topic[]][] = [
    [/\b(fleet\.(frozen|thawed)|site\.set)/, ["freezes", "sites", "rollouts", "devices"]],
    [/\b(rollout|ro-|gate|stage)/, ["rollouts", "devices", "bundles"]],
    // A bundle says on how many devices it runs.
    [/\b(device|presence|order|activat|revert|d-)/, ["devices", "rollouts", "bundles"]],
    [/\b(incident|inc-|drift|window|pane)/, ["incidents", "drift"]],
    [/\b(run\b|run[-_.]|retrain|trigger|trg-|policy|builder)/, ["runs"]],
    [/\b(bundle|trust|release|catalogue|registry|blob)/, ["bundles"]],
  ];
  for (const [pattern, topics] of touches) {
    if (pattern.test(words)) for (const topic of topics) found.add(topic);
  }
  return found.size === 0 ? everything : [...always, ...found];
}

function subjectOf(data: string): string {
  try {
    const parsed: unknown = JSON.parse(data);
    if (typeof parsed === "object" && parsed !== null && "subject" in parsed) return String(parsed.subject);
  } catch {
    return "";
  }
  return "";
}

export interface Timer {
  set(run: () => void, ms: number): unknown;
  clear(handle: unknown): void;
}

/** Gathers topics; the first goes out at once, the following at most once a second, and none is lost. */
export class Throttle {
  private waiting = new Set<Topic>();
  private running: unknown = null;

  constructor(
    private readonly out: (topics: Topic[]) => void,
    private readonly timer: Timer,
    private readonly ms = throttleMs,
  ) {}

  add(topics: Topic[]): void {
    for (const topic of topics) this.waiting.add(topic);
    if (this.running === null) this.flush();
  }

  stop(): void {
    if (this.running !== null) this.timer.clear(this.running);
    this.running = null;
    this.waiting.clear();
  }

  private flush(): void {
    this.running = null;
    if (this.waiting.size === 0) return;
    const topics = [...this.waiting];
    this.waiting.clear();
    this.running = this.timer.set(() => this.flush(), this.ms);
    this.out(topics);
  }
}

/** Holds the stream open while the page is looked at; says in which state it is. */
export class Live {
  private state: LiveState = "connecting";
  private paused = false;
  private lastId = "";
  private attempt = 0;
  private stop: AbortController | null = null;
  private retry: ReturnType<typeof setTimeout> | null = null;
  private readonly listeners = new Set<() => void>();
  private readonly throttle: Throttle;

  constructor(private readonly cache: QueryClient) {
    this.throttle = new Throttle((topics) => this.stale(topics), {
      set: (run, ms) => setTimeout(run, ms),
      clear: (handle) => clearTimeout(handle as ReturnType<typeof setTimeout>),
    });
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly current = (): LiveState => this.state;

  /** A hidden tab gives its connection back: browsers allow six to a host over HTTP/1.1, over all tabs. */
  start(): () => void {
    const seen = (): void => {
      if (document.hidden) this.disconnect();
      else if (!this.paused) this.connect();
    };
    document.addEventListener("visibilitychange", seen);
    seen();
    return () => {
      document.removeEventListener("visibilitychange", seen);
      this.disconnect();
    };
  }

  /** Freezes what is shown until resumed: for reading while the fleet moves on. */
  setPaused(paused: boolean): void {
    this.paused = paused;
    if (paused) {
      this.disconnect();
      this.enter("paused");
    } else {
      this.enter("connecting");
      this.connect();
    }
  }

  private enter(state: LiveState): void {
    this.state = state;
    for (const listener of this.listeners) listener();
  }

  private disconnect(): void {
    this.stop?.abort();
    this.stop = null;
    if (this.retry !== null) clearTimeout(this.retry);
    this.retry = null;
    this.throttle.stop();
  }

  private connect(): void {
    this.disconnect();
    const stop = new AbortController();
    this.stop = stop;
    void this.listen(stop).catch(() => {
      if (this.stop !== stop) return;
      this.enter("reconnecting");
      const wait = backoffMs[Math.min(this.attempt, backoffMs.length - 1)] ?? throttleMs;
      this.attempt += 1;
      this.retry = setTimeout(() => this.connect(), wait);
    });
  }

  /** Ends only by throwing: a stream that closes is as lost as one that breaks. */
  private async listen(stop: AbortController): Promise<never> {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (this.lastId !== "") headers["last-event-id"] = this.lastId;
    let watchdog = setTimeout(() => stop.abort(), silenceMs);
    try {
      const response = await fetch(`${base}/events`, { headers, signal: stop.signal, cache: "no-store" });
      if (!response.ok || response.body === null) throw new Error(`live stream: status ${response.status}`);
      this.opened();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventParser();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw new Error("live stream: closed");
        clearTimeout(watchdog);
        watchdog = setTimeout(() => stop.abort(), silenceMs);
        for (const event of parser.push(value)) {
          if (event.id !== "") this.lastId = event.id;
          this.throttle.add(topicsOf(event));
        }
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  /** Whatever happened while nobody listened is fetched anew. */
  private opened(): void {
    const first = this.state === "connecting" && this.lastId === "";
    this.attempt = 0;
    this.enter("live");
    if (!first) this.throttle.add(everything);
  }

  private stale(topics: Topic[]): void {
    for (const topic of topics) void this.cache.invalidateQueries({ queryKey: [topic] });
  }
}
