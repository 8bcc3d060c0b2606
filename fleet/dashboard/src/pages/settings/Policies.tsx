// When a model is retrained by itself, and whether what comes out rolls out by itself.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { policiesQuery } from "../../api/queries";
import type { Policy } from "../../api/types";
import { percent } from "../../format";
import { Act } from "../../parts/Act";
import { Answer } from "../../parts/Answer";
import { Confirmation } from "../../parts/Confirmation";
import { Note, Panel } from "../../parts/Panel";
import { State } from "../../parts/State";
import { Table } from "../../parts/Table";
import { text } from "../../strings";
import { span } from "../span";
import { turn } from "./turn";

const say = text.settings.policies;

export function Policies() {
  const asked = useQuery(policiesQuery);
  const [asking, setAsking] = useState<Policy | null>(null);
  const cache = useQueryClient();
  return (
    <Panel title={say.title}>
      <Answer of={asked}>
        {(policies) =>
          policies.length === 0 ? (
            <Note>{say.none}</Note>
          ) : (
            <Table<Policy>
              label={say.title}
              rows={policies}
              rowKey={({ model }) => model}
              columns={[
                { head: say.model, cell: ({ model }) => <Link to="/models" search={{ model }} className="strong">{model}</Link> },
                { head: say.enabled, cell: ({ enabled }) => <State is="policy" tone={enabled ? "good" : "idle"} word={enabled ? say.on : say.off} /> },
                { head: say.trigger, wide: true, cell: trigger },
                { head: say.cooldown, right: true, cell: ({ cooldown_s }) => span(cooldown_s) },
                { head: say.minData, right: true, cell: ({ min_data_s }) => span(min_data_s) },
                { head: say.perWeek, right: true, cell: ({ max_runs_per_week }) => max_runs_per_week },
                { head: say.rollout, cell: ({ rollout }) => (rollout.automatic ? say.automatic : say.manual) },
                { head: text.settings.edit, cell: (policy) => <Act label={policy.enabled ? say.turnOff : say.turnOn} whyNot={null} onClick={() => setAsking(policy)} /> },
              ]}
            />
          )
        }
      </Answer>
      {asking !== null && (
        <Confirmation
          title={`${asking.enabled ? say.turnOff : say.turnOn}: ${asking.model}`}
          effect={asking.enabled ? say.effectOff(asking.model) : say.effectOn(asking.model)}
          confirm={asking.enabled ? say.turnOff : say.turnOn}
          act={async () => {
            await turn(asking.model, !asking.enabled);
            await cache.invalidateQueries({ queryKey: ["runs"] });
          }}
          onClose={() => setAsking(null)}
        />
      )}
    </Panel>
  );
}

function trigger({ trigger: { drift }, labels }: Policy): string {
  return `${say.drift(percent(drift.share_of_streams * 100))}${labels?.retrain === true ? `, ${say.labels}` : ""}`;
}
