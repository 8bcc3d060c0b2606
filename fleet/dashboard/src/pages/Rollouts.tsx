// Every rollout, newest first; model and state in the address narrow the list.
import { NativeSelect } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { rolloutsQuery } from "../api/queries";
import type { RolloutSummary } from "../api/types";
import { words } from "../format";
import { Answer } from "../parts/Answer";
import { Empty } from "../parts/Empty";
import { PageHead, Panel } from "../parts/Panel";
import type { RolloutsSearch } from "../search";
import { text } from "../strings";
import { RolloutCard } from "./RolloutCard";

const say = text.rollouts;
const toBegin = ["proposed", "scheduled"];
const underWay = ["running", "held", "paused", "rolling_back", "aborting"];

export function Rollouts() {
  const asked = useQuery(rolloutsQuery);
  const search = useSearch({ from: "/rollouts" });
  return (
    <>
      <PageHead title={say.title} />
      <Answer of={asked}>
        {(all) =>
          all.length === 0 ? (
            <Empty title={say.empty} why={say.emptyWhy} commands={[text.commands.rollout, text.commands.watch]} />
          ) : (
            <>
              <Filter all={all} search={search} />
              <div className="stack">
                <Group title={say.toBegin} of={matching(all, search).filter((r) => toBegin.includes(r.phase.is))} />
                <Group title={say.underWay} of={matching(all, search).filter((r) => underWay.includes(r.phase.is))} />
                <Group title={say.ended} of={matching(all, search).filter((r) => ![...toBegin, ...underWay].includes(r.phase.is))} />
                {matching(all, search).length === 0 && <p className="soft">{say.emptyFilter}</p>}
              </div>
            </>
          )
        }
      </Answer>
    </>
  );
}

function matching(all: RolloutSummary[], { model, state }: RolloutsSearch): RolloutSummary[] {
  return all
    .filter((rollout) => (model === undefined || rollout.model === model) && (state === undefined || rollout.phase.is === state))
    .toSorted((a, b) => Date.parse(b.created) - Date.parse(a.created));
}

function Group({ title, of }: { title: string; of: RolloutSummary[] }) {
  if (of.length === 0) return null;
  return (
    <Panel title={title} aside={of.length}>
      {of.map((rollout) => (
        <RolloutCard key={rollout.id} rollout={rollout} />
      ))}
    </Panel>
  );
}

function Filter({ all, search }: { all: RolloutSummary[]; search: RolloutsSearch }) {
  const navigate = useNavigate();
  const set = (change: RolloutsSearch): void => void navigate({ to: "/rollouts", search: { ...search, ...change }, replace: true });
  const models = [...new Set(all.map((rollout) => rollout.model))].toSorted();
  const states = [...new Set(all.map((rollout) => rollout.phase.is))].toSorted();
  return (
    <div className="filters">
      <NativeSelect
        size="xs"
        label={say.model}
        value={search.model ?? ""}
        data={[{ value: "", label: text.all }, ...models]}
        onChange={(event) => set({ model: event.currentTarget.value || undefined })}
      />
      <NativeSelect
        size="xs"
        label={say.state}
        value={search.state ?? ""}
        data={[{ value: "", label: text.all }, ...states.map((state) => ({ value: state, label: words(state) }))]}
        onChange={(event) => set({ state: event.currentTarget.value || undefined })}
      />
    </div>
  );
}
