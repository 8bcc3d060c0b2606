// One rollout, live: where it stands, why it is not further, and the acts that a person may take.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { rolloutQuery } from "../api/queries";
import type { Rollout, RolloutAction, Stage } from "../api/types";
import { count, none, short } from "../format";
import { rolloutTone } from "../palette";
import { Act } from "../parts/Act";
import { Answer } from "../parts/Answer";
import { PageHead, Panel } from "../parts/Panel";
import { Printed } from "../parts/Printed";
import { ReasonDialog } from "../parts/ReasonDialog";
import { Stages, StagesLegend } from "../parts/Stages";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { Ago, Stamp } from "../parts/Time";
import { text } from "../strings";
import { actOn } from "./actOn";
import { actions, moved, whyNot } from "./actions";
import { Approvals, Forecasted } from "./Foreseen";
import { Gate, gateAnchor } from "./Gate";
import { History } from "./History";
import { before } from "./RolloutCard";
import { HeldByFreeze, RolloutDevices, WhyNot } from "./RolloutDevices";
import { versionOf } from "./version";

const say = text.rollout;

export function RolloutPage() {
  const { id } = useParams({ from: "/rollouts/$id" });
  const asked = useQuery(rolloutQuery(id));
  const crumb = <Link to="/rollouts">{text.rollouts.title}</Link>;
  return (
    <Answer of={asked} rows={8}>
      {(rollout) => (
        <>
          <Printed of={rollout.id} />
          <PageHead
            title={`${rollout.model} ${versionOf(rollout.bundle)}`}
            crumb={crumb}
            state={<State is={rollout.phase.is} tone={rolloutTone(rollout.phase.is)} word={text.rollouts.phases[rollout.phase.is]} />}
          >
            <Actions rollout={rollout} />
            <Act label={say.print} whyNot={null} onClick={printed} />
          </PageHead>
          <div className="stack">
            {rollout.phase.reason != null && <Why rollout={rollout} />}
            <HeldByFreeze rollout={rollout} />
            <StagesPanel stages={rollout.stages} />
            <div className="cols-even">
              <div className="stack">
                <WhyNot rollout={rollout} />
                <Approvals rollout={rollout} />
              </div>
              <History rollout={rollout} />
            </div>
            {rollout.stages.map((stage, index) =>
              stage.gate == null && stage.state === "waiting" ? null : <Gate key={stage.name} stage={stage} index={index} />,
            )}
            <RolloutDevices id={id} />
            <div className="cols-even">
              <Forecasted rollout={rollout} />
              <Facts rollout={rollout} />
            </div>
          </div>
        </>
      )}
    </Answer>
  );
}

/** The page itself is the report: what is folded is opened first, and the style sheet leaves out what cannot be pressed on paper. */
function printed(): void {
  for (const folded of document.querySelectorAll("main details")) folded.setAttribute("open", "");
  window.print();
}

function Why({ rollout: { phase } }: { rollout: Rollout }) {
  const tone = rolloutTone(phase.is);
  return (
    <div className="panel" data-tone={tone === "bad" ? "bad" : "warn"}>
      <p className="body">
        <span className="strong">{phase.reason?.sentence}</span>{" "}
        {phase.since != null && (
          <span className="soft">
            <Ago at={phase.since} />
          </span>
        )}
      </p>
    </div>
  );
}

function Actions({ rollout }: { rollout: Rollout }) {
  // As it stood at the click: what is read in the dialog is what is sent, however far the rollout moves meanwhile.
  const [asking, setAsking] = useState<{ action: RolloutAction; seen: Rollout } | null>(null);
  const cache = useQueryClient();
  const act = async (action: RolloutAction, seen: Rollout, reason: string): Promise<void> => {
    const now = await actOn(seen, action, reason);
    if (now !== undefined) cache.setQueryData(rolloutQuery(seen.id).queryKey, now);
    await cache.invalidateQueries({ queryKey: ["rollouts"] });
  };
  return (
    <>
      {actions.map((action) => (
        <Act
          key={action}
          label={text.actions[action]}
          whyNot={whyNot(action, rollout)}
          danger={action === "abort" || action === "rollback"}
          onClick={() => setAsking({ action, seen: rollout })}
        />
      ))}
      {asking !== null && <Asking {...asking} act={act} onClose={() => setAsking(null)} />}
    </>
  );
}

