// Which acts a rollout allows now, and in words why not. The server decides again; this only spares a refusal.
import type { Rollout, RolloutAction, Stage } from "../api/types";
import { words } from "../format";
import { text } from "../strings";

export const actions: RolloutAction[] = ["approve", "pause", "resume", "promote", "retry", "abort", "rollback"];

const why = text.actions.why;

export function moved(rollout: Pick<Rollout, "stages">): { done: number; left: number } {
  const done = rollout.stages.reduce((sum, stage) => sum + stage.activated, 0);
  const handed = rollout.stages.reduce((sum, stage) => sum + stage.handed, 0);
  const target = rollout.stages.reduce((sum, stage) => sum + stage.target_devices, 0);
  return { done, left: Math.max(0, target - handed) };
}

/** Null where the act is possible. */
export function whyNot(action: RolloutAction, { phase, stages }: Pick<Rollout, "phase" | "stages">): string | null {
  if (action === "approve") return phase.is === "proposed" ? null : why.notProposed;
  // That too few could run it was why it stood; asked anew, they may.
  const tooFew = phase.is === "held" && phase.reason?.code === "quorum_lost";
  if (action === "retry" && !tooFew && !stages.some((stage) => stage.failed > 0)) return why.noneFailed;
  switch (phase.is) {
    case "completed":
      if (action === "retry") return null;
      return action === "rollback" ? nothingMoved(stages) : why.ended(words(phase.is));
    case "aborted":
    case "superseded":
      return action === "rollback" ? nothingMoved(stages) : why.ended(words(phase.is));
    case "rolled_back":
      return why.ended(words(phase.is));
    case "aborting":
      return action === "rollback" ? nothingMoved(stages) : why.aborting;
    case "rolling_back":
      return why.rollingBack;
    case "proposed":
    case "scheduled":
      return action === "abort" ? null : why.notBegun;
    case "running":
      if (action === "resume") return why.notPaused;
      break;
    case "paused":
      if (action === "pause") return why.alreadyPaused;
      break;
    case "held":
      if (action === "pause") return why.heldPause;
      break;
  }
  if (action === "promote" && stages.find((stage) => stage.name === phase.stage)?.gate?.verdict === "fail") return why.gateFails;
  return action === "rollback" ? nothingMoved(stages) : null;
}

function nothingMoved(stages: Stage[]): string | null {
  return stages.some((stage) => stage.handed > 0) ? null : why.nothingMoved;
}
