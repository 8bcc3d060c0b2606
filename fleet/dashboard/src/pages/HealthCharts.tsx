// The last reports of one box as four small charts on one time axis.
import { lazy, Suspense } from "react";
import type { TelemetryPoint } from "../api/types";
import { bytes, count, milliseconds, moment, percent, stampClock } from "../format";
import { Figures } from "../parts/Table";
import { useZone } from "../shell/zone";
import { text } from "../strings";

const Series = lazy(() => import("../charts/Series"));
const say = text.device;

export function HealthCharts({ telemetry }: { telemetry: TelemetryPoint[] }) {
  const zone = useZone();
  const points = telemetry.toSorted((a, b) => (moment(a.at) ?? 0) - (moment(b.at) ?? 0));
  const x = points.map((point) => (moment(point.at) ?? 0) / 1_000);
  const charts = [
    { title: say.cpu, lines: [line(say.cpu, points, (p) => p.cpu_percent)], print: percent },
    { title: say.rss, lines: [line(say.rss, points, (p) => p.agent_rss_bytes)], print: bytes },
    {
      title: say.requests,
      lines: [line(text.deviceLines.requests, points, (p) => p.requests), line(text.deviceLines.failures, points, (p) => p.failures)],
      print: count,
      whole: true,
    },
    { title: say.latency, lines: [line(say.latency, points, (p) => p.p95_us)], print: milliseconds },
  ];
  const isEmpty = (lines: { values: (number | null)[] }[]) => lines.every(({ values }) => values.every((value) => value === null));
  return (
    <div className="body">
      <div className="cols" style={{ gridTemplateColumns: "repeat(auto-fit, minmax(min(100%, 300px), 1fr))" }}>
        {charts.map((chart) => (
          <figure key={chart.title} style={{ margin: 0 }}>
            <figcaption className="chart-title">{chart.title}</figcaption>
            {isEmpty(chart.lines) ? (
              <p className="soft small">{say.chartNone}</p>
            ) : (
              <Suspense fallback={<div style={{ height: 150 }} />}>
                <Series
                  x={x}
                  lines={chart.lines}
                  print={chart.print}
                  height={150}
                  label={chart.title}
                  sync="health"
                  fromZero
                  whole={chart.whole === true}
                  zone={zone}
                />
              </Suspense>
            )}
          </figure>
        ))}
      </div>
      <Figures<TelemetryPoint>
        summary={text.showTable}
        label={say.health}
        rows={points.toReversed()}
        rowKey={(point, i) => `${point.at} ${i}`}
        columns={[
          { head: text.rollout.real, cell: (point) => stampClock(point.at, zone) },
          { head: say.cpu, right: true, cell: (point) => percent(point.cpu_percent) },
          { head: say.rss, right: true, cell: (point) => bytes(point.agent_rss_bytes) },
          { head: text.deviceLines.requests, right: true, cell: (point) => count(point.requests) },
          { head: text.deviceLines.failures, right: true, cell: (point) => count(point.failures) },
          { head: say.latency, right: true, cell: (point) => milliseconds(point.p95_us) },
        ]}
      />
    </div>
  );
}

function line(label: string, points: TelemetryPoint[], of: (point: TelemetryPoint) => number | null | undefined) {
  return { label, values: points.map((point) => of(point) ?? null) };
}
