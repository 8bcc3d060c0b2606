// Tokens of programs: what each may and until when, making one, and taking one back.
import { Button, Checkbox, NativeSelect, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";
import { tokensQuery } from "../../api/queries";
import type { Me, Token, TokenRole } from "../../api/types";
import { Act } from "../../parts/Act";
import { Answer } from "../../parts/Answer";
import { Confirmation } from "../../parts/Confirmation";
import { Dialog } from "../../parts/Dialog";
import { Command } from "../../parts/Empty";
import { NumberField } from "../../parts/NumberField";
import { Note, Panel } from "../../parts/Panel";
import { State } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago, Stamp } from "../../parts/Time";
import { text } from "../../strings";
import { listed, useSending } from "./sending";

const say = text.access.tokens;
const dayS = 86_400;
const daysMax = 366;

export function Tokens({ me }: { me: Me }) {
  const [all, setAll] = useState(false);
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Token | null>(null);
  const asked = useQuery(tokensQuery(all));
  const cache = useQueryClient();
  const look = (): Promise<void> => cache.invalidateQueries({ queryKey: ["tokens"] });
  return (
    <Panel
      title={say.title}
      aside={
        <span className="row">
          {me.administrator && <Checkbox size="xs" label={say.all} checked={all} onChange={(event) => setAll(event.currentTarget.checked)} />}
          <Act label={say.make} whyNot={null} onClick={() => setMaking(true)} />
        </span>
      }
    >
      <Answer of={asked}>
        {(tokens) =>
          tokens.length === 0 ? (
            <Note>{say.none}</Note>
          ) : (
            <Table<Token>
              label={say.title}
              rows={tokens}
              rowKey={({ id }) => id}
              columns={[
                { head: say.label, wide: true, cell: ({ label }) => <span className="strong">{label}</span> },
                { head: say.person, cell: ({ person }) => person },
                { head: say.role, cell: ({ role, models }) => [say.roles[role] ?? role, ...(models ?? [])].join(" · ") },
                { head: say.project, cell: ({ project }) => project ?? say.everywhere },
                { head: say.state, cell: ({ state }) => <State is={state} tone={state === "good" ? "good" : "idle"} word={say.states[state] ?? state} /> },
                { head: say.expires, cell: ({ expires }) => <Stamp at={expires} /> },
                { head: say.used, cell: ({ used }) => (used == null ? say.never : <Ago at={used} />) },
                {
                  head: say.revoke,
                  cell: (token) => <Act label={say.revoke} describe={say.revokeOf(token.label)} danger whyNot={token.state === "good" ? null : say.over} onClick={() => setRevoking(token)} />,
                },
              ]}
            />
          )
        }
      </Answer>
      {making && (
        <Making
          onClose={() => {
            setMaking(false);
            void look();
          }}
        />
      )}
      {revoking !== null && (
        <Confirmation
          title={say.revokeOf(revoking.label)}
          effect={say.effect}
          confirm={say.revoke}
          act={async () => {
            await post("/api/v1/tokens/{id}/revoke", undefined, { path: { id: revoking.id } });
            await look();
          }}
          onClose={() => setRevoking(null)}
        />
      )}
    </Panel>
  );
}

function Making({ onClose }: { onClose: () => void }) {
  const [label, setLabel] = useState("");
  const [role, setRole] = useState<TokenRole>("viewer");
  const [project, setProject] = useState("");
  const [models, setModels] = useState("");
  const [days, setDays] = useState(90);
  const [secret, setSecret] = useState<string | null>(null);
  const send = async (): Promise<void> => {
    const only = role === "builder" ? { models: listed(models) } : {};
    const body = { label: label.trim(), role, for_s: Math.round(days * dayS), ...(project.trim() === "" ? {} : { project: project.trim() }), ...only };
    setSecret((await post("/api/v1/tokens", body, {})).secret);
  };
  const { busy, failure, submit } = useSending(send, () => undefined);
  if (secret !== null) {
    return (
      <Dialog onClose={onClose} closeOnClickOutside={false} title={label}>
        <div className="dialog">
          <p>{say.made}</p>
          <Command line={secret} />
          <div className="row" style={{ justifyContent: "flex-end" }}>
            <Button onClick={onClose}>{say.done}</Button>
          </div>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog onClose={onClose} title={say.make}>
      <form className="dialog" onSubmit={submit}>
        <TextInput label={say.label} description={say.labelHint} value={label} onChange={(event) => setLabel(event.currentTarget.value)} maxLength={120} required error={failure} data-autofocus />
        <NativeSelect label={say.role} value={role} data={Object.entries(say.roles).map(([value, word]) => ({ value, label: word }))} onChange={(event) => setRole(event.currentTarget.value as TokenRole)} />
        <TextInput label={say.project} description={say.projectHint} value={project} onChange={(event) => setProject(event.currentTarget.value)} maxLength={64} />
        {role === "builder" && <TextInput label={say.models} description={say.modelsHint} value={models} onChange={(event) => setModels(event.currentTarget.value)} />}
        <NumberField label={say.days} value={days} min={1} max={daysMax} change={setDays} />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.actions.cancel}
          </Button>
          <Button type="submit" loading={busy} disabled={label.trim() === ""}>
            {say.create}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
