// Every retraining: why it was asked for, who takes it, how far it is.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { runsQuery } from "../api/queries";
import type { Run } from "../api/types";
import { none, words } from "../format";
import { Answer } from "../parts/Answer";
import { Empty } from "../parts/Empty";
import { PageHead, Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { Ago } from "../parts/Time";
import { text } from "../strings";
import { StartRun } from "./RunActs";

const say = text.runs;

export function Runs() {
  const asked = useQuery(runsQuery);
  return (
    <>
      <PageHead title={say.title}>
        <StartRun />
      </PageHead>
      <Answer of={asked}>
        {(runs) =>
          runs.length === 0 ? (
            <Empty title={say.empty} why={say.emptyWhy} commands={[text.commands.retrain, text.commands.builder]} />
          ) : (
            <Panel title={say.title} aside={runs.length}>
              <Table<Run>
                label={say.title}
                rows={runs.toSorted((a, b) => Date.parse(b.created) - Date.parse(a.created))}
                rowKey={(run) => run.id}
                columns={[
                  { head: say.model, cell: (run) => <Link to="/runs/$id" params={{ id: run.id }} className="strong">{run.model}</Link> },
                  { head: say.state, cell: (run) => <State is={run.state} /> },
                  { head: say.trigger, cell: (run) => words(run.trigger?.kind) },
                  { head: say.why, wide: true, cell: (run) => run.failure?.sentence ?? run.trigger?.reason ?? none },
                  { head: say.progress, right: true, cell: (run) => share(run) },
                  { head: say.builder, cell: (run) => run.claimed_by ?? <span className="soft">{waits(run.state) ? say.nobody : none}</span> },
                  { head: say.created, cell: (run) => <Ago at={run.created} /> },
                ]}
              />
            </Panel>
          )
        }
      </Answer>
    </>
  );
}

/** No builder has taken it yet. */
export function waits(state: Run["state"]): boolean {
  return state === "collecting" || state === "queued";
}

export function share(run: Run): string {
  const fraction = run.progress?.fraction;
  return fraction === null || fraction === undefined ? none : `${Math.round(fraction * 100)} %`;
}
