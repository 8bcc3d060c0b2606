// A stacked bar whose parts are links to the lists they count, with a legend that says the same in words.
import { Link } from "@tanstack/react-router";
import { count } from "../format";

export interface Part {
  key: string;
  label: string;
  value: number;
  colour: string;
  to?: "/devices" | "/models";
  search?: Record<string, string>;
}

export function Bar({ parts, label }: { parts: Part[]; label: string }) {
  const shown = parts.filter((part) => part.value > 0);
  const total = shown.reduce((sum, part) => sum + part.value, 0);
  return (
    <div>
      <div className="bar" role="img" aria-label={`${label}: ${shown.map((p) => `${p.label} ${p.value}`).join(", ")}`}>
        {shown.map((part) => (
          <span key={part.key} style={{ flexGrow: total === 0 ? 0 : part.value, background: part.colour }} />
        ))}
      </div>
      <div className="legend num">
        {parts.map((part) => (
          <span key={part.key} className="nowrap">
            <span className="swatch" style={{ background: part.colour }} aria-hidden="true" />
            {part.to === undefined ? (
              part.label
            ) : (
              <Link to={part.to} search={part.search ?? {}}>
                {part.label}
              </Link>
            )}{" "}
            <span className="strong">{count(part.value)}</span>
          </span>
        ))}
      </div>
    </div>
  );
}
