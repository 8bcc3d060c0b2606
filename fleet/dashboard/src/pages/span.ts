// Seconds as people say them, in two units at most.
import { none } from "../format";

export function span(seconds: number | null | undefined): string {
  if (seconds == null) return none;
  const units: [string, number][] = [["d", 86_400], ["h", 3600], ["m", 60], ["s", 1]];
  const said: string[] = [];
  let rest = Math.round(seconds);
  for (const [unit, size] of units) {
    if (rest >= size && said.length < 2) {
      said.push(`${Math.floor(rest / size)}${unit}`);
      rest %= size;
    }
  }
  return said.join(" ") || "0s";
}
