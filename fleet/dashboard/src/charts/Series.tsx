// Lines over time, drawn by uPlot. Loaded only by pages that show a chart. A data table always stands beside it.
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { seriesColour, seriesDash } from "../palette";
import { stamp, utc } from "../format";
import { text } from "../strings";
import { tick } from "./ticks";

export interface Line {
  label: string;
  /** Null breaks the line; undefined is a moment that only other lines have. */
  values: (number | null | undefined)[];
}

interface SeriesProps {
  /** Seconds since 1970, ascending. */
  x: number[];
  lines: Line[];
  print: (value: number | null) => string;
  height: number;
  label: string;
  sync?: string;
  fromZero?: boolean;
  /** Figures are counts: there is nothing between one and two. */
  whole?: boolean;
  /** Inside this distance from zero nothing can alarm. */
  band?: number;
  /** Points that stand out: alarms. */
  marked?: (line: number, index: number) => boolean;
  /** Between what a point may lie; drawn as a bar through it. */
  spread?: (line: number, index: number) => [number, number] | null;
  /** What happened, in the seconds of `x`. */
  events?: { at: number; label: string }[];
  /** What times are written in; UTC without it. */
  zone?: string;
}

export default function Series(props: SeriesProps) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const scheme = useComputedColorScheme("light", { getInitialValueInEffect: false });
  const latest = useRef(props);
  useEffect(() => {
    latest.current = props;
  });
  const { x, lines, height, zone = utc } = props;
  const shape = `${scheme} ${height} ${zone} ${lines.map((line) => line.label).join("|")}`;

  // A new chart for new lines, colours or another zone; new figures only move the old one.
  // oxlint-disable-next-line react/exhaustive-deps
  useEffect(() => {
    const node = place.current;
    if (node === null) return undefined;
    const made = new uPlot(optionsFor(latest, node), dataOf(latest.current), node);
    chart.current = made;
    const watcher = new ResizeObserver(() => made.setSize({ width: node.clientWidth, height: latest.current.height }));
    watcher.observe(node);
    return () => {
      watcher.disconnect();
      made.destroy();
      chart.current = null;
    };
  }, [shape]);

  useEffect(() => {
    chart.current?.setData(dataOf(latest.current));
  }, [x, lines]);

  return <div className="chart" ref={place} role="img" aria-label={props.label} />;
}

/** Between two lines of the grid: 1, 2, 5, 10 and so on. */
const wholeSteps = Array.from({ length: 36 }, (_, i) => ([1, 2, 5][i % 3] ?? 1) * 10 ** Math.floor(i / 3));

function dataOf({ x, lines }: SeriesProps): uPlot.AlignedData {
  return [x, ...lines.map((line) => line.values)];
}

function optionsFor(latest: React.RefObject<SeriesProps>, node: HTMLElement): uPlot.Options {
  const { lines, height, sync, fromZero, whole, band, zone = utc } = latest.current;
  const style = getComputedStyle(node);
  const value = (name: string): string => style.getPropertyValue(name.replace(/^var\((.*)\)$/, "$1")).trim();
  const axis = {
    stroke: value("--m-soft"),
    grid: { stroke: value("--m-grid"), width: 1 },
    ticks: { stroke: value("--m-grid"), width: 1, size: 4 },
    font: "11px system-ui, sans-serif",
  };
  return {
    width: Math.max(node.clientWidth, 120),
    height,
    tzDate: (s) => uPlot.tzDate(new Date(s * 1_000), zone),
    cursor: { ...(sync === undefined ? {} : { sync: { key: sync } }), drag: { x: false, y: false } },
    legend: { show: lines.length > 1, live: lines.length <= 3 },
    scales: {
      x: { time: true },
      y: {
        range: (_, low, high) => range(...reach(latest.current, low, high), fromZero === true, band),
      },
    },
    axes: [
      { ...axis, size: 30, values: (_, ticks) => ticks.map((s) => tick(s, ticks, zone)).map((said, i, all) => (said === all[i - 1] ? "" : said)) },
      { ...axis, size: 62, ...(whole === true ? { incrs: wholeSteps } : {}), values: (_, ticks) => ticks.map((v) => latest.current.print(v)) },
    ],
    series: [
      { label: text.when, value: (_, s) => (s == null ? "" : stamp(s * 1_000, zone)) },
      ...lines.map((line, index): uPlot.Series => {
        const stroke = value(seriesColour(index));
        return {
          label: line.label,
          stroke,
          width: 1.6,
          dash: seriesDash(index),
          spanGaps: false,
          // A line of one point would not be seen.
          points: { show: () => latest.current.lines[index]?.values.filter((y) => y != null).length === 1, size: 5 },
          value: (_, v: number | null | undefined) => latest.current.print(v ?? null),
        };
      }),
    ],
    hooks: {
      drawClear: [(u) => drawBand(u, latest.current.band, value("--m-band"))],
      draw: [
        (u) => drawEvents(u, latest.current.events ?? [], value("--m-soft")),
        (u) => drawSpread(u, latest.current, (index) => value(seriesColour(index))),
        (u) => drawMarks(u, latest.current, (index) => value(seriesColour(index)), value("--m-panel")),
      ],
    },
  };
}

