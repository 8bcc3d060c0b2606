// Before an act that the API takes without a reason: its effect, then yes or no.
import { Button } from "@mantine/core";
import { useState } from "react";
import { text } from "../strings";
import { Dialog } from "./Dialog";

interface ConfirmationProps {
  title: string;
  effect: string;
  confirm: string;
  act: () => Promise<unknown>;
  onClose: () => void;
}

export function Confirmation({ title, effect, confirm, act, onClose }: ConfirmationProps) {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string | null>(null);
  const submit = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      await act();
      onClose();
    } catch (cause) {
      setFailure(cause instanceof Error ? cause.message : String(cause));
      setBusy(false);
    }
  };
  return (
    <Dialog onClose={onClose} title={title}>
      <div className="dialog">
        <p>{effect}</p>
        {failure !== null && <p role="alert">{failure}</p>}
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose} data-autofocus>
            {text.actions.cancel}
          </Button>
          <Button loading={busy} onClick={() => void submit()}>
            {confirm}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}
