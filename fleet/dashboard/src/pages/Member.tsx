// Who is a member of the fleet, and what a person may decide about it: each act says its effect in numbers first.
import { Button } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../api/client";
import type { DeviceDetail, Need, DeviceStanding } from "../api/types";
import { none } from "../format";
import type { Tone } from "../palette";
import { Act } from "../parts/Act";
import { Dialog } from "../parts/Dialog";
import { Note, Panel } from "../parts/Panel";
import { ReasonDialog } from "../parts/ReasonDialog";
import { State } from "../parts/State";
import { Stamp } from "../parts/Time";
import { useNow } from "../shell/now";
import { text } from "../strings";
import { memberWhyNot, type MemberVerb } from "./membership";

const say = text.member;
const tones: Record<DeviceStanding["state"], Tone> = { pending: "warn", active: "good", rejected: "idle", quarantined: "warn", revoked: "bad" };

export function Badge({ standing }: { standing: DeviceStanding }) {
  return <State is={standing.state} tone={tones[standing.state]} word={say.states[standing.state]} />;
}

/** The two answers to a box that asks to join. */
export function Knock({ need }: { need: Need }) {
  const [asking, setAsking] = useState<"accept" | "reject" | null>(null);
  const decide = useDecide(need.id);
  return (
    <>
      <Act label={say.accept} whyNot={null} onClick={() => setAsking("accept")} />
      <Act label={say.reject} whyNot={null} danger onClick={() => setAsking("reject")} />
      {asking === "accept" && <Accept need={need} onClose={() => setAsking(null)} />}
      {asking === "reject" && (
        <ReasonDialog
          title={`${say.reject}: ${need.title}`}
          effect={say.effects.reject()}
          confirm={say.reject}
          danger
          act={(reason) => decide("reject", { reason })}
          onClose={() => setAsking(null)}
        />
      )}
    </>
  );
}

/** Sends the fingerprint that was shown: should another key ask by now, nothing is accepted. */
function Accept({ need, onClose }: { need: Need; onClose: () => void }) {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string | null>(null);
  const decide = useDecide(need.id);
  const submit = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      await decide("accept", { fingerprint: need.fingerprint });
      onClose();
    } catch (cause) {
      setFailure(cause instanceof Error ? cause.message : String(cause));
      setBusy(false);
    }
  };
  return (
    <Dialog onClose={onClose} title={say.acceptTitle(need.title)}>
      <div className="dialog">
        <p>{say.acceptEffect}</p>
        <p className="mono strong">{need.fingerprint ?? none}</p>
        {failure !== null && <p role="alert">{failure}</p>}
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose} data-autofocus>
            {text.actions.cancel}
          </Button>
          <Button loading={busy} onClick={() => void submit()}>
            {say.accept}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}

export function Suspect({ device: { identity } }: { device: DeviceDetail }) {
  if (identity?.suspect_clone == null || identity.state === "revoked") return null;
  return (
    <Panel title={say.suspect} tone="bad">
      <p className="body">{identity.suspect_clone}</p>
    </Panel>
  );
}

export function Membership({ device }: { device: DeviceDetail }) {
  const [asking, setAsking] = useState<MemberVerb | null>(null);
  const decide = useDecide(device.id);
  const { identity } = device;
  if (identity == null) {
    return (
      <Panel title={say.title}>
        <Note>{say.none}</Note>
      </Panel>
    );
  }
  const verbs: MemberVerb[] = [
    ...(identity.suspect_clone == null || identity.state !== "active" ? [] : (["dismiss"] as const)),
    identity.state === "quarantined" ? "release" : "quarantine",
    "revoke",
  ];
  return (
    <Panel title={say.title} aside={<Badge standing={identity} />}>
      <dl className="body facts num">
        {identity.reason != null && (
          <>
            <dt>{say.why}</dt>
            <dd>{identity.reason}</dd>
          </>
        )}
        <dt>{say.fingerprint}</dt>
        <dd className="mono">{identity.fingerprint}</dd>
        <dt>{say.certificate}</dt>
        <dd>
          <Certificate expires={identity.certificate_expires} />
        </dd>
      </dl>
      <div className="body row">
        {verbs.map((verb) => (
          <Act key={verb} label={say[verb]} whyNot={memberWhyNot(verb, identity.state)} danger={verb === "revoke"} onClick={() => setAsking(verb)} />
        ))}
      </div>
      {asking !== null && (
        <ReasonDialog
          title={`${say[asking]}: ${device.name}`}
          effect={say.effects[asking](device.slots.length)}
          confirm={say[asking]}
          danger={asking === "revoke"}
          act={(reason) => decide(asking, { reason })}
          onClose={() => setAsking(null)}
        />
      )}
    </Panel>
  );
}

function Certificate({ expires }: { expires: string | null | undefined }) {
  const now = useNow();
  if (expires == null) return <>{none}</>;
  return (
    <>
      <Stamp at={expires} />
      {Date.parse(expires) < now && <span className="soft"> {say.expired}</span>}
    </>
  );
}

function useDecide(device: string) {
  const cache = useQueryClient();
  return async (verb: MemberVerb | "accept" | "reject", body: { reason?: string; fingerprint?: string | null }): Promise<void> => {
    await post(`/api/v1/identities/{id}/${verb}`, body, { path: { id: device } });
    await Promise.all([cache.invalidateQueries({ queryKey: ["devices"] }), cache.invalidateQueries({ queryKey: ["overview"] })]);
  };
}
