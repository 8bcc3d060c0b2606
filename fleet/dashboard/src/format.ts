// Numbers and times as people read them. Pure: the present moment is an argument.

export const none = "–";

const minute = 60;
const hour = 3_600;
const day = 86_400;

/** A length of time with its two largest units: "3 d 4 h", "12 min", "8 s". */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return none;
  const s = Math.max(0, Math.round(seconds));
  if (s < minute) return `${s} s`;
  if (s < hour) return joined(Math.floor(s / minute), "min", s % minute, "s", s < 10 * minute);
  if (s < day) return joined(Math.floor(s / hour), "h", Math.floor((s % hour) / minute), "min", true);
  return joined(Math.floor(s / day), "d", Math.floor((s % day) / hour), "h", s < 30 * day);
}

function joined(large: number, largeUnit: string, small: number, smallUnit: string, both: boolean): string {
  return both && small > 0 ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;
}

export function ago(at: string | null | undefined, now: number): string {
  const then = moment(at);
  if (then === null) return none;
  const seconds = (now - then) / 1_000;
  if (seconds < -2) return `in ${duration(-seconds)}`;
  return seconds < 3 ? "now" : `${duration(seconds)} ago`;
}

/** Milliseconds since 1970, or null where there is no readable time. */
export function moment(at: string | null | undefined): number | null {
  if (at === null || at === undefined || at === "") return null;
  const parsed = Date.parse(at);
  return Number.isNaN(parsed) ? null : parsed;
}

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

export const utc = "UTC";

/** "14 Mar 2027 06:20" in UTC, which is the same on every screen of a hospital group, or in a site's zone; never month-day confusion. */
export function stamp(at: string | number | null | undefined, zone = utc): string {
  const then = typeof at === "number" ? at : moment(at);
  if (then === null) return none;
  const d = shifted(then, zone);
  return `${dayOf(d)} ${d.getUTCFullYear()} ${clockOf(d)}`;
}

const formatters = new Map<string, Intl.DateTimeFormat>();

/** The moment whose UTC figures are those of the clocks in the zone. A zone that this browser does not know is UTC. */
function shifted(then: number, zone: string): Date {
  if (zone === utc || !isZone(zone)) return new Date(then);
  const parts = new Map(formatters.get(zone)?.formatToParts(then).map(({ type, value }) => [type, Number(value)]));
  const of = (part: Intl.DateTimeFormatPartTypes): number => parts.get(part) ?? 0;
  return new Date(Date.UTC(of("year"), of("month") - 1, of("day"), of("hour"), of("minute"), of("second")));
}

export function isZone(zone: string): boolean {
  if (formatters.has(zone)) return true;
  try {
    const of: Intl.DateTimeFormatOptions = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric", hourCycle: "h23" };
    formatters.set(zone, new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...of }));
    return true;
  } catch {
    return false;
  }
}

export function stampDay(at: string | number | null | undefined, zone = utc): string {
  const then = typeof at === "number" ? at : moment(at);
  return then === null ? none : dayOf(shifted(then, zone));
}

export function stampClock(at: string | null | undefined, zone = utc): string {
  const then = moment(at);
  if (then === null) return none;
  const d = shifted(then, zone);
  return `${clockOf(d)}:${two(d.getUTCSeconds())}`;
}

function dayOf(d: Date): string {
  return `${d.getUTCDate()} ${months[d.getUTCMonth()] ?? ""}`;
}

function clockOf(d: Date): string {
  return `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
}

function two(n: number): string {
  return String(n).padStart(2, "0");
}

/** World time and real time are told apart once they differ by more than clocks on a network do. */
export function worldDiffers(world: string | null | undefined, real: string | null | undefined): boolean {
  const [w, r] = [moment(world), moment(real)];
  return w !== null && r !== null && Math.abs(w - r) > 120_000;
}

export function bytes(n: number | null | undefined): string {
  if (n === null || n === undefined || !Number.isFinite(n)) return none;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = n;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit] ?? ""}`;
}

export function count(n: number | null | undefined): string {
  return n === null || n === undefined || !Number.isFinite(n) ? none : Math.round(n).toLocaleString("en-GB");
}

/** Three significant digits, without an exponent until it would mislead. */
export function figure(n: number | string | null | undefined): string {
  if (n === null || n === undefined) return none;
  if (typeof n === "string") return n;
  if (!Number.isFinite(n)) return none;
  const size = Math.abs(n);
  if (Number.isInteger(n) || size >= 1_000) return minus(count(n));
  return minus(size < 0.001 ? n.toExponential(1) : String(Number(n.toPrecision(3))));
}

export function percent(n: number | null | undefined): string {
  return n === null || n === undefined || !Number.isFinite(n) ? none : `${n.toFixed(n < 9.95 ? 1 : 0)} %`;
}

export function milliseconds(us: number | null | undefined): string {
  return us === null || us === undefined || !Number.isFinite(us) ? none : `${figure(us / 1_000)} ms`;
}

/** A real minus is as wide as a digit, so columns align. */
function minus(printed: string): string {
  return printed.replaceAll("-", "−");
}

/** With its sign, and a real minus: "+0.84", "−0.31". */
export function signed(n: number | null | undefined, digits = 2): string {
  if (n === null || n === undefined || !Number.isFinite(n)) return none;
  const rounded = n.toFixed(digits);
  if (Number(rounded) === 0) return (0).toFixed(digits);
  return n < 0 ? `−${rounded.slice(1)}` : `+${rounded}`;
}

/** Enough of a digest or id to tell two apart by eye. */
export function short(text: string | null | undefined, length = 10): string {
  if (text === null || text === undefined || text === "") return none;
  return text.length <= length + 1 ? text : `${text.slice(0, length)}…`;
}

/** "rolling_back" → "Rolling back". */
export function words(code: string | null | undefined): string {
  if (code === null || code === undefined || code === "") return none;
  const spaced = code.replaceAll(/[_.]/g, " ");
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}
