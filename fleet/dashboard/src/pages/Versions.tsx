// What the dashed marks on the time axis are: which version came when, by which rollout.
import { Link } from "@tanstack/react-router";
import type { VersionMark } from "../charts/versions";
import { Stamp } from "../parts/Time";
import { text } from "../strings";

export function Versions({ marks, model }: { marks: VersionMark[]; model: string }) {
  if (marks.length === 0) return null;
  return (
    <ul className="body row small" style={{ margin: 0, paddingTop: 0, listStyle: "none" }} aria-label={text.drift.versions}>
      {marks.map(({ version, from, rollout }) => (
        <li key={version}>
          <span className="soft">{text.drift.versionFrom}</span>{" "}
          {rollout === undefined ? (
            <Link to="/models" search={{ model }} className="inline">
              {version}
            </Link>
          ) : (
            <Link to="/rollouts/$id" params={{ id: rollout }} className="inline">
              {version}
            </Link>
          )}{" "}
          <span className="soft">
            <Stamp at={from} />
          </span>
        </li>
      ))}
    </ul>
  );
}
