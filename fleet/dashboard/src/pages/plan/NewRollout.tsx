// A new rollout in five steps. Everything chosen stands in the address; nothing exists before the last button.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { bundlesQuery, rehearsalQuery } from "../../api/queries";
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
  const rehearsal = useQuery({
    ...rehearsalQuery(body ?? { model: "", bundle: "" }),
    enabled: body !== undefined && step !== "bundle",
    placeholderData: keepPreviousData,
  });
  const at = steps.indexOf(step);
  const whyNot = stuck(bundle, step, rehearsal);
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
      {step !== "bundle" && rehearsal.error !== null && <Problem error={rehearsal.error} title={say.whyNot.refused} />}
      {step === "bundle" && <PickBundle bundles={bundles} search={search} pick={(sha256) => void navigate({ to: "/rollouts/new", search: { ...search, bundle: sha256, step: "who" } })} />}
      {bundle !== undefined && step === "who" && <PickDevices search={search} set={set} rehearsal={rehearsal} />}
      {bundle !== undefined && step === "plan" && <PlanForm search={search} bundle={bundle} draft={draft} set={set} />}
      {bundle !== undefined && step === "foresee" && <Foreseen rehearsal={rehearsal} />}
      {bundle !== undefined && step === "start" && rehearsal.data !== undefined && <Confirm search={search} bundle={bundle} draft={draft} rehearsal={rehearsal.data} />}
      <div className="row noprint">
        {at > 0 && <Act label={say.back} whyNot={null} onClick={() => go(steps[at - 1])} />}
        {at < steps.length - 1 && <Act label={`${say.next}: ${say.steps[steps[at + 1] ?? "start"]}`} whyNot={whyNot} main onClick={() => go(steps[at + 1])} />}
      </div>
    </div>
  );
}

/** Why there is no next step yet. */
function stuck(bundle: Bundle | undefined, step: Step, { data, error, isPlaceholderData }: { data: { cohort: number } | undefined; error: Error | null; isPlaceholderData: boolean }): string | null {
  if (bundle === undefined) return say.whyNot.bundle;
  if (step === "bundle") return null;
  if (error !== null) return say.whyNot.refused;
  if (data === undefined || isPlaceholderData) return say.whyNot.asking;
  return data.cohort === 0 ? say.whyNot.who : null;
}
