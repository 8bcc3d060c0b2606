// An empty page teaches the next step, with the command ready to copy.
import { ActionIcon, CopyButton } from "@mantine/core";
import { text } from "../strings";
import { Icon } from "./Icon";

export function Empty({ title, why, commands = [] }: { title: string; why: string; commands?: string[] }) {
  return (
    <div className="panel empty">
      <h2>{title}</h2>
      <p className="soft">{why}</p>
      {commands.map((command) => (
        <Command key={command} line={command} />
      ))}
    </div>
  );
}

export function Command({ line }: { line: string }) {
  return (
    <div className="command">
      <code tabIndex={0}>{line}</code>
      <CopyButton value={line}>
        {({ copied, copy }) => (
          <ActionIcon variant="subtle" color="gray" onClick={copy} aria-label={copied ? text.copied : `${text.copy}: ${line}`}>
            <Icon name={copied ? "check" : "copy"} size={16} />
          </ActionIcon>
        )}
      </CopyButton>
    </div>
  );
}
