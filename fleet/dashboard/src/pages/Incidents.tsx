// Open and past alarms, with the two acts a person has.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Fragment, useState } from "react";
import { post } from "../api/client";
import { incidentsQuery } from "../api/queries";
import type { Incident, IncidentStream, IncidentVerb } from "../api/types";
import { figure, plural, signed } from "../format";
import { Act } from "../parts/Act";
import { Answer } from "../parts/Answer";
import { Note, Panel } from "../parts/Panel";
import { ReasonDialog } from "../parts/ReasonDialog";
import { State } from "../parts/State";
import { Ago, Stamp } from "../parts/Time";
import { text } from "../strings";

const say = text.drift;
const streamsShown = 6;
const closedShown = 3;
const sitesShown = 12;

export function Incidents() {
  const asked = useQuery(incidentsQuery);
  return (
    <Answer of={asked} rows={2}>
      {(all) => {
        const open = newest(all.filter((incident) => incident.state !== "closed"));
        const closed = newest(all.filter((incident) => incident.state === "closed"));
        return (
          <Panel title={say.incidents} aside={open.length > 0 ? say.open(open.length) : undefined} tone={open.some((i) => i.state === "open") ? "bad" : undefined}>
            {all.length === 0 ? (
              <Note>{say.incidentsNone}</Note>
            ) : (
              <ul className="list">
                {[...open, ...closed.slice(0, closedShown)].map((incident) => (
                  <One key={incident.id} incident={incident} />
                ))}
              </ul>
            )}
          </Panel>
        );
      }}
    </Answer>
  );
}

function newest(incidents: Incident[]): Incident[] {
  return incidents.toSorted((a, b) => Date.parse(b.opened) - Date.parse(a.opened));
}

function effect(stream: IncidentStream): string {
  if (stream.broken != null) return stream.broken;
  if (stream.effect_sd == null) return `PSI ${figure(stream.psi)}`;
  const between = stream.effect_low == null || stream.effect_high == null ? "" : ` (${say.between(signed(stream.effect_low), signed(stream.effect_high))})`;
  return `${signed(stream.effect_sd)} sd${between}`;
}

function One({ incident }: { incident: Incident }) {
  const [asking, setAsking] = useState<IncidentVerb | null>(null);
  const cache = useQueryClient();
  const act = async (verb: IncidentVerb, reason: string): Promise<void> => {
    await post(`/api/v1/incidents/{id}/${verb}`, { reason }, { path: { id: incident.id } });
    await Promise.all([cache.invalidateQueries({ queryKey: ["incidents"] }), cache.invalidateQueries({ queryKey: ["overview"] })]);
  };
  const { devices, sites } = incident.scope;
  const only = devices.length === 1 ? devices[0] : undefined;
  return (
    <li data-row="">
      <div className="spread">
        <span className="row">
          <State is={incident.state} />
          <Link to="/drift" search={{ model: incident.model }} className="strong">
            {incident.model}
          </Link>
          {incident.kind !== undefined && <span className="strong small">{say.kinds[incident.kind] ?? incident.kind}</span>}
          <span className="soft small">
            <Ago at={incident.opened} />
          </span>
        </span>
        <span className="row">
          <Act
            label={say.acknowledge}
            whyNot={incident.state === "open" ? null : incident.state === "closed" ? say.alreadyClosed : say.alreadyAcknowledged}
            onClick={() => setAsking("acknowledge")}
          />
          <Act label={say.closeIncident} whyNot={incident.state === "closed" ? say.alreadyClosed : null} onClick={() => setAsking("close")} />
        </span>
      </div>
      <p style={{ margin: "4px 0" }}>{incident.sentence}</p>
      {incident.why !== undefined && incident.why !== "" && (
        <p className="small" style={{ margin: "2px 0 4px" }}>
          <span className="soft">{say.why}:</span> {incident.why}.
          {incident.kind !== undefined && incident.state !== "closed" && <> {say.todo[incident.kind]}</>}
        </p>
      )}
      {incident.state !== "closed" && (
        <p className="row" style={{ gap: "2px 14px" }}>
          {incident.streams
            .toSorted((a, b) => Math.abs(b.effect_sd ?? 0) - Math.abs(a.effect_sd ?? 0))
            .slice(0, streamsShown)
            .map((stream) => (
              <span key={stream.name} className="nowrap num">
                <Link to="/drift" search={{ model: incident.model, stream: stream.name }} resetScroll={false}>
                  {stream.name}
                </Link>{" "}
                <span className="soft">{effect(stream)}</span>
              </span>
            ))}
          {incident.streams.length > streamsShown && <span className="soft">{say.andMore(incident.streams.length - streamsShown)}</span>}
        </p>
      )}
      <p className="soft small row num" style={{ marginTop: 2, gap: "2px 16px" }}>
        <span>
          {say.scope}: <Places sites={sites} /> ({only === undefined ? plural(devices.length, "device") : <Link to="/devices/$id" params={{ id: only }} className="inline">{plural(1, "device")}</Link>})
        </span>
        <span>
          {say.onset}: <Stamp at={incident.onset} />
        </span>
        {incident.trigger != null && <Link to="/runs" className="inline">{say.triggered}</Link>}
      </p>
      {asking !== null && (
        <ReasonDialog
          title={`${asking === "close" ? say.closeIncident : say.acknowledge}: ${incident.model}`}
          effect={asking === "close" ? say.closeEffect(devices.length) : say.acknowledgeEffect}
          confirm={asking === "close" ? say.closeIncident : say.acknowledge}
          act={(reason) => act(asking, reason)}
          onClose={() => setAsking(null)}
        />
      )}
    </li>
  );
}

/** Each opens the list of its devices. */
function Places({ sites }: { sites: string[] }) {
  return sites.slice(0, sitesShown).map((site, i) => (
    <Fragment key={site}>
      {i > 0 && ", "}
      <Link to="/devices" search={{ site }} className="inline">
        {site}
      </Link>
      {i + 1 === sitesShown && sites.length > sitesShown && ` ${say.andMore(sites.length - sitesShown)}`}
    </Fragment>
  ));
}
