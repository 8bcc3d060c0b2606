// The stages of a rollout side by side: how far each is, and what it is doing.
import type { Stage } from "../api/types";
import { words } from "../format";
import { toneOf } from "../palette";
import { Shape } from "./State";

export function Stages({ stages }: { stages: Stage[] }) {
  return (
    <ol className="steps">
      {stages.map((stage) => (
        <li className="step" key={stage.name}>
          <div className="track" aria-hidden="true">
            <Fill n={stage.activated} of={stage.target_devices} colour="var(--m-good-fill)" />
            <Fill n={stage.failed} of={stage.target_devices} colour="var(--m-bad-fill)" />
            <Fill n={stage.handed - stage.activated - stage.failed} of={stage.target_devices} colour="var(--m-busy-fill)" />
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
      ))}
    </ol>
  );
}

function Fill({ n, of, colour }: { n: number; of: number; colour: string }) {
  return n > 0 && of > 0 ? <span style={{ width: `${Math.min(100, (100 * n) / of)}%`, background: colour }} /> : null;
}
