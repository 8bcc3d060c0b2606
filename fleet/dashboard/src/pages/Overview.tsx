// The front page: what needs a person first, then what moves, then how the fleet stands.
import { useQuery } from "@tanstack/react-query";
import { Link, useRouter } from "@tanstack/react-router";
import { logQuery, overviewQuery } from "../api/queries";
import type { ModelSpread, Need, Overview } from "../api/types";
import { count } from "../format";
import { seriesColour, toneColour } from "../palette";
import { Answer } from "../parts/Answer";
import { Bar } from "../parts/Bar";
import { Command } from "../parts/Empty";
import { Log } from "../parts/Log";
import { Note, PageHead, Panel } from "../parts/Panel";
import { Shape, State } from "../parts/State";
import { Ago } from "../parts/Time";
import { Knock } from "./Member";
import { RolloutCard } from "./RolloutCard";
import { text } from "../strings";

const say = text.overview;
const logLines = 10;

export function OverviewPage() {
  const overview = useQuery(overviewQuery);
  return (
    <>
      <PageHead title={say.title} />
      <Answer of={overview} rows={6}>
        {(data) => (
          <div className="stack">
            {data.devices.total === 0 && <Start />}
            <NeedsYou needs={data.needs_you} />
            <div className="cols-wide">
              <div className="stack">
                <Panel title={say.running} aside={<Link to="/rollouts">{text.all}</Link>}>
                  {data.rollouts.length === 0 ? <Note>{say.runningNone}</Note> : data.rollouts.map((rollout) => <RolloutCard key={rollout.id} rollout={rollout} />)}
                </Panel>
                <Models models={data.models} />
              </div>
              <div className="stack">
                <Devices overview={data} />
                <RecentLog />
              </div>
            </div>
          </div>
        )}
      </Answer>
    </>
  );
}

function NeedsYou({ needs }: { needs: Need[] }) {
  return (
    <Panel title={say.needs} aside={needs.length === 0 ? undefined : count(needs.length)} tone={needs.length === 0 ? undefined : "warn"}>
      {needs.length === 0 ? (
        <p className="body row">
          <Shape tone="good" /> {say.needsNone}
        </p>
      ) : (
        <ul className="list">
          {needs.map((need) => (
            <li className="need" key={`${need.kind} ${need.id}`} data-row="">
              <State is={need.kind} tone={need.kind === "incident_open" || need.kind === "device_suspect" || need.kind.endsWith("failed") ? "bad" : "warn"} word={say.whoNeeds[need.kind]} />
              <div>
                <Within href={need.link}>{need.title}</Within>
                <p className="soft">{need.detail}</p>
                {need.fingerprint != null && (
                  <p className="mono strong" aria-label={say.fingerprint}>
                    {need.fingerprint}
                  </p>
                )}
              </div>
              <span className="soft small row">
                {need.kind === "device_pending" && <Knock need={need} />}
                <Ago at={need.since} />
              </span>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

/** The server says where each need is dealt with; only addresses of this dashboard are followed. */
function Within({ href, children }: { href: string; children: React.ReactNode }) {
  const router = useRouter();
  if (!href.startsWith("/") || href.startsWith("//")) return <span className="strong">{children}</span>;
  return (
    <a
      href={href}
      className="strong"
      onClick={(event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
        event.preventDefault();
        router.history.push(href);
      }}
    >
      {children}
    </a>
  );
}

function Devices({ overview: { devices, incidents_open } }: { overview: Overview }) {
  return (
    <Panel title={say.devices} aside={<Link to="/devices">{count(devices.total)}</Link>}>
      <div className="tiles four">
        <Link className="tile" to="/devices" search={{ presence: "online" }}>
          <b>{count(devices.online)}</b>
          <span>
            <Shape tone="good" /> {say.online}
          </span>
        </Link>
        <Link className="tile" to="/devices" search={{ presence: "offline" }}>
          <b>{count(devices.offline)}</b>
          <span>
            <Shape tone="idle" /> {say.offline}
          </span>
        </Link>
        <Link className="tile" to="/devices" search={{ phase: "failed" }}>
          <b>{count(devices.failing)}</b>
          <span>
            <Shape tone={devices.failing > 0 ? "bad" : "good"} /> {say.failing}
          </span>
        </Link>
        <Link className="tile" to="/drift">
          <b>{count(incidents_open)}</b>
          <span>
            <Shape tone={incidents_open > 0 ? "bad" : "good"} /> {text.drift.title}
          </span>
        </Link>
      </div>
      <div className="body" style={{ borderTop: "1px solid var(--m-line-soft)" }}>
        <Bar
          label={say.devices}
          parts={[
            { key: "running", label: say.serving, value: devices.running, colour: "var(--m-good-fill)" },
            { key: "idle", label: say.idle, value: Math.max(0, devices.total - devices.running), colour: "var(--m-idle-fill)" },
          ]}
        />
      </div>
    </Panel>
  );
}

function Models({ models }: { models: ModelSpread[] }) {
  return (
    <Panel title={say.models} aside={<Link to="/models">{text.all}</Link>}>
      {models.length === 0 ? (
        <Note>{say.modelsNone}</Note>
      ) : (
        models.map((model) => (
          <div className="body" key={model.model} data-row="">
            <p className="spread" style={{ marginBottom: 6 }}>
              <Link to="/models" search={{ model: model.model }} className="strong">
                {model.model}
              </Link>
              <Link to="/devices" search={{ model: model.model }} className="soft small num">
                {count(model.bundles.reduce((sum, bundle) => sum + bundle.devices, 0))} {say.devices.toLowerCase()}
              </Link>
            </p>
            <Bar
              label={model.model}
              parts={model.bundles.map((bundle, index) => ({
                key: bundle.bundle,
                label: bundle.version,
                value: bundle.devices,
                colour: seriesColour(index),
                to: "/devices",
                search: { bundle: bundle.bundle },
              }))}
            />
          </div>
        ))
      )}
    </Panel>
  );
}

function RecentLog() {
  const log = useQuery(logQuery(logLines));
  return (
    <Panel title={say.log}>
      <Answer of={log}>
        {(entries) =>
          entries.length === 0 ? (
            <Note>{say.logNone}</Note>
          ) : (
            <Log
              lines={entries
                .toSorted((a, b) => Date.parse(b.at) - Date.parse(a.at) || Number(b.id) - Number(a.id))
                .slice(0, logLines)
                .map((entry) => ({ ...entry, key: String(entry.id) }))}
            />
          )
        }
      </Answer>
    </Panel>
  );
}

function Start() {
  const steps = [
    [say.start.agent, text.commands.agent],
    [say.start.publish, text.commands.publish],
    [say.start.rollout, text.commands.rollout],
  ] as const;
  return (
    <Panel title={say.start.title}>
      <ol className="body stack">
        {steps.map(([title, command], index) => (
          <li key={title}>
            <p style={{ marginBottom: 4 }}>
              <span className="strong" style={{ color: toneColour.busy }}>
                {index + 1}
              </span>{" "}
              {title}
            </p>
            <Command line={command} />
          </li>
        ))}
      </ol>
    </Panel>
  );
}
