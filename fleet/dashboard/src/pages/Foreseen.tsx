// Who said yes to a rollout, and what was foreseen of it beside what came.
import type { Rollout, ForecastSpread } from "../api/types";
import { none } from "../format";
import { Note, Panel } from "../parts/Panel";
import { Table } from "../parts/Table";
import { Ago } from "../parts/Time";
import { text } from "../strings";
import { span } from "./span";

const say = text.rollout;

export function Approvals({ rollout }: { rollout: Rollout }) {
  const { approvals = [], approvals_min: needed = 0 } = rollout;
  if (needed === 0 && approvals.length === 0) return null;
  return (
    <Panel title={say.approvals} aside={say.approvalsOf(approvals.length, needed)}>
      {approvals.length === 0 ? (
        <Note>{say.approvalsNone}</Note>
      ) : (
        <ul className="list">
          {approvals.map((yes) => (
            <li key={yes.by} data-row="">
              <p>
                <span className="strong">{yes.by}</span> {yes.reason}
              </p>
              <p className="soft small">
                <Ago at={yes.at} />
              </p>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

export function Forecasted({ rollout: { forecast } }: { rollout: Rollout }) {
  if (forecast == null) return null;
  const rows = [...forecast.stages, { name: say.whole, ...forecast.finish, actual_s: forecast.actual_s }];
  return (
    <Panel title={say.forecast}>
      <Table
        label={say.forecast}
        rows={rows}
        rowKey={(row) => row.name}
        columns={[
          { head: say.stage, cell: (row) => <span className="strong">{row.name}</span> },
          { head: say.foreseen, right: true, cell: (row) => span(row.p50_s) },
          { head: say.range, right: true, cell: range },
          { head: say.came, right: true, cell: came },
        ]}
      />
      {forecast.warnings.map((warning) => (
        <Note key={warning}>{warning}</Note>
      ))}
      <Note>{forecast.basis}</Note>
    </Panel>
  );
}

/** What came, and whether it was foreseen: outside of the range it says by how much. */
function came({ actual_s, p10_s, p90_s }: ForecastSpread & { actual_s?: number | null }) {
  if (actual_s == null) return none;
  const late = p90_s != null && actual_s > p90_s ? say.later(span(actual_s - p90_s)) : null;
  const early = p10_s != null && actual_s < p10_s ? say.earlier(span(p10_s - actual_s)) : null;
  return (
    <>
      {span(actual_s)}
      {p10_s != null && <span className="block soft small">{late ?? early ?? say.asForeseen}</span>}
    </>
  );
}

function range({ p10_s, p90_s }: ForecastSpread): string {
  if (p10_s == null) return none;
  return `${span(p10_s)} – ${p90_s == null ? "?" : span(p90_s)}`;
}
