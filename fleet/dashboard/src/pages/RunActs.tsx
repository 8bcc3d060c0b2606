// What a person may do about retraining: ask for one, and end one.
import { Button, NativeSelect, Textarea } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { post } from "../api/client";
import { bundlesQuery, runQuery } from "../api/queries";
import type { Run } from "../api/types";
import { words } from "../format";
import { Act } from "../parts/Act";
import { Dialog } from "../parts/Dialog";
import { ReasonDialog, reasonMax, reasonMin } from "../parts/ReasonDialog";
import { text } from "../strings";

const say = text.runs;

export function StartRun() {
  const [asking, setAsking] = useState(false);
  const { data: bundles = [] } = useQuery(bundlesQuery());
  const models = [...new Set(bundles.map(({ model }) => model))].toSorted();
  return (
    <>
      <Act label={say.start} whyNot={models.length === 0 ? text.models.empty : null} main onClick={() => setAsking(true)} />
      {asking && <Starting models={models} onClose={() => setAsking(false)} />}
    </>
  );
}

function Starting({ models, onClose }: { models: string[]; onClose: () => void }) {
  const [model, setModel] = useState(models[0] ?? "");
  const [reason, setReason] = useState("");
  const [failure, setFailure] = useState<string | null>(null);
  const navigate = useNavigate();
  const cache = useQueryClient();
  const enough = reason.trim().length >= reasonMin;
  const submit = async (): Promise<void> => {
    try {
      const run = await post("/api/v1/runs", { model, reason: reason.trim() }, {});
      await cache.invalidateQueries({ queryKey: ["runs"] });
      await navigate({ to: "/runs/$id", params: { id: run.id } });
    } catch (cause) {
      setFailure(cause instanceof Error ? cause.message : String(cause));
    }
  };
  return (
    <Dialog onClose={onClose} title={say.start}>
      <form
        className="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (enough) void submit();
        }}
      >
        <p>{say.startEffect}</p>
        <NativeSelect label={say.model} value={model} data={models} onChange={(event) => setModel(event.currentTarget.value)} data-autofocus />
        <Textarea
          label={text.actions.reason}
          description={text.actions.reasonHint}
          value={reason}
          onChange={(event) => setReason(event.currentTarget.value)}
          maxLength={reasonMax}
          rows={3}
          error={failure}
          required
        />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.actions.cancel}
          </Button>
          <Button type="submit" disabled={!enough}>
            {say.start}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

export function RunActs({ run }: { run: Run }) {
  const [asking, setAsking] = useState(false);
  const cache = useQueryClient();
  const ended = ["succeeded", "failed", "rejected", "cancelled"].includes(run.state);
  return (
    <>
      <Act label={say.cancel} danger whyNot={ended ? say.ended(words(run.state)) : null} onClick={() => setAsking(true)} />
      {asking && (
        <ReasonDialog
          title={`${say.cancel}: ${run.model}`}
          effect={say.cancelEffect}
          confirm={say.cancel}
          danger
          act={async (reason) => {
            cache.setQueryData(runQuery(run.id).queryKey, await post("/api/v1/runs/{id}/cancel", { reason }, { path: { id: run.id } }));
          }}
          onClose={() => setAsking(false)}
        />
      )}
    </>
  );
}
