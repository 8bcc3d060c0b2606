// Rows of the device list, drawn only where they are seen.
import { Link } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef } from "react";
import type { Device } from "../api/types";
import { none, percent } from "../format";
import { State } from "../parts/State";
import { Ago } from "../parts/Time";
import { text } from "../strings";
import { Badge } from "./Member";
import { versionOf } from "./version";

const say = text.devices;
const rowPx = 40;
const heads = [say.name, say.site, say.presence, say.slot, say.runs, say.provider, say.phase, say.cpu, say.why];

interface DeviceListProps {
  devices: Device[];
  more: boolean;
  loadMore: () => void;
}

export function DeviceList({ devices, more, loadMore }: DeviceListProps) {
  const place = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({ count: devices.length, getScrollElement: () => place.current, estimateSize: () => rowPx, overscan: 12 });
  const shown = rows.getVirtualItems();
  const last = shown.at(-1)?.index ?? 0;
  useEffect(() => {
    if (more && last >= devices.length - 30) loadMore();
  }, [more, last, devices.length, loadMore]);
  return (
    <div className="panel">
      <div className="vscroll" ref={place} role="region" aria-label={say.title} tabIndex={0}>
        <div className="vlist" role="table" aria-label={say.title} aria-rowcount={more ? -1 : devices.length + 1}>
          <div role="rowgroup" className="vtop">
            <div className="vhead" role="row" aria-rowindex={1}>
              {heads.map((head) => (
                <span key={head} role="columnheader" className={head === say.cpu ? "r" : undefined}>
                  {head}
                </span>
              ))}
            </div>
          </div>
          <div role="rowgroup" style={{ height: rows.getTotalSize(), position: "relative" }}>
            {shown.map(({ index, start }) => {
              const device = devices[index];
              return device === undefined ? null : <Row key={device.id} device={device} index={index} start={start} />;
            })}
          </div>
        </div>
      </div>
    </div>
  );
}

function Row({ device, index, start }: { device: Device; index: number; start: number }) {
  const [slot, ...others] = device.slots;
  return (
    <div className="vrow" role="row" aria-rowindex={index + 2} data-row="" style={{ transform: `translateY(${start}px)` }}>
      <span role="cell">
        <Link to="/devices/$id" params={{ id: device.id }} className="strong">
          {device.name}
        </Link>
      </span>
      <span role="cell">
        <Link to="/devices" search={{ site: device.site }}>
          {device.site}
        </Link>
      </span>
      <span role="cell" title={device.presence === "offline" ? say.seen : undefined}>
        {device.identity == null || device.identity.state === "active" ? <State is={device.presence} /> : <Badge standing={device.identity} />}
      </span>
      <span role="cell">
        {slot?.slot ?? none}
        {others.length > 0 && <span className="soft small" title={others.map((other) => other.slot).join(", ")}>{` +${others.length}`}</span>}
      </span>
      <span role="cell" title={slot?.current?.sha256}>
        {versionOf(slot?.current)}
      </span>
      <span role="cell" title={slot?.current?.provider_reason ?? undefined}>
        {slot?.current == null ? none : providerName(slot.current.provider)}
      </span>
      <span role="cell">{slot === undefined ? none : <State is={slot.phase.is} tone={device.presence === "offline" ? "idle" : undefined} />}</span>
      <span role="cell" className="r">
        {percent(device.health?.cpu_percent)}
      </span>
      <span role="cell" title={device.waiting_on?.sentence} className={device.waiting_on == null ? "soft" : undefined}>
        {device.waiting_on?.sentence ?? device.refusal?.sentence ?? (device.presence === "offline" ? <Seen at={device.last_seen} /> : none)}
      </span>
    </div>
  );
}

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
