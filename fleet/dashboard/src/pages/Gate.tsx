// The question between two stages: each layer's value against its limit, and the answer in words.
import type { GateLayer, Stage } from "../api/types";
import { count, figure, none, words } from "../format";
import { Note, Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { Ago } from "../parts/Time";
import { text } from "../strings";

const say = text.rollout;

export function Gate({ stage }: { stage: Stage }) {
  const gate = stage.gate;
  const verdict = gate?.verdict;
  return (
    <Panel
      title={say.gateOf(stage.name)}
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
      {gate == null || gate.layers.length === 0 ? (
        <Note>{say.gateNone}</Note>
      ) : (
        <Table<GateLayer>
          label={say.gateOf(stage.name)}
          rows={gate.layers}
          rowKey={(layer) => layer.layer}
          columns={[
            { head: say.layer, cell: (layer) => <span className="strong nowrap">{say.layers[layer.layer] ?? words(layer.layer)}</span> },
            { head: say.verdict, cell: (layer) => <State is={layer.verdict} /> },
            { head: say.measured, right: true, cell: (layer) => figure(layer.measured) },
            { head: say.limit, right: true, cell: (layer) => figure(layer.limit) },
            { head: say.n, right: true, cell: (layer) => count(layer.n) },
            {
              head: say.finding,
              wide: true,
              cell: (layer) => (
                <>
                  {layer.sentence}
                  {missing(layer) !== none && <span className="soft"> {`${missing(layer)} ${say.missing}`}</span>}
                </>
              ),
            },
          ]}
        />
      )}
    </Panel>
  );
}

function missing({ missing: much }: GateLayer): string {
  return much == null || much === 0 || much === "" ? none : figure(much);
}
