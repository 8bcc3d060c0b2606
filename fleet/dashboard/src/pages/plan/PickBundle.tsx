// Step one: which bundle. Newest first; what cannot be rolled out says why.
import { NativeSelect } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { rolloutsQuery } from "../../api/queries";
import type { Bundle, RolloutSummary } from "../../api/types";
import { bytes, plural } from "../../format";
import { Act } from "../../parts/Act";
import { Note, Panel } from "../../parts/Panel";
import { State } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago } from "../../parts/Time";
import type { NewRolloutSearch } from "../../search";
import { text } from "../../strings";

const say = text.plan.bundle;

interface PickBundleProps {
  bundles: Bundle[];
  search: NewRolloutSearch;
  pick: (sha256: string) => void;
}

export function PickBundle({ bundles, search, pick }: PickBundleProps) {
  const chosen = bundles.find(({ sha256 }) => sha256 === search.bundle);
  const models = [...new Set(bundles.map(({ model }) => model))].toSorted();
  const [model, setModel] = useState(chosen?.model ?? models[0] ?? "");
  const shown = bundles.filter((bundle) => bundle.model === model).toSorted((a, b) => Date.parse(b.created) - Date.parse(a.created));
  // The newest first: what became of a bundle the last time.
  const { data: past = [] } = useQuery(rolloutsQuery);
  return (
    <Panel
      title={text.plan.steps.bundle}
      aside={models.length > 1 && <NativeSelect size="xs" aria-label={say.model} value={model} data={models} onChange={(event) => setModel(event.currentTarget.value)} />}
    >
      {search.bundle !== undefined && chosen === undefined && <Note>{say.gone}</Note>}
      <Table<Bundle>
        label={text.plan.steps.bundle}
        rows={shown}
        rowKey={(bundle) => bundle.sha256}
        columns={[
          { head: text.models.version, cell: (bundle) => <span className="strong">{bundle.version}</span> },
          { head: text.models.description, wide: true, cell: (bundle) => <Told bundle={bundle} past={past.find(({ bundle: { sha256 } }) => sha256 === bundle.sha256)} /> },
          { head: text.models.signer, cell: (bundle) => text.models.signers[bundle.signer] ?? bundle.signer },
          { head: text.models.created, cell: (bundle) => <Ago at={bundle.created} /> },
          { head: text.models.size, right: true, cell: (bundle) => bytes(bundle.size_bytes) },
          { head: text.models.runsOn, right: true, cell: (bundle) => plural(bundle.devices_running, "device") },
          {
            head: say.chosen,
            cell: (bundle) => <Act label={say.choose(bundle.version)} whyNot={refusal(bundle)} main={bundle === chosen} onClick={() => pick(bundle.sha256)} />,
          },
        ]}
      />
    </Panel>
  );
}

/** A bundle that was sent back is offered, but not as if nothing had been. */
function Told({ bundle: { description }, past }: { bundle: Bundle; past: RolloutSummary | undefined }) {
  if (past?.phase.is !== "rolled_back" && past?.phase.is !== "rolling_back") return description;
  return (
    <>
      {description}
      <span className="block small">
        <State is="rolled_back" tone="bad" />{" "}
        <Link to="/rollouts/$id" params={{ id: past.id }} className="inline">
          {past.phase.reason?.sentence ?? past.reason}
        </Link>
      </span>
    </>
  );
}

function refusal({ revoked, catalogued }: Bundle): string | null {
  if (revoked != null) return say.revoked(revoked.reason);
  return catalogued ? null : say.notListed;
}
