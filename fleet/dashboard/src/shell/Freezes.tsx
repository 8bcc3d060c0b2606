// While anything is frozen, every page says so first: who, why, since when, where, and how to end it.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../api/client";
import { freezesQuery } from "../api/queries";
import type { Freeze } from "../api/types";
import { Act } from "../parts/Act";
import { Command } from "../parts/Empty";
import { ReasonDialog } from "../parts/ReasonDialog";
import { State } from "../parts/State";
import { Ago, Stamp } from "../parts/Time";
import { text } from "../strings";
import { effectOf } from "./thaw";

const say = text.freeze;

export function Freezes() {
  const { data = [] } = useQuery(freezesQuery);
  if (data.length === 0) return null;
  return (
    <section className="freezes" aria-label={say.label}>
      {data.map((freeze) => (
        <Frozen key={freeze.site ?? ""} freeze={freeze} all={data} />
      ))}
    </section>
  );
}

function Frozen({ freeze, all }: { freeze: Freeze; all: Freeze[] }) {
  const [asking, setAsking] = useState(false);
  const cache = useQueryClient();
  const { site } = freeze;
  const thaw = async (reason: string): Promise<void> => {
    await post("/api/v1/freezes/thaw", { ...(site == null ? {} : { site }), reason }, {});
    await cache.invalidateQueries();
  };
  return (
    <div className="panel frozen" data-tone="warn">
      <div className="body spread">
        <div>
          <p>
            <State is="frozen" tone="warn" word={scopeSaid(freeze)} /> <span className="strong">{freeze.reason}</span>
          </p>
          <p className="soft small">
            {say.by} {freeze.by}, {say.since} <Stamp at={freeze.since} /> (<Ago at={freeze.since} />). {say.until}
          </p>
          <details className="small">
            <summary>{say.how}</summary>
            <p>{say.means}</p>
            <Command line={text.commands.thaw(site)} />
          </details>
        </div>
        <Act label={say.thaw} whyNot={null} onClick={() => setAsking(true)} />
      </div>
      {asking && (
        <ReasonDialog
          title={`${say.thaw}: ${site ?? say.theFleet}`}
          effect={effectOf(freeze, all)}
          confirm={say.thaw}
          act={thaw}
          onClose={() => setAsking(false)}
        />
      )}
    </div>
  );
}

function scopeSaid({ site }: Freeze): string {
  return site == null ? say.fleet : say.site(site);
}
