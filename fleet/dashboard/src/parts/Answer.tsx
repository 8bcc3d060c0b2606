// What stands where an answer of the server will stand: still loading, failed, or there, and old where asking again failed.
import { Button, Skeleton } from "@mantine/core";
import { ApiError } from "../api/client";
import { text } from "../strings";
import { Stamp } from "./Time";

interface Asked<T> {
  data: T | undefined;
  error: Error | null;
  /** When `data` came, in milliseconds since 1970. */
  dataUpdatedAt: number;
  refetch: () => unknown;
}

interface AnswerProps<T> {
  of: Asked<T>;
  rows?: number;
  children: (data: T) => React.ReactNode;
}

/** Once there is an answer it stays, even when the next one fails: old figures beat none, as long as they say how old they are. */
export function Answer<T>({ of, rows = 4, children }: AnswerProps<T>) {
  if (of.data !== undefined) {
    return (
      <>
        {of.error !== null && <Old at={of.dataUpdatedAt} error={of.error} retry={() => void of.refetch()} />}
        {children(of.data)}
      </>
    );
  }
  if (of.error !== null) return <Problem error={of.error} retry={() => void of.refetch()} />;
  return (
    <div className="body stack" role="status" aria-label={text.loading}>
      {Array.from({ length: rows }, (_, i) => (
        <Skeleton key={i} height={16} width={`${92 - i * 13}%`} />
      ))}
    </div>
  );
}

function Old({ at, error, retry }: { at: number; error: Error; retry: () => void }) {
  return (
    <p className="old small" role="status">
      <span>
        {text.old} <Stamp at={new Date(at).toISOString()} />: {error.message}
      </span>
      <Button size="compact-xs" variant="default" onClick={retry}>
        {text.retry}
      </Button>
    </p>
  );
}

/** What went wrong, and what can be done about it. */
export function Problem({ error, title = text.problem.title, retry }: { error: Error; title?: string; retry?: () => void }) {
  const todo = error instanceof ApiError ? (text.problem.todo[error.code] ?? text.problem.todo[String(error.status)]) : undefined;
  const faults = error instanceof ApiError ? error.faults : [];
  return (
    <div className="panel" data-tone="bad" role="alert">
      <div className="body">
        <p className="strong">{title}</p>
        <p>{error.message}</p>
        {faults.length > 0 && (
          <ul>
            {faults.map((fault) => (
              <li key={fault}>{fault}</li>
            ))}
          </ul>
        )}
        {todo !== undefined && <p className="soft">{todo}</p>}
        {retry !== undefined && (
          <Button mt="sm" size="xs" variant="default" onClick={retry}>
            {text.retry}
          </Button>
        )}
      </div>
    </div>
  );
}
