// Training against now: two bars a bin, as shares, since the two have different numbers of rows.
import type { Histogram as Counts } from "../api/types";
import { figure, percent } from "../format";
import { Figures } from "../parts/Table";
import { text } from "../strings";

const say = text.drift;
const height = 150;
const left = 38;
const bottom = 44;

export interface Bin {
  label: string;
  reference: number;
  current: number;
}

/** Shares by bin. n−1 inner edges make n bins; n+1 edges frame them; anything more is counted apart at the end. */
export function binsOf({ edges, categories, reference, current }: Counts): Bin[] {
  const n = Math.max(reference.length, current.length);
  const [r, c] = [sum(reference), sum(current)];
  return Array.from({ length: n }, (_, i) => ({
    label: categories == null ? rangeLabel(edges ?? [], i, n) : (categories[i] ?? text.drift.otherBin(i - categories.length)),
    reference: share(reference[i], r),
    current: share(current[i], c),
  }));
}

function rangeLabel(edges: number[], i: number, n: number): string {
  const inner = edges.length === n + 1 ? edges.slice(1, -1) : edges;
  const [low, high] = [inner[i - 1], inner[i]];
  if (low === undefined && high === undefined) return `${say.bin} ${i + 1}`;
  if (low === undefined) return `< ${figure(high)}`;
  return high === undefined ? `≥ ${figure(low)}` : `${figure(low)} – ${figure(high)}`;
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function share(value: number | undefined, total: number): number {
  return total === 0 ? 0 : (100 * (value ?? 0)) / total;
}

export function Histogram({ of, label }: { of: Counts; label: string }) {
  const bins = binsOf(of);
  const width = Math.max(420, left + bins.length * 30);
  const binW = (width - left) / Math.max(1, bins.length);
  const top = Math.max(1, ...bins.flatMap((bin) => [bin.reference, bin.current]));
  const y = (value: number): number => height - (value / top) * (height - 8);
  return (
    <div>
      <div className="scroll" role="region" aria-label={label} tabIndex={0}>
        <svg viewBox={`0 0 ${width} ${height + bottom}`} width="100%" style={{ minWidth: Math.min(width, 420), maxHeight: 260 }} role="img" aria-label={label} preserveAspectRatio="xMinYMin meet">
          {[0, top / 2, top].map((value) => (
            <g key={value}>
              <line x1={left} x2={width} y1={y(value)} y2={y(value)} stroke="var(--m-grid)" />
              <text x={left - 6} y={y(value) + 4} textAnchor="end" fontSize="11" fill="var(--m-soft)">
                {`${value.toFixed(0)} %`}
              </text>
            </g>
          ))}
          {bins.map((bin, i) => {
            const x = left + i * binW;
            const barW = Math.max(3, binW / 2 - 2);
            return (
              <g key={bin.label}>
                <rect x={x + 1} y={y(bin.reference)} width={barW} height={height - y(bin.reference)} fill="var(--m-idle-fill)" stroke="var(--m-idle)" strokeWidth={1}>
                  <title>{`${say.reference} ${bin.label}: ${percent(bin.reference)}`}</title>
                </rect>
                <rect x={x + barW + 2} y={y(bin.current)} width={barW} height={height - y(bin.current)} fill="var(--m-series-1)">
                  <title>{`${say.current} ${bin.label}: ${percent(bin.current)}`}</title>
                </rect>
                <text x={x + binW / 2} y={height + 12} fontSize="10.5" fill="var(--m-soft)" textAnchor="end" transform={`rotate(-35 ${x + binW / 2} ${height + 12})`}>
                  {bin.label.split(" – ")[0]}
                </text>
              </g>
            );
          })}
        </svg>
      </div>
      <p className="legend">
        <span>
          <span className="swatch" style={{ background: "var(--m-idle-fill)", outline: "1px solid var(--m-idle)" }} />
          {say.reference}
        </span>
        <span>
          <span className="swatch" style={{ background: "var(--m-series-1)" }} />
          {say.current}
        </span>
      </p>
      <Figures<Bin>
        summary={text.showTable}
        label={`${label}, ${say.bin}`}
        rows={bins}
        rowKey={(bin, i) => `${bin.label} ${i}`}
        columns={[
          { head: say.bin, cell: (bin) => bin.label },
          { head: say.reference, right: true, cell: (bin) => percent(bin.reference) },
          { head: say.current, right: true, cell: (bin) => percent(bin.current) },
        ]}
      />
    </div>
  );
}
