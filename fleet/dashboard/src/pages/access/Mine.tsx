// Oneself: what one is here, and another password.
import { Button, TextInput } from "@mantine/core";
import { useState } from "react";
import { put } from "../../api/client";
import type { Me } from "../../api/types";
import { Act } from "../../parts/Act";
import { Dialog } from "../../parts/Dialog";
import { Panel } from "../../parts/Panel";
import { Stamp } from "../../parts/Time";
import { text } from "../../strings";
import { passwordMax, passwordMin, useSending } from "./sending";

const say = text.access.mine;

export function Mine({ me }: { me: Me }) {
  const [changing, setChanging] = useState(false);
  return (
    <Panel title={say.title} aside={me.by === "session" && <Act label={say.password} whyNot={null} onClick={() => setChanging(true)} />}>
      <dl className="facts body">
        <dt>{say.name}</dt>
        <dd>
          <span className="strong">{me.display}</span> <span className="soft">{me.name}</span>
        </dd>
        <dt>{say.roles}</dt>
        <dd>{me.roles.length === 0 ? say.noRoles : me.roles.map(({ project, role }) => `${project}: ${text.access.tokens.roles[role] ?? role}`).join(", ")}</dd>
        <dt>{say.by}</dt>
        <dd>{say.bys[me.by] ?? me.by}</dd>
        {me.until != null && (
          <>
            <dt>{say.until}</dt>
            <dd>
              <Stamp at={me.until} />
            </dd>
          </>
        )}
      </dl>
      {changing && <Changing onClose={() => setChanging(false)} />}
    </Panel>
  );
}

function Changing({ onClose }: { onClose: () => void }) {
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const { busy, failure, submit } = useSending(() => put("/api/v1/me/password", { old, new: fresh }, {}), onClose);
  return (
    <Dialog onClose={onClose} title={say.password}>
      <form className="dialog" onSubmit={submit}>
        <TextInput label={say.old} type="password" autoComplete="current-password" value={old} onChange={(event) => setOld(event.currentTarget.value)} maxLength={passwordMax} required data-autofocus />
        <TextInput
          label={say.fresh}
          description={say.freshHint}
          type="password"
          autoComplete="new-password"
          value={fresh}
          onChange={(event) => setFresh(event.currentTarget.value)}
          minLength={passwordMin}
          maxLength={passwordMax}
          error={failure}
          required
        />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.actions.cancel}
          </Button>
          <Button type="submit" loading={busy} disabled={old === "" || fresh.length < passwordMin}>
            {text.access.save}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
