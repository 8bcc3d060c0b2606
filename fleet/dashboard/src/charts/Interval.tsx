// One layer of a gate as a line: what is measured (a dot), how sure that is (a bar), and the limit (a wall).
import type { GateLayer } from "../api/types";
import { figure } from "../format";
import { toneColour, toneOf } from "../palette";
import { text } from "../strings";
import { limitKind, marks } from "./interval";

const width = 120;
const height = 22;
const middle = 12;

export function Interval({ layer }: { layer: GateLayer }) {
  const drawn = marks(layer);
  if (drawn === null) return null;
  const x = (share: number): number => 4 + Math.min(1, Math.max(0, share)) * (width - 8);
  const wall = x(drawn.limit);
  // The wall's teeth are on the side where one must not be.
  const teeth = limitKind(layer.layer) === "atLeast" ? -4 : 4;
  return (
    <svg className="interval" width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={said(layer)}>
      <line x1={4} x2={width - 4} y1={middle} y2={middle} stroke="var(--m-line)" strokeWidth={2} />
      <line x1={x(drawn.zero)} x2={x(drawn.zero)} y1={middle - 3} y2={middle + 3} stroke="var(--m-soft)" />
      {drawn.interval === null ? (
        <line x1={x(drawn.zero)} x2={x(drawn.measured)} y1={middle} y2={middle} stroke="var(--m-busy-fill)" strokeWidth={4} />
      ) : (
        <rect x={x(drawn.interval[0])} width={Math.max(2, x(drawn.interval[1]) - x(drawn.interval[0]))} y={middle - 4} height={8} rx={2} fill="var(--m-busy-fill)" fillOpacity={0.45} stroke="var(--m-busy-fill)" />
      )}
      <path d={[2, 7, 12, 17].map((y) => `M${wall} ${y}l${teeth} 3`).join("")} stroke="var(--m-text)" fill="none" />
      <line x1={wall} x2={wall} y1={1} y2={height - 1} stroke="var(--m-text)" strokeWidth={2} />
      <circle cx={x(drawn.measured)} cy={middle} r={3.5} fill={toneColour[toneOf(layer.verdict)]} stroke="var(--m-panel)" />
    </svg>
  );
}

function said({ layer, measured, interval, limit }: GateLayer): string {
  const say = text.rollout;
  const between = interval == null ? "" : `, ${say.interval.toLowerCase()} ${figure(interval[0])} – ${figure(interval[1])}`;
  return `${say.measured} ${figure(measured)}${between}, ${say.limitOf[limitKind(layer)].toLowerCase()} ${figure(limit)}`;
}
