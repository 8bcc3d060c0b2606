// One version of a model: what it is, how it did before it was published, where it came from, and where it runs.
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { bundleQuery, bundlesQuery, overviewQuery } from "../api/queries";
import type { Bundle, EvaluationSet } from "../api/types";
import { bytes, count, figure, none, plural, short, signed } from "../format";
import { seriesColour } from "../palette";
import { Act } from "../parts/Act";
import { Answer } from "../parts/Answer";
import { Bar } from "../parts/Bar";
import { Subject } from "../parts/Log";
import { Note, PageHead, Panel } from "../parts/Panel";
import { Table } from "../parts/Table";
import { Stamp } from "../parts/Time";
import { text } from "../strings";
import { Standing } from "./Standing";

const say = text.models;

export function BundlePage() {
  const { sha256 } = useParams({ from: "/models/$sha256" });
  const asked = useQuery(bundleQuery(sha256));
  const navigate = useNavigate();
  return (
    <Answer of={asked} rows={8}>
      {(bundle) => (
        <>
          <PageHead
            title={`${bundle.model} ${bundle.version}`}
            crumb={
              <>
                <Link to="/models">{say.title}</Link> / <Link to="/models" search={{ model: bundle.model }}>{bundle.model}</Link>
              </>
            }
            state={<Standing bundle={bundle} />}
          >
            <Act
              label={say.rollOut}
              whyNot={bundle.revoked == null ? (bundle.catalogued ? null : text.plan.bundle.notListed) : text.plan.bundle.revoked(bundle.revoked.reason)}
              onClick={() => void navigate({ to: "/rollouts/new", search: { bundle: sha256, step: "who" } })}
            />
          </PageHead>
          <div className="stack">
            {bundle.revoked != null && (
              <Panel title={say.revoked} tone="bad">
                <p className="body">{bundle.revoked.reason}</p>
              </Panel>
            )}
            {bundle.description !== "" && <p>{bundle.description}</p>}
            <div className="cols-even">
              <Evaluation bundle={bundle} />
              <Runs bundle={bundle} />
              <Lineage bundle={bundle} />
              <Facts bundle={bundle} />
            </div>
          </div>
        </>
      )}
    </Answer>
  );
}

function Evaluation({ bundle: { evaluation } }: { bundle: Bundle }) {
  return (
    <Panel title={say.evaluation} aside={evaluation == null ? undefined : evaluation.metric.replaceAll("_", " ")}>
      {evaluation == null || evaluation.sets.length === 0 ? (
        <Note>{say.evaluationNone}</Note>
      ) : (
        <Table<EvaluationSet>
          label={say.evaluation}
          rows={evaluation.sets}
          rowKey={({ name }) => name}
          columns={[
            { head: say.set, cell: ({ name }) => <span className="strong">{name.replaceAll("_", " ")}</span> },
            { head: say.rows, right: true, cell: ({ rows }) => count(rows) },
            { head: text.runs.champion, right: true, cell: ({ champion }) => figure(champion) },
            { head: say.thisOne, right: true, cell: ({ challenger }) => figure(challenger) },
            { head: text.runs.change, right: true, cell: ({ champion, challenger }) => (champion == null ? none : signed(challenger - champion, 4)) },
          ]}
        />
      )}
    </Panel>
  );
}

/** Beside the other versions of the model, so that a share can be judged. */
function Runs({ bundle }: { bundle: Bundle }) {
  const spread = useQuery(overviewQuery).data?.models.find(({ model }) => model === bundle.model)?.bundles ?? [];
  return (
    <Panel title={say.runsOn} aside={plural(bundle.devices_running, "device")}>
      {spread.length === 0 ? (
        <Note>{say.runsNowhere}</Note>
      ) : (
        <div className="body stack" style={{ gap: 10 }}>
          <Bar label={bundle.model} parts={spread.map((one, index) => ({ key: one.bundle, label: one.version, value: one.devices, colour: seriesColour(index), to: "/devices" as const, search: { bundle: one.bundle } }))} />
          <Link to="/devices" search={{ bundle: bundle.sha256 }} className="small inline">
            {say.where}
          </Link>
        </div>
      )}
    </Panel>
  );
}

function Lineage({ bundle: { lineage, model } }: { bundle: Bundle }) {
  const { data: versions = [] } = useQuery(bundlesQuery(model));
  const champion = versions.find(({ sha256, path }) => sha256 === lineage.champion || path === lineage.champion);
  return (
    <Panel title={say.lineage}>
      <dl className="body facts">
        <dt>{say.trainer}</dt>
        <dd className="mono">{lineage.trainer === "" ? none : lineage.trainer}</dd>
        {lineage.champion != null && (
          <>
            <dt>{say.before}</dt>
            <dd>
              {champion === undefined ? (
                <span className="mono">{short(lineage.champion, 24)}</span>
              ) : (
                <Link to="/models/$sha256" params={{ sha256: champion.sha256 }}>
                  {champion.version}
                </Link>
              )}
            </dd>
          </>
        )}
        {lineage.run != null && (
          <>
            <dt>{say.run}</dt>
            <dd>
              <Subject of={lineage.run}>{short(lineage.run, 14)}</Subject>
            </dd>
          </>
        )}
        {lineage.trigger != null && (
          <>
            <dt>{text.runs.trigger}</dt>
            <dd className="mono">{short(lineage.trigger, 14)}</dd>
          </>
        )}
      </dl>
      {lineage.datasets.length > 0 && (
        <Table
          label={say.datasets}
          rows={lineage.datasets}
          rowKey={({ sha256 }) => sha256}
          columns={[
            { head: say.datasets, cell: ({ name }) => name },
            { head: say.rows, right: true, cell: ({ rows }) => count(rows) },
            { head: say.digest, cell: ({ sha256 }) => <span className="mono" title={sha256}>{short(sha256, 12)}</span> },
          ]}
        />
      )}
    </Panel>
  );
}

function Facts({ bundle }: { bundle: Bundle }) {
  return (
    <Panel title={say.identity}>
      <dl className="body facts num">
        <dt>{say.path}</dt>
        <dd className="mono">{bundle.path}</dd>
        <dt>{say.digest}</dt>
        <dd className="mono">{bundle.sha256}</dd>
        <dt>{say.signer}</dt>
        <dd>{say.signers[bundle.signer] ?? bundle.signer}</dd>
        <dt>{say.size}</dt>
        <dd>{bytes(bundle.size_bytes)}</dd>
        <dt>{say.created}</dt>
        <dd>
          <Stamp at={bundle.created} />
        </dd>
        <dt>{say.accepted}</dt>
        <dd>
          <Stamp at={bundle.accepted} />
        </dd>
      </dl>
    </Panel>
  );
}
