// The API's types by their names, and the few closed sets of words that its description writes as plain text.
export type * from "./schema";

export type Verdict = "pass" | "fail" | "insufficient";

export type RolloutAction = "approve" | "pause" | "resume" | "promote" | "retry" | "abort" | "rollback";

export type IncidentVerb = "acknowledge" | "close";

export interface Page<T> {
  items: T[];
  next?: string | null;
}
