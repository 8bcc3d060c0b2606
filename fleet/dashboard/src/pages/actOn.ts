// An act on a rollout that goes on moving while a person reads and types.
import { ApiError, get, post } from "../api/client";
import type { Rollout, RolloutAction } from "../api/types";
import { words } from "../format";
import { text } from "../strings";

/** What opens the way for more devices: it must mean the stage that the person saw. Whatever stops one may always come through. */
const opening: ReadonlySet<RolloutAction> = new Set(["approve", "promote", "resume"]);
/** The rollout saves what it sees of its devices many times while nothing changes that a person decides on. */
const tries = 10;

export async function actOn(seen: Rollout, action: RolloutAction, reason: string): Promise<Rollout | undefined> {
  const path = { id: seen.id };
  if (!opening.has(action)) return post(`/api/v1/rollouts/{id}/${action}`, { reason }, { path });
  for (let left = tries; ; left -= 1) {
    const now = await get("/api/v1/rollouts/{id}", { path });
    if (standing(now) !== standing(seen)) throw new Error(text.actions.movedOn(words(now.phase.is), now.phase.stage ?? null));
    try {
      return await post(`/api/v1/rollouts/{id}/${action}`, { reason }, { path, headers: { "if-match": `"${now.revision}"` } });
    } catch (cause) {
      if (!(cause instanceof ApiError) || cause.status !== 412 || left === 0) throw cause;
    }
  }
}

/** What an opening act is decided on. */
function standing({ phase }: Pick<Rollout, "phase">): string {
  return `${phase.is} ${phase.stage ?? ""}`;
}
