// Streams by windows, each cell with its figure. The names are links; the picture itself is one image to readers, and
// the table below holds the same figures.
import { Link } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { count, figure, signed, stamp, stampDay } from "../format";
import { Figures } from "../parts/Table";
import { State } from "../parts/State";
import type { DriftSearch } from "../search";
import { text } from "../strings";
import { fill, mark, type Cell, type HeatColumn } from "./heat";
import type { VersionMark } from "./versions";

const say = text.drift;
const cellW = 36;
const cellH = 24;
const axisH = 26;
/** States are told by pattern and mark as well as by colour. */
const hatch = "heat-hatch";
const hatchInKey = "heat-hatch-key";

interface HeatmapProps {
  streams: string[];
  columns: HeatColumn[];
  stream: string | undefined;
  search: DriftSearch;
  marks: VersionMark[];
}

export function Heatmap({ streams, columns, stream, search, marks }: HeatmapProps) {
  const place = useRef<HTMLDivElement>(null);
  const width = columns.length * cellW;
  // The newest window is what one came for.
  useEffect(() => {
    place.current?.scrollTo({ left: width });
  }, [width]);
  return (
    <>
      <div className="heat" style={{ paddingTop: 8 }}>
        <div className="heat-names">
          <span style={{ height: axisH }} />
          {streams.map((name) => (
            <Link key={name} to="/drift" search={{ ...search, stream: name }} aria-current={name === stream ? "true" : undefined} style={{ height: cellH }} resetScroll={false} activeProps={{}}>
              {name}
            </Link>
          ))}
        </div>
        <div className="heat-scroll" ref={place} role="region" aria-label={say.heat} tabIndex={0}>
          <svg width={width} height={axisH + streams.length * cellH + (marks.length > 0 ? 18 : 2)} role="img" aria-label={say.heatLabel(streams.length, columns.length)}>
            <Hatch id={hatch} />
            {columns.map((column, c) => (
              <g key={column.from} transform={`translate(${c * cellW} 0)`}>
                {dayChanges(columns, c) && (
                  <text x={2} y={axisH - 9} fill="var(--m-soft)">
                    {stampDay(column.from)}
                  </text>
                )}
                {streams.map((name, r) => (
                  <Square key={name} cell={column.cells.get(name)} y={axisH + r * cellH} column={column} name={name} />
                ))}
              </g>
            ))}
            {marks.map((arrival) => (
              <Arrival key={arrival.version} of={arrival} columns={columns} bottom={axisH + streams.length * cellH} />
            ))}
            {stream !== undefined && streams.includes(stream) && (
              <rect x={0.75} y={axisH + streams.indexOf(stream) * cellH + 0.75} width={Math.max(0, width - 1.5)} height={cellH - 1.5} fill="none" stroke="var(--m-link)" strokeWidth={1.5} />
            )}
          </svg>
        </div>
      </div>
      <div className="body stack" style={{ gap: 4 }}>
        <Key />
        <Table streams={streams} columns={columns} />
      </div>
    </>
  );
}

/** A version's first window: a dashed line before it, with the version's name at its foot. */
function Arrival({ of, columns, bottom }: { of: VersionMark; columns: HeatColumn[]; bottom: number }) {
  const c = columns.findIndex((column) => Date.parse(column.from) >= Date.parse(of.from));
  if (c < 1) return null;
  const left = c > columns.length / 2;
  return (
    <g>
      <path d={`M${c * cellW} ${axisH - 8}V${bottom}`} stroke="var(--m-text)" strokeWidth={1.5} strokeDasharray="4 3" />
      <text x={c * cellW + (left ? -4 : 4)} y={bottom + 13} textAnchor={left ? "end" : "start"} fill="var(--m-text)">
        {of.version}
      </text>
    </g>
  );
}

/** Every third label at most, so that they never touch. */
function dayChanges(columns: HeatColumn[], c: number): boolean {
  return (columns.length - 1 - c) % 3 === 0 && c + 1 < columns.length;
}

