// World time and real time side by side, once they differ.
import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { overviewQuery } from "../api/queries";
import type { Overview } from "../api/types";
import { moment, stamp, worldDiffers } from "../format";
import { text } from "../strings";
import { useNow, worldFactor } from "./now";
import { useZone } from "./zone";

export function Clocks() {
  const { data, dataUpdatedAt } = useQuery(overviewQuery);
  const now = useNow();
  const zone = useZone();
  const factor = useFactor(data);
  if (data === undefined) return null;
  const passed = Math.max(0, now - dataUpdatedAt);
  // Never far ahead of what the server said: a stopped server stops the clock too.
  const world = (moment(data.world_now) ?? 0) + Math.min(passed, 12_000) * (factor ?? 0);
  const real = (moment(data.now) ?? 0) + passed;
  if (!worldDiffers(data.world_now, data.now)) {
    return (
      <dl className="clocks num">
        <dt>{text.now}</dt>
        <dd>{stamp(real, zone)}</dd>
      </dl>
    );
  }
  return (
    <dl className="clocks num" title={text.worldHint}>
      <dt>{text.worldTime}</dt>
      <dd className="strong">{stamp(world, zone)}</dd>
      <dt>{text.realTime}</dt>
      <dd>{stamp(real, zone)}</dd>
    </dl>
  );
}

function useFactor(data: Overview | undefined): number | null {
  const last = useRef<Overview>(undefined);
  const [factor, setFactor] = useState<number | null>(null);
  useEffect(() => {
    if (data === undefined || data === last.current) return;
    const learnt = last.current === undefined ? null : worldFactor(last.current, data);
    if (learnt !== null) setFactor(learnt);
    last.current = data;
  }, [data]);
  return factor;
}
