// What was published, what is kept, and which server this is.
import { useQuery } from "@tanstack/react-query";
import { base } from "../../api/client";
import { keptQuery, meQuery, serverQuery, trustQuery } from "../../api/queries";
import type { KeptTelemetry, TrustFile } from "../../api/types";
import { bytes, count } from "../../format";
import { Answer } from "../../parts/Answer";
import { Note, Panel } from "../../parts/Panel";
import { State } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago, Stamp } from "../../parts/Time";
import { useNow } from "../../shell/now";
import { text } from "../../strings";
import { span } from "../span";

const say = text.settings;
/** Share of its life that is left when somebody should think of signing it anew; the server renews its own earlier. */
const lateShare = 0.1;

export function Trust() {
  const asked = useQuery(trustQuery);
  return (
    <Panel title={say.trust.title} aside={say.trust.hint}>
      <Answer of={asked}>
        {(files) =>
          files.length === 0 ? (
            <Note>{say.trust.none}</Note>
          ) : (
            <Table<TrustFile>
              label={say.trust.title}
              rows={files}
              rowKey={({ name }) => name}
              columns={[
                { head: say.trust.name, cell: ({ name }) => <span className="strong">{name}</span> },
                { head: say.trust.version, right: true, cell: ({ version }) => version },
                { head: say.trust.published, cell: ({ published }) => <Ago at={published} /> },
                { head: say.trust.expires, cell: ({ published, expires }) => <Expiry from={published} at={expires} /> },
              ]}
            />
          )
        }
      </Answer>
    </Panel>
  );
}

function Expiry({ from, at }: { from: string; at: string | null | undefined }) {
  const now = useNow();
  if (at == null) return <span className="soft">{say.trust.never}</span>;
  const left = Date.parse(at) - now;
  return (
    <>
      <Stamp at={at} />
      {left < lateShare * (Date.parse(at) - Date.parse(from)) && (
        <span className="block">
          <State is="expiry" tone={left < 0 ? "bad" : "warn"} word={left < 0 ? say.trust.past : say.trust.soon} />
        </span>
      )}
    </>
  );
}

export function Storage() {
  const asked = useQuery(keptQuery);
  return (
    <Panel title={say.storage.title} aside={say.storage.hint}>
      <Answer of={asked}>
        {({ kept, lost_reports, lost_devices }) => (
          <>
            <Table<KeptTelemetry>
              label={say.storage.title}
              rows={kept}
              rowKey={({ kind }) => kind}
              columns={[
                { head: say.storage.kind, cell: ({ kind }) => <span className="strong">{say.storage.kinds[kind] ?? kind}</span> },
                { head: say.storage.since, cell: ({ since }) => <Ago at={since} /> },
                { head: say.storage.rows, right: true, cell: ({ rows }) => count(rows) },
                { head: say.storage.used, right: true, cell: Room },
                { head: say.storage.limit, right: true, cell: ({ seconds_max }) => span(seconds_max) },
              ]}
            />
            <Note>{lost_reports === 0 ? say.storage.lostNone : say.storage.lost(lost_reports, lost_devices)}</Note>
          </>
        )}
      </Answer>
    </Panel>
  );
}

function Room({ bytes: used, bytes_max, dropped_early_rows }: KeptTelemetry) {
  return (
    <>
      {say.storage.usedOf(bytes(used), bytes(bytes_max))}
      {dropped_early_rows > 0 && <span className="block soft small">{say.storage.dropped(dropped_early_rows)}</span>}
    </>
  );
}

export function Server() {
  const asked = useQuery(serverQuery);
  const { data: me } = useQuery(meQuery);
  return (
    <Panel title={say.server.title}>
      <Answer of={asked} rows={2}>
        {({ version, status }) => (
          <dl className="body facts">
            <dt>{say.server.version}</dt>
            <dd>{version}</dd>
            <dt>{say.server.state}</dt>
            <dd>
              <State is={status} />
            </dd>
            <dt>{say.server.api}</dt>
            <dd>
              <a className="inline" href={`${base}/openapi.json`}>
                {say.server.apiDocument}
              </a>
            </dd>
            <dt>{say.server.metrics}</dt>
            <dd>
              <a className="inline" href="/metrics">
                /metrics
              </a>
            </dd>
          </dl>
        )}
      </Answer>
      {me?.mode === "open" && <Note>{say.asOperator}</Note>}
    </Panel>
  );
}
