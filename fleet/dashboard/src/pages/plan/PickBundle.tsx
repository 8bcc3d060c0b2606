// Step one: which bundle. Newest first; what cannot be rolled out says why.
import { NativeSelect } from "@mantine/core";
import { useState } from "react";
import type { Bundle } from "../../api/types";
import { bytes, plural } from "../../format";
import { Act } from "../../parts/Act";
import { Note, Panel } from "../../parts/Panel";
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
          { head: text.models.description, wide: true, cell: (bundle) => bundle.description },
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

function refusal({ revoked, catalogued }: Bundle): string | null {
  if (revoked != null) return say.revoked(revoked.reason);
  return catalogued ? null : say.notListed;
}
