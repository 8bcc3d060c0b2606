// One retraining: its trigger, its progress, and how the challenger did against the champion.
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { runQuery } from "../api/queries";
import type { Run } from "../api/types";
import { figure, none, short, signed, words } from "../format";
import { Answer } from "../parts/Answer";
import { Log, Subject } from "../parts/Log";
import { Note, PageHead, Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { Ago, Stamp } from "../parts/Time";
import { text } from "../strings";
import { Approval, Gates } from "./RunGates";
import { metricsOf, type Metric } from "./metrics";
import { RunActs } from "./RunActs";
import { share, waits } from "./Runs";
import { versionOf } from "./version";

const say = text.runs;

export function RunPage() {
  const { id } = useParams({ from: "/runs/$id" });
  const asked = useQuery(runQuery(id));
  return (
    <Answer of={asked} rows={8}>
      {(run) => (
        <>
          <PageHead title={`${say.one} ${run.model}`} crumb={<Link to="/runs">{say.title}</Link>} state={<State is={run.state} />}>
            <RunActs run={run} />
          </PageHead>
          <div className="stack">
            {run.failure != null && (
              <Panel title={say.failure} tone="bad">
                <p className="body">{run.failure.sentence}</p>
              </Panel>
            )}
            <div className="cols-wide">
              <div className="stack">
                <Approval run={run} />
                <Progress run={run} />
                <Result run={run} />
                <Gates run={run} />
                <Tail lines={run.log_tail} />
              </div>
              <div className="stack">
                <Facts run={run} />
                <Panel title={say.timeline}>
                  {run.timeline == null || run.timeline.length === 0 ? (
                    <Note>{say.timelineNone}</Note>
                  ) : (
                    <Log lines={run.timeline.toReversed().map((entry, i) => ({ ...entry, key: `${entry.at} ${i}` }))} />
                  )}
                </Panel>
              </div>
            </div>
          </div>
        </>
      )}
    </Answer>
  );
}

/** Follows the newest line until somebody scrolls up to read. */
function Tail({ lines }: { lines: string[] }) {
  const place = useRef<HTMLPreElement>(null);
  const follows = useRef(true);
  const shown = lines.join("\n");
  useEffect(() => {
    if (follows.current && place.current !== null) place.current.scrollTop = place.current.scrollHeight;
  });
  return (
    <Panel title={say.log}>
      {lines.length === 0 ? (
        <Note>{say.logNone}</Note>
      ) : (
        <pre
          className="logtail"
          ref={place}
          tabIndex={0}
          role="region"
          aria-label={say.log}
          onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
            follows.current = scrollHeight - scrollTop - clientHeight < 30;
          }}
        >
          {shown}
        </pre>
      )}
    </Panel>
  );
}

function Progress({ run }: { run: Run }) {
  const fraction = run.state === "succeeded" ? 1 : (run.progress?.fraction ?? 0);
  return (
    <Panel title={say.progress} aside={run.state === "succeeded" ? "100 %" : share(run)}>
      <div className="body">
        <div className="bar" role="progressbar" aria-label={say.progress} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(fraction * 100)}>
          <span style={{ width: `${fraction * 100}%`, minWidth: 0, background: run.state === "failed" || run.state === "rejected" ? "var(--m-bad-fill)" : "var(--m-good-fill)" }} />
        </div>
        <p className="soft small" style={{ marginTop: 6 }}>
          {run.progress?.message ?? words(run.state)}
        </p>
      </div>
    </Panel>
  );
}

function Result({ run }: { run: Run }) {
  const metrics = metricsOf(run.result);
  return (
    <Panel title={say.result} aside={run.result?.bundle == null ? undefined : versionOf(run.result.bundle)}>
      {metrics.length === 0 ? (
        <Note>{say.resultNone}</Note>
      ) : (
        <Table<Metric>
          label={say.result}
          rows={metrics}
          rowKey={(metric) => metric.name}
          columns={[
            { head: say.metric, cell: (metric) => words(metric.name) },
            { head: say.champion, right: true, cell: (metric) => figure(metric.champion) },
            { head: say.challenger, right: true, cell: (metric) => figure(metric.challenger) },
            { head: say.change, right: true, cell: change },
          ]}
        />
      )}
    </Panel>
  );
}

function change({ champion, challenger }: Metric): string {
  if (champion === null || challenger === null || champion === 0) return none;
  return `${signed((100 * (challenger - champion)) / Math.abs(champion), 1)} %`;
}

function Facts({ run }: { run: Run }) {
  const trigger = run.trigger;
  return (
    <Panel title={say.trigger}>
      <dl className="body facts num">
        {trigger != null && (
          <>
            <dt>{say.trigger}</dt>
            <dd>
              {words(trigger.kind)} <span className="mono soft">{short(trigger.id, 12)}</span>
            </dd>
            {trigger.reason != null && (
              <>
                <dt>{say.why}</dt>
                <dd>{trigger.reason}</dd>
              </>
            )}
            {trigger.incident != null && (
              <>
                <dt>{say.incident}</dt>
                <dd>
                  <Link to="/drift" search={{ model: run.model }}>
                    {short(trigger.incident, 12)}
                  </Link>
                </dd>
              </>
            )}
            {trigger.onset != null && (
              <>
                <dt>{say.onset}</dt>
                <dd>
                  <Stamp at={trigger.onset} />
                </dd>
              </>
            )}
            {trigger.streams != null && trigger.streams.length > 0 && (
              <>
                <dt>{say.streams}</dt>
                <dd>{trigger.streams.join(", ")}</dd>
              </>
            )}
          </>
        )}
        <dt>{say.builder}</dt>
        <dd>{run.claimed_by ?? (waits(run.state) ? say.nobody : none)}</dd>
        {run.heartbeat_at != null && (
          <>
            <dt>{say.heartbeat}</dt>
            <dd>
              <Ago at={run.heartbeat_at} />
            </dd>
          </>
        )}
        <dt>{say.created}</dt>
        <dd>
          <Stamp at={run.created} />
        </dd>
        {run.rollout != null && (
          <>
            <dt>{say.rollout}</dt>
            <dd>
              <Subject of={run.rollout}>{short(run.rollout, 12)}</Subject>
            </dd>
          </>
        )}
        <dt>{text.rollout.id}</dt>
        <dd className="mono">{run.id}</dd>
      </dl>
    </Panel>
  );
}
