// A table of any length of which only the rows in sight are in the page. Rows may differ in height: they are measured.
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef } from "react";
import { text } from "../strings";
import type { Column } from "./Table";

/** Longer tables than this are no plain ones. */
export const plainRowsMax = 200;
const rowPx = 40;

export interface VirtualColumn<Row> extends Column<Row> {
  /** A track of the grid, such as `minmax(90px, 1fr)`. */
  track: string;
  title?: (row: Row) => string | undefined;
}

interface VirtualTableProps<Row> {
  label: string;
  columns: readonly VirtualColumn<Row>[];
  count: number;
  /** Whether `count` rows are all. */
  whole: boolean;
  at: (row: number) => Row | undefined;
  rowKey: (row: Row) => string;
  see?: (first: number, last: number) => void;
  /** Below this the table scrolls sideways. */
  widthPx: number;
  /** Cells may take several lines. */
  tall?: boolean;
}

export function VirtualTable<Row>({ label, columns, count, whole, at, rowKey, see, widthPx, tall = false }: VirtualTableProps<Row>) {
  const place = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({ count, getScrollElement: () => place.current, estimateSize: () => rowPx, overscan: 12 });
  const shown = rows.getVirtualItems();
  const [first, last] = [shown[0]?.index ?? 0, shown.at(-1)?.index ?? 0];
  useEffect(() => see?.(first, last), [see, first, last]);
  const tracks = { gridTemplateColumns: columns.map((column) => column.track).join(" ") };
  return (
    <div className="vscroll" ref={place} role="region" aria-label={label} tabIndex={0}>
      <div className="vlist" role="table" aria-label={label} aria-rowcount={whole ? count + 1 : -1} style={{ "--vwidth": `${widthPx}px` } as React.CSSProperties}>
        <div role="rowgroup" className="vtop">
          <div className="vhead" role="row" aria-rowindex={1} style={tracks}>
            {columns.map((column) => (
              <span key={column.head} role="columnheader" className={column.right === true ? "r" : undefined}>
                {column.head}
              </span>
            ))}
          </div>
        </div>
        <div role="rowgroup" style={{ height: rows.getTotalSize(), position: "relative" }}>
          {shown.map(({ index, start }) => {
            const row = at(index);
            return (
              <div
                key={row === undefined ? `row ${index}` : rowKey(row)}
                ref={rows.measureElement}
                data-index={index}
                data-row={row === undefined ? undefined : ""}
                className={tall ? "vrow tall" : "vrow"}
                role="row"
                aria-rowindex={index + 2}
                style={{ ...tracks, transform: `translateY(${start}px)` }}
              >
                {row === undefined ? (
                  <span role="cell" className="soft">
                    {text.loading}
                  </span>
                ) : (
                  columns.map((column) => (
                    <span key={column.head} role="cell" className={column.right === true ? "r" : undefined} data-head={column.head} title={column.title?.(row)}>
                      {column.cell(row)}
                    </span>
                  ))
                )}
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}
