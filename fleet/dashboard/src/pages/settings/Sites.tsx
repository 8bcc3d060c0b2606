// What each site allows, and freezing one of them.
import { Button, NativeSelect, Textarea, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { put } from "../../api/client";
import { useSites } from "../../api/sites";
import type { Site, SiteHours } from "../../api/types";
import { stamp } from "../../format";
import { Act } from "../../parts/Act";
import { Answer } from "../../parts/Answer";
import { Dialog } from "../../parts/Dialog";
import { FreezeSite } from "../../parts/Freeze";
import { NumberField } from "../../parts/NumberField";
import { Note, Panel } from "../../parts/Panel";
import { Table } from "../../parts/Table";
import { useNow } from "../../shell/now";
import { text } from "../../strings";

const say = text.settings.sites;

export function Sites() {
  const asked = useSites();
  const [editing, setEditing] = useState<Site | null>(null);
  return (
    <Panel title={say.title} aside={say.hint}>
      <Answer of={asked}>
        {(sites) =>
          sites.length === 0 ? (
            <Note>{say.none}</Note>
          ) : (
            <Table<Site>
              label={say.title}
              rows={sites}
              rowKey={({ site }) => site}
              columns={[
                { head: say.site, cell: ({ site }) => <Link to="/devices" search={{ site }} className="strong">{site}</Link> },
                { head: say.zone, cell: ({ zone = "UTC" }) => <LocalTime zone={zone} /> },
                { head: say.download, wide: true, cell: ({ download }) => windows(download) },
                { head: say.activation, wide: true, cell: ({ activation }) => windows(activation) },
                { head: say.consent, cell: ({ consent = "not_needed" }) => say.consents[consent] ?? consent },
                { head: say.inFlight, cell: ({ in_flight_max }) => in_flight_max ?? <span className="soft">{say.unlimited}</span> },
                {
                  head: text.settings.edit,
                  cell: (site) => (
                    <span className="row" style={{ flexWrap: "nowrap" }}>
                      <Act label={text.settings.edit} describe={text.settings.editOf(site.site)} whyNot={null} onClick={() => setEditing(site)} />
                      <FreezeSite site={site.site} label={text.freeze.act} />
                    </span>
                  ),
                },
              ]}
            />
          )
        }
      </Answer>
      {editing !== null && <Rules site={editing} onClose={() => setEditing(null)} />}
    </Panel>
  );
}

function windows(hours: SiteHours | undefined): string {
  return hours?.windows === undefined || hours.windows.length === 0 ? say.always : hours.windows.join("; ");
}

function LocalTime({ zone }: { zone: string }) {
  const now = useNow();
  return (
    <>
      {zone}
      <span className="block soft small num">{stamp(now, zone).slice(-5)}</span>
    </>
  );
}

function Rules({ site, onClose }: { site: Site; onClose: () => void }) {
  const [zone, setZone] = useState(site.zone ?? "UTC");
  const [download, setDownload] = useState((site.download?.windows ?? []).join("\n"));
  const [activation, setActivation] = useState((site.activation?.windows ?? []).join("\n"));
  const [consent, setConsent] = useState(site.consent ?? "not_needed");
  const [atOnce, setAtOnce] = useState(site.in_flight_max ?? undefined);
  const [failure, setFailure] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const cache = useQueryClient();
  const submit = async (): Promise<void> => {
    setBusy(true);
    try {
      const rules = { zone: zone.trim(), download: { windows: linesOf(download) }, activation: { windows: linesOf(activation) }, consent, in_flight_max: atOnce ?? null };
      await put("/api/v1/sites/{site}", rules, { path: { site: site.site }, headers: { "if-match": `"${site.revision}"` } });
      await cache.invalidateQueries({ queryKey: ["sites"] });
      onClose();
    } catch (cause) {
      setFailure(cause instanceof Error ? cause.message : String(cause));
      setBusy(false);
    }
  };
  return (
    <Dialog onClose={onClose} title={text.settings.editOf(site.site)}>
      <form
        className="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (!busy) void submit();
        }}
      >
        <TextInput label={say.zone} description={say.zoneHint} value={zone} onChange={(event) => setZone(event.currentTarget.value)} maxLength={64} required data-autofocus />
        <Textarea label={say.download} description={say.windowsHint} value={download} onChange={(event) => setDownload(event.currentTarget.value)} rows={3} maxLength={2_000} />
        <Textarea label={say.activation} description={say.windowsHint} value={activation} onChange={(event) => setActivation(event.currentTarget.value)} rows={3} maxLength={2_000} />
        <NativeSelect
          label={say.consent}
          value={consent}
          data={Object.entries(say.consents).map(([value, label]) => ({ value, label }))}
          onChange={(event) => setConsent(event.currentTarget.value as typeof consent)}
        />
        <NumberField label={say.inFlight} placeholder={say.unlimited} value={atOnce} min={1} allowDecimal={false} change={setAtOnce} clear={() => setAtOnce(undefined)} />
        <p className="soft small">{say.effect(site.site)}</p>
        {failure !== null && <p role="alert">{failure}</p>}
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.settings.cancel}
          </Button>
          <Button type="submit" loading={busy}>
            {text.settings.save}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function linesOf(lines: string): string[] {
  return lines.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}
