// Every rollout, newest first; the server narrows the list by the model and the state in the address.
import { Button, NativeSelect } from "@mantine/core";
import { keepPreviousData, useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { bundlesQuery, rolloutListQuery } from "../api/queries";
import type { RolloutSummary } from "../api/types";
import { Act } from "../parts/Act";
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
  const { zone: _, ...search } = useSearch({ from: "/rollouts" });
  const navigate = useNavigate();
  const asked = useInfiniteQuery({ ...rolloutListQuery(search), placeholderData: keepPreviousData });
  const filtered = Object.keys(search).length > 0;
  return (
    <>
      <PageHead title={say.title}>
        <Act label={text.plan.start} whyNot={null} main onClick={() => void navigate({ to: "/rollouts/new" })} />
      </PageHead>
      <Answer of={asked}>
        {({ pages }) => {
          const all = pages.flatMap(({ items }) => items);
          if (all.length === 0 && !filtered) return <Empty title={say.empty} why={say.emptyWhy} commands={[text.commands.rollout, text.commands.watch]} />;
          return (
            <>
              <Filter search={search} />
              <div className="stack">
                <Group title={say.toBegin} of={all.filter((r) => toBegin.includes(r.phase.is))} />
                <Group title={say.underWay} of={all.filter((r) => underWay.includes(r.phase.is))} />
                <Group title={say.ended} of={all.filter((r) => ![...toBegin, ...underWay].includes(r.phase.is))} />
                {all.length === 0 && <p className="soft">{say.emptyFilter}</p>}
                {asked.hasNextPage && (
                  <Button variant="default" size="xs" loading={asked.isFetchingNextPage} onClick={() => void asked.fetchNextPage()}>
                    {say.older}
                  </Button>
                )}
              </div>
            </>
          );
        }}
      </Answer>
    </>
  );
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

function Filter({ search }: { search: RolloutsSearch }) {
  const navigate = useNavigate();
  const { data: bundles = [] } = useQuery(bundlesQuery());
  const set = (change: RolloutsSearch): void => void navigate({ to: "/rollouts", search: { ...search, ...change }, replace: true });
  const models = [...new Set([...bundles.map(({ model }) => model), ...(search.model === undefined ? [] : [search.model])])].toSorted();
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
        data={[{ value: "", label: text.all }, ...Object.entries(say.phases).map(([value, label]) => ({ value, label }))]}
        onChange={(event) => set({ state: event.currentTarget.value || undefined })}
      />
    </div>
  );
}
