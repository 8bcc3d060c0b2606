// Named filters of the device list: choose one, keep the one that is shown, forget one.
import { Button, NativeSelect, TextInput } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { DevicesSearch } from "../search";
import { text } from "../strings";
import { loadViews, sameView, storeViews, withView, type SavedView } from "./views";
import { Dialog } from "../parts/Dialog";

const say = text.views;

export function Views({ search }: { search: DevicesSearch }) {
  const [views, setViews] = useState(() => loadViews(localStorage));
  const [naming, setNaming] = useState(false);
  const navigate = useNavigate();
  const current = views.find((view) => sameView(view.search, search));
  const keep = (next: SavedView[]): void => {
    storeViews(localStorage, next);
    setViews(next);
  };
  return (
    <>
      {views.length > 0 && (
        <NativeSelect
          size="xs"
          label={say.label}
          value={current?.name ?? ""}
          data={[{ value: "", label: say.choose }, ...views.map(({ name }) => name)]}
          onChange={(event) => {
            const chosen = views.find(({ name }) => name === event.currentTarget.value);
            void navigate({ to: "/devices", search: chosen?.search ?? {} });
          }}
        />
      )}
      {current === undefined ? (
        Object.keys(search).length > 0 && (
          <Button size="xs" variant="default" onClick={() => setNaming(true)}>
            {say.save}
          </Button>
        )
      ) : (
        <Button size="xs" variant="default" onClick={() => keep(views.filter((view) => view !== current))}>
          {say.forget(current.name)}
        </Button>
      )}
      {naming && <Naming onClose={() => setNaming(false)} save={(name) => keep(withView(views, { name, search }))} />}
    </>
  );
}

function Naming({ save, onClose }: { save: (name: string) => void; onClose: () => void }) {
  const [name, setName] = useState("");
  return (
    <Dialog onClose={onClose} title={say.save}>
      <form
        className="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (name.trim() === "") return;
          save(name);
          onClose();
        }}
      >
        <TextInput label={say.name} description={say.hint} value={name} onChange={(event) => setName(event.currentTarget.value)} maxLength={40} required data-autofocus />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button type="submit" disabled={name.trim() === ""}>
            {say.save}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
