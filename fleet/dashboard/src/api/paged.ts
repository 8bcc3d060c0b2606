// A long list of the server as rows by number. Only the pages that are looked at are in memory and asked for again; of
// the others no more is known than where they begin.
import { keepPreviousData, useQueries, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Page } from "./types";

export const pageRows = 200;
const againMs = 10_000;
const forgetMs = 30_000;

export interface Paged<T> {
  /** Rows known of, the last page counted full until it came. */
  count: number;
  /** Whether `count` is all. */
  whole: boolean;
  at: (row: number) => T | undefined;
  /** To be told which rows are looked at. */
  see: (first: number, last: number) => void;
  error: Error | null;
  /** When the oldest of what is looked at came. */
  dataUpdatedAt: number;
  pending: boolean;
  refetch: () => unknown;
}

export type Ask<T> = (cursor: string | undefined, signal: AbortSignal) => Promise<Page<T>>;

/** Where each known page begins; the first begins at the beginning. */
type Cursors = readonly (string | undefined)[];
const beginning: Cursors = [undefined];

export function usePaged<T>(key: readonly unknown[], ask: Ask<T>): Paged<T> {
  const name = JSON.stringify(key);
  const [known, setKnown] = useState({ name, cursors: beginning });
  const [seen, setSeen] = useState({ first: 0, last: 0 });
  const cursors = known.name === name ? known.cursors : beginning;
  const query = (page: number) => ({
    queryKey: [...key, cursors[page] ?? ""] as const,
    queryFn: ({ signal }: { signal: AbortSignal }) => ask(cursors[page], signal),
    refetchInterval: againMs,
    gcTime: forgetMs,
  });
  const first = useQuery({ ...query(0), placeholderData: keepPreviousData });
  const wanted = pagesAround(seen, cursors.length).filter((page) => page > 0);
  const others = useQueries({ queries: wanted.map(query) });
  const loaded = new Map<number, Page<T>>();
  if (first.data !== undefined && !first.isPlaceholderData) loaded.set(0, first.data);
  wanted.forEach((page, i) => {
    const data = others[i]?.data;
    if (data !== undefined) loaded.set(page, data);
  });
  const learnt = [...loaded].map(([page, { next }]): [number, string | null] => [page, next ?? null]).reduce(withNext, cursors);
  if (known.name !== name || known.cursors !== learnt) setKnown({ name, cursors: learnt });

  const shown = first.isPlaceholderData ? first.data : undefined;
  const last = loaded.get(cursors.length - 1);
  return {
    count: shown?.items.length ?? (cursors.length - 1) * pageRows + (last?.items.length ?? pageRows),
    whole: last !== undefined && last.next == null,
    at: (row) => (shown ?? loaded.get(Math.floor(row / pageRows)))?.items[row % pageRows],
    see: (from, to) => setSeen((before) => (before.first === from && before.last === to ? before : { first: from, last: to })),
    ...standing([first, ...others]),
    pending: first.data === undefined,
    refetch: () => Promise.all([first, ...others].map((page) => page.refetch())),
  };
}

/** What went wrong with one of the pages, and when the oldest of those that came did. */
export function standing(pages: readonly { error: Error | null; dataUpdatedAt: number }[]): { error: Error | null; dataUpdatedAt: number } {
  const came = pages.map(({ dataUpdatedAt }) => dataUpdatedAt).filter((at) => at > 0);
  return { error: pages.find(({ error }) => error !== null)?.error ?? null, dataUpdatedAt: came.length === 0 ? 0 : Math.min(...came) };
}

/** The pages that hold the rows, with one more on either side. */
export function pagesAround({ first, last }: { first: number; last: number }, known: number): number[] {
  const from = Math.max(0, Math.floor(first / pageRows) - 1);
  const to = Math.min(known - 1, Math.floor(last / pageRows) + 1);
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);
}

/** A page says where the next one begins, or that it is the last. */
export function withNext(cursors: Cursors, [page, next]: [number, string | null]): Cursors {
  if (page >= cursors.length) return cursors;
  if (next === null) return cursors.length === page + 1 ? cursors : cursors.slice(0, page + 1);
  if (cursors[page + 1] === next) return cursors;
  return [...cursors.slice(0, page + 1), next, ...cursors.slice(page + 2)];
}