function Square({ cell, y, column, name }: { cell: Cell | undefined; y: number; column: HeatColumn; name: string }) {
  const state = cell?.state;
  return (
    <g>
      <rect x={1} y={y + 1} width={cellW - 2} height={cellH - 2} rx={3} fill={fill(cell)} stroke={state === "drift" ? "var(--m-text)" : "none"} strokeWidth={1.2}>
        <title>{cell === undefined ? `${name}: ${stamp(column.from)}` : titleOf(name, column, cell)}</title>
      </rect>
      <text x={cellW / 2} y={y + cellH / 2 + 3.8} textAnchor="middle" fill="var(--m-text)" fontWeight={state === "drift" ? 700 : 400} opacity={state === "ok" || state === "insufficient" ? 0.75 : 1}>
        {mark(cell)}
      </text>
      {state === "insufficient" && <rect x={1} y={y + 1} width={cellW - 2} height={cellH - 2} rx={3} fill={`url(#${hatch})`} pointerEvents="none" />}
      {cell?.stream.against === "training" && <path d={`M3 ${y + cellH - 2.5}h${cellW - 6}`} stroke="var(--m-soft)" strokeWidth={1.2} strokeDasharray="3 2" pointerEvents="none" />}
      {state === "warn" && <path d={`M${cellW - 8} ${y + 2}h6v6z`} fill="var(--m-text)" pointerEvents="none" />}
    </g>
  );
}

function titleOf(name: string, column: HeatColumn, cell: Cell): string {
  const parts = [
    `${name}, ${stamp(column.from)} to ${stamp(column.to)}: ${say.states[cell.state] ?? cell.state}`,
    `${signed(cell.effect)} sd${interval(cell)}`,
    `n ${count(cell.window.n)}`,
    cell.window.site,
    ...(cell.stream.against === "training" ? [say.learning] : []),
    ...(cell.stream.broken ?? []),
  ];
  return parts.join(", ");
}

function interval({ stream }: Cell): string {
  if (stream.shift_low == null || stream.shift_high == null) return "";
  return ` (${say.between(signed(stream.shift_low), signed(stream.shift_high))})`;
}

function Hatch({ id }: { id: string }) {
  return (
    <defs>
      <pattern id={id} width={6} height={6} patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
        <path d="M0 0v6" stroke="var(--m-soft)" strokeWidth={1.2} />
      </pattern>
    </defs>
  );
}

function Key() {
  return (
    <p className="key">
      <svg width="176" height="20" aria-hidden="true">
        {[-1.5, -0.5, 0, 0.5, 1.5].map((effect, i) => (
          <g key={effect}>
            <rect x={i * 36} y={1} width={32} height={18} rx={3} fill={fill({ state: "drift", effect } as Cell)} />
            <text x={i * 36 + 16} y={14} textAnchor="middle" fontSize="10.5" fill="var(--m-text)">
              {signed(effect, 1)}
            </text>
          </g>
        ))}
      </svg>
      <span>{say.keyScale}</span>
      <span>{say.keyDrift}</span>
      <span>{say.keyWarn}</span>
      <span>
        <svg width="32" height="18" aria-hidden="true" style={{ verticalAlign: "middle", marginRight: 4 }}>
          <Hatch id={hatchInKey} />
          <rect width={32} height={18} rx={3} fill={`url(#${hatchInKey})`} />
        </svg>
        {say.keyInsufficient}
      </span>
      <span>{say.keyLearning}</span>
    </p>
  );
}

interface Line {
  name: string;
  column: HeatColumn;
  cell: Cell;
}

function Table({ streams, columns }: { streams: string[]; columns: HeatColumn[] }) {
  const lines: Line[] = columns.toReversed().flatMap((column) =>
    streams.flatMap((name) => {
      const cell = column.cells.get(name);
      return cell === undefined ? [] : [{ name, column, cell }];
    }),
  );
  return (
    <Figures<Line>
      summary={text.showTable}
      label={say.heatTable}
      rows={lines}
      rowKey={({ name, column }) => `${name} ${column.from}`}
      columns={[
        { head: say.stream, cell: ({ name }) => name },
        { head: say.from, cell: ({ column }) => <span className="nowrap">{stamp(column.from)}</span> },
        { head: say.to, cell: ({ column }) => <span className="nowrap">{stamp(column.to)}</span> },
        { head: say.state, cell: ({ cell }) => <State is={cell.state} word={say.states[cell.state]} /> },
        { head: say.effect, right: true, cell: ({ cell }) => signed(cell.stream.mean_shift_sd) },
        { head: say.interval, right: true, cell: ({ cell }) => <span className="nowrap">{interval(cell).trim()}</span> },
        { head: say.against, cell: ({ cell }) => say.againstOf[cell.stream.against ?? ""] ?? "" },
        { head: say.psi, right: true, cell: ({ cell }) => figure(cell.stream.psi_adj) },
        { head: say.b, right: true, cell: ({ cell }) => figure(cell.stream.b) },
        { head: say.n, right: true, cell: ({ cell }) => count(cell.window.n) },
        { head: say.device, cell: ({ cell }) => cell.window.site },
      ]}
    />
  );
}
