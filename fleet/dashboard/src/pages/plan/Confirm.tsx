// The last step: what will happen in numbers, the reason that the log keeps, and the button.
import { Button, Textarea } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { post } from "../../api/client";
import type { Bundle, Forecast, RolloutRehearsal } from "../../api/types";
import { none, percent } from "../../format";
import { Problem } from "../../parts/Answer";
import { Panel } from "../../parts/Panel";
import { reasonMax, reasonMin } from "../../parts/ReasonDialog";
import type { NewRolloutSearch } from "../../search";
import { text } from "../../strings";
import { askedOf, type Draft } from "./draft";

const say = text.plan.confirm;

interface ConfirmProps {
  search: NewRolloutSearch;
  bundle: Bundle;
  draft: Draft;
  counted: RolloutRehearsal;
  foreseen: Forecast | undefined;
  pending: boolean;
}

export function Confirm({ search, bundle, draft, counted: { cohort, stages }, foreseen, pending }: ConfirmProps) {
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Error | null>(null);
  const navigate = useNavigate();
  const cache = useQueryClient();
  const enough = reason.trim().length >= reasonMin;
  const submit = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      const made = await post("/api/v1/rollouts", askedOf(search, bundle, draft, reason.trim()), { query: { dry_run: false } });
      await cache.invalidateQueries({ queryKey: ["rollouts"] });
      if ("id" in made) await navigate({ to: "/rollouts/$id", params: { id: made.id } });
    } catch (cause) {
      setFailure(cause instanceof Error ? cause : new Error(String(cause)));
      setBusy(false);
    }
  };
  const worst = (foreseen?.bugs ?? []).toSorted((a, b) => b.exposed_p50 - a.exposed_p50)[0];
  return (
    <Panel title={text.plan.steps.start} tone="warn">
      <form
        className="body dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (enough && !busy && cohort > 0) void submit();
        }}
      >
        <p className="strong">{say.effect(cohort, `${bundle.model} ${bundle.version}`, draft.stages.length, stages[0]?.first[0] ?? none)}</p>
        {draft.approvals_min > 0 && <p>{say.approvals(draft.approvals_min)}</p>}
        {worst !== undefined && <p>{say.bug(percent(worst.share * 100), worst.exposed_p50, percent(worst.stopped_share * 100))}</p>}
        {foreseen === undefined && !pending && <p>{say.unforeseen}</p>}
        {foreseen?.warnings.map((warning) => (
          <p key={warning}>{warning}</p>
        ))}
        <p className="soft">{say.undo}</p>
        <Textarea
          label={text.actions.reason}
          description={text.actions.reasonHint}
          placeholder={text.actions.reasonPlaceholder}
          value={reason}
          onChange={(event) => setReason(event.currentTarget.value)}
          maxLength={reasonMax}
          rows={3}
          required
          maw={640}
        />
        {failure !== null && <Problem error={failure} />}
        <div className="row">
          <Button type="submit" disabled={!enough || cohort === 0 || pending} loading={busy}>
            {draft.approvals_min > 0 ? say.propose(cohort) : say.go(cohort)}
          </Button>
        </div>
      </form>
    </Panel>
  );
}
