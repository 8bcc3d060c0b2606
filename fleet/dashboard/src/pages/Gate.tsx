// The question between two stages: each layer's value against its limit, how sure that is, and the answer in words.
import { Interval } from "../charts/Interval";
import { limitKind, spent } from "../charts/interval";
import type { GateLayer, Stage } from "../api/types";
import { count, figure, none, percent, words } from "../format";
import { Note, Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { Ago } from "../parts/Time";
import { text } from "../strings";

const say = text.rollout;

/** What decisions point at. */
export function gateAnchor(stage: number): string {
  return `gate-${stage + 1}`;
}

export function Gate({ stage, index }: { stage: Stage; index: number }) {
  const gate = stage.gate;
  const verdict = gate?.verdict;
  const asked = (gate?.layers ?? []).filter((layer) => layer.verdict !== "not_asked");
  const notAsked = (gate?.layers ?? []).filter((layer) => layer.verdict === "not_asked");
  return (
    <Panel
      id={gateAnchor(index)}
      title={say.gateOf(stage.name)}
      tone={verdict === "fail" ? "bad" : undefined}
      aside={
        verdict == null ? undefined : (
          <span className="row">
            <State is={verdict} word={say.verdicts[verdict]} />
            {gate?.asked_at != null && (
              <span>
                {say.askedAt.toLowerCase()} <Ago at={gate.asked_at} />
              </span>
            )}
          </span>
        )
      }
    >
      {asked.length === 0 ? (
        <Note>{say.gateNone}</Note>
      ) : (
        <Table<GateLayer>
          label={say.gateOf(stage.name)}
          rows={asked.toSorted((a, b) => severity.indexOf(b.verdict) - severity.indexOf(a.verdict))}
          rowKey={(layer) => layer.layer}
          columns={[
            {
              head: say.layer,
              wide: true,
              cell: (layer) => (
                <>
                  <span className="strong">{say.layers[layer.layer] ?? words(layer.layer)}</span>
                  <p className="soft small">{layer.test}</p>
                </>
              ),
            },
            { head: say.verdict, cell: (layer) => <State is={layer.verdict} /> },
            { head: say.measured, right: true, cell: (layer) => figure(layer.measured) },
            { head: say.interval, cell: (layer) => <Sure layer={layer} /> },
            { head: say.limit, right: true, cell: (layer) => <Limit layer={layer} /> },
            { head: say.n, right: true, cell: (layer) => count(layer.n) },
            { head: say.missing, right: true, cell: (layer) => count(layer.missing) },
            { head: say.budget, right: true, cell: (layer) => <Budget layer={layer} /> },
            { head: say.finding, wide: true, cell: (layer) => layer.sentence },
          ]}
        />
      )}
      {gate?.alpha != null && asked.length > 0 && <Note>{`${say.budget}: ${say.budgetOf(percent(gate.alpha * 100))}.`}</Note>}
      {notAsked.length > 0 && (
        <details className="body">
          <summary>{say.notAsked(notAsked.length)}</summary>
          <ul className="soft">
            {notAsked.map((layer) => (
              <li key={layer.layer}>
                {say.layers[layer.layer] ?? words(layer.layer)}: {layer.sentence}
              </li>
            ))}
          </ul>
        </details>
      )}
    </Panel>
  );
}

/** What decides stands first. */
const severity = ["not_asked", "pass", "insufficient", "fail"];

function Sure({ layer }: { layer: GateLayer }) {
  const { interval } = layer;
  return (
    <>
      <Interval layer={layer} />
      {interval != null && (
        <p className="soft small nowrap">
          {figure(interval[0])} – {figure(interval[1])}
        </p>
      )}
    </>
  );
}

function Limit({ layer: { layer, limit } }: { layer: GateLayer }) {
  if (limit == null) return <>{none}</>;
  return (
    <>
      {figure(limit)}
      <span className="block nowrap soft small">{say.limitOf[limitKind(layer)]}</span>
    </>
  );
}

/** The chance of a false alarm that the layer may spend, and how near an alarm it has come. */
function Budget({ layer }: { layer: GateLayer }) {
  const gone = spent(layer);
  return (
    <>
      {layer.alpha == null ? none : percent(layer.alpha * 100)}
      {gone !== null && <span className="block soft small">{say.spent(percent(gone * 100))}</span>}
    </>
  );
}
