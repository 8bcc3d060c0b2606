// The heatmap's arithmetic: which figure a cell shows, how strongly it is coloured, and the worst over devices.
import type { Drift, DriftWindow, StreamWindow } from "../api/types";
import { moment, signed } from "../format";

/** A shift of this many standard deviations has the strongest colour. */
export const fullScaleSd = 1.5;
/** Smallest adjusted PSI that can alarm; for a pure shift of a normal stream PSI is the square of the shift in sd. */
export const psiFloor = 0.02;
export const bandSd = Math.sqrt(psiFloor);

/** From what says least to what says most. */
const states = ["insufficient", "ok", "warn", "drift"];

export interface Cell {
  state: string;
  effect: number | null;
  /** The window that the cell speaks of; with several devices the worst one's. */
  window: DriftWindow;
  stream: StreamWindow;
}

export interface HeatColumn {
  from: string;
  to: string;
  cells: Map<string, Cell>;
}

/** Standard deviations where a mean exists; for categories the square root of PSI, which has no sign. */
export function effectOf(stream: StreamWindow): number | null {
  if (stream.mean_shift_sd !== null && stream.mean_shift_sd !== undefined) return stream.mean_shift_sd;
  const psi = stream.psi_adj;
  return psi === null || psi === undefined ? null : Math.sqrt(Math.max(0, psi));
}

/** The 95 % interval of that shift. */
export function betweenOf({ shift_low, shift_high }: StreamWindow): [number, number] | null {
  return shift_low == null || shift_high == null ? null : [shift_low, shift_high];
}

/** Share of full colour, between 0 and 1; the root makes small shifts visible. */
export function strength(effect: number | null): number {
  if (effect === null || !Number.isFinite(effect)) return 0;
  return Math.sqrt(Math.min(1, Math.abs(effect) / fullScaleSd));
}

/** Orange above, blue below: apart for colour-blind eyes; the sign in the cell says it again. */
export function fill(cell: Cell | undefined): string {
  if (cell === undefined) return "transparent";
  if (cell.state === "insufficient") return "var(--m-line-soft)";
  const share = Math.round(strength(cell.effect) * (cell.state === "ok" ? 45 : 88));
  const hue = (cell.effect ?? 0) < 0 ? "var(--m-heat-below)" : "var(--m-heat-above)";
  return `color-mix(in srgb, ${hue} ${share}%, var(--m-panel))`;
}

export function mark(cell: Cell | undefined): string {
  if (cell === undefined) return "";
  if (cell.state === "insufficient") return "·";
  return signed(cell.effect, 1);
}

/** Columns in time order, the last `span` of them; where several devices share a window the worst one counts. */
export function columnsOf(drift: Drift, span: number): HeatColumn[] {
  const columns = new Map<string, HeatColumn>();
  for (const window of drift.windows) {
    let column = columns.get(window.from);
    if (column === undefined) {
      column = { from: window.from, to: window.to, cells: new Map() };
      columns.set(window.from, column);
    }
    for (const stream of window.streams) {
      const cell: Cell = { state: stream.state, effect: effectOf(stream), window, stream };
      const known = column.cells.get(stream.name);
      if (known === undefined || worse(cell, known)) column.cells.set(stream.name, cell);
    }
  }
  return [...columns.values()].toSorted((a, b) => (moment(a.from) ?? 0) - (moment(b.from) ?? 0)).slice(-span);
}

function worse(a: Cell, b: Cell): boolean {
  if (a.state !== b.state) return states.indexOf(a.state) > states.indexOf(b.state);
  return Math.abs(a.effect ?? 0) > Math.abs(b.effect ?? 0);
}

/** The stream that deserves the first look: most windows in drift, then the largest shift. */
export function worstStream(columns: HeatColumn[], streams: string[]): string | undefined {
  const score = (name: string): number =>
    columns.reduce((sum, column) => {
      const cell = column.cells.get(name);
      return cell === undefined ? sum : sum + 10 * Number(cell.state === "drift") + Math.min(5, Math.abs(cell.effect ?? 0));
    }, 0);
  return streams.toSorted((a, b) => score(b) - score(a))[0];
}
