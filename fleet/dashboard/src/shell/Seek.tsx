// One field that finds devices, models and rollouts by name. Enter without a choice lists the devices that match.
import { Autocomplete } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { bundlesQuery, devicesFoundQuery, rolloutsQuery } from "../api/queries";
import { Icon } from "../parts/Icon";
import { text } from "../strings";
import { found } from "./seek";

const typingMs = 200;

export function Seek({ field }: { field: React.RefObject<HTMLInputElement | null> }) {
  const [typed, setTyped] = useState("");
  const [open, setOpen] = useState(false);
  const [asked] = useDebouncedValue(typed.trim(), typingMs);
  const navigate = useNavigate();
  const enabled = open && asked !== "";
  const devices = useQuery({ ...devicesFoundQuery(asked), enabled, placeholderData: keepPreviousData });
  const bundles = useQuery({ ...bundlesQuery(), enabled });
  const rollouts = useQuery({ ...rolloutsQuery, enabled });
  const all = enabled ? found(asked, devices.data ?? [], bundles.data ?? [], rollouts.data ?? []) : [];
  const left = (): void => {
    setTyped("");
    field.current?.blur();
  };
  return (
    <form
      className="seek"
      role="search"
      aria-label={text.search.all}
      onSubmit={(event) => {
        event.preventDefault();
        void navigate({ to: "/devices", search: typed.trim() === "" ? {} : { q: typed.trim() } });
        left();
      }}
    >
      <Autocomplete
        ref={field}
        name="q"
        size="xs"
        aria-label={text.search.all}
        placeholder={text.search.all}
        leftSection={<Icon name="search" size={14} />}
        maxLength={128}
        value={typed}
        onChange={setTyped}
        onDropdownOpen={() => setOpen(true)}
        onDropdownClose={() => setOpen(false)}
        // What was found was chosen by the server: it is not sifted again here.
        filter={({ options }) => options}
        data={all.map(({ group, items }) => ({ group, items: items.map(({ address, label }) => ({ value: address, label })) }))}
        onOptionSubmit={(address) => {
          void navigate({ to: address });
          // After this the field is given the option's own text.
          setTimeout(left);
        }}
      />
    </form>
  );
}
