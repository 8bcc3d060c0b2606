// What the server finds when it looks at itself, with what to do next: as `muster doctor` says it.
import { useQuery } from "@tanstack/react-query";
import { checkupQuery } from "../../api/queries";
import type { CheckupFinding } from "../../api/types";
import type { Tone } from "../../palette";
import { Answer } from "../../parts/Answer";
import { Panel } from "../../parts/Panel";
import { State } from "../../parts/State";
import { Table } from "../../parts/Table";
import { text } from "../../strings";

const say = text.settings.checkup;
const tones: Record<string, Tone> = { ok: "good", warn: "warn", fail: "bad" };
/** What needs somebody comes first. */
const order = ["fail", "warn", "ok"];

export function Checkup() {
  const asked = useQuery(checkupQuery);
  return (
    <Panel title={say.title} aside={say.hint}>
      <Answer of={asked}>
        {({ checks }) => (
          <Table<CheckupFinding>
            label={say.title}
            rows={checks.toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state))}
            rowKey={({ check }) => check}
            columns={[
              { head: say.check, cell: ({ check }) => <span className="strong">{check}</span> },
              { head: say.state, cell: ({ state }) => <State is={state} tone={tones[state] ?? "idle"} word={say.states[state] ?? state} /> },
              { head: say.says, wide: true, cell: Says },
            ]}
          />
        )}
      </Answer>
    </Panel>
  );
}

function Says({ says, do_next }: CheckupFinding) {
  return (
    <>
      {says}
      {do_next != null && <span className="block soft small">{do_next}</span>}
    </>
  );
}
