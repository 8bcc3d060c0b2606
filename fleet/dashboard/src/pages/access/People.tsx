// Who has an account, what they are in which project, and shutting somebody out.
import { Button, Checkbox, Textarea, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post, put } from "../../api/client";
import { peopleQuery } from "../../api/queries";
import type { Person } from "../../api/types";
import { Act } from "../../parts/Act";
import { Answer } from "../../parts/Answer";
import { Dialog } from "../../parts/Dialog";
import { Panel } from "../../parts/Panel";
import { State } from "../../parts/State";
import { Table } from "../../parts/Table";
import { text } from "../../strings";
import { changeOf, passwordMax, passwordMin, rolesLines, rolesOf, useSending } from "./sending";

const say = text.access.people;

export function People() {
  const asked = useQuery(peopleQuery);
  const [open, setOpen] = useState<Person | "new" | null>(null);
  return (
    <Panel title={say.title} aside={<Act label={say.make} whyNot={null} onClick={() => setOpen("new")} />}>
      <Answer of={asked}>
        {(people) => (
          <Table<Person>
            label={say.title}
            rows={people}
            rowKey={({ name }) => name}
            columns={[
              { head: say.name, cell: ({ name }) => <span className="strong">{name}</span> },
              { head: say.display, wide: true, cell: ({ display, provided }) => (provided ? `${display} (${say.provided})` : display) },
              { head: say.roles, wide: true, cell: ({ roles }) => rolesLines(roles).replaceAll("\n", ", ") || say.none },
              { head: say.state, cell: ({ disabled }) => <State is={disabled ? "disabled" : "good"} tone={disabled ? "idle" : "good"} word={disabled ? say.off : say.on} /> },
              { head: say.edit, cell: (person) => <Act label={say.edit} describe={say.editOf(person.name)} whyNot={null} onClick={() => setOpen(person)} /> },
            ]}
          />
        )}
      </Answer>
      {open === "new" && <Making onClose={() => setOpen(null)} />}
      {open !== null && open !== "new" && <Editing person={open} onClose={() => setOpen(null)} />}
    </Panel>
  );
}

function Making({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [display, setDisplay] = useState("");
  const [lines, setLines] = useState("default: viewer");
  const [password, setPassword] = useState("");
  const cache = useQueryClient();
  const roles = rolesOf(lines);
  const send = async (): Promise<void> => {
    if (typeof roles === "string") return;
    await post("/api/v1/people", { name: name.trim(), display: display.trim(), roles, ...(password === "" ? {} : { password }) }, {});
    await cache.invalidateQueries({ queryKey: ["people"] });
  };
  const { busy, failure, submit } = useSending(send, onClose);
  const whole = name.trim() !== "" && display.trim() !== "" && typeof roles !== "string" && (password === "" || password.length >= passwordMin);
  return (
    <Dialog onClose={onClose} title={say.make}>
      <form className="dialog" onSubmit={submit}>
        <TextInput label={say.name} value={name} onChange={(event) => setName(event.currentTarget.value)} maxLength={64} required error={failure} data-autofocus />
        <TextInput label={say.display} value={display} onChange={(event) => setDisplay(event.currentTarget.value)} maxLength={120} required />
        <Roles lines={lines} change={setLines} />
        <TextInput label={say.password} description={say.passwordHint} type="password" autoComplete="new-password" value={password} onChange={(event) => setPassword(event.currentTarget.value)} maxLength={passwordMax} />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.actions.cancel}
          </Button>
          <Button type="submit" loading={busy} disabled={!whole}>
            {say.create}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Editing({ person, onClose }: { person: Person; onClose: () => void }) {
  const [lines, setLines] = useState(rolesLines(person.roles));
  const [password, setPassword] = useState("");
  const [letIn, setLetIn] = useState(!person.disabled);
  const cache = useQueryClient();
  const roles = rolesOf(lines);
  const send = async (): Promise<void> => {
    const change = changeOf(person, { lines, letIn, password });
    if (typeof change === "string") return;
    await put("/api/v1/people/{name}", change, { path: { name: person.name } });
    await cache.invalidateQueries({ queryKey: ["people"] });
  };
  const { busy, failure, submit } = useSending(send, onClose);
  const whole = typeof roles !== "string" && (password === "" || password.length >= passwordMin);
  return (
    <Dialog onClose={onClose} title={say.editOf(person.name)}>
      <form className="dialog" onSubmit={submit}>
        {person.provided ? <p className="soft small">{say.providedHint}</p> : <Roles lines={lines} change={setLines} />}
        {!person.provided && (
          <TextInput label={say.newPassword} description={say.newPasswordHint} type="password" autoComplete="new-password" value={password} onChange={(event) => setPassword(event.currentTarget.value)} maxLength={passwordMax} />
        )}
        <Checkbox label={say.letIn} description={say.shutOut} checked={letIn} onChange={(event) => setLetIn(event.currentTarget.checked)} />
        {failure !== null && <p role="alert">{failure}</p>}
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.actions.cancel}
          </Button>
          <Button type="submit" loading={busy} disabled={!whole}>
            {text.access.save}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Roles({ lines, change }: { lines: string; change: (lines: string) => void }) {
  const roles = rolesOf(lines);
  return (
    <Textarea
      label={say.rolesOf}
      description={say.rolesHint}
      value={lines}
      onChange={(event) => change(event.currentTarget.value)}
      rows={3}
      error={typeof roles === "string" ? say.wrongRole(roles) : null}
    />
  );
}
