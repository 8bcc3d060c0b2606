// A dialog that stands while something is asked: made anew each time, so that nothing of the last question is left in it.
import { Modal, type ModalProps } from "@mantine/core";
import { useEffect, useState } from "react";
import { giveBack } from "./focus";

interface DialogProps extends Omit<ModalProps, "opened" | "title"> {
  title: string;
}

/** Gives the keyboard back to where it was; Mantine does so only for a dialog that stays and is closed. */
export function Dialog({ title, ...props }: DialogProps) {
  const [before] = useState(() => document.activeElement as HTMLElement | null);
  useEffect(() => () => giveBack(before), [before]);
  return <Modal {...props} opened title={<span className="strong">{title}</span>} />;
}
