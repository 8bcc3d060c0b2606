// Sentences in the order they happened, each with its time and a link to what it speaks of.
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { short } from "../format";
import { text } from "../strings";
import { Times } from "./Time";

export interface LogLine {
  key: string;
  at: string;
  world_at?: string | null;
  sentence: string;
  subject?: string | null;
  actor?: { name: string } | string | null;
}

export function Log({ lines }: { lines: LogLine[] }) {
  return (
    <ol className="list log">
      {lines.map((line) => (
        <li key={line.key} data-row="">
          <Times at={line.at} worldAt={line.world_at} />
          <span>
            {line.sentence}{" "}
            <span className="soft small">
              <Subject of={line.subject} />
              {byWhom(line.actor)}
            </span>
          </span>
        </li>
      ))}
    </ol>
  );
}

function byWhom(actor: LogLine["actor"]): string {
  const name = typeof actor === "string" ? actor : actor?.name;
  return name === undefined || name === "" ? "" : ` · ${name}`;
}

/** Ids say by their prefix what they name. */
export function Subject({ of, children }: { of: string | null | undefined; children?: ReactNode }) {
  if (of === null || of === undefined || of === "") return <>{children}</>;
  const id = of.slice(Math.max(of.lastIndexOf("/"), of.lastIndexOf(":")) + 1);
  const named = text.subjects;
  if (id.startsWith("ro-")) return <Link to="/rollouts/$id" params={{ id }}>{children ?? named.rollout}</Link>;
  if (id.startsWith("d-")) return <Link to="/devices/$id" params={{ id }}>{children ?? named.device}</Link>;
  if (id.startsWith("run-")) return <Link to="/runs/$id" params={{ id }}>{children ?? named.run}</Link>;
  if (id.startsWith("inc-")) return <Link to="/drift">{children ?? named.incident}</Link>;
  return <>{children ?? short(of, 28)}</>;
}
