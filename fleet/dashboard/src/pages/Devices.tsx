// The device list: filtered by the server, its filter in the address, few rows in the page however many there are.
import { Button, NativeSelect, TextInput } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { devicesQuery } from "../api/queries";
import { Answer } from "../parts/Answer";
import { Empty } from "../parts/Empty";
import { PageHead } from "../parts/Panel";
import type { DevicesSearch } from "../search";
import { text } from "../strings";
import { DeviceList } from "./DeviceList";

const say = text.devices;
const typingMs = 250;

export function Devices() {
  const search = useSearch({ from: "/devices" });
  const navigate = useNavigate();
  const asked = useInfiniteQuery({ ...devicesQuery(search), placeholderData: keepPreviousData });
  const filtered = Object.keys(search).length > 0;
  const set = (change: DevicesSearch): void => void navigate({ to: "/devices", search: { ...search, ...change }, replace: true });
  return (
    <>
      <PageHead title={say.title} />
      <Filter search={search} set={set}>
        {filtered && (
          <Button size="xs" variant="default" onClick={() => void navigate({ to: "/devices", search: {} })}>
            {say.clear}
          </Button>
        )}
        <span className="end soft small num" role="status">
          {asked.data !== undefined && say.shown(asked.data.pages.reduce((n, page) => n + page.items.length, 0), asked.hasNextPage)}
        </span>
      </Filter>
      <Answer of={asked}>
        {({ pages }) => {
          const devices = pages.flatMap((page) => page.items);
          if (devices.length > 0) {
            return <DeviceList devices={devices} more={asked.hasNextPage && !asked.isFetchingNextPage} loadMore={() => void asked.fetchNextPage()} />;
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
      {children}
    </div>
  );
}

/** Follows the address too: Back and a link elsewhere change what stands in the field. */
function Typed({ label, value = "", change }: { label: string; value?: string | undefined; change: (value: string | undefined) => void }) {
  const [typed, setTyped] = useState(value);
  const sent = useRef(value);
  const later = useDebouncedCallback((next: string) => {
    sent.current = next;
    change(next === "" ? undefined : next);
  }, typingMs);
  useEffect(() => {
    if (value !== sent.current) {
      sent.current = value;
      setTyped(value);
    }
  }, [value]);
  return (
    <TextInput
      size="xs"
      label={label}
      value={typed}
      maxLength={128}
      onChange={(event) => {
        setTyped(event.currentTarget.value);
        later(event.currentTarget.value.trim());
      }}
    />
  );
}
