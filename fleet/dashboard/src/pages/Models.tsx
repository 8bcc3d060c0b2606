// Models and their bundles: who signed them, and where they run.
import { useQuery } from "@tanstack/react-query";
import { Link, useSearch } from "@tanstack/react-router";
import { bundlesQuery } from "../api/queries";
import type { Bundle } from "../api/types";
import { bytes, figure, none, plural, short } from "../format";
import { Answer } from "../parts/Answer";
import { Empty } from "../parts/Empty";
import { PageHead, Panel } from "../parts/Panel";
import { Table } from "../parts/Table";
import { Ago } from "../parts/Time";
import { text } from "../strings";
import { Standing } from "./Standing";

const say = text.models;

export function Models() {
  const { model } = useSearch({ from: "/models" });
  const asked = useQuery(bundlesQuery(model));
  return (
    <>
      <PageHead title={model ?? say.title} crumb={model === undefined ? undefined : <Link to="/models">{say.title}</Link>} />
      <Answer of={asked}>
        {(bundles) =>
          bundles.length === 0 ? (
            <Empty title={say.empty} why={say.emptyWhy} commands={["muster bundle build --help", text.commands.publish]} />
          ) : (
            <div className="stack">
              {grouped(bundles).map(([name, versions]) => (
                <Versions key={name} model={name} versions={versions} />
              ))}
            </div>
          )
        }
      </Answer>
    </>
  );
}

function grouped(bundles: Bundle[]): [string, Bundle[]][] {
  const groups = new Map<string, Bundle[]>();
  for (const bundle of bundles) groups.set(bundle.model, [...(groups.get(bundle.model) ?? []), bundle]);
  return [...groups].toSorted(([a], [b]) => a.localeCompare(b));
}

function Versions({ model, versions }: { model: string; versions: Bundle[] }) {
  const newest = versions.toSorted((a, b) => Date.parse(b.created) - Date.parse(a.created));
  return (
    <Panel
      title={model}
      aside={
        <Link to="/devices" search={{ model }}>
          {say.where}
        </Link>
      }
    >
      {newest[0]?.description != null && <p className="body soft">{newest[0].description}</p>}
      <Table<Bundle>
        label={model}
        rows={newest}
        rowKey={(bundle) => bundle.sha256}
        columns={[
          {
            head: say.version,
            cell: (bundle) => (
              <Link to="/models/$sha256" params={{ sha256: bundle.sha256 }} className="strong">
                {bundle.version}
              </Link>
            ),
          },
          { head: say.digest, cell: (bundle) => <span className="mono" title={bundle.sha256}>{short(bundle.sha256, 12)}</span> },
          { head: say.signer, cell: (bundle) => say.signers[bundle.signer] ?? bundle.signer },
          { head: say.catalogue, cell: (bundle) => <Standing bundle={bundle} /> },
          { head: say.evaluated, cell: (bundle) => <Compared bundle={bundle} /> },
          { head: say.created, cell: (bundle) => <Ago at={bundle.created} /> },
          { head: say.size, right: true, cell: (bundle) => bytes(bundle.size_bytes) },
          { head: say.runsOn, right: true, cell: (bundle) => plural(bundle.devices_running, "device") },
        ]}
      />
    </Panel>
  );
}

/** On its last set, which is the newest data. */
function Compared({ bundle: { evaluation } }: { bundle: Bundle }) {
  const last = evaluation?.sets.at(-1);
  if (evaluation == null || last === undefined) return <>{none}</>;
  return (
    <>
      {figure(last.challenger)}
      <span className="soft small"> {last.champion == null ? evaluation.metric.replaceAll("_", " ") : say.against(figure(last.champion))}</span>
    </>
  );
}
