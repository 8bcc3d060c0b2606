// Drift: what alarmed, on which streams, since when, and what changed.
import { NativeSelect, SegmentedControl } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { bundlesQuery, driftQuery, incidentsQuery, overviewQuery, rolloutsQuery } from "../api/queries";
import type { Drift } from "../api/types";
import { Heatmap } from "../charts/Heatmap";
import { columnsOf, worstStream } from "../charts/heat";
import { versionMarks, type VersionMark } from "../charts/versions";
import { Answer } from "../parts/Answer";
import { Empty } from "../parts/Empty";
import { Note, PageHead, Panel } from "../parts/Panel";
import { Typed } from "../parts/Typed";
import { spans, type DriftSearch, type Span } from "../search";
import { text } from "../strings";
import { Incidents } from "./Incidents";
import { Performance } from "./Performance";
import { StreamEffect } from "./StreamEffect";
import { StreamHistogram } from "./StreamHistogram";
import { Versions } from "./Versions";

const say = text.drift;
const defaultSpan: Span = "28";

export function DriftPage() {
  const search = useSearch({ from: "/drift" });
  const navigate = useNavigate();
  const set = (change: DriftSearch): void => void navigate({ to: "/drift", search: { ...search, ...change }, replace: true, resetScroll: false });
  const models = useModels();
  const model = search.model ?? models[0];
  return (
    <>
      <PageHead title={say.title} />
      <div className="stack">
        <Incidents />
        {model === undefined ? (
          <Empty title={say.empty} why={say.emptyWhy} commands={[text.commands.publish, text.commands.rollout]} />
        ) : (
          <Streams model={model} models={models} search={search} set={set} />
        )}
      </div>
    </>
  );
}

/** Models with an incident come first: they are why one opens this page. */
function useModels(): string[] {
  const incidents = useQuery(incidentsQuery).data ?? [];
  const running = useQuery(overviewQuery).data?.models ?? [];
  const bundles = useQuery(bundlesQuery()).data ?? [];
  const alarmed = incidents.filter((incident) => incident.state !== "closed");
  return [...new Set([...alarmed, ...running, ...bundles].map((one) => one.model))];
}

interface StreamsProps {
  model: string;
  models: string[];
  search: DriftSearch;
  set: (change: DriftSearch) => void;
}

/** A device that was chosen is asked for by itself: the answer for all may have left it out. */
function Streams({ model, models, search, set }: StreamsProps) {
  const { device } = search;
  // Beside one device, the others are only what else can be chosen.
  const all = useQuery({ ...driftQuery(model), ...(device === undefined ? {} : { refetchInterval: false as const }) });
  const asked = useQuery({ ...driftQuery(model, device), placeholderData: device === undefined ? undefined : of(device, all.data) });
  const rollouts = useQuery(rolloutsQuery).data ?? [];
  const marks = versionMarks(all.data ?? nothing, model, rollouts);
  return (
    <>
      <Filter model={model} models={models} all={all.data} search={search} set={set} />
      <Answer of={asked} rows={8}>
        {(drift) => (
          <>
            {drift.windows.length > 0 && <Pictures model={model} drift={drift} marks={marks} search={search} set={set} />}
            {drift.windows.length === 0 && (device === undefined ? <Empty title={say.empty} why={say.emptyWhy} /> : <Note>{say.noneForDevice}</Note>)}
            <Performance model={model} marks={marks} />
          </>
        )}
      </Answer>
    </>
  );
}

const nothing: Drift = { streams: [], windows: [], devices_left_out: 0 };

/** What is known of one device already, while it is asked for. */
function of(device: string, all: Drift | undefined): Drift | undefined {
  const windows = all?.windows.filter((window) => window.device === device) ?? [];
  return all === undefined || windows.length === 0 ? undefined : { ...all, windows };
}

interface PicturesProps {
  model: string;
  drift: Drift;
  marks: VersionMark[];
  search: DriftSearch;
  set: StreamsProps["set"];
}

function Pictures({ model, drift, marks: all, search, set }: PicturesProps) {
  const columns = columnsOf(drift, Number(search.span ?? defaultSpan));
  const stream = search.stream !== undefined && drift.streams.includes(search.stream) ? search.stream : worstStream(columns, drift.streams);
  const first = columns[0]?.from;
  const marks = all.filter((mark) => first !== undefined && Date.parse(mark.from) >= Date.parse(first));
  const shown = { ...drift, windows: drift.windows.filter((w) => first !== undefined && Date.parse(w.from) >= Date.parse(first)) };
  return (
    <>
      <Panel title={say.heat} aside={say.heatHint}>
        <Heatmap streams={drift.streams} columns={columns} stream={stream} search={{ ...search, model }} marks={marks} />
        <Versions marks={marks} model={model} />
      </Panel>
      {stream !== undefined && (
        <div className="cols-even">
          <StreamEffect drift={shown} stream={stream} marks={marks} />
          <StreamHistogram drift={shown} stream={stream} at={search.at} pick={(at) => set({ at })} />
        </div>
      )}
    </>
  );
}

function Filter({ model, models, all = nothing, search, set }: StreamsProps & { all: Drift | undefined }) {
  const sites = new Map(all.windows.map((window) => [window.device, window.site]));
  const devices = new Set([...sites.keys(), ...(search.device === undefined ? [] : [search.device])]);
  return (
    <div className="filters" style={{ marginBottom: 0 }}>
      <NativeSelect size="xs" label={say.model} value={model} data={[...new Set([model, ...models])]} onChange={(event) => set({ model: event.currentTarget.value, stream: undefined, device: undefined, at: undefined })} />
      <NativeSelect
        size="xs"
        label={say.device}
        value={search.device ?? ""}
        data={[{ value: "", label: say.allDevices }, ...[...devices].map((value) => ({ value, label: [sites.get(value) ?? [], value.slice(0, 8)].flat().join(" · ") }))]}
        onChange={(event) => set({ device: event.currentTarget.value || undefined, at: undefined })}
      />
      {all.devices_left_out > 0 && (
        <Typed label={say.otherDevice} placeholder={say.otherDeviceHint} value={search.device !== undefined && !sites.has(search.device) ? search.device : undefined} change={(device) => set({ device, at: undefined })} />
      )}
      <div>
        <div className="small strong" id="span" style={{ marginBottom: 3 }}>
          {say.windows}
        </div>
        <SegmentedControl size="xs" aria-labelledby="span" data={[...spans]} value={search.span ?? defaultSpan} onChange={(span) => set({ span: span as Span })} />
      </div>
      {all.devices_left_out > 0 && <span className="soft small">{say.leftOut(all.devices_left_out)}</span>}
    </div>
  );
}
