// The first line of a printed page: what it is, of which server, and as of when, in UTC and in the zone of the page.
import { stamp, utc } from "../format";
import { useNow } from "../shell/now";
import { useZone } from "../shell/zone";
import { text } from "../strings";

export function Printed({ of }: { of: string }) {
  const now = useNow();
  const zone = useZone();
  const times = [`${stamp(now)} ${utc}`, ...(zone === utc ? [] : [`${stamp(now, zone)} ${zone}`])].join(" · ");
  return <p className="printed small">{text.printed(of, window.location.host, times)}</p>;
}
