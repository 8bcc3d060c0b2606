// One box: who it is, what it should run and what it does run, how it feels, and why it waits.
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { deviceQuery } from "../api/queries";
import type { BundleName, DeviceDetail, Health, Slot } from "../api/types";
import { bytes, duration, none, percent, short } from "../format";
import { Answer } from "../parts/Answer";
import { FreezeSite } from "../parts/Freeze";
import { Log } from "../parts/Log";
import { Note, PageHead, Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { Ago, Stamp } from "../parts/Time";
import { text } from "../strings";
import { providerName } from "./DeviceList";
import { HealthCharts } from "./HealthCharts";
import { Badge, Membership, Suspect } from "./Member";
import { Shadows, Tags } from "./DeviceParts";
import { versionOf } from "./version";

const say = text.device;

export function Device() {
  const { id } = useParams({ from: "/devices/$id" });
  const asked = useQuery(deviceQuery(id));
  return (
    <Answer of={asked} rows={8}>
      {(device) => (
        <>
          <PageHead
            title={device.name}
            crumb={
              <>
                <Link to="/devices">{text.devices.title}</Link> / <Link to="/devices" search={{ site: device.site }}>{device.site}</Link>
              </>
            }
            state={
              <>
                <State is={device.presence} />
                {device.identity != null && device.identity.state !== "active" && <Badge standing={device.identity} />}
                {device.presence === "offline" && (
                  <span className="soft small">
                    {say.seen.toLowerCase()} <Ago at={device.last_seen} />
                  </span>
                )}
              </>
            }
          >
            <FreezeSite site={device.site} />
          </PageHead>
          <div className="stack">
            <Suspect device={device} />
            <Waiting device={device} />
            <Slots slots={device.slots} />
            <div className="cols-wide">
              <div className="stack">
                <Panel title={say.health} aside={device.health == null ? undefined : <Ago at={device.health.at} />}>
                  {device.health != null && <Now health={device.health} />}
                  {device.telemetry.length === 0 ? <Note>{say.healthNone}</Note> : <HealthCharts telemetry={device.telemetry} />}
                </Panel>
                <Panel title={say.events}>
                  {device.recent_events.length === 0 ? (
                    <Note>{say.eventsNone}</Note>
                  ) : (
                    <Log lines={newestFirst(device.recent_events).map((event, i) => ({ ...event, key: `${event.at} ${i}` }))} />
                  )}
                </Panel>
              </div>
              <div className="stack">
                <Identity device={device} />
                <Tags device={device} />
                <Shadows device={device} />
                <Membership device={device} />
              </div>
            </div>
          </div>
        </>
      )}
    </Answer>
  );
}

function newestFirst<T extends { at: string }>(events: T[]): T[] {
  return events.toSorted((a, b) => Date.parse(b.at) - Date.parse(a.at));
}

function Waiting({ device: { waiting_on, refusal, notices = [], slots, rollouts } }: { device: DeviceDetail }) {
  const told = [...notices, ...slots.flatMap((slot) => slot.notice ?? [])];
  if (waiting_on == null && refusal == null && told.length === 0 && rollouts.length === 0) return null;
  return (
    <Panel title={say.waiting} tone={refusal == null ? "warn" : "bad"}>
      <div className="body stack" style={{ gap: 6 }}>
        {refusal != null && (
          <p>
            <State is="failed" word={say.refusal} /> {refusal.sentence}
          </p>
        )}
        {told.map((notice) => (
          <p key={`${notice.code} ${notice.sentence}`}>
            <State is="held" word={say.notice} /> {notice.sentence}
          </p>
        ))}
        {waiting_on != null && (
          <p>
            {waiting_on.sentence}
            {waiting_on.next != null && waiting_on.next !== "" && <span className="soft"> {`${text.rollout.next}: ${waiting_on.next}`}</span>}
          </p>
        )}
        {rollouts.map((rollout) => (
          <p key={rollout.rollout}>
            <Link to="/rollouts/$id" params={{ id: rollout.rollout }} className="inline">
              {say.inRollout(rollout.model, rollout.version, rollout.stage)}
            </Link>{" "}
            {rollout.sentence}
            <span className="soft"> {`${text.rollout.next}: ${rollout.next}`}</span>
          </p>
        ))}
      </div>
    </Panel>
  );
}

function Slots({ slots }: { slots: Slot[] }) {
  return (
    <Panel title={say.slots}>
      {slots.length === 0 ? (
        <Note>{say.slotsNone}</Note>
      ) : (
        <Table<Slot>
          label={say.slots}
          rows={slots}
          rowKey={(slot) => slot.slot}
          columns={[
            { head: say.slot, cell: (slot) => <span className="strong">{slot.slot}</span> },
            { head: say.phase, cell: Phase },
            { head: say.wished, cell: (slot) => <Named bundle={slot.wanted} absent={say.nothing} /> },
            { head: say.actual, cell: (slot) => <Named bundle={slot.current} absent={say.nothing} /> },
            { head: say.since, cell: (slot) => <Ago at={slot.current?.since} /> },
            { head: say.previous, cell: (slot) => <Named bundle={slot.previous} absent={say.nothing} /> },
            { head: say.provider, wide: true, cell: Provider },
          ]}
        />
      )}
    </Panel>
  );
}

function Named({ bundle, absent }: { bundle: BundleName | null | undefined; absent: string }) {
  if (bundle == null) return <span className="soft">{absent}</span>;
  return (
    <span title={[bundle.path, bundle.sha256].join(" ")}>
      <Link to="/models/$sha256" params={{ sha256: bundle.sha256 }} className="inline">{versionOf(bundle)}</Link> <span className="mono soft nowrap">{short(bundle.sha256, 8)}</span>
    </span>
  );
}

function Phase({ phase }: Slot) {
  const { received_bytes: got, total_bytes: all } = phase;
  return (
    <>
      <State is={phase.is} />
      {got != null && all != null && all > 0 && (
        <span className="soft small"> {`${bytes(got)} of ${bytes(all)}`}</span>
      )}
      {phase.sentence != null && <p>{phase.sentence}</p>}
    </>
  );
}

function Provider({ current }: Slot) {
  if (current == null) return <>{none}</>;
  const { provider, provider_reason: reason, numerics, passed_over: passedOver } = current;
  return (
    <>
      {providerName(provider)}
      <span className="soft"> {[current.variant, numerics].filter((part) => part != null).join(", ")}</span>
      {reason != null && <p className="soft">{reason}</p>}
      {passedOver != null && <p className="soft">{`${say.passedOver}: ${passedOver}`}</p>}
    </>
  );
}

function Now({ health }: { health: Health }) {
  const facts: [string, string][] = [
    [say.cpu, percent(health.cpu_percent)],
    [say.memoryUsed, share(health.memory_used_bytes, health.memory_total_bytes)],
    [say.rss, bytes(health.agent_rss_bytes)],
    [say.disk, bytes(health.disk_free_bytes)],
    [say.temperature, health.temperature_c == null ? none : `${health.temperature_c.toFixed(0)} °C`],
    [say.uptime, health.uptime_s == null ? none : duration(health.uptime_s)],
  ];
  return (
    <dl className="tiles" style={{ borderBottom: "1px solid var(--m-line-soft)" }}>
      {facts.map(([label, value]) => (
        <div className="tile" key={label} style={{ padding: "9px 16px" }}>
          <dt className="soft small">{label}</dt>
          <dd className="strong num nowrap">{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function share(part: number | null | undefined, whole: number | null | undefined): string {
  return part == null || whole == null || whole === 0 ? bytes(part) : percent((100 * part) / whole);
}

function Identity({ device }: { device: DeviceDetail }) {
  const has = device.capabilities;
  return (
    <Panel title={say.identity}>
      <dl className="body facts num">
        <dt>{say.id}</dt>
        <dd className="mono">{device.id}</dd>
        <dt>{say.agent}</dt>
        <dd>{device.agent_version}</dd>
        <dt>{say.order}</dt>
        <dd>{device.order_version === 0 ? none : say.orderLine(device.order_version, device.observed_generation)}</dd>
        <dt>{say.seen}</dt>
        <dd>
          <Stamp at={device.last_seen} />
        </dd>
        {has != null && (
          <>
            <dt>{say.hardware}</dt>
            <dd>{`${has.cpu_model}, ${has.cores} cores, ${has.arch}`}</dd>
            <dt>{say.memory}</dt>
            <dd>{bytes(has.memory_bytes)}</dd>
            <dt>{say.inference}</dt>
            <dd>{has.devices.length === 0 ? none : has.devices.join(", ")}</dd>
            <dt>{say.runtime}</dt>
            <dd>{has.runtime}</dd>
          </>
        )}
      </dl>
    </Panel>
  );
}
