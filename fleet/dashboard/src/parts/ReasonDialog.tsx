// Before an act: its effect in numbers, and a reason that the audit log keeps.
import { Button, Textarea } from "@mantine/core";
import { useState } from "react";
import { text } from "../strings";
import { Dialog } from "./Dialog";

interface ReasonDialogProps {
  title: string;
  effect: string;
  confirm: string;
  danger?: boolean;
  act: (reason: string) => Promise<unknown>;
  onClose: () => void;
}

export const reasonMin = 3;
export const reasonMax = 500;

export function ReasonDialog({ title, effect, confirm, danger = false, act, onClose }: ReasonDialogProps) {
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string | null>(null);
  const enough = reason.trim().length >= reasonMin;

  const submit = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      await act(reason.trim());
      onClose();
    } catch (cause) {
      setFailure(cause instanceof Error ? cause.message : String(cause));
      setBusy(false);
    }
  };

  return (
    <Dialog onClose={onClose} title={title}>
      <form
        className="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (enough && !busy) void submit();
        }}
      >
        <p>{effect}</p>
        <Textarea
          label={text.actions.reason}
          description={text.actions.reasonHint}
          placeholder={text.actions.reasonPlaceholder}
          value={reason}
          onChange={(event) => setReason(event.currentTarget.value)}
          maxLength={reasonMax}
          error={failure}
          rows={3}
          required
          data-autofocus
        />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.actions.cancel}
          </Button>
          <Button type="submit" color={danger ? "bad" : "blue"} disabled={!enough} loading={busy}>
            {confirm}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
