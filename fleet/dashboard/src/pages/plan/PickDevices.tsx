// Step two: which devices, with the server's own count of them.
import { NativeSelect } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { cohortsQuery } from "../../api/queries";
import { useSites } from "../../api/sites";
import type { RolloutRehearsal } from "../../api/types";
import { Panel } from "../../parts/Panel";
import { Typed } from "../../parts/Typed";
import type { NewRolloutSearch } from "../../search";
import { text } from "../../strings";

const say = text.plan.who;

interface PickDevicesProps {
  search: NewRolloutSearch;
  set: (change: NewRolloutSearch) => void;
  counted: { data: RolloutRehearsal | undefined; error: Error | null; isFetching: boolean };
}

export function PickDevices({ search, set, counted }: PickDevicesProps) {
  const { data: cohorts = [] } = useQuery(cohortsQuery);
  const { data: sites = [] } = useSites();
  return (
    <Panel title={text.plan.steps.who}>
      <div className="body stack">
        <div className="filters" style={{ marginBottom: 0 }}>
          <NativeSelect
            size="xs"
            label={say.cohort}
            value={search.cohort ?? ""}
            data={[{ value: "", label: say.noCohort }, ...cohorts.map(({ name, filter }) => ({ value: name, label: `${name}: ${filter}`.slice(0, 80) }))]}
            onChange={(event) => set({ cohort: event.currentTarget.value || undefined })}
          />
          <NativeSelect
            size="xs"
            label={say.site}
            value={search.site ?? ""}
            data={[{ value: "", label: say.allSites }, ...sites.map(({ site }) => site)]}
            onChange={(event) => set({ site: event.currentTarget.value || undefined })}
          />
          <div style={{ flex: "1 1 320px" }}>
            <Typed label={say.filter} description={say.filterHint} value={search.filter} maxLength={12_000} change={(filter) => set({ filter })} />
          </div>
        </div>
        <div role="status" aria-live="polite" aria-busy={counted.isFetching}>
          {counted.error === null && counted.data !== undefined && (
            <>
              <p className="strong num" data-count={counted.data.cohort}>
                {say.count(counted.data.cohort)}
              </p>
              {counted.data.stages[0] !== undefined && (
                <p className="soft small">
                  {say.first}: {counted.data.stages.flatMap(({ first }) => first).slice(0, 12).join(", ")}
                </p>
              )}
            </>
          )}
        </div>
        <p className="soft small">{say.countNote}</p>
        <p className="soft small">{say.follows}</p>
      </div>
    </Panel>
  );
}
