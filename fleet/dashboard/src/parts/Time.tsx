// A moment as people read it, the exact one on hover; world time beside real time where they differ.
import { ago, moment, none, stamp, stampClock, utc, worldDiffers } from "../format";
import { useNow } from "../shell/now";
import { useZone } from "../shell/zone";
import { text } from "../strings";

export function Ago({ at }: { at: string | null | undefined }) {
  const now = useNow();
  const zone = useZone();
  if (moment(at) === null) return <>{none}</>;
  return (
    <time dateTime={at ?? undefined} title={exactly(at, zone)} className="nowrap num">
      {ago(at, now)}
    </time>
  );
}

export function Stamp({ at }: { at: string | null | undefined }) {
  const zone = useZone();
  return moment(at) === null ? (
    <>{none}</>
  ) : (
    <time dateTime={at ?? undefined} title={exactly(at, zone)} className="nowrap num">
      {stamp(at, zone)}
    </time>
  );
}

/** In the zone that was asked for, and in UTC if that is another. */
function exactly(at: string | null | undefined, zone: string): string {
  const there = `${stamp(at, zone)} ${zone}`;
  return zone === utc ? there : `${there}, ${stamp(at)} ${utc}`;
}

/** For log lines: the clock in real time, and under it the day in the world the fleet lives in. */
export function Times({ at, worldAt }: { at: string; worldAt?: string | null }) {
  const zone = useZone();
  return (
    <span className="times">
      <time dateTime={at} title={`${text.realTime}: ${exactly(at, zone)}`}>
        {stampClock(at, zone)}
      </time>
      {worldDiffers(worldAt, at) && (
        <time dateTime={worldAt ?? undefined} title={text.worldTime}>
          {stamp(worldAt, zone)}
        </time>
      )}
    </span>
  );
}
