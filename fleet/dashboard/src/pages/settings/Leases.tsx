// Boxes and sites that somebody works on.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";
import { leasesQuery } from "../../api/queries";
import type { Lease } from "../../api/types";
import { none } from "../../format";
import { Act } from "../../parts/Act";
import { Answer } from "../../parts/Answer";
import { Subject } from "../../parts/Log";
import { Note, Panel } from "../../parts/Panel";
import { ReasonDialog } from "../../parts/ReasonDialog";
import { Table } from "../../parts/Table";
import { Stamp } from "../../parts/Time";
import { text } from "../../strings";

const say = text.settings.leases;

export function Leases() {
  const asked = useQuery(leasesQuery);
  const [asking, setAsking] = useState<Lease | null>(null);
  const cache = useQueryClient();
  return (
    <Panel title={say.title} aside={say.hint}>
      <Answer of={asked} rows={2}>
        {(leases) =>
          leases.length === 0 ? (
            <Note>{say.none}</Note>
          ) : (
            <Table<Lease>
              label={say.title}
              rows={leases}
              rowKey={({ id }) => id}
              columns={[
                { head: say.what, cell: (lease) => <Subject of={lease.device}>{what(lease)}</Subject> },
                { head: say.owner, cell: ({ owner }) => owner },
                { head: say.why, wide: true, cell: ({ reason }) => reason },
                { head: say.until, cell: ({ expires }) => <Stamp at={expires} /> },
                { head: say.release, cell: (lease) => <Act label={say.release} describe={say.releaseOf(what(lease))} whyNot={null} onClick={() => setAsking(lease)} /> },
              ]}
            />
          )
        }
      </Answer>
      {asking !== null && (
        <ReasonDialog
          title={say.releaseOf(what(asking))}
          effect={say.effect(what(asking))}
          confirm={say.release}
          act={async (reason) => {
            await post("/api/v1/leases/{id}/release", { reason }, { path: { id: asking.id } });
            await cache.invalidateQueries({ queryKey: ["leases"] });
          }}
          onClose={() => setAsking(null)}
        />
      )}
    </Panel>
  );
}

function what({ device, site }: Lease): string {
  return device ?? site ?? none;
}
