// One stage of a plan: how many, how long, and what its gate asks for.
import { NativeSelect, TextInput } from "@mantine/core";
import { useState } from "react";
import type { GateLimits, StagePlan } from "../../api/types";
import { Act } from "../../parts/Act";
import { NumberField } from "../../parts/NumberField";
import { Typed } from "../../parts/Typed";
import { text } from "../../strings";
import { parseSpan, printSpan } from "./spans";

const say = text.plan.stages;

interface StageFormProps {
  stage: StagePlan;
  change: (stage: StagePlan) => void;
  remove: (() => void) | undefined;
}

export function StageForm({ stage, change, remove }: StageFormProps) {
  const limits = Object.entries(stage.gate ?? {}).filter(([, value]) => value != null);
  return (
    <li className="body" data-row="">
      <div className="filters" style={{ marginBottom: 0 }}>
        <Typed label={say.name} value={stage.name} w={120} maxLength={40} change={(name) => change({ ...stage, name: name ?? "" })} />
        <Size size={stage.size} change={(size) => change({ ...stage, size })} />
        <NumberField size="xs" w={90} label={say.quorum} value={stage.quorum_percent ?? 100} max={100} change={(quorum_percent) => change({ ...stage, quorum_percent })} />
        <Span label={say.bake} seconds={stage.bake_s} change={(bake_s) => change({ ...stage, bake_s })} />
        <Span label={say.deadline} wide seconds={stage.deadline_s} change={(deadline_s) => change({ ...stage, deadline_s })} />
        {remove !== undefined && <Act label={say.remove} describe={say.removeOf(stage.name)} whyNot={null} onClick={remove} />}
      </div>
      <details className="small" style={{ marginTop: 6 }}>
        <summary>
          {say.gateOf(stage.name)}: {limits.length === 0 ? say.gateUsual.toLowerCase() : say.gateOwn(limits.length)}
        </summary>
        <div className="filters" style={{ margin: "8px 0 0" }}>
          {(Object.entries(text.plan.limits) as [keyof GateLimits, string][]).map(([limit, label]) => (
            <NumberField
              key={limit}
              size="xs"
              w={210}
              label={label}
              placeholder={say.unlimited}
              value={stage.gate?.[limit] ?? undefined}
              change={(value) => change({ ...stage, gate: { ...stage.gate, [limit]: value } })}
              clear={() => change(without(stage, limit))}
            />
          ))}
        </div>
      </details>
    </li>
  );
}

function without(stage: StagePlan, limit: keyof GateLimits): StagePlan {
  const { gate: { [limit]: _, ...gate } = {}, ...bare } = stage;
  return Object.keys(gate).length === 0 ? bare : { ...bare, gate };
}

function Size({ size, change }: { size: StagePlan["size"]; change: (size: StagePlan["size"]) => void }) {
  const unit = Object.keys(size)[0] as keyof typeof say.units;
  const editable = unit !== "devices";
  return (
    <>
      {"count" in size && <NumberField size="xs" w={90} label={say.size} value={size.count} allowDecimal={false} change={(count) => change({ count })} />}
      {"percent" in size && <NumberField size="xs" w={90} label={say.size} value={size.percent} max={100} change={(percent) => change({ percent })} />}
      {"matching" in size && <Typed label={say.size} value={size.matching} maxLength={512} change={(matching) => change({ matching: matching ?? "" })} />}
      {"devices" in size && <TextInput size="xs" w={90} label={say.size} value={size.devices.length} readOnly />}
      <NativeSelect
        size="xs"
        label={say.unit}
        value={unit}
        disabled={!editable}
        data={Object.entries(say.units)
          .filter(([value]) => value !== "devices" || !editable)
          .map(([value, label]) => ({ value, label }))}
        onChange={(event) => {
          const next = event.currentTarget.value;
          change(next === "count" ? { count: 1 } : next === "percent" ? { percent: 100 } : { matching: "" });
        }}
      />
    </>
  );
}

/** What is no span stays in the field, marked, and changes nothing. */
export function Span({ label, seconds, wide = false, change }: { label: string; seconds: number; wide?: boolean; change: (seconds: number) => void }) {
  const [line, setLine] = useState<string | null>(null);
  const shown = line ?? printSpan(seconds);
  return (
    <TextInput
      size="xs"
      w={wide ? 150 : 120}
      label={label}
      value={shown}
      error={parseSpan(shown) === null ? say.span : null}
      onChange={(event) => {
        setLine(event.currentTarget.value);
        const read = parseSpan(event.currentTarget.value);
        if (read !== null) change(read);
      }}
      onBlur={() => {
        if (parseSpan(shown) !== null) setLine(null);
      }}
    />
  );
}
