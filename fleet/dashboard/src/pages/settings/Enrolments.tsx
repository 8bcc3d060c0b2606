// Files with which new boxes join: who made them, how many may still use them, and making one.
import { Button, NativeSelect, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";
import { enrolmentsQuery } from "../../api/queries";
import type { Enrolment } from "../../api/types";
import { words } from "../../format";
import type { Tone } from "../../palette";
import { Act } from "../../parts/Act";
import { Answer } from "../../parts/Answer";
import { Dialog } from "../../parts/Dialog";
import { Command } from "../../parts/Empty";
import { NumberField } from "../../parts/NumberField";
import { Note, Panel } from "../../parts/Panel";
import { ReasonDialog } from "../../parts/ReasonDialog";
import { save } from "../../parts/save";
import { State } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Stamp } from "../../parts/Time";
import { text } from "../../strings";

const say = text.settings.enrolments;
const dayS = 86_400;

export function Enrolments() {
  const asked = useQuery(enrolmentsQuery);
  const [making, setMaking] = useState(false);
  const [cancelling, setCancelling] = useState<Enrolment | null>(null);
  const cache = useQueryClient();
  return (
    <Panel title={say.title} aside={<Act label={say.make} whyNot={null} onClick={() => setMaking(true)} />}>
      <Answer of={asked}>
        {(files) =>
          files.length === 0 ? (
            <Note>{say.none}</Note>
          ) : (
            <Table<Enrolment>
              label={say.title}
              rows={files}
              rowKey={({ id }) => id}
              columns={[
                { head: say.site, cell: ({ site }) => <span className="strong">{site}</span> },
                { head: say.state, cell: ({ state }) => <State is={state} tone={toneOf(state)} word={words(state)} /> },
                { head: say.left, right: true, cell: ({ uses_left, count }) => say.leftOf(uses_left, count) },
                { head: say.approve, cell: ({ approve }) => say.approves[approve] ?? approve },
                { head: say.expires, cell: ({ expires }) => <Stamp at={expires} /> },
                { head: say.by, cell: ({ made_by }) => made_by },
                {
                  head: say.cancel,
                  cell: (file) => <Act label={say.cancel} describe={say.cancelOf(file.id)} danger whyNot={file.state === "open" ? null : say.ended} onClick={() => setCancelling(file)} />,
                },
              ]}
            />
          )
        }
      </Answer>
      {making && <Making onClose={() => setMaking(false)} />}
      {cancelling !== null && (
        <ReasonDialog
          title={`${say.cancel}: ${cancelling.site}`}
          effect={say.effect(cancelling.uses_left)}
          confirm={say.cancel}
          danger
          act={async (reason) => {
            await post("/api/v1/enrolments/{id}/cancel", { reason }, { path: { id: cancelling.id } });
            await cache.invalidateQueries({ queryKey: ["enrolments"] });
          }}
          onClose={() => setCancelling(null)}
        />
      )}
    </Panel>
  );
}

function toneOf(state: string): Tone {
  return state === "open" ? "good" : "idle";
}

function Making({ onClose }: { onClose: () => void }) {
  const [site, setSite] = useState("");
  const [count, setCount] = useState(1);
  const [days, setDays] = useState(7);
  const [approve, setApprove] = useState<"manual" | "auto">("manual");
  const [failure, setFailure] = useState<string | null>(null);
  const cache = useQueryClient();
  const submit = async (): Promise<void> => {
    try {
      const made = await post("/api/v1/enrolments", { site: site.trim(), count, ttl_s: Math.round(days * dayS), approve }, {});
      save(`${made.enrolment.site}.enrol`, `${JSON.stringify(made.file, null, 2)}\n`, "application/json");
      await cache.invalidateQueries({ queryKey: ["enrolments"] });
      onClose();
    } catch (cause) {
      setFailure(cause instanceof Error ? cause.message : String(cause));
    }
  };
  return (
    <Dialog onClose={onClose} title={say.make}>
      <form
        className="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <p>{say.makeEffect}</p>
        <TextInput label={say.site} value={site} onChange={(event) => setSite(event.currentTarget.value)} maxLength={64} required error={failure} data-autofocus />
        <NumberField label={say.count} value={count} min={1} allowDecimal={false} change={setCount} />
        <NumberField label={say.days} value={days} min={1} change={setDays} />
        <NativeSelect
          label={say.approve}
          value={approve}
          data={Object.entries(say.approves).map(([value, label]) => ({ value, label }))}
          onChange={(event) => setApprove(event.currentTarget.value as typeof approve)}
        />
        <p className="soft small">{say.how}</p>
        <Command line={text.commands.enrol(site.trim() === "" ? "SITE" : site.trim())} />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.actions.cancel}
          </Button>
          <Button type="submit" disabled={site.trim() === ""}>
            {say.create}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
