// Step four: what the plan would do, from playing it through on the fleet as it is now, and what it would catch.
import type { Forecast, RolloutRehearsal } from "../../api/types";
import { bytes, count, none, percent, plural } from "../../format";
import { Act } from "../../parts/Act";
import { Answer } from "../../parts/Answer";
import { Note, Panel } from "../../parts/Panel";
import { Table } from "../../parts/Table";
import { text } from "../../strings";
import { span } from "../span";

const say = text.plan.foresee;

interface ForeseenProps {
  rehearsal: { data: RolloutRehearsal | undefined; error: Error | null; dataUpdatedAt: number; refetch: () => unknown };
  /** The server gave up: the fleet is too large or the server too slow for this plan. */
  tooLong: boolean;
}

export function Foreseen({ rehearsal, tooLong }: ForeseenProps) {
  if (tooLong) {
    return (
      <Panel title={say.stages} tone="warn">
        <p className="body">{say.tooLong}</p>
        <div className="body">
          <Act label={text.retry} whyNot={null} onClick={() => void rehearsal.refetch()} />
        </div>
      </Panel>
    );
  }
  return (
    <>
    {rehearsal.data === undefined && <p className="soft">{say.asking}</p>}
    <Answer of={rehearsal} rows={6}>
      {({ stages, forecast }) => (
        <>
          <Panel title={say.stages} aside={finish(forecast)}>
            <Table
              label={say.stages}
              rows={stages}
              rowKey={({ name }) => name}
              columns={[
                { head: text.rollout.stage, cell: ({ name }) => <span className="strong">{name}</span> },
                { head: say.own, right: true, cell: ({ target_devices }) => plural(target_devices, "device") },
                { head: say.reaches, right: true, cell: ({ reaches }) => plural(reaches, "device") },
                { head: text.plan.stages.bake, right: true, cell: ({ bake_s }) => span(bake_s) },
                { head: say.gatePasses, right: true, cell: ({ forecast: { p50_s } }) => span(p50_s) },
                { head: say.range, right: true, cell: ({ forecast: { p10_s, p90_s } }) => (p10_s == null ? none : `${span(p10_s)} – ${p90_s == null ? "?" : span(p90_s)}`) },
                { head: say.first, wide: true, cell: ({ first }) => first.join(", ") },
              ]}
            />
            {forecast.warnings.map((warning) => (
              <div className="body notice" key={warning}>
                {warning}
              </div>
            ))}
            <Note>{forecast.basis}</Note>
          </Panel>
          <div className="cols-even">
            <Bugs forecast={forecast} />
            <Panel title={say.sites}>
              <Table
                label={say.sites}
                rows={forecast.sites}
                rowKey={({ site }) => site}
                columns={[
                  { head: say.site, cell: ({ site }) => <span className="strong">{site}</span> },
                  { head: say.devices, right: true, cell: ({ devices }) => count(devices) },
                  { head: say.bytes, right: true, cell: (site) => bytes(site.bytes) },
                ]}
              />
            </Panel>
          </div>
        </>
      )}
    </Answer>
    </>
  );
}

function Bugs({ forecast: { bugs } }: { forecast: Forecast }) {
  return (
    <Panel title={say.bugs}>
      {bugs.length === 0 ? (
        <Note>{say.bugsNone}</Note>
      ) : (
        <ul className="list">
          {bugs.map((bug) => (
            <li key={bug.sentence} data-row="">
              <p>{bug.sentence}</p>
              <p className="soft small num row" style={{ gap: "2px 16px" }}>
                <span>
                  {say.stopped} {percent(bug.stopped_share * 100)}
                </span>
                <span>
                  {say.power} {percent(bug.first_stage_power * 100)}
                </span>
                <span>
                  {say.exposed} {count(bug.exposed_p50)} – {count(bug.exposed_p90)}
                </span>
              </p>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

function finish({ finish: { p50_s, p90_s } }: Forecast): string {
  return p50_s == null ? say.unfinished : say.finish(span(p50_s), p90_s == null ? "?" : span(p90_s));
}
