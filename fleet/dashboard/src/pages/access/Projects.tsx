// Whose sites, models and datasets are whose.
import { Button, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";
import { projectsQuery } from "../../api/queries";
import type { Project } from "../../api/types";
import { Act } from "../../parts/Act";
import { Answer } from "../../parts/Answer";
import { Dialog } from "../../parts/Dialog";
import { Panel } from "../../parts/Panel";
import { Table } from "../../parts/Table";
import { text } from "../../strings";
import { listed, useSending } from "./sending";

const say = text.access.projects;
/** Has all that no other project has. */
const defaultProject = "default";

export function Projects() {
  const asked = useQuery(projectsQuery);
  const [open, setOpen] = useState<Project | "new" | null>(null);
  const things = (project: Project, of: "sites" | "models" | "datasets"): string => {
    const named = project[of].join(", ");
    return named === "" && project.name === defaultProject ? say.rest : named;
  };
  return (
    <Panel title={say.title} aside={<Act label={say.make} whyNot={null} onClick={() => setOpen("new")} />}>
      <Answer of={asked}>
        {(projects) => (
          <Table<Project>
            label={say.title}
            rows={projects}
            rowKey={({ name }) => name}
            columns={[
              { head: say.name, cell: ({ name }) => <span className="strong">{name}</span> },
              { head: say.sites, wide: true, cell: (project) => things(project, "sites") },
              { head: say.models, wide: true, cell: (project) => things(project, "models") },
              { head: say.datasets, wide: true, cell: (project) => things(project, "datasets") },
              { head: say.assign, cell: (project) => <Act label={say.assign} describe={say.assignOf(project.name)} whyNot={null} onClick={() => setOpen(project)} /> },
            ]}
          />
        )}
      </Answer>
      {open === "new" && <Making onClose={() => setOpen(null)} />}
      {open !== null && open !== "new" && <Assigning project={open.name} onClose={() => setOpen(null)} />}
    </Panel>
  );
}

function Making({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const cache = useQueryClient();
  const send = async (): Promise<void> => {
    await post("/api/v1/projects", { name: name.trim() }, {});
    await cache.invalidateQueries({ queryKey: ["projects"] });
  };
  const { busy, failure, submit } = useSending(send, onClose);
  return (
    <Dialog onClose={onClose} title={say.make}>
      <form className="dialog" onSubmit={submit}>
        <TextInput label={say.name} description={say.makeHint} value={name} onChange={(event) => setName(event.currentTarget.value)} maxLength={64} required error={failure} data-autofocus />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.actions.cancel}
          </Button>
          <Button type="submit" loading={busy} disabled={name.trim() === ""}>
            {say.create}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Assigning({ project, onClose }: { project: string; onClose: () => void }) {
  const [sites, setSites] = useState("");
  const [models, setModels] = useState("");
  const [datasets, setDatasets] = useState("");
  const cache = useQueryClient();
  const assignment = { sites: listed(sites), models: listed(models), datasets: listed(datasets) };
  const things = assignment.sites.length + assignment.models.length + assignment.datasets.length;
  const send = async (): Promise<void> => {
    await post("/api/v1/projects/{name}/assign", assignment, { path: { name: project } });
    // What one may see may have changed with it.
    await cache.invalidateQueries();
  };
  const { busy, failure, submit } = useSending(send, onClose);
  return (
    <Dialog onClose={onClose} title={say.assignOf(project)}>
      <form className="dialog" onSubmit={submit}>
        <p className="soft small">{say.assignHint}</p>
        <TextInput label={say.sites} value={sites} onChange={(event) => setSites(event.currentTarget.value)} data-autofocus />
        <TextInput label={say.models} value={models} onChange={(event) => setModels(event.currentTarget.value)} />
        <TextInput label={say.datasets} value={datasets} onChange={(event) => setDatasets(event.currentTarget.value)} />
        <p>{say.effect(things, project)}</p>
        {failure !== null && <p role="alert">{failure}</p>}
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            {text.actions.cancel}
          </Button>
          <Button type="submit" loading={busy} disabled={things === 0}>
            {say.assign}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
