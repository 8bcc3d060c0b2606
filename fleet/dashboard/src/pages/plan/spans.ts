// Spans of time as people write them: "1d", "12h", "1d12h"; as the plan files and the command line do. Pure.
const units = { d: 86_400, h: 3_600, m: 60, s: 1 } as const;
type Unit = keyof typeof units;
const largestFirst = Object.keys(units) as Unit[];

export function printSpan(seconds: number): string {
  let left = Math.round(seconds);
  const parts = largestFirst.flatMap((unit) => {
    const n = Math.floor(left / units[unit]);
    left -= n * units[unit];
    return n > 0 ? [`${n}${unit}`] : [];
  });
  return parts.length === 0 ? "0s" : parts.join("");
}

export function parseSpan(line: string): number | null {
  const parts = line.trim().match(/^(\d+\s*[dhms]\s*)+$/i) === null ? null : [...line.matchAll(/(\d+)\s*([dhms])/gi)];
  if (parts === null) return null;
  return parts.reduce((sum, [, n, unit]) => sum + Number(n) * units[(unit ?? "s").toLowerCase() as Unit], 0);
}
