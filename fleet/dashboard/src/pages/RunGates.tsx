// What a retrained candidate was held to, and the word of people where the policy asks for it.
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../api/client";
import type { Run, RunCheck } from "../api/types";
import { figure, none, words } from "../format";
import type { Tone } from "../palette";
import { Act } from "../parts/Act";
import { Note, Panel } from "../parts/Panel";
import { ReasonDialog } from "../parts/ReasonDialog";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { text } from "../strings";

const say = text.runs;
const tones: Record<RunCheck["verdict"], Tone> = { passed: "good", failed: "bad", unknown: "idle" };

export function Gates({ run }: { run: Run }) {
  const gates = run.gates ?? [];
  return (
    <Panel title={say.gates}>
      {gates.length === 0 ? (
        <Note>{say.gatesNone}</Note>
      ) : (
        <Table<RunCheck>
          label={say.gates}
          rows={gates}
          rowKey={(check) => `${check.gate} ${check.code} ${check.sentence}`}
          columns={[
            { head: say.gate, cell: (check) => words(check.gate) },
            { head: say.verdict, cell: (check) => <State is={check.verdict} tone={tones[check.verdict]} /> },
            { head: say.measured, right: true, cell: (check) => (check.measured == null ? none : figure(check.measured)) },
            { head: say.limit, right: true, cell: limit },
            { head: say.what, cell: (check) => check.sentence },
          ]}
        />
      )}
    </Panel>
  );
}

function limit({ at_most, at_least }: RunCheck): string {
  if (at_most != null) return `≤ ${figure(at_most)}`;
  return at_least == null ? none : `≥ ${figure(at_least)}`;
}

export function Approval({ run }: { run: Run }) {
  const [asking, setAsking] = useState<"approve" | "reject" | null>(null);
  const client = useQueryClient();
  if (run.state !== "candidate" || run.approval == null) return null;
  const decide = async (verb: "approve" | "reject", reason: string): Promise<void> => {
    await post(`/api/v1/runs/{id}/${verb}`, { reason }, { path: { id: run.id } });
    await client.invalidateQueries();
  };
  return (
    <Panel title={say.approval} tone="warn">
      <div className="body">
        <p>{say.approvalSays(run.approval.people, run.approval.approved_by)}</p>
        <div className="row">
          <Act label={say.approve} whyNot={null} onClick={() => setAsking("approve")} />
          <Act label={say.reject} whyNot={null} danger onClick={() => setAsking("reject")} />
        </div>
      </div>
      {asking !== null && (
        <ReasonDialog
          title={`${say[asking]}: ${run.model}`}
          effect={asking === "approve" ? say.approveEffect : say.rejectEffect}
          confirm={say[asking]}
          danger={asking === "reject"}
          act={(reason) => decide(asking, reason)}
          onClose={() => setAsking(null)}
        />
      )}
    </Panel>
  );
}