interface AskingProps {
  action: RolloutAction;
  seen: Rollout;
  act: (action: RolloutAction, seen: Rollout, reason: string) => Promise<void>;
  onClose: () => void;
}

function Asking({ action, seen, act, onClose }: AskingProps) {
  const { done, left } = moved(seen);
  return (
    <ReasonDialog
      title={text.actions.title(text.actions[action], `${seen.model} ${versionOf(seen.bundle)}`, seen.phase.stage)}
      effect={text.actions.effects[action](done, left)}
      confirm={text.actions[action]}
      danger={action === "abort" || action === "rollback"}
      act={(reason) => act(action, seen, reason)}
      onClose={onClose}
    />
  );
}

function StagesPanel({ stages }: { stages: Stage[] }) {
  return (
    <Panel title={say.stages}>
      <div className="body">
        <Stages stages={stages} />
        <StagesLegend stages={stages} />
      </div>
      <Table
        label={say.stages}
        rows={stages}
        rowKey={(stage) => stage.name}
        columns={[
          { head: say.stage, cell: (stage) => <span className="strong">{stage.name}</span> },
          { head: say.state, cell: (stage) => <State is={stage.state} /> },
          { head: say.target, right: true, cell: (stage) => count(stage.target_devices) },
          { head: say.handed, right: true, cell: (stage) => count(stage.handed) },
          { head: say.permitted, right: true, cell: (stage) => count(stage.permitted) },
          { head: say.activated, right: true, cell: (stage) => count(stage.activated) },
          { head: say.baked, right: true, cell: (stage) => count(stage.baked) },
          { head: say.failed, right: true, cell: (stage) => (stage.failed > 0 ? <span style={{ color: "var(--m-bad)", fontWeight: 600 }}>{count(stage.failed)}</span> : "0") },
          { head: say.returned, right: true, cell: (stage) => count(stage.returned) },
          { head: say.bakeUntil, cell: (stage) => <Ago at={stage.bake_until} /> },
          { head: say.gate, cell: (stage) => <Verdict stage={stage} index={stages.indexOf(stage)} /> },
        ]}
      />
    </Panel>
  );
}

function Verdict({ stage: { gate }, index }: { stage: Stage; index: number }) {
  if (gate?.verdict == null) return <>{none}</>;
  return (
    <Link from="/rollouts/$id" to="." search={(now) => now} hash={gateAnchor(index)}>
      <State is={gate.verdict} />
    </Link>
  );
}

function Facts({ rollout }: { rollout: Rollout }) {
  const by = rollout.started_by;
  return (
    <Panel title={say.definition}>
      <dl className="body facts num">
        <dt>{say.bundle}</dt>
        <dd>
          <Link to="/models/$sha256" params={{ sha256: rollout.bundle.sha256 }} className="inline">{versionOf(rollout.bundle)}</Link>{" "}
          <span className="mono soft" title={rollout.bundle.sha256}>
            {short(rollout.bundle.sha256, 12)}
          </span>
        </dd>
        <dt>{say.before}</dt>
        <dd>{before(rollout)}</dd>
        <dt>{say.slot}</dt>
        <dd>{rollout.slot}</dd>
        <dt>{say.started}</dt>
        <dd>
          <Stamp at={rollout.created} />
          {by != null && (
            <>
              {` ${text.rollouts.by.toLowerCase()} ${by.name}`}
              {by.trigger != null && <span className="soft mono"> {short(by.trigger, 12)}</span>}
            </>
          )}
        </dd>
        {rollout.reason != null && rollout.reason !== "" && (
          <>
            <dt>{text.rollouts.reason}</dt>
            <dd>{rollout.reason}</dd>
          </>
        )}
        <dt>{say.id}</dt>
        <dd className="mono">{rollout.id}</dd>
      </dl>
    </Panel>
  );
}
