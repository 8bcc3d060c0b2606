// The only place that speaks HTTP: one fetch wrapper, and every failure as one error type.
import { text } from "../strings";

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

export type Query = Record<string, string | number | undefined>;

export function url(path: string, query: Query = {}): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") search.set(key, String(value));
  }
  const tail = search.toString();
  return `${base}${path}${tail === "" ? "" : `?${tail}`}`;
}

export async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  return send<T>(url(path, query), { signal: signal ?? null });
}

export async function post<T>(path: string, body: unknown, headers: Record<string, string> = {}): Promise<T> {
  return send<T>(url(path), {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
}

/** Pages for those who are not logged in. */
const outside = ["/login", "/setup"];

async function send<T>(address: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(address, { ...init, headers: { accept: "application/json", ...init.headers } });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    throw new ApiError(0, "unreachable", text.problem.unreachable);
  }
  if (response.status === 401 && !outside.includes(location.pathname)) location.assign("/login");
  if (!response.ok) throw await problem(response);
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
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

function faultsOf(fields: Record<string, unknown>): string[] {
  const listed = fields["faults"] ?? fields["errors"];
  if (!Array.isArray(listed)) return [];
  return listed.map((fault: unknown) => (typeof fault === "string" ? fault : JSON.stringify(fault)));
}
