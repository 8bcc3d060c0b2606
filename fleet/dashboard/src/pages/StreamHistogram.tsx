// Training against one window of one device: by default the newest in drift, else the newest.
import { NativeSelect } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { histogramQuery } from "../api/queries";
import type { Drift, DriftWindow } from "../api/types";
import { Histogram } from "../charts/Histogram";
import { count, moment, stampDay } from "../format";
import { Answer } from "../parts/Answer";
import { Panel } from "../parts/Panel";
import { text } from "../strings";

const say = text.drift;
const choicesMax = 60;

interface StreamHistogramProps {
  drift: Drift;
  stream: string;
  at: string | undefined;
  pick: (at: string) => void;
}

export function StreamHistogram({ drift, stream, at, pick }: StreamHistogramProps) {
  const windows = drift.windows.toSorted((a, b) => (moment(b.from) ?? 0) - (moment(a.from) ?? 0));
  const window = windows.find((one) => keyOf(one) === at) ?? windows.find((one) => inDrift(one, stream)) ?? windows[0];
  if (window === undefined) return null;
  return (
    <Panel title={say.histogram(stream)}>
      <div className="body">
        <div className="filters" style={{ marginBottom: 8 }}>
          <NativeSelect
            size="xs"
            aria-label={say.pick}
            value={keyOf(window)}
            data={[...new Set([window, ...windows.slice(0, choicesMax)])].map((one) => ({ value: keyOf(one), label: `${stampDay(one.from)} – ${stampDay(one.to)} · ${one.site}` }))}
            onChange={(event) => pick(event.currentTarget.value)}
          />
          <span className="soft small num" style={{ alignSelf: "center" }}>
            {`n ${count(window.n)}`}
          </span>
        </div>
        <Counts window={window} stream={stream} />
      </div>
    </Panel>
  );
}

function Counts({ window, stream }: { window: DriftWindow; stream: string }) {
  const bundle = window.bundle;
  const asked = useQuery({
    ...histogramQuery({ bundle, stream, device: window.device, from: window.from, to: window.to }),
    placeholderData: keepPreviousData,
  });
  return <Answer of={asked}>{(counts) => <Histogram of={counts} label={say.histogram(stream)} />}</Answer>;
}

function keyOf({ device, from }: DriftWindow): string {
  return `${device} ${from}`;
}

function inDrift(window: DriftWindow, stream: string): boolean {
  return window.streams.some((one) => one.name === stream && one.state === "drift");
}
