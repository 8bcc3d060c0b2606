// The device list: filtered by the server, its filter in the address, few rows in the page however many there are.
import { Button, NativeSelect } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { usePaged } from "../api/paged";
import { askDevices, bundlesQuery, deviceCountQuery, devicesKey } from "../api/queries";
import { short } from "../format";
import { Answer } from "../parts/Answer";
import { Empty } from "../parts/Empty";
import { FreezeSite } from "../parts/Freeze";
import { PageHead } from "../parts/Panel";
import { Typed } from "../parts/Typed";
import { VirtualTable } from "../parts/VirtualTable";
import type { DevicesSearch } from "../search";
import { text } from "../strings";
import { Bulk } from "./Bulk";
import { deviceColumns, deviceListPx } from "./DeviceList";
import { Views } from "./Views";

const say = text.devices;

export function Devices() {
  const { zone: _, ...search } = useSearch({ from: "/devices" });
  const navigate = useNavigate();
  const rows = usePaged(devicesKey(search), askDevices(search));
  const counted = useQuery({ ...deviceCountQuery(search), enabled: !rows.pending && !rows.whole });
  const filtered = Object.keys(search).length > 0;
  const set = (change: DevicesSearch): void => void navigate({ to: "/devices", search: { ...search, ...change }, replace: true });
  return (
    <>
      <PageHead title={say.title}>
        {search.site !== undefined && <FreezeSite site={search.site} />}
        <Bulk search={search} rows={rows} />
      </PageHead>
      <Filter search={search} set={set}>
        {filtered && (
          <Button size="xs" variant="default" onClick={() => void navigate({ to: "/devices", search: {} })}>
            {say.clear}
          </Button>
        )}
        <Views search={search} />
        <span className="end soft small num" role="status">
          {!rows.pending && say.shown(rows.count, rows.whole ? rows.count : counted.data)}
        </span>
      </Filter>
      <Answer of={{ ...rows, data: rows.pending ? undefined : rows }}>
        {({ count, whole, at, see }) => {
          if (count > 0) {
            return (
              <div className="panel">
                <VirtualTable label={say.title} columns={deviceColumns} count={count} whole={whole} at={at} see={see} rowKey={({ id }) => id} widthPx={deviceListPx} />
              </div>
            );
          }
          return filtered ? <p className="soft">{say.emptyFilter}</p> : <Empty title={say.empty} why={say.emptyWhy} commands={[text.commands.agent]} />;
        }}
      </Answer>
    </>
  );
}

function Filter({ search, set, children }: { search: DevicesSearch; set: (change: DevicesSearch) => void; children: React.ReactNode }) {
  return (
    <div className="filters" role="search" aria-label={text.search.label}>
      <Typed label={say.q} value={search.q} change={(q) => set({ q })} />
      <Typed label={say.site} value={search.site} change={(site) => set({ site })} />
      <NativeSelect
        size="xs"
        label={say.presence}
        value={search.presence ?? ""}
        data={[
          { value: "", label: text.any },
          { value: "online", label: say.online },
          { value: "offline", label: say.offline },
        ]}
        onChange={(event) => set({ presence: (event.currentTarget.value || undefined) as DevicesSearch["presence"] })}
      />
      <NativeSelect
        size="xs"
        label={say.phase}
        value={search.phase ?? ""}
        data={[{ value: "", label: text.any }, ...Object.entries(say.phases).map(([value, label]) => ({ value, label }))]}
        onChange={(event) => set({ phase: event.currentTarget.value || undefined })}
      />
      <Typed label={text.drift.model} value={search.model} change={(model) => set({ model })} />
      <Version search={search} set={set} />
      {children}
    </div>
  );
}

/** Of the newest bundles; an older one, which a link names, stands by its digest. */
function Version({ search: { bundle }, set }: { search: DevicesSearch; set: (change: DevicesSearch) => void }) {
  const { data: bundles = [] } = useQuery(bundlesQuery());
  const known = bundles.map(({ sha256, model, version }) => ({ value: sha256, label: `${model} ${version}` }));
  const named = bundle === undefined || known.some(({ value }) => value === bundle) ? [] : [{ value: bundle, label: short(bundle) }];
  return (
    <NativeSelect
      size="xs"
      label={say.runs}
      value={bundle ?? ""}
      data={[{ value: "", label: text.any }, ...named, ...known]}
      onChange={(event) => set({ bundle: event.currentTarget.value || undefined })}
    />
  );
}
