// Acts on everything that the list's filter matches: the server resolves it, and says beforehand whom it would touch.
import { Button, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { put, post } from "../api/client";
import type { Paged } from "../api/paged";
import { cohortsQuery, tagRehearsalQuery } from "../api/queries";
import type { Device } from "../api/types";
import { Act } from "../parts/Act";
import { Dialog } from "../parts/Dialog";
import { typingMs } from "../parts/Typed";
import type { DevicesSearch } from "../search";
import { text } from "../strings";
import { namedMax, selectorOf, type Selected } from "./selector";
import { settledTags } from "./tags";

const say = text.bulk;

export function Bulk({ search, rows }: { search: DevicesSearch; rows: Paged<Device> }) {
  const [asking, setAsking] = useState<"tag" | "cohort" | null>(null);
  const navigate = useNavigate();
  const known = Array.from({ length: Math.min(rows.count, namedMax + 1) }, (_, i) => rows.at(i));
  const selected = selectorOf(search, known, rows.whole && rows.count <= namedMax);
  const whyNot = typeof selected === "string" ? selected : null;
  return (
    <>
      <Act label={say.tag} whyNot={whyNot} onClick={() => setAsking("tag")} />
      <Act label={say.cohort} whyNot={whyNot ?? (typeof selected === "string" || selected.filter !== "" ? null : say.everybody)} onClick={() => setAsking("cohort")} />
      <Act
        label={say.rollOut}
        whyNot={whyNot}
        onClick={() => {
          if (typeof selected !== "string") void navigate({ to: "/rollouts/new", search: selected.filter === "" ? {} : { filter: selected.filter } });
        }}
      />
      {typeof selected !== "string" && asking === "tag" && <Tagging selected={selected} onClose={() => setAsking(null)} />}
      {typeof selected !== "string" && asking === "cohort" && <Saving selected={selected} onClose={() => setAsking(null)} />}
    </>
  );
}

/** Says whom the filter means, and whether those who come later are meant too. */
function Whom({ selected: { filter, follows } }: { selected: Selected }) {
  return (
    <p>
      {filter === "" ? say.whomAll : <span className="mono">{filter.length > 160 ? `${filter.slice(0, 160)}…` : filter}</span>}
      {!follows && <span className="block soft small">{say.fixed}</span>}
    </p>
  );
}

function Tagging({ selected, onClose }: { selected: Selected; onClose: () => void }) {
  const [line, setLine] = useState("");
  const [failure, setFailure] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const cache = useQueryClient();
  const [asked] = useDebouncedValue(line, typingMs);
  const tags = settledTags(line, asked);
  const body = typeof tags === "string" ? null : { filter: selected.filter, ...tags };
  const rehearsal = useQuery({ ...tagRehearsalQuery(body ?? { filter: "" }), enabled: body !== null });
  const changed = body === null ? undefined : rehearsal.data;
  const submit = async (): Promise<void> => {
    if (body === null) return;
    setBusy(true);
    try {
      await post("/api/v1/tags", body, { query: { dry_run: false } });
      await Promise.all([cache.invalidateQueries({ queryKey: ["devices"] }), cache.invalidateQueries({ queryKey: ["tags"] })]);
      onClose();
    } catch (cause) {
      setFailure(cause instanceof Error ? cause.message : String(cause));
      setBusy(false);
    }
  };
  return (
    <Dialog onClose={onClose} title={say.tag}>
      <form
        className="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (changed !== undefined && changed.changed > 0 && !busy) void submit();
        }}
      >
        <Whom selected={selected} />
        <TextInput
          label={say.tags}
          description={say.tagsHint}
          placeholder="ward=icu, -legacy"
          value={line}
          maxLength={512}
          onChange={(event) => setLine(event.currentTarget.value)}
          error={line.trim() !== "" && line === asked && typeof tags === "string" ? tags : rehearsal.error?.message}
          data-autofocus
        />
        <p role="status" aria-live="polite">
          {changed === undefined ? say.typeTags : say.tagEffect(changed.changed, changed.devices)}
          {changed !== undefined && changed.names.length > 0 && <span className="block soft small">{changed.names.slice(0, 12).join(", ")}</span>}
        </p>
        {failure !== null && <p role="alert">{failure}</p>}
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.actions.cancel}
          </Button>
          <Button type="submit" loading={busy} disabled={changed === undefined || changed.changed === 0}>
            {say.tagDo(changed?.changed ?? 0)}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Saving({ selected, onClose }: { selected: Selected; onClose: () => void }) {
  const [name, setName] = useState("");
  const [failure, setFailure] = useState<string | null>(null);
  const cache = useQueryClient();
  const { data: cohorts = [] } = useQuery(cohortsQuery);
  const taken = cohorts.find((cohort) => cohort.name === name.trim());
  const submit = async (): Promise<void> => {
    try {
      const headers: Record<string, string> = taken === undefined ? {} : { "if-match": `"${taken.revision}"` };
      await put("/api/v1/cohorts/{name}", { filter: selected.filter }, { path: { name: name.trim() }, headers });
      await cache.invalidateQueries({ queryKey: ["cohorts"] });
      onClose();
    } catch (cause) {
      setFailure(cause instanceof Error ? cause.message : String(cause));
    }
  };
  return (
    <Dialog onClose={onClose} title={say.cohort}>
      <form
        className="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (name.trim() !== "") void submit();
        }}
      >
        <Whom selected={selected} />
        <TextInput
          label={say.cohortName}
          description={selected.follows ? say.cohortFollows : say.cohortFixed}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
          maxLength={40}
          error={failure}
          required
          data-autofocus
        />
        {taken !== undefined && <p>{say.replaces(taken.name, taken.filter)}</p>}
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.actions.cancel}
          </Button>
          <Button type="submit" disabled={name.trim() === ""}>
            {taken === undefined ? say.cohortDo : say.cohortReplace}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
