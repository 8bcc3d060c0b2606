// A moment as people read it, the exact one on hover; world time beside real time where they differ.
import { ago, moment, none, stamp, stampClock, worldDiffers } from "../format";
import { useNow } from "../shell/now";
import { text } from "../strings";

export function Ago({ at }: { at: string | null | undefined }) {
  const now = useNow();
  if (moment(at) === null) return <>{none}</>;
  return (
    <time dateTime={at ?? undefined} title={stamp(at)} className="nowrap num">
      {ago(at, now)}
    </time>
  );
}

export function Stamp({ at }: { at: string | null | undefined }) {
  return moment(at) === null ? (
    <>{none}</>
  ) : (
    <time dateTime={at ?? undefined} className="nowrap num">
      {stamp(at)}
    </time>
  );
}

/** For log lines: the clock in real time, and under it the day in the world the fleet lives in. */
export function Times({ at, worldAt }: { at: string; worldAt?: string | null }) {
  return (
    <span className="times">
      <time dateTime={at} title={`${text.realTime}: ${stamp(at)}`}>
        {stampClock(at)}
      </time>
      {worldDiffers(worldAt, at) && (
        <time dateTime={worldAt ?? undefined} title={text.worldTime}>
          {stamp(worldAt)}
        </time>
      )}
    </span>
  );
}
