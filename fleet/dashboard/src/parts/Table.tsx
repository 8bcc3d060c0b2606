// A plain table from a typed list of columns. The server sorts, filters and pages; this only shows.

export interface Column<Row> {
  head: string;
  cell: (row: Row) => React.ReactNode;
  /** Figures stand to the right, so that their digits align. */
  right?: boolean;
  wide?: boolean;
}

interface TableProps<Row> {
  label: string;
  rows: readonly Row[];
  columns: readonly Column<Row>[];
  rowKey: (row: Row, index: number) => string;
}

export function Table<Row>({ label, rows, columns, rowKey }: TableProps<Row>) {
  return (
    // Focusable, so that it scrolls by keyboard where it is wider than its place.
    <div className="scroll" role="region" aria-label={label} tabIndex={0}>
      <table className="table">
        <caption className="hidden">{label}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.head} scope="col" className={column.right === true ? "r" : undefined}>
                {column.head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={rowKey(row, index)} data-row="">
              {columns.map((column) => (
                <td key={column.head} className={classOf(column)} data-head={column.head}>
                  {column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function classOf<Row>(column: Column<Row>): string | undefined {
  if (column.right === true) return "r num";
  return column.wide === true ? "wide" : undefined;
}

/** The figures behind a picture. */
export function Figures<Row>(props: TableProps<Row> & { summary: string }) {
  return (
    <details className="figures">
      <summary>{props.summary}</summary>
      <Table {...props} />
    </details>
  );
}
