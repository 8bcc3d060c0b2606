// Words of the audit page.
import { count, plural } from "../format";

export const audit = {
  title: "Audit log",
  at: "When",
  world: "World time",
  kind: "What",
  subject: "Subject",
  subjectHint: "Exact id",
  by: "By",
  byKind: { person: "People", device: "Devices", fleet: "The fleet server", builder: "Builders", policy: "Policies" } as Record<string, string>,
  actor: "Name",
  actorHead: "By",
  sentence: "What happened",
  anyKind: "Anything",
  anyActor: "Anybody",
  anyName: "Any name",
  newer: "Newer entries have come: show them",
  export: "Export CSV",
  exportNone: "Nothing is shown",
  none: "No entry matches.",
  empty: "Nothing has happened yet",
  emptyWhy: "Each act of a person, each decision of the engine and what devices report of importance is written here and never changed.",
  searching: "Looking further back",
  noFurther: "What came before could not be loaded",
  shown: (shown: number, loaded: number, whole: boolean) =>
    whole ? `${plural(shown, "entry", "entries")} of ${count(loaded)}` : `${plural(shown, "entry", "entries")} among the newest ${count(loaded)}`,
  bound: (max: number) => `Looks at the newest ${count(max)} entries at most. Give a subject to look further back: the server searches that.`,
};
