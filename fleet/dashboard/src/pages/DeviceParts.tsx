// What a box is sorted by, and what was compared beside what it runs.
import { Button, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { put } from "../api/client";
import { deviceTagsQuery } from "../api/queries";
import type { DeviceDetail, DeviceTags, ShadowDay } from "../api/types";
import { count, percent, short, stampDay } from "../format";
import { Act } from "../parts/Act";
import { Dialog } from "../parts/Dialog";
import { Note, Panel } from "../parts/Panel";
import { Table } from "../parts/Table";
import { text } from "../strings";
import { tagsOf } from "./tags";

const say = text.device;

export function Tags({ device }: { device: DeviceDetail }) {
  const { data } = useQuery(deviceTagsQuery(device.id));
  const [editing, setEditing] = useState(false);
  if (data === undefined) return null;
  const tags = Object.entries(data.tags);
  return (
    <Panel title={say.tags} aside={<Act label={text.settings.edit} describe={text.settings.editOf(say.tags)} whyNot={null} onClick={() => setEditing(true)} />}>
      {tags.length === 0 ? (
        <Note>{say.tagsNone}</Note>
      ) : (
        <ul className="body row">
          {tags.map(([name, value]) => (
            <li key={name} className="tag">
              <span className="soft">{name}</span> {value}
            </li>
          ))}
        </ul>
      )}
      {editing && <Editing known={data} onClose={() => setEditing(false)} />}
    </Panel>
  );
}

function Editing({ known, onClose }: { known: DeviceTags; onClose: () => void }) {
  const [line, setLine] = useState(Object.entries(known.tags).map(([name, value]) => `${name}=${value}`).join(", "));
  const [failure, setFailure] = useState<string | null>(null);
  const cache = useQueryClient();
  const read = line.trim() === "" ? { set: {}, remove: [] } : tagsOf(line);
  const wrong = typeof read === "string" ? read : read.remove.length > 0 ? text.bulk.notATag(`-${read.remove[0]}`) : null;
  const submit = async (): Promise<void> => {
    if (typeof read === "string") return;
    try {
      await put("/api/v1/devices/{id}/tags", { tags: read.set }, { path: { id: known.device }, headers: { "if-match": `"${known.revision}"` } });
      await cache.invalidateQueries({ queryKey: ["devices"] });
      onClose();
    } catch (cause) {
      setFailure(cause instanceof Error ? cause.message : String(cause));
    }
  };
  return (
    <Dialog onClose={onClose} title={text.settings.editOf(say.tags)}>
      <form
        className="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (wrong === null) void submit();
        }}
      >
        <TextInput label={say.tags} description={say.tagsHint} value={line} onChange={(event) => setLine(event.currentTarget.value)} maxLength={4_000} error={failure ?? wrong} data-autofocus />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.settings.cancel}
          </Button>
          <Button type="submit" disabled={wrong !== null}>
            {text.settings.save}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

export function Shadows({ device: { shadows } }: { device: DeviceDetail }) {
  if (shadows.length === 0) return null;
  return (
    <Panel title={say.shadows} aside={say.shadowsHint}>
      <Table<ShadowDay>
        label={say.shadows}
        rows={shadows}
        rowKey={({ slot, bundle, against, day }) => [slot, bundle, against, day].join(" ")}
        columns={[
          { head: say.shadowDay, cell: ({ day }) => <span className="nowrap">{stampDay(day)}</span> },
          { head: say.shadowOf, cell: ({ bundle }) => <Named sha256={bundle} /> },
          { head: say.shadowAgainst, cell: ({ against }) => <Named sha256={against} /> },
          { head: say.shadowRows, right: true, cell: ({ rows }) => count(rows) },
          { head: say.shadowDiffered, right: true, cell: ({ rows, differed }) => `${count(differed)} (${percent(rows === 0 ? 0 : (100 * differed) / rows)})` },
        ]}
      />
    </Panel>
  );
}

function Named({ sha256 }: { sha256: string }) {
  return (
    <Link to="/models/$sha256" params={{ sha256 }} className="mono">
      {short(sha256, 8)}
    </Link>
  );
}
