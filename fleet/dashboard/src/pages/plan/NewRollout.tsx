// A new rollout in five steps. Everything chosen stands in the address; nothing exists before the last button.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { ApiError } from "../../api/client";
import { bundlesQuery, countQuery, rehearsalQuery } from "../../api/queries";
import type { Bundle } from "../../api/types";
import { Act } from "../../parts/Act";
import { Answer, Problem } from "../../parts/Answer";
import { Empty } from "../../parts/Empty";
import { PageHead } from "../../parts/Panel";
import { steps, type NewRolloutSearch, type Step } from "../../search";
import { text } from "../../strings";
import { Confirm } from "./Confirm";
import { askedOf, draftOf } from "./draft";
import { Foreseen } from "./Foreseen";
import { PickBundle } from "./PickBundle";
import { PlanForm } from "./PlanForm";
import { PickDevices } from "./PickDevices";

const say = text.plan;

export function NewRollout() {
  const { zone: _, ...search } = useSearch({ from: "/rollouts/new" });
  const asked = useQuery(bundlesQuery());
  return (
    <>
      <PageHead title={say.title} crumb={<Link to="/rollouts">{text.rollouts.title}</Link>} />
      <Answer of={asked}>
        {(bundles) =>
          bundles.length === 0 ? (
            <Empty title={text.models.empty} why={text.models.emptyWhy} commands={[text.commands.publish]} />
          ) : (
            <Steps search={search} bundles={bundles} bundle={bundles.find(({ sha256 }) => sha256 === search.bundle)} />
          )
        }
      </Answer>
    </>
  );
}

interface StepsProps {
  search: NewRolloutSearch;
  bundles: Bundle[];
  bundle: Bundle | undefined;
}

function Steps({ search, bundles, bundle }: StepsProps) {
  const navigate = useNavigate();
  const step: Step = bundle === undefined ? "bundle" : (search.step ?? "bundle");
  const draft = draftOf(search.plan);
  const set = (change: NewRolloutSearch): void => void navigate({ to: "/rollouts/new", search: { ...search, ...change }, replace: true, resetScroll: false });
  const body = bundle === undefined ? undefined : askedOf(search, bundle, draft, "");
  const asked = body ?? { model: "", bundle: "" };
  const counted = useQuery({ ...countQuery(asked), enabled: body !== undefined && step !== "bundle", placeholderData: keepPreviousData });
  const at = steps.indexOf(step);
  // Playing a plan through keeps the server busy: only when somebody wants to see it.
  const rehearsal = useQuery({ ...rehearsalQuery(asked), enabled: body !== undefined && at >= steps.indexOf("foresee") });
  const tooLong = rehearsal.error instanceof ApiError && rehearsal.error.code === "timed_out";
  const refused = counted.error ?? (tooLong ? null : rehearsal.error);
  const whyNot = stuck(bundle, step, { ...counted, error: refused, foreseen: at < steps.indexOf("foresee") || rehearsal.data !== undefined || tooLong });
  const go = (to: Step | undefined): void => {
    if (to !== undefined) void navigate({ to: "/rollouts/new", search: { ...search, step: to } });
  };
  return (
    <div className="stack">
      <ol className="wizard" aria-label={say.stepsLabel}>
        {steps.map((one, index) => (
          <li key={one}>
            {index < at || (index > at && bundle !== undefined && whyNot === null) ? (
              <Link to="/rollouts/new" search={{ ...search, step: one }}>
                <b>{index + 1}</b> {say.steps[one]}
              </Link>
            ) : (
              <span className={index === at ? undefined : "soft"} aria-current={index === at ? "step" : undefined}>
                <b>{index + 1}</b> {say.steps[one]}
              </span>
            )}
          </li>
        ))}
      </ol>
      {step !== "bundle" && refused !== null && <Problem error={refused} title={say.whyNot.refused} />}
      {step === "bundle" && <PickBundle bundles={bundles} search={search} pick={(sha256) => void navigate({ to: "/rollouts/new", search: { ...search, bundle: sha256, step: "who" } })} />}
      {bundle !== undefined && step === "who" && <PickDevices search={search} set={set} counted={counted} />}
      {bundle !== undefined && step === "plan" && <PlanForm search={search} bundle={bundle} draft={draft} set={set} />}
      {bundle !== undefined && step === "foresee" && refused === null && <Foreseen rehearsal={rehearsal} tooLong={tooLong} />}
      {bundle !== undefined && step === "start" && refused === null && counted.data !== undefined && (
        <Confirm search={search} bundle={bundle} draft={draft} counted={counted.data} foreseen={rehearsal.data?.forecast} pending={rehearsal.isFetching} />
      )}
      <div className="row noprint">
        {at > 0 && <Act label={say.back} whyNot={null} onClick={() => go(steps[at - 1])} />}
        {at < steps.length - 1 && <Act label={`${say.next}: ${say.steps[steps[at + 1] ?? "start"]}`} whyNot={whyNot} main onClick={() => go(steps[at + 1])} />}
      </div>
    </div>
  );
}

interface Counted {
  data: { cohort: number } | undefined;
  error: Error | null;
  isPlaceholderData: boolean;
  foreseen: boolean;
}

/** Why there is no next step yet. */
function stuck(bundle: Bundle | undefined, step: Step, { data, error, isPlaceholderData, foreseen }: Counted): string | null {
  if (bundle === undefined) return say.whyNot.bundle;
  if (step === "bundle") return null;
  if (error !== null) return say.whyNot.refused;
  if (data === undefined || isPlaceholderData || !foreseen) return say.whyNot.asking;
  return data.cohort === 0 ? say.whyNot.who : null;
}
