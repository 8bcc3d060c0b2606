// What happened, by whom and to what. The list never moves while it is read: newer entries wait for a button.
import { Button, NativeSelect } from "@mantine/core";
import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { auditQuery, logQuery } from "../api/queries";
import type { LogEntry } from "../api/types";
import { short, stamp, stampClock, words, worldDiffers } from "../format";
import { Act } from "../parts/Act";
import { Answer, Problem } from "../parts/Answer";
import { csv } from "../parts/csv";
import { Empty } from "../parts/Empty";
import { Subject } from "../parts/Log";
import { PageHead } from "../parts/Panel";
import { save } from "../parts/save";
import { Typed } from "../parts/Typed";
import { VirtualTable, type VirtualColumn } from "../parts/VirtualTable";
import type { AuditSearch } from "../search";
import { useZone } from "../shell/zone";
import { text } from "../strings";
import { wantsMore } from "./ahead";

const say = text.audit;
/** Twenty pages of the server's largest: about a day of a busy fleet of 10,000. */
const entriesMax = 10_000;

export function Audit() {
  const { zone: _, ...search } = useSearch({ from: "/audit" });
  const navigate = useNavigate();
  const cache = useQueryClient();
  const asked = useInfiniteQuery(auditQuery(search.subject));
  const newest = useQuery(logQuery(1)).data?.[0]?.id;
  const loaded = asked.data?.pages.flatMap(({ items }) => items) ?? [];
  const shown = loaded.filter((entry) => matches(entry, search));
  const bounded = loaded.length >= entriesMax;
  const more = asked.hasNextPage && !bounded;
  const { fetchNextPage, isFetchingNextPage, isFetchNextPageError } = asked;
  const see = (_first: number, last: number): void => {
    if (wantsMore({ more, isFetchingNextPage, isFetchNextPageError }, last, shown.length)) void fetchNextPage();
  };
  const set = (change: AuditSearch): void => void navigate({ to: "/audit", search: { ...search, ...change }, replace: true });
  const newer = search.subject === undefined && newest !== undefined && loaded[0] !== undefined && newest > loaded[0].id;
  return (
    <>
      <PageHead title={say.title}>
        <Act label={say.export} whyNot={shown.length === 0 ? say.exportNone : null} onClick={() => save("audit.csv", exported(shown), "text/csv")} />
      </PageHead>
      <div className="filters" role="search" aria-label={say.title}>
        <Choice label={say.kind} any={say.anyKind} of={loaded.map(({ kind }) => kind)} called={words} value={search.kind} change={(kind) => set({ kind })} />
        <Choice label={say.by} any={say.anyActor} of={loaded.map(({ actor }) => actor.kind)} called={(kind) => say.byKind[kind] ?? words(kind)} value={search.by} change={(by) => set({ by, actor: undefined })} />
        <Choice label={say.actor} any={say.anyName} of={loaded.filter(({ actor }) => search.by === undefined || actor.kind === search.by).map(({ actor }) => actor.name)} value={search.actor} change={(actor) => set({ actor })} />
        <Typed label={say.subject} placeholder={say.subjectHint} value={search.subject} change={(subject) => set({ subject })} />
        {newer && (
          <Button size="xs" onClick={() => void cache.resetQueries({ queryKey: ["audit"] })}>
            {say.newer}
          </Button>
        )}
        <span className="end soft small num" role="status">
          {asked.data !== undefined && (isFetchingNextPage ? say.searching : say.shown(shown.length, loaded.length, !asked.hasNextPage))}
        </span>
      </div>
      {isFetchNextPageError && <Problem error={asked.error} title={say.noFurther} retry={() => void fetchNextPage()} />}
      <Answer of={{ data: asked.data, error: isFetchNextPageError ? null : asked.error, dataUpdatedAt: asked.dataUpdatedAt, refetch: asked.refetch }} rows={8}>
        {() => {
          if (loaded.length === 0) return search.subject === undefined ? <Empty title={say.empty} why={say.emptyWhy} /> : <p className="soft">{say.none}</p>;
          return (
            <>
              {shown.length === 0 && !more && <p className="soft">{say.none}</p>}
              <div className="panel">
                <VirtualTable label={say.title} columns={columns} count={shown.length} whole={!more} at={(row) => shown[row]} see={see} rowKey={({ id }) => String(id)} widthPx={900} tall />
              </div>
              {bounded && asked.hasNextPage && <p className="soft small" style={{ marginTop: 8 }}>{say.bound(entriesMax)}</p>}
            </>
          );
        }}
      </Answer>
    </>
  );
}

const columns: VirtualColumn<LogEntry>[] = [
  { head: say.at, track: "170px", cell: ({ at, world_at }) => <When at={at} world={world_at} /> },
  { head: say.kind, track: "minmax(130px, 1fr)", cell: ({ kind }) => words(kind) },
  { head: say.actorHead, track: "minmax(100px, 0.8fr)", title: ({ actor }) => actor.name, cell: ({ actor }) => (actor.kind === "device" ? <Subject of={actor.name}>{short(actor.name, 10)}</Subject> : actor.name) },
  { head: say.subject, track: "minmax(100px, 0.8fr)", title: ({ subject }) => subject, cell: ({ subject }) => <Subject of={subject} /> },
  { head: say.sentence, track: "minmax(300px, 4fr)", cell: ({ sentence }) => sentence },
];

function When({ at, world }: { at: string; world: string }) {
  const zone = useZone();
  return (
    <span>
      <time dateTime={at}>{`${stamp(at, zone).slice(0, -5)}${stampClock(at, zone)}`}</time>
      {worldDiffers(world, at) && (
        <time dateTime={world} className="block soft small" title={text.worldTime}>
          {stamp(world, zone)}
        </time>
      )}
    </span>
  );
}

function matches({ kind, actor }: LogEntry, search: AuditSearch): boolean {
  const asked = [
    [search.kind, kind],
    [search.by, actor.kind],
    [search.actor, actor.name],
  ];
  return asked.every(([wanted, is]) => wanted === undefined || wanted === is);
}

/** Times as the server has them: what is exported is compared by machines. */
function exported(entries: LogEntry[]): string {
  const head = ["id", "at", "world_at", "kind", "subject", "actor_kind", "actor", "sentence"];
  return csv(
    head,
    entries.map(({ id, at, world_at, kind, subject, actor, sentence }) => [String(id), at, world_at, kind, subject, actor.kind, actor.name, sentence]),
  );
}

interface ChoiceProps {
  label: string;
  any: string;
  of: string[];
  /** What people call one of them; itself without it. */
  called?: (one: string) => string;
  value: string | undefined;
  change: (value: string | undefined) => void;
}

/** Among what was loaded, and what the address asks for. */
function Choice({ label, any, of, called = (one) => one, value, change }: ChoiceProps) {
  const known = [...new Set([...of, ...(value === undefined ? [] : [value])])].toSorted();
  return (
    <NativeSelect
      size="xs"
      label={label}
      value={value ?? ""}
      data={[{ value: "", label: any }, ...known.map((one) => ({ value: one, label: called(one) }))]}
      onChange={(event) => change(event.currentTarget.value || undefined)}
    />
  );
}
