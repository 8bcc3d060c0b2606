// The only place that speaks HTTP: one fetch wrapper, and every failure as one error type. Addresses, questions and
// answers are those of the API's own description (schema.d.ts, generated): what is not in it does not compile.
import { text } from "../strings";
import type { paths } from "./schema";

/** Where the addresses that are not asked for by fetch begin: downloads and the live stream. */
export const base = "/api/v1";

/** A refusal of the server (problem+json, RFC 9457) or of the network, in words for people. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly faults: string[];

  constructor(status: number, code: string, message: string, faults: string[] = []) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.faults = faults;
  }
}

type Method = "get" | "post" | "put";
type Taking<M extends Method> = { [P in keyof paths]: Required<paths[P]>[M] extends { responses: unknown } ? P : never }[keyof paths];
type Operation<P extends keyof paths, M extends Method> = Required<paths[P]>[M];
type Part<O, K extends string> = O extends { parameters: { [k in K]?: infer V } } ? V : never;
type Json<C> = C extends { content: { "application/json": infer A } } ? A : undefined;
type Good<R> = { [S in keyof R]: S extends 200 | 201 | 204 ? Json<R[S]> : never }[keyof R];

export type Answer<P extends keyof paths, M extends Method> = Operation<P, M> extends { responses: infer R } ? Good<R> : never;
export type Body<P extends keyof paths, M extends Method> = Operation<P, M> extends { requestBody: { content: { "application/json": infer B } } } ? B : undefined;

/** What an operation takes beside its body; `path` only where its address has names in braces. */
type Given<O> = { query?: NonNullable<Part<O, "query">>; headers?: Record<string, string>; signal?: AbortSignal } & ([Part<O, "path">] extends [never]
  ? object
  : undefined extends Part<O, "path">
    ? object
    : { path: Part<O, "path"> });

type Loose = { path?: object; query?: object; headers?: Record<string, string>; signal?: AbortSignal };

/** `/devices/{id}` with its names filled in, and without what is not asked for. */
export function url(path: string, { path: names = {}, query = {} }: Pick<Loose, "path" | "query"> = {}): string {
  const values = new Map<string, unknown>(Object.entries(names));
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(values.get(name))));
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query) as [string, unknown][]) {
    if (value !== undefined && value !== null && value !== "") search.set(key, String(value));
  }
  return search.size === 0 ? filled : `${filled}?${search}`;
}

export async function get<P extends Taking<"get">>(path: P, given: Given<Operation<P, "get">>): Promise<Answer<P, "get">> {
  return send(path, "GET", given);
}

export async function post<P extends Taking<"post">>(path: P, body: Body<P, "post">, given: Given<Operation<P, "post">>): Promise<Answer<P, "post">> {
  return send(path, "POST", given, body);
}

export async function put<P extends Taking<"put">>(path: P, body: Body<P, "put">, given: Given<Operation<P, "put">>): Promise<Answer<P, "put">> {
  return send(path, "PUT", given, body);
}

/** Pages for those who are not logged in. */
const outside = ["/login", "/setup"];

/** With the tag under which the server has it, to be sent as `if-match`. */
export async function getTagged<P extends Taking<"get">>(path: P, given: Given<Operation<P, "get">>): Promise<{ answer: Answer<P, "get">; tag: string | null }> {
  const response = await ask(path, "GET", given);
  return { answer: (await response.json()) as Answer<P, "get">, tag: response.headers.get("etag") };
}

async function send<T>(path: string, method: string, given: Loose, body?: unknown): Promise<T> {
  const response = await ask(path, method, given, body);
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
}

async function ask(path: string, method: string, given: Loose, body?: unknown): Promise<Response> {
  const headers = { accept: "application/json", ...(body === undefined ? {} : { "content-type": "application/json" }), ...given.headers };
  let response: Response;
  try {
    response = await fetch(url(path, given), { method, headers, signal: given.signal ?? null, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    throw new ApiError(0, "unreachable", text.problem.unreachable);
  }
  if (response.status === 401 && !outside.includes(location.pathname)) location.assign("/login");
  if (!response.ok) throw await problem(response);
  return response;
}

/** Reads problem+json; what is no problem document still becomes a sentence with the status in it. */
export async function problem(response: Response): Promise<ApiError> {
  const fallback = text.problem.status(response.status);
  let body: unknown;
  try {
    body = await response.json();
  } catch {
    return new ApiError(response.status, "unreadable", fallback);
  }
  if (typeof body !== "object" || body === null) return new ApiError(response.status, "unreadable", fallback);
  const fields = body as Record<string, unknown>;
  const said = [fields["detail"], fields["title"]].find((part) => typeof part === "string" && part !== "");
  const code = typeof fields["code"] === "string" ? fields["code"] : "unknown";
  const sentence = typeof said === "string" ? said : fallback;
  const next = typeof fields["next"] === "string" ? `${sentence}: ${fields["next"]}` : sentence;
  return new ApiError(response.status, code, next, faultsOf(fields));
}

/** Each fault of a body with the place in it: "stages/0/bake_s: is longer than 90 days". */
function faultsOf(fields: Record<string, unknown>): string[] {
  const listed = fields["errors"];
  if (!Array.isArray(listed)) return [];
  return listed.map((fault: unknown) => {
    if (typeof fault !== "object" || fault === null || !("detail" in fault)) return JSON.stringify(fault);
    const place = "pointer" in fault ? String(fault.pointer).replace(/^[#/]+/, "") : "";
    return place === "" ? String(fault.detail) : `${place}: ${String(fault.detail)}`;
  });
}
