// The browsers in which one is logged in, to end one that is not at hand any more.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";
import { sessionsQuery } from "../../api/queries";
import type { Session } from "../../api/types";
import { Act } from "../../parts/Act";
import { Answer } from "../../parts/Answer";
import { Confirmation } from "../../parts/Confirmation";
import { Note, Panel } from "../../parts/Panel";
import { Table } from "../../parts/Table";
import { Ago, Stamp } from "../../parts/Time";
import { text } from "../../strings";

const say = text.access.sessions;

export function Sessions() {
  const asked = useQuery(sessionsQuery);
  const [ending, setEnding] = useState<Session | null>(null);
  const cache = useQueryClient();
  return (
    <Panel title={say.title} aside={say.hint}>
      <Answer of={asked}>
        {(sessions) =>
          sessions.length === 0 ? (
            <Note>{say.none}</Note>
          ) : (
            <Table<Session>
              label={say.title}
              rows={sessions}
              rowKey={({ id }) => id}
              columns={[
                { head: say.agent, wide: true, cell: ({ agent }) => agent },
                { head: say.since, cell: ({ made }) => <Stamp at={made} /> },
                { head: say.seen, cell: (session) => (session.this ? say.here : <Ago at={session.seen} />) },
                { head: say.end, cell: (session) => <Act label={say.end} describe={say.endOf(session.agent)} danger whyNot={null} onClick={() => setEnding(session)} /> },
              ]}
            />
          )
        }
      </Answer>
      {ending !== null && (
        <Confirmation
          title={say.endOf(ending.agent)}
          effect={say.effect}
          confirm={say.end}
          act={async () => {
            await post("/api/v1/sessions/{id}/revoke", undefined, { path: { id: ending.id } });
            if (ending.this) location.assign("/login");
            await cache.invalidateQueries({ queryKey: ["sessions"] });
          }}
          onClose={() => setEnding(null)}
        />
      )}
    </Panel>
  );
}
