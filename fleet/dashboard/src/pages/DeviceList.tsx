// Columns of the device list.
import { Link } from "@tanstack/react-router";
import type { Device } from "../api/types";
import { none, percent } from "../format";
import { State } from "../parts/State";
import { Ago } from "../parts/Time";
import type { VirtualColumn } from "../parts/VirtualTable";
import { text } from "../strings";
import { Badge } from "./Member";
import { versionOf } from "./version";

const say = text.devices;

export const deviceListPx = 1180;

export const deviceColumns: VirtualColumn<Device>[] = [
  {
    head: say.name,
    track: "minmax(130px, 1.1fr)",
    cell: ({ id, name }) => (
      <Link to="/devices/$id" params={{ id }} className="strong">
        {name}
      </Link>
    ),
  },
  {
    head: say.site,
    track: "minmax(70px, 0.6fr)",
    cell: ({ site }) => (
      <Link to="/devices" search={{ site }}>
        {site}
      </Link>
    ),
  },
  {
    head: say.presence,
    track: "86px",
    title: ({ presence }) => (presence === "offline" ? say.seen : undefined),
    cell: ({ identity, presence }) => (identity == null || identity.state === "active" ? <State is={presence} /> : <Badge standing={identity} />),
  },
  {
    head: say.slot,
    track: "minmax(126px, 0.9fr)",
    cell: ({ slots: [slot, ...others] }) => (
      <>
        {slot?.slot ?? none}
        {others.length > 0 && <span className="soft small" title={others.map((other) => other.slot).join(", ")}>{` +${others.length}`}</span>}
      </>
    ),
  },
  { head: say.runs, track: "minmax(168px, 1fr)", title: ({ slots }) => slots[0]?.current?.sha256, cell: ({ slots }) => versionOf(slots[0]?.current) },
  {
    head: say.provider,
    track: "86px",
    title: ({ slots }) => slots[0]?.current?.provider_reason ?? undefined,
    cell: ({ slots }) => (slots[0]?.current == null ? none : providerName(slots[0].current.provider)),
  },
  {
    head: say.phase,
    track: "116px",
    cell: ({ slots, presence }) => (slots[0] === undefined ? none : <State is={slots[0].phase.is} tone={presence === "offline" ? "idle" : undefined} />),
  },
  { head: say.cpu, track: "54px", right: true, cell: ({ health }) => percent(health?.cpu_percent) },
  {
    head: say.why,
    track: "minmax(260px, 3fr)",
    title: ({ waiting_on, rollouts }) => waiting_on?.sentence ?? rollouts[0]?.sentence,
    cell: ({ waiting_on, refusal, rollouts: [rollout], presence, last_seen }) => {
      const sentence = waiting_on?.sentence ?? refusal?.sentence;
      if (sentence !== undefined) return <span className={waiting_on == null ? "soft" : undefined}>{sentence}</span>;
      if (rollout !== undefined) {
        return (
          <>
            <Link to="/rollouts/$id" params={{ id: rollout.rollout }} className="inline">
              {rollout.version}
            </Link>{" "}
            {rollout.sentence}
          </>
        );
      }
      return <span className="soft">{presence === "offline" ? <Seen at={last_seen} /> : none}</span>;
    },
  },
];

function Seen({ at }: { at: string | null | undefined }) {
  return (
    <>
      {say.seen} <Ago at={at} />
    </>
  );
}

export function providerName(provider: string): string {
  return text.providers[provider] ?? provider;
}
