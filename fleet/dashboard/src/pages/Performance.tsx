// Whether the model's answers come true: the error by matured labels, what its own scores promise, and the holdout's.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { lazy, Suspense } from "react";
import { performanceQuery } from "../api/queries";
import type { BundlePerformance } from "../api/types";
import type { VersionMark } from "../charts/versions";
import { count, duration, figure, percent, signed, stampDay } from "../format";
import { Answer } from "../parts/Answer";
import { Note, Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { Figures } from "../parts/Table";
import { Stamp } from "../parts/Time";
import { text } from "../strings";
import { daysOf, eventsOf, linesOf, type Day } from "./performance";

const Series = lazy(() => import("../charts/Series"));
const say = text.performance;

export function Performance({ model, marks }: { model: string; marks: VersionMark[] }) {
  const asked = useQuery(performanceQuery(model));
  return (
    <Panel title={say.title} aside={say.hint}>
      <Answer of={asked} rows={3}>
        {({ bundles, horizon_s }) =>
          bundles.length === 0 ? (
            <Note>{say.none(duration(horizon_s))}</Note>
          ) : (
            <div className="body stack" style={{ gap: 10 }}>
              {bundles.map((bundle) => (
                <Matured key={bundle.bundle} model={model} bundle={bundle} />
              ))}
              <Picture days={daysOf(bundles)} marks={marks} />
            </div>
          )
        }
      </Answer>
    </Panel>
  );
}

function Matured({ model, bundle }: { model: string; bundle: BundlePerformance }) {
  return (
    <div className="row" data-row="">
      {bundle.alarm_since == null ? null : <State is="drift" word={say.alarm} />}
      <Link to="/models" search={{ model }} className="strong">
        {bundle.version}
      </Link>
      <span className="num">
        {say.matured(count(bundle.labelled), count(bundle.matured), percent(bundle.labelled_percent))}
      </span>
      <span className="soft small num">{say.waiting(count(bundle.waiting))}</span>
      {bundle.alarm_since == null ? null : (
        <span className="soft small">
          {say.since} <Stamp at={bundle.alarm_since} />
        </span>
      )}
    </div>
  );
}

function Picture({ days, marks }: { days: Day[]; marks: VersionMark[] }) {
  const { x, lines } = linesOf(days);
  return (
    <div>
      {lines.length > 0 && (
        <>
          <Suspense fallback={<div style={{ height: 200 }} />}>
            <Series
              x={x}
              lines={lines}
              print={(value) => figure(value)}
              height={200}
              label={say.title}
              fromZero
              events={eventsOf(marks, days)}
              marked={(line, i) => lines[line]?.figure === "measured" && lines[line].days[i]?.measured?.state === "drift"}
              spread={(line, i) => {
                const loss = lines[line]?.figure === "estimated" ? lines[line].days[i]?.estimated?.loss : undefined;
                return loss === undefined ? null : [loss.low, loss.high];
              }}
            />
          </Suspense>
          <p className="soft small" style={{ marginTop: 4 }}>
            {say.limits}
          </p>
        </>
      )}
      <Figures<Day>
        summary={text.showTable}
        label={say.title}
        rows={days.toReversed()}
        rowKey={(day) => `${day.version} ${day.from}`}
        columns={[
          { head: say.version, cell: (day) => day.version },
          { head: say.from, cell: (day) => <span className="nowrap">{stampDay(day.from)}</span> },
          { head: say.state, cell: (day) => (day.measured === undefined ? <span className="soft">{say.young}</span> : <State is={day.measured.state} word={text.drift.states[day.measured.state]} />) },
          { head: say.labels, right: true, cell: (day) => count(day.measured?.labels) },
          { head: say.came, right: true, cell: (day) => count(day.measured?.observed) },
          { head: say.promised, right: true, cell: (day) => figure(day.measured?.expected ?? day.estimated?.positives) },
          { head: say.z, right: true, cell: (day) => signed(day.measured?.z) },
          { head: say.measured, right: true, cell: (day) => figure(day.measured?.loss) },
          { head: say.estimated, right: true, cell: (day) => within(day.estimated?.loss) },
          { head: say.holdout, right: true, cell: (day) => figure(day.measured?.holdout_loss) },
          { head: say.accuracy, right: true, cell: (day) => within(day.estimated?.accuracy) },
        ]}
      />
    </div>
  );
}

function within(of: { value: number; low: number; high: number } | null | undefined): string {
  return of == null ? "" : `${figure(of.value)} (${text.drift.between(figure(of.low), figure(of.high))})`;
}
