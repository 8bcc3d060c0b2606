// Step three: in which stages, with which gates, and what the plan is as a file.
import { Button, NativeSelect } from "@mantine/core";
import type { Bundle, StagePlan } from "../../api/types";
import { Command } from "../../parts/Empty";
import { NumberField } from "../../parts/NumberField";
import { save } from "../../parts/save";
import { Panel } from "../../parts/Panel";
import type { NewRolloutSearch } from "../../search";
import { text } from "../../strings";
import { presetOf, presets, printDraft, withStage, type Draft, type Preset } from "./draft";
import { Span, StageForm } from "./StageForm";
import { planFile } from "./yaml";

const say = text.plan.stages;
/** What the server takes where a plan says nothing. */
const installUsualS = 6 * 3_600;
const whole = { size: "xs", w: 140, placeholder: say.unlimited, allowDecimal: false } as const;

interface PlanFormProps {
  search: NewRolloutSearch;
  bundle: Bundle;
  draft: Draft;
  set: (change: NewRolloutSearch) => void;
}

export function PlanForm({ search, bundle, draft, set }: PlanFormProps) {
  const change = (next: Partial<Draft>): void => set({ plan: printDraft({ ...draft, ...next }) });
  const stages = (next: StagePlan[]): void => change({ stages: next });
  const file = planFile(search, bundle, draft, text.actions.reasonPlaceholder);
  return (
    <>
      <Panel title={text.plan.steps.plan} aside={<Presets draft={draft} pick={(preset) => set({ plan: printDraft(presets[preset]) })} />}>
        <ol className="stages">
          {draft.stages.map((stage, index) => (
            <StageForm
              // Stages have no other identity while their names are typed.
              key={index} // oxlint-disable-line react/no-array-index-key
              stage={stage}
              change={(next) => stages(draft.stages.with(index, next))}
              remove={draft.stages.length > 1 ? () => stages(draft.stages.toSpliced(index, 1)) : undefined}
            />
          ))}
        </ol>
        <div className="body stack">
          <p className="row">
            <Button size="xs" variant="default" onClick={() => stages(withStage(draft.stages))}>
              {say.add}
            </Button>
            <span className="soft small">{say.inWorld}</span>
          </p>
          <div className="filters" style={{ marginBottom: 0 }}>
            <NativeSelect size="xs" label={say.onFailure} value={draft.on_failure} data={choices(say.onFailures)} onChange={(event) => change({ on_failure: event.currentTarget.value as Draft["on_failure"] })} />
            <NativeSelect size="xs" label={say.windows} value={draft.timing} data={choices(say.windowsOf)} onChange={(event) => change({ timing: event.currentTarget.value as Draft["timing"] })} />
            <NumberField {...whole} label={say.approvals} value={draft.approvals_min} change={(n) => change({ approvals_min: n })} />
            <NumberField {...whole} label={say.atOnce} value={draft.in_flight_max} change={(n) => change({ in_flight_max: n })} clear={() => change({ in_flight_max: undefined })} />
            <NumberField {...whole} label={say.perSite} value={draft.in_flight_per_site_max} change={(n) => change({ in_flight_per_site_max: n })} clear={() => change({ in_flight_per_site_max: undefined })} />
            <Span label={say.install} seconds={draft.install_deadline_s ?? installUsualS} change={(seconds) => change({ install_deadline_s: seconds === installUsualS ? undefined : seconds })} />
            <NumberField {...whole} label={say.rate} value={draft.rate_per_hour_max} change={(n) => change({ rate_per_hour_max: n })} clear={() => change({ rate_per_hour_max: undefined })} />
          </div>
        </div>
      </Panel>
      <Panel
        title={say.file}
        aside={
          <Button size="xs" variant="default" onClick={() => save(`${bundle.model}-${bundle.version}.yaml`, file, "application/yaml")}>
            {say.download}
          </Button>
        }
      >
        <pre className="logtail" tabIndex={0} role="region" aria-label={say.file}>
          {file}
        </pre>
        <div className="body">
          <p className="soft small">{say.fileHint}</p>
          <Command line={text.commands.apply(`${bundle.model}-${bundle.version}.yaml`)} />
        </div>
      </Panel>
    </>
  );
}

function Presets({ draft, pick }: { draft: Draft; pick: (preset: Preset) => void }) {
  const preset = presetOf(draft);
  return (
    <NativeSelect
      size="xs"
      aria-label={say.preset}
      value={preset ?? ""}
      data={[...(preset === undefined ? [{ value: "", label: say.own }] : []), ...choices(say.presets)]}
      onChange={(event) => {
        if (event.currentTarget.value !== "") pick(event.currentTarget.value as Preset);
      }}
    />
  );
}

function choices(of: Record<string, string>): { value: string; label: string }[] {
  return Object.entries(of).map(([value, label]) => ({ value, label }));
}
