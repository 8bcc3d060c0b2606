// Numbers while they are typed. Pure.

/** Null while it is none yet. Mantine's field hands over text wherever a number would lose what was typed: "0.", "2.0", "". */
export function numberOf(typed: number | string): number | null {
  const read = typeof typed === "number" ? typed : typed.trim() === "" ? Number.NaN : Number(typed);
  return Number.isFinite(read) ? read : null;
}
