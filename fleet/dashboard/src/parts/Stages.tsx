// The stages of a rollout side by side: how far each is, and what it is doing.
import type { Stage } from "../api/types";
import { count, words } from "../format";
import { toneOf } from "../palette";
import { text } from "../strings";
import { Shape } from "./State";
import { partsOf, stageParts, type StagePart } from "./stages";

const say = text.rollout.parts;

export function Stages({ stages }: { stages: Stage[] }) {
  return (
    <ol className="steps">
      {stages.map((stage) => {
        const parts = partsOf(stage);
        return (
          <li className="step" key={stage.name}>
            <div className="track" aria-hidden="true">
              {stageParts
                .filter((part) => part !== "left" && parts[part] > 0 && stage.target_devices > 0)
                .map((part) => (
                  <span key={part} data-part={part} title={`${say[part]} ${parts[part]}`} style={{ width: `${(100 * parts[part]) / stage.target_devices}%` }} />
                ))}
            </div>
            <div className="label">
              <span>
                <Shape tone={toneOf(stage.state)} /> {stage.name} <span className="soft">{words(stage.state).toLowerCase()}</span>
              </span>
              <span className="num soft">
                {stage.activated}/{stage.target_devices}
              </span>
            </div>
          </li>
        );
      })}
    </ol>
  );
}

/** What the parts of the bars mean, with their numbers over all stages. */
export function StagesLegend({ stages }: { stages: Stage[] }) {
  const all = stages.map(partsOf);
  const sum = (part: StagePart): number => all.reduce((total, parts) => total + parts[part], 0);
  return (
    <ul className="legend num">
      {stageParts.map((part) => (
        <li key={part} className="nowrap">
          <span className="swatch" data-part={part} aria-hidden="true" />
          {say[part]} <span className="strong">{count(sum(part))}</span>
        </li>
      ))}
    </ul>
  );
}
