// Why not further: the engine's reasons with their next step, each leading to the devices that it holds up.
import { NativeSelect } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { rolloutDevicesQuery } from "../api/queries";
import type { Rollout, RolloutDevice } from "../api/types";
import { count, plural, words } from "../format";
import { Answer } from "../parts/Answer";
import { Subject } from "../parts/Log";
import { Note, Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { Ago } from "../parts/Time";
import { plainRowsMax, VirtualTable, type VirtualColumn } from "../parts/VirtualTable";
import { text } from "../strings";
import { byReason, grouped } from "./reasons";

const say = text.rollout;
const anchor = "devices";

export function WhyNot({ rollout: { id, waiting_on, phase } }: { rollout: Rollout }) {
  const devices = useQuery(rolloutDevicesQuery(id));
  const groups = grouped(waiting_on, devices.data ?? { items: [] });
  return (
    <Panel title={say.waiting}>
      {groups.length === 0 ? (
        <Note>{ended.has(phase.is) ? say.waitingEnded : say.waitingNone}</Note>
      ) : (
        <ul className="list">
          {groups.map((group) => (
            <li key={group.code} data-row="">
              <p className="spread">
                <span className="strong">{words(group.code)}</span>
                {group.devices > 0 && (
                  <Link from="/rollouts/$id" to="." search={(before) => ({ ...before, reason: group.code })} hash={anchor} className="small">
                    {say.showDevices(group.devices)}
                  </Link>
                )}
              </p>
              {group.sentences.map((sentence) => (
                <p key={sentence}>{sentence}</p>
              ))}
              {group.next !== "" && <p className="soft small">{`${say.next}: ${group.next}`}</p>}
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

const ended = new Set(["rolled_back", "aborted", "superseded", "completed"]);

/** Says in the rollout itself that it stands still because of a freeze; the banner above says how to end it. */
export function HeldByFreeze({ rollout: { waiting_on } }: { rollout: Rollout }) {
  const frozen = waiting_on.filter((waiting) => waiting.code === "frozen");
  if (frozen.length === 0) return null;
  const devices = frozen.reduce((sum, waiting) => sum + (waiting.devices ?? 0), 0);
  return (
    <Panel title={text.freeze.holds} aside={plural(devices, "device")} tone="warn">
      <div className="body">
        {frozen.map(({ sentence }) => (
          <p key={sentence}>{sentence}</p>
        ))}
        <p className="soft small">{text.freeze.means}</p>
      </div>
    </Panel>
  );
}

export function RolloutDevices({ id }: { id: string }) {
  const asked = useQuery(rolloutDevicesQuery(id));
  const { reason } = useSearch({ from: "/rollouts/$id" });
  return (
    <Panel
      id={anchor}
      title={say.devices}
      aside={asked.data !== undefined && asked.data.items.length > 0 ? <Reasons devices={asked.data.items} reason={reason} /> : undefined}
    >
      <Answer of={asked}>
        {({ items, next }) => (
          <>
            {next != null && <Note>{say.firstOnly(items.length)}</Note>}
            {items.length === 0 ? <Note>{say.devicesNone}</Note> : <List devices={items.filter((device) => reason === undefined || device.code === reason)} />}
          </>
        )}
      </Answer>
    </Panel>
  );
}

function Reasons({ devices, reason }: { devices: RolloutDevice[]; reason: string | undefined }) {
  const navigate = useNavigate({ from: "/rollouts/$id" });
  const known = byReason(devices).map(({ code, devices: n }) => ({ value: code, label: `${words(code)} (${count(n)})` }));
  // A reason in a shared address may have passed meanwhile.
  const gone = reason === undefined || known.some(({ value }) => value === reason) ? [] : [{ value: reason, label: `${words(reason)} (0)` }];
  return (
    <NativeSelect
      size="xs"
      aria-label={say.reason}
      value={reason ?? ""}
      data={[{ value: "", label: say.allReasons(devices.length) }, ...known, ...gone]}
      onChange={(event) => {
        const chosen = event.currentTarget.value || undefined;
        void navigate({ search: (before) => ({ ...before, reason: chosen }), replace: true });
      }}
    />
  );
}

function List({ devices }: { devices: RolloutDevice[] }) {
  if (devices.length === 0) return <Note>{say.reasonGone}</Note>;
  const rowKey = (device: RolloutDevice): string => device.device;
  // Plain while it is short, so that it is printed whole.
  if (devices.length <= plainRowsMax) return <Table<RolloutDevice> label={say.devices} rows={devices} rowKey={rowKey} columns={columns} />;
  return <VirtualTable<RolloutDevice> label={say.devices} count={devices.length} whole at={(row) => devices[row]} rowKey={rowKey} columns={columns} widthPx={900} tall />;
}

const columns: VirtualColumn<RolloutDevice>[] = [
  { head: text.devices.name, track: "minmax(120px, 1fr)", cell: (device) => <Subject of={device.device}>{device.name}</Subject> },
  { head: text.devices.site, track: "minmax(70px, 0.6fr)", cell: (device) => device.site },
  { head: say.stage, track: "90px", cell: (device) => device.stage },
  { head: say.state, track: "170px", cell: (device) => <State is={device.state} word={say.deviceStates[device.state] ?? words(device.state)} /> },
  {
    head: say.why,
    track: "minmax(280px, 4fr)",
    wide: true,
    cell: (device) => (
      <>
        {device.sentence}
        {device.next !== "" && <span className="block soft small">{`${say.next}: ${device.next}`}</span>}
      </>
    ),
  },
  { head: text.device.since, track: "110px", cell: (device) => <Ago at={device.since} /> },
];
