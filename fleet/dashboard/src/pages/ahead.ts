// When a list that grows while it is scrolled asks for its next page. Pure.

/** Rows that are asked for before they come into sight. */
const rowsAhead = 40;

interface Growing {
  more: boolean;
  isFetchingNextPage: boolean;
  /** Then a person says when to try again: the list would ask without a pause. */
  isFetchNextPageError: boolean;
}

export function wantsMore({ more, isFetchingNextPage, isFetchNextPageError }: Growing, last: number, rows: number): boolean {
  return more && !isFetchingNextPage && !isFetchNextPageError && last >= rows - rowsAhead;
}