/** With the bars, so that none leaves the picture. */
function reach({ lines, spread }: SeriesProps, low: number | null, high: number | null): [number | null, number | null] {
  if (spread === undefined) return [low, high];
  const ends = lines.flatMap((line, l) => line.values.flatMap((_, i) => spread(l, i) ?? []));
  const known = (end: number | null): number[] => (end === null ? [] : [end]);
  return ends.length === 0 ? [low, high] : [Math.min(...known(low), ...ends), Math.max(...known(high), ...ends)];
}

function range(low: number | null, high: number | null, fromZero: boolean, band: number | undefined): [number, number] {
  const least = band === undefined ? 0 : band * 1.6;
  const bottom = fromZero ? 0 : Math.min(low ?? 0, -least);
  const top = Math.max(high ?? 1, least, fromZero ? Number.MIN_VALUE : bottom);
  const room = (top - bottom) * 0.1 || 1;
  return [fromZero ? 0 : bottom - room, top + room];
}

function drawBand(u: uPlot, band: number | undefined, colour: string): void {
  if (band === undefined) return;
  const top = u.valToPos(band, "y", true);
  const bottom = u.valToPos(-band, "y", true);
  u.ctx.save();
  u.ctx.fillStyle = colour;
  u.ctx.fillRect(u.bbox.left, top, u.bbox.width, bottom - top);
  u.ctx.restore();
}

function drawEvents(u: uPlot, events: { at: number; label: string }[], colour: string): void {
  u.ctx.save();
  u.ctx.strokeStyle = colour;
  u.ctx.fillStyle = colour;
  u.ctx.lineWidth = devicePixelRatio;
  u.ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  for (const { at, label } of events) {
    const x = Math.round(u.valToPos(at, "x", true));
    if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
    u.ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    u.ctx.beginPath();
    u.ctx.moveTo(x, u.bbox.top);
    u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
    u.ctx.stroke();
    // Where there is no room to the right it stands to the left.
    const right = x + u.ctx.measureText(label).width + 8 * devicePixelRatio < u.bbox.left + u.bbox.width;
    u.ctx.textAlign = right ? "left" : "right";
    u.ctx.fillText(label, x + (right ? 4 : -4) * devicePixelRatio, u.bbox.top + 11 * devicePixelRatio);
  }
  u.ctx.restore();
}

function drawSpread(u: uPlot, { x, lines, spread }: SeriesProps, colour: (line: number) => string): void {
  if (spread === undefined) return;
  u.ctx.save();
  u.ctx.lineWidth = 3 * devicePixelRatio;
  u.ctx.globalAlpha = 0.35;
  lines.forEach((line, l) => {
    u.ctx.strokeStyle = colour(l);
    line.values.forEach((_, i) => {
      const ends = spread(l, i);
      if (ends === null) return;
      const px = u.valToPos(x[i] ?? 0, "x", true);
      u.ctx.beginPath();
      u.ctx.moveTo(px, u.valToPos(ends[0], "y", true));
      u.ctx.lineTo(px, u.valToPos(ends[1], "y", true));
      u.ctx.stroke();
    });
  });
  u.ctx.restore();
}

function drawMarks(u: uPlot, { x, lines, marked }: SeriesProps, colour: (line: number) => string, ground: string): void {
  if (marked === undefined) return;
  const side = 4 * devicePixelRatio;
  u.ctx.save();
  lines.forEach((line, l) => {
    line.values.forEach((y, i) => {
      if (y == null || !marked(l, i)) return;
      const [px, py] = [u.valToPos(x[i] ?? 0, "x", true), u.valToPos(y, "y", true)];
      u.ctx.fillStyle = colour(l);
      u.ctx.strokeStyle = ground;
      u.ctx.lineWidth = devicePixelRatio;
      u.ctx.beginPath();
      u.ctx.rect(px - side, py - side, 2 * side, 2 * side);
      u.ctx.fill();
      u.ctx.stroke();
    });
  });
  u.ctx.restore();
}
