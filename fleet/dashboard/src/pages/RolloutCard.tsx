// A rollout in three lines, for lists.
import { Link } from "@tanstack/react-router";
import type { RolloutSummary } from "../api/types";
import { none } from "../format";
import { rolloutTone } from "../palette";
import { Stages } from "../parts/Stages";
import { State } from "../parts/State";
import { Ago } from "../parts/Time";
import { text } from "../strings";
import { versionOf } from "./version";

const say = text.rollouts;

export function RolloutCard({ rollout }: { rollout: RolloutSummary }) {
  const { phase, started_by: by } = rollout;
  const failed = rollout.stages.reduce((sum, stage) => sum + stage.failed, 0);
  return (
    <article className="body" data-row="">
      <p className="spread" style={{ marginBottom: 8 }}>
        <span className="row">
          <Link to="/rollouts/$id" params={{ id: rollout.id }} className="strong">
            {rollout.model}
          </Link>
          <span className="num">
            <span className="soft">{before(rollout)}</span> → {versionOf(rollout.bundle)}
          </span>
        </span>
        <State is={phase.is} tone={rolloutTone(phase.is)} word={text.rollouts.phases[phase.is]} />
      </p>
      <Stages stages={rollout.stages} />
      {phase.reason != null && <p style={{ marginTop: 8 }}>{phase.reason.sentence}</p>}
      <p className="soft small row" style={{ marginTop: 6 }}>
        <span>
          {say.started} <Ago at={rollout.created} />
          {by != null && ` ${say.by.toLowerCase()} ${by.name}`}
        </span>
        {failed > 0 && (
          <span style={{ color: "var(--m-bad)" }}>
            {say.failed} {failed}
          </span>
        )}
        {rollout.reason != null && rollout.reason !== "" && <span>{rollout.reason}</span>}
      </p>
    </article>
  );
}

export function before(rollout: RolloutSummary): string {
  const versions = [...new Set(rollout.from.map((from) => from.version ?? from.sha256.slice(0, 10)))];
  if (versions.length > 0) return versions.join(", ");
  // Who has gone back no longer says from what: that is unknown here, and not nothing.
  return rollout.stages.some((stage) => stage.returned > 0) ? none : say.nothingBefore;
}
