// Each decision about a rollout: when, what, by whom or by which gate, why, and what it rests on.
import { Link } from "@tanstack/react-router";
import { base } from "../api/client";
import type { Rollout, TimelineEntry } from "../api/types";
import { moment, stamp, stampClock, worldDiffers, words } from "../format";
import { Log } from "../parts/Log";
import { Note, Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { useZone } from "../shell/zone";
import { text } from "../strings";
import { gateAnchor } from "./Gate";
import { decidedBy, decisionTone, gateOf, isDecision } from "./history";

const say = text.rollout;

export function History({ rollout }: { rollout: Rollout }) {
  const zone = useZone();
  const newestFirst = rollout.timeline.toReversed();
  const decisions = newestFirst.filter(isDecision);
  const handOuts = newestFirst.filter((entry) => !isDecision(entry));
  return (
    <Panel title={say.history} aside={`${say.zone} ${zone}`}>
      {decisions.length === 0 ? (
        <Note>{say.historyNone}</Note>
      ) : (
        <ol className="list">
          {decisions.map((entry, index) => (
            <Decision key={`${entry.at} ${index}`} entry={entry} rollout={rollout} zone={zone} />
          ))}
        </ol>
      )}
      {handOuts.length > 0 && (
        <details className="more">
          <summary>{say.handOuts(handOuts.length)}</summary>
          <Log lines={handOuts.map(({ at, world_at, sentence }, index) => ({ at, world_at: world_at ?? null, sentence, key: `${at} ${index}` }))} />
        </details>
      )}
      <p className="body soft small">
        <a className="inline" href={`${base}/rollouts/${encodeURIComponent(rollout.id)}/evidence`} download={`${rollout.id}.evidence.json`}>
          {say.record}
        </a>
        {`: ${say.recordHint}`}
      </p>
    </Panel>
  );
}

function Decision({ entry, rollout: { stages }, zone }: { entry: TimelineEntry; rollout: Rollout; zone: string }) {
  const gate = gateOf(entry, stages);
  return (
    <li className="decision" data-row="">
      <p className="spread">
        <State is={entry.kind} tone={decisionTone(entry.kind)} word={say.decisions[entry.kind] ?? words(entry.kind.replace("rollout.", ""))} />
        <time dateTime={entry.at} className="soft small num">
          {exact(entry.at, zone)}
        </time>
      </p>
      <p>{entry.sentence}</p>
      <p className="soft small spread">
        <span>
          {text.rollouts.by} {decidedBy(entry, stages)}
          {gate >= 0 && (
            <>
              {" · "}
              <Link from="/rollouts/$id" to="." search={(before) => before} hash={gateAnchor(gate)} className="inline">
                {say.seeGate}
              </Link>
            </>
          )}
        </span>
        {worldDiffers(entry.world_at, entry.at) && (
          <time dateTime={entry.world_at ?? undefined} className="num">
            {`${say.world} ${exact(entry.world_at, zone)}`}
          </time>
        )}
      </p>
    </li>
  );
}

/** A record of decisions is read to the second. */
function exact(at: string | null | undefined, zone: string): string {
  return moment(at) === null ? stamp(at) : `${stamp(at, zone).slice(0, -5)}${stampClock(at, zone)}`;
}
