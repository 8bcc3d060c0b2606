// One stream's shift over the windows, a line for each device, with the band in which nothing can alarm.
import { lazy, Suspense } from "react";
import type { Drift } from "../api/types";
import { bandSd } from "../charts/heat";
import type { VersionMark } from "../charts/versions";
import { count, figure, moment, signed, stamp } from "../format";
import { Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { Figures } from "../parts/Table";
import { text } from "../strings";
import { devicesOf, pointsOf, type Point } from "./effects";
import { eventsOf } from "./performance";

const Series = lazy(() => import("../charts/Series"));
const say = text.drift;
const linesMax = 14;

export function StreamEffect({ drift, stream, marks }: { drift: Drift; stream: string; marks: VersionMark[] }) {
  const points = pointsOf(drift, stream);
  const times = [...new Set(points.map((point) => point.from))].toSorted((a, b) => (moment(a) ?? 0) - (moment(b) ?? 0));
  const all = devicesOf(points);
  const devices = all.slice(0, linesMax);
  const at = new Map(points.map((point) => [`${point.device} ${point.from}`, point]));
  const found = (device: string, time: string): Point | undefined => at.get(`${device} ${time}`);
  return (
    <Panel title={say.chart(stream)}>
      <div className="body">
        <Suspense fallback={<div style={{ height: 230 }} />}>
          <Series
            x={times.map((time) => (moment(time) ?? 0) / 1_000)}
            lines={devices.map(({ device, site }) => ({ label: site, values: times.map((time) => found(device, time)?.effect ?? null) }))}
            print={(value) => signed(value)}
            height={230}
            label={say.chart(stream)}
            band={bandSd}
            events={eventsOf(marks, points)}
            spread={(line, index) => {
              const [device, time] = [devices[line]?.device, times[index]];
              const point = device === undefined || time === undefined ? undefined : found(device, time);
              // Of many lines only the alarms': more bars than that hide each other.
              return point === undefined || (devices.length > 1 && point.state !== "drift") ? null : point.between;
            }}
            marked={(line, index) => {
              const [device, time] = [devices[line]?.device, times[index]];
              return device !== undefined && time !== undefined && found(device, time)?.state === "drift";
            }}
          />
        </Suspense>
        <p className="soft small" style={{ marginTop: 4 }}>
          {say.band} {say.bars(devices.length)}
          {all.length > devices.length && ` ${say.notDrawn(all.length - devices.length)}`}
        </p>
        <Figures<Point>
          summary={text.showTable}
          label={say.chart(stream)}
          rows={points.toReversed()}
          rowKey={(point) => `${point.device} ${point.from}`}
          columns={[
            { head: say.from, cell: (point) => <span className="nowrap">{stamp(point.from)}</span> },
            { head: say.device, cell: (point) => point.site },
            { head: say.state, cell: (point) => <State is={point.state} word={say.states[point.state]} /> },
            { head: say.effect, right: true, cell: (point) => signed(point.effect) },
            { head: say.interval, right: true, cell: (point) => <span className="nowrap">{point.between === null ? "" : say.between(signed(point.between[0]), signed(point.between[1]))}</span> },
            { head: say.b, right: true, cell: (point) => figure(point.b) },
            { head: say.n, right: true, cell: (point) => count(point.n) },
          ]}
        />
      </div>
    </Panel>
  );
}
