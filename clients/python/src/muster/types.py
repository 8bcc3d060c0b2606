"""The API's types. Written by tools/generate.py; do not edit."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict


class AcceptBody(TypedDict):
    """
    What a person compared before accepting.
    """

    fingerprint: NotRequired[str | None]
    """
    The fingerprint that the box shows: refused if the key that asks is another one. Left out, nothing is compared.
    """


class Assignment(TypedDict):
    """
    What becomes a project's, with everything that belongs to it.
    """

    datasets: NotRequired[list[str]]
    models: NotRequired[list[str]]
    sites: NotRequired[list[str]]


class BaselineView(TypedDict):
    """
    What is normal at the site.
    """

    state: str
    """
    `learning`: compared with the training data until ten quiet windows were seen. `provisional`: ten. `frozen`: thirty,
    and never learnt again for this bundle.
    """
    wanted: int
    windows: int
    """
    Quiet windows that it was or is being learnt from.
    """


class BundleName(TypedDict):
    """
    A bundle by name and by identity, the SHA-256 of its manifest.
    """

    path: NotRequired[str | None]
    """
    Absent if the registry does not know the digest any more.
    """
    sha256: str
    version: NotRequired[str | None]


class BundleSpread(TypedDict):
    bundle: str
    """
    SHA-256 of the bundle's manifest.
    """
    devices: int
    version: str


class Capabilities(TypedDict):
    arch: str
    cores: int
    cpu_flags: list[str]
    cpu_model: str
    devices: list[str]
    memory_bytes: int
    runtime: str


class ClaimBody(TypedDict):
    builder: str
    models: list[str]
    """
    Models it can train.
    """


class Cohort(TypedDict):
    """
    A saved question about boxes.
    """

    devices: NotRequired[int | None]
    """
    Boxes that match now; absent in a list.
    """
    filter: str
    name: str
    names: NotRequired[list[str]]
    """
    Names of the first of them.
    """
    revision: int
    """
    For If-Match.
    """


class Dataset(TypedDict):
    name: str
    rows: int
    sha256: str


class DeviceCounts(TypedDict):
    failing: int
    """
    Devices on which some slot cannot have its wish, or that refuse their order.
    """
    offline: int
    online: int
    running: int
    """
    Devices on which some slot answers.
    """
    total: int


class DeviceNumber(TypedDict):
    devices: int


class DeviceTags(TypedDict):
    """
    What an operator sorts a box by.
    """

    device: str
    revision: int
    """
    For If-Match; 0 if it was never tagged.
    """
    tags: dict[str, str]


class EvaluationSet(TypedDict):
    challenger: float
    champion: NotRequired[float | None]
    name: str
    rows: int


class EventData(TypedDict):
    """
    An event's data. Its id is the log entry's, its name the entry's kind.
    """

    sentence: str
    subject: str


class Fault(TypedDict):
    """
    One of several faults of a request.
    """

    detail: str
    pointer: str
    """
    Where in the request, as a JSON pointer, or the fault's own code.
    """


class ForecastBug(TypedDict):
    at: str
    """
    `install` or `later`.
    """
    device_hours_p50: int
    exposed_p50: int
    exposed_p90: int
    first_stage_power: float
    """
    Share of runs in which the first stage stopped it: the power of its gate.
    """
    sentence: str
    share: float
    """
    Of devices that are hit.
    """
    stopped_after_p50_s: NotRequired[int | None]
    stopped_share: float
    """
    Share of runs in which it was stopped.
    """


class ForecastSite(TypedDict):
    bytes: int
    devices: int
    """
    That lack the bundle.
    """
    site: str


class ForecastSpread(TypedDict):
    """
    Seconds of world time since the beginning; absent where so many runs did not get there.
    """

    p10_s: NotRequired[int | None]
    p50_s: NotRequired[int | None]
    p90_s: NotRequired[int | None]


class ForecastStage(TypedDict):
    actual_s: NotRequired[int | None]
    """
    How long it really took until its gate passed, once it has.
    """
    name: str
    p10_s: NotRequired[int | None]
    p50_s: NotRequired[int | None]
    p90_s: NotRequired[int | None]


class FreezeScope(TypedDict):
    reason: NotRequired[str]
    site: NotRequired[str | None]
    """
    The whole fleet, if absent.
    """


class GateLayer(TypedDict):
    alpha: NotRequired[float | None]
    """
    The chance of a false alarm that it may spend.
    """
    bound: NotRequired[float | None]
    """
    What is still possible (95 %).
    """
    interval: NotRequired[list[float] | None]
    layer: str
    """
    `hard_stop`, `install`, `reverts`, `runtime`, `silence`, `latency`, `latency_rise`, `memory_rise`, `temperature_rise`,
    `paired_error`, `shadow` or `coverage`.
    """
    limit: NotRequired[float | None]
    measured: NotRequired[float | None]
    missing: int
    """
    Devices whose evidence is not enough yet.
    """
    n: int
    """
    Observations behind it.
    """
    sentence: str
    test: str
    """
    The test by name.
    """
    verdict: str
    """
    `pass`, `insufficient`, `fail`, or `not_asked` of a layer that has no say.
    """


class GateLimits(TypedDict):
    """
    Limits of a gate; docs/gates.md has each.
    """

    alpha: NotRequired[float]
    coverage_classes_max: NotRequired[int]
    error_margin: NotRequired[float]
    install_failure_baseline: NotRequired[float]
    labelled_devices_min: NotRequired[float]
    labels_min: NotRequired[int]
    latency_p95_ms_max: NotRequired[float]
    latency_requests_min: NotRequired[int]
    latency_rise_ms_max: NotRequired[float]
    memory_rise_mib_max: NotRequired[float]
    revert_baseline: NotRequired[float]
    runtime_failures_per_hour_baseline: NotRequired[float]
    same_failures_max: NotRequired[int]
    shadow_disagreement_max: NotRequired[float]
    shadow_requests_min: NotRequired[int]
    silence_after_h: NotRequired[float]
    silences_per_hour_baseline: NotRequired[float]
    temperature_rise_c_max: NotRequired[float]


class HeartbeatAnswer(TypedDict):
    cancel: bool
    """
    Somebody cancelled the run: stop.
    """


class HeartbeatBody(TypedDict):
    builder: str
    log: NotRequired[list[str]]
    """
    Lines since the last heartbeat.
    """
    message: NotRequired[str]
    progress: NotRequired[float | None]
    """
    0 to 1.
    """


class Histogram(TypedDict):
    """
    Bins of both sides are the same.
    """

    categories: NotRequired[list[str] | None]
    """
    One a bin; the last may be `other`. Of a categorical stream.
    """
    current: list[int]
    """
    Rows of the windows by bin.
    """
    edges: NotRequired[list[float] | None]
    """
    Between bins; one less than bins. Of a numeric stream.
    """
    nulls: int
    """
    Rows without a value, in the windows.
    """
    range: NotRequired[list[float] | None]
    """
    Smallest and largest value of the reference. Of a numeric stream.
    """
    reference: list[int]
    """
    Rows of the reference by bin.
    """
    windows: int
    """
    Windows that were added up.
    """


class HookAnswer(TypedDict):
    outcome: str
    """
    `run`, `refused` or `ignored`.
    """
    reason: NotRequired[str | None]
    """
    Why it is no run.
    """
    run: NotRequired[str | None]
    trigger: NotRequired[str | None]


class IncidentScope(TypedDict):
    devices: list[str]
    sites: list[str]


class IncidentStream(TypedDict):
    b: float
    """
    Chance that any monitored column looks this bad without drift.
    """
    broken: NotRequired[str | None]
    """
    What is wrong with the data, where they are broken.
    """
    devices: int
    """
    Devices that see it.
    """
    effect_high: NotRequired[float | None]
    effect_low: NotRequired[float | None]
    """
    Its interval: 95 %.
    """
    effect_sd: NotRequired[float | None]
    """
    Shift in reference standard deviations: of the mean, or as large for a mix of categories.
    """
    name: str
    psi: float


class Lineage(TypedDict):
    champion: NotRequired[str | None]
    datasets: list[Dataset]
    run: NotRequired[str | None]
    trainer: str
    trigger: NotRequired[str | None]


class LineageEvents(TypedDict):
    """
    A part of the events.
    """

    items: list[dict[str, Any]]
    """
    `OpenLineage` run events, the oldest first.
    """
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page. A page may be empty and still have a next one.
    """


class LineageNode(TypedDict):
    id: str
    kind: str
    """
    `device`, `order`, `bundle`, `rollout`, `gate`, `person`, `policy`, `run`, `trigger`, `incident`, `stream`,
    `site` or `dataset`.
    """
    name: str


class ListCohort(TypedDict):
    """
    A part of a list.
    """

    items: list[Cohort]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListValue(TypedDict):
    """
    A part of a list.
    """

    items: list[Any]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class Login(TypedDict):
    name: str
    password: str


class LoginOptions(TypedDict):
    """
    How one may come in.
    """

    mode: str
    """
    `open`: whoever reaches this server is the operator. `required`: people prove who they are.
    """
    provider: NotRequired[str | None]
    """
    What the button for the identity provider says; absent if there is none.
    """
    setup: bool
    """
    Nobody has an account yet: the link that the server printed when it started makes the first.
    """


class MailAnswer(TypedDict):
    said: str
    taken: bool
    to: str


class MailTest(TypedDict):
    items: list[MailAnswer]
    """
    What the relay said of each.
    """
    relay: str
    taken: bool
    """
    Whether everybody's was taken.
    """
    why: NotRequired[str | None]
    """
    Why it did not come to anybody's, if it did not.
    """


class MailTestBody(TypedDict):
    project: NotRequired[str | None]
    """
    Whose list; that of everything, if absent.
    """


class MlflowEventData(TypedDict):
    alias: NotRequired[str | None]
    name: str
    tags: NotRequired[dict[str, Any]]
    version: NotRequired[str | None]


class ModelSpread(TypedDict):
    bundles: list[BundleSpread]
    model: str


class ModelVariant(TypedDict):
    """
    One form of the model, for one kind of hardware.
    """

    device: str
    """
    `CPU`, `GPU` or `NPU`.
    """
    format: str
    """
    `onnx` or `openvino_ir`.
    """
    id: str
    inference_precision: str
    """
    What is computed in: `f32`, `f16`, `bf16` or `default`.
    """
    precision: str
    """
    What the weights are: `fp32`, `fp16` or `int8`.
    """
    rank: int
    """
    The highest that fits is taken.
    """
    size_bytes: int
    """
    What the runtime opens, together.
    """


class MyRole(TypedDict):
    project: str
    role: str
    """
    `viewer`, `operator`, `approver`, `admin` or `builder`.
    """


class NewAlias(TypedDict):
    reason: NotRequired[str]
    version: str
    """
    The version, its SHA-256, or `@` and another alias.
    """


class NewBody(TypedDict):
    """
    What a file shall allow.
    """

    approve: NotRequired[Literal["manual", "auto"]]
    """
    `manual` (a person compares fingerprints and accepts) or `auto`. Manual unless said otherwise, for one box too: a
    file that was read by somebody else on its way gains them nothing then.
    """
    count: NotRequired[int]
    """
    Boxes that may join with it.
    """
    site: str
    ttl_s: NotRequired[int]
    """
    Seconds for which it is good.
    """


class NewCohort(TypedDict):
    filter: str
    """
    Such as `ward=icu, hardware=x86_64-openvino`.
    """


class NewDatasetVersion(TypedDict):
    checks: NotRequired[list[dict[str, Any]]]
    """
    Rules with what was measured; a version that breaks one is not added.
    """
    external: NotRequired[list[str]]
    manifest: dict[str, Any]
    """
    `muster-dataset/1`; its files are here already.
    """
    note: NotRequired[str]
    profile: str
    """
    Digest of the profile, which is here already.
    """


class NewLease(TypedDict):
    device: NotRequired[str | None]
    """
    Either a box or a site.
    """
    for_s: int
    """
    For how long, in seconds.
    """
    owner: NotRequired[str | None]
    """
    Who holds it; you, if absent.
    """
    reason: NotRequired[str]
    """
    Such as `MRI running`.
    """
    site: NotRequired[str | None]


class NewPassword(TypedDict):
    new: str
    old: str
    """
    The one that you have.
    """


class NewPerson(TypedDict):
    display: str
    name: str
    """
    What they log in with, and what the log calls them.
    """
    password: NotRequired[str | None]
    roles: NotRequired[dict[str, str]]
    """
    `viewer`, `operator`, `approver` or `admin`, by project.
    """


class NewProject(TypedDict):
    name: str


class NewRun(TypedDict):
    model: str
    reason: NotRequired[str]
    """
    Why; kept in the log.
    """


class NewTags(TypedDict):
    tags: dict[str, str]
    """
    All of them: what is not here is taken away.
    """


class NewVersionNotes(TypedDict):
    description: NotRequired[str]
    tags: NotRequired[dict[str, str]]
    """
    All of them: what is not here is taken away.
    """


class Failed(TypedDict):
    code: str
    sentence: str


class Outcome3(TypedDict):
    failed: Failed


class PersonChange(TypedDict):
    """
    What is left out stays.
    """

    disabled: NotRequired[bool | None]
    password: NotRequired[str | None]
    roles: NotRequired[dict[str, str]]
    """
    All of them: what is not here is taken away.
    """


class Required(TypedDict):
    """
    So many people, none of whom asked for the run.
    """

    people: int


class PolicyApproval1(TypedDict):
    """
    So many people, none of whom asked for the run.
    """

    required: Required
    """
    So many people, none of whom asked for the run.
    """


class PolicyGuards(TypedDict):
    blackout: NotRequired[list[str]]
    """
    Weekly windows in which no run begins by itself, such as `mon-fri 07:00-19:00`.
    """
    during_rollout: NotRequired[bool]
    """
    Whether a run may begin while a rollout of the model is under way.
    """
    min_new_rows: NotRequired[int]
    """
    Rows that must have been seen since the onset.
    """
    zone: NotRequired[str]
    """
    Of the blackout: an IANA name.
    """


class PolicyLabels(TypedDict):
    """
    How the model's own outcomes are looked at.
    """

    horizon_s: int
    """
    Time after a prediction at which its label is in.
    """
    retrain: bool
    """
    Whether answers that do not come true ask for retraining.
    """


class PolicySchedule(TypedDict):
    cron: str
    """
    Minute, hour, day, month and weekday, such as `0 3 * * mon`.
    """
    jitter_s: NotRequired[int]
    """
    The model's own share of so many seconds comes on top, so that not all models are trained at once.
    """
    zone: NotRequired[str]
    """
    An IANA name, such as `Europe/Berlin`; UTC if absent.
    """


class Drift1(TypedDict):
    share_of_streams: float
    """
    Share of a bundle's monitored streams that must drift, above 0 and up to 1.
    """


class PolicyTrigger1(TypedDict):
    drift: Drift1


PolicyTrigger: TypeAlias = PolicyTrigger1


class ProgressBody(TypedDict):
    log: NotRequired[list[str]]


class PublishedBundle(TypedDict):
    path: str
    sha256: str


class Reason(TypedDict):
    """
    A code for machines, a sentence for people.
    """

    code: str
    sentence: str


class RehearsedStage(TypedDict):
    bake_s: int
    deadline_s: int
    first: list[str]
    """
    Names of the first devices, in the order in which they are asked.
    """
    forecast: ForecastSpread
    """
    When its gate would pass.
    """
    name: str
    reaches: int
    """
    Devices of this stage and all before it.
    """
    target_devices: int
    """
    Devices of this stage alone.
    """


class ResultFile(TypedDict):
    bytes: int
    path: str
    """
    Where it lies in the trainer's output: `model.onnx`, `saved_model/saved_model.pb`.
    """
    sha256: str


class Revocation(TypedDict):
    action: str
    """
    `stop`: boxes that run it stop. `retain`: it runs on until something replaces it.
    """
    reason: str


class RolloutFrom(BundleName):
    devices: int


class RunProgress(TypedDict):
    fraction: float
    """
    0 to 1.
    """
    message: str


class RunRequest(TypedDict):
    model: str
    run: str
    schema: str
    """
    `muster-run/1`.
    """
    trigger: dict[str, Any]
    world_now: str


class RunResult(TypedDict):
    bundle: NotRequired[BundleName | None]
    evaluation: dict[str, Any]
    """
    The builder's own comparison of challenger and champion.
    """


class ScoreBand(TypedDict):
    """
    A band of scores, both ends included.
    """

    high: float
    low: float


class Selector(TypedDict):
    """
    Which devices: all that match every part that is given.
    """

    cohort: NotRequired[str | None]
    """
    A saved cohort; the rollout keeps the filter that it has now.
    """
    devices: NotRequired[list[str] | None]
    filter: NotRequired[str | None]
    """
    Such as `ward=icu, hardware=x86_64-openvino`.
    """
    sites: NotRequired[list[str] | None]


class Setup(TypedDict):
    display: str
    """
    As other people know you.
    """
    name: str
    password: str
    token: str
    """
    What stands behind the `#` of the link.
    """


class SiteCount(TypedDict):
    devices: int
    site: str


class SiteHours(TypedDict):
    """
    Weekly windows of a site.
    """

    windows: NotRequired[list[str]]
    """
    Such as `daily 22:00-05:00` or `sat,sun 01:00-06:00`; none means always.
    """


class SiteRules(TypedDict):
    """
    A site's rules; what is left out allows everything.
    """

    activation: NotRequired[SiteHours]
    """
    When boxes may switch: the moment that somebody could notice.
    """
    consent: NotRequired[Literal["not_needed", "ask"]]
    """
    Whether somebody at the box must say yes before it switches.
    """
    download: NotRequired[SiteHours]
    """
    When boxes may fetch and test.
    """
    in_flight_max: NotRequired[int | None]
    """
    Boxes that may fetch or switch at the same moment.
    """
    zone: NotRequired[str]
    """
    An IANA zone, such as `Europe/Berlin`: what the windows are written in.
    """


SlotPhase = TypedDict(
    "SlotPhase",
    {
        "bundle": NotRequired[BundleName | None],
        "code": NotRequired[str | None],
        "is": str,
        "received_bytes": NotRequired[int | None],
        "sentence": NotRequired[str | None],
        "total_bytes": NotRequired[int | None],
    },
)


class StageSize1(TypedDict):
    """
    Devices in this stage and all before it together; lists and filters add what they name to it.
    """

    count: int


class StageSize2(TypedDict):
    """
    Devices in this stage and all before it together; lists and filters add what they name to it.
    """

    percent: float


class StageSize3(TypedDict):
    """
    Devices in this stage and all before it together; lists and filters add what they name to it.
    """

    devices: list[str]


class StageSize4(TypedDict):
    """
    Devices in this stage and all before it together; lists and filters add what they name to it.
    """

    matching: str


class StartedBy(TypedDict):
    kind: str
    """
    `person`, `policy` or `fleet`.
    """
    name: str
    trigger: NotRequired[str | None]


class SteppingStoneVia(TypedDict):
    path: str
    sha256: str


class StreamWindow(TypedDict):
    against: str
    """
    `own`: compared with what is normal at the site. `training`: with the training data, while the site is learnt.
    """
    b: NotRequired[float | None]
    """
    Chance that any monitored column looks this bad without drift.
    """
    broken: list[str]
    """
    What is wrong with the data, where they are broken.
    """
    js: NotRequired[float | None]
    mean_shift_sd: NotRequired[float | None]
    """
    Shift in reference standard deviations: of the mean, or as large for a mix of categories.
    """
    name: str
    psi_adj: NotRequired[float | None]
    shift_high: NotRequired[float | None]
    shift_low: NotRequired[float | None]
    """
    Its interval: 95 %.
    """
    state: str
    """
    `ok`, `warn`, `drift` or `insufficient`: too few rows to say anything, which is not "no drift".
    """


class TagMany(TypedDict):
    filter: str
    """
    Which boxes, such as `site=er-2, !ward`.
    """
    remove: NotRequired[list[str]]
    set: NotRequired[dict[str, str]]


class TaggedMany(TypedDict):
    """
    What a bulk act changes, or would change.
    """

    changed: int
    """
    Of them, those whose tags become others.
    """
    devices: int
    """
    Boxes that match.
    """
    dry_run: bool
    names: list[str]
    """
    Names of the first that become others.
    """


class Token(TypedDict):
    expires: str
    id: str
    label: str
    made: str
    models: NotRequired[list[str]]
    """
    Of a builder's: the only models it builds; none if all of the project.
    """
    person: str
    project: NotRequired[str | None]
    """
    The only project it reaches; absent if it reaches all of its owner's.
    """
    role: str
    """
    `viewer`, `operator`, `approver`, `admin` or `builder`: no more than its owner is.
    """
    state: str
    """
    `good`, `expired` or `revoked`.
    """
    used: NotRequired[str | None]


class TokenBody(TypedDict):
    builder: str
    seconds: int
    """
    How long the training may take; at most a week.
    """


class TrainedOnOne(TypedDict):
    name: str
    sha256: str


class TrainerResult(TypedDict):
    files: list[ResultFile]
    message: str
    status: Literal["succeeded", "failed"]


class TriggerCause(TypedDict):
    """
    Why a retraining was asked for.
    """

    by: NotRequired[str | None]
    id: str
    incident: NotRequired[str | None]
    kind: str
    """
    `drift`, `labels`, `schedule`, `volume`, `registry` or `manual`.
    """
    onset: NotRequired[str | None]
    reason: NotRequired[str | None]
    """
    A person's, the calendar's, how many labels, or which version of which registry.
    """
    streams: list[str]


class TrustAccepted(TypedDict):
    """
    What an accepted trust file changed.
    """

    added: list[BundleName]
    """
    Bundles that may run from now on.
    """
    name: str
    revoked: list[str]
    """
    Paths of bundles that must not run any more.
    """
    version: int
    yanked: list[BundleName]
    """
    Bundles that the catalogue no longer lists.
    """


class TrustFile(TypedDict):
    bytes: int
    expires: NotRequired[str | None]
    name: str
    """
    The name on the wire, such as `2.root.json`.
    """
    published: str
    version: int


class TrustFiles(TypedDict):
    files: list[TrustFile]


class UndeliveredEvent(TypedDict):
    again: bool
    """
    Whether it is about to be sent again.
    """
    at: str
    """
    When it was put aside.
    """
    entry: int
    """
    Number of the log entry.
    """
    kind: str
    sentence: str
    subject: str
    why: str


class Values(TypedDict):
    max: float
    mean: float
    min: float


class VersionNotes(TypedDict):
    """
    What people wrote on a version.
    """

    description: str
    revision: int
    """
    For If-Match; 0 if nobody wrote on it yet.
    """
    tags: dict[str, str]


class WaitingFor(TypedDict):
    """
    Why something does not go on.
    """

    code: str
    devices: NotRequired[int | None]
    """
    How many devices it is about.
    """
    next: NotRequired[str | None]
    """
    What happens next, or what a person can do.
    """
    sentence: str


class Webhook(TypedDict):
    behind: int
    """
    Log entries that it was not told of yet.
    """
    events: list[str]
    """
    Kinds of log entries, or what kinds begin with.
    """
    name: str
    undelivered: int
    """
    Events that it would not take, kept for people.
    """
    url: str
    """
    Without what may be a secret.
    """


class Welcome(TypedDict):
    """
    Who came in. The session is in the cookie.
    """

    name: str


class Who(TypedDict):
    """
    Who did it.
    """

    kind: str
    """
    `fleet`, `device`, `person`, `builder` or `policy`.
    """
    name: str


class WhyBody(TypedDict):
    """
    Why a person acts: kept in the log.
    """

    reason: NotRequired[str]


class Within(TypedDict):
    """
    Counts do not tell where in its bin a row lies: the exact figure is between the limits.
    """

    high: float
    low: float
    value: float


class Alias(TypedDict):
    """
    What a version is called.
    """

    bundle: str
    """
    SHA-256 of the bundle's manifest.
    """
    by: Who
    kept: bool
    """
    The fleet moves it by itself; people cannot.
    """
    name: str
    reason: str
    revision: int
    """
    For If-Match.
    """
    since: str
    version: str


class Approval(TypedDict):
    at: str
    by: str
    reason: str


class CaptureAnswer(TypedDict):
    """
    How a box stands to a capture. None of these codes is a failure of its order.
    """

    bytes: int
    """
    In steps of 64 KiB.
    """
    capture: str
    dropped: int
    files: int
    rows: int
    """
    With the site, in steps of its *k*.
    """
    slot: str
    standing: Reason


class CheckupFinding(TypedDict):
    check: str
    """
    What was looked at: a stable word, such as `trust.root`.
    """
    do_next: NotRequired[str | None]
    """
    What a person can do; of everything that is not `ok`.
    """
    says: str
    state: Literal["ok", "unknown", "warn", "fail"]


DatasetVersion = TypedDict(
    "DatasetVersion",
    {
        "added": str,
        "by": str,
        "bytes": int,
        "columns": int,
        "external": list[str],
        "files": int,
        "from": NotRequired[str | None],
        "name": str,
        "note": str,
        "number": int,
        "rows": int,
        "schema_sha256": str,
        "sha256": str,
        "to": NotRequired[str | None],
    },
)


class DatasetVersionDetail(DatasetVersion):
    checks: list[dict[str, Any]]
    """
    Rules that it was held to, with what was measured.
    """
    manifest: dict[str, Any]
    """
    `muster-dataset/1`.
    """
    profile: str
    """
    Digest of its profile, which is content like its files.
    """
    runs: list[str]
    """
    Runs that were trained on it; at most 100.
    """


class DeviceEvent(TypedDict):
    at: str
    kind: str
    sentence: str


class DeviceInRollout(TypedDict):
    """
    Where a device stands in an open rollout.
    """

    code: str
    model: str
    next: str
    """
    What happens next, or what a person can do.
    """
    rollout: str
    sentence: str
    since: NotRequired[str | None]
    stage: str
    state: str
    """
    As in the rollout's own list of devices.
    """
    version: str


class DeviceStanding(TypedDict):
    """
    Where a device stands, as it is shown with the device.
    """

    certificate_expires: NotRequired[str | None]
    fingerprint: str
    """
    Of its registered key, as people compare it.
    """
    reason: NotRequired[str | None]
    """
    Why, where somebody had to say.
    """
    since: str
    state: str
    """
    `pending`, `active`, `rejected`, `quarantined` or `revoked`.
    """
    suspect_clone: NotRequired[str | None]
    """
    Why two machines may use its key, or another than the one that enrolled; absent if nothing speaks for it.
    """


DriftWindow = TypedDict(
    "DriftWindow",
    {
        "bundle": str,
        "device": str,
        "device_name": str,
        "from": str,
        "n": int,
        "site": str,
        "streams": list[StreamWindow],
        "to": str,
        "version": str,
    },
)


class Enrolment(TypedDict):
    approve: str
    """
    `manual`: a person accepts each box; `auto`: whoever has the file is in.
    """
    count: int
    """
    How many boxes it was made for.
    """
    expires: str
    id: str
    made: str
    made_by: str
    site: str
    state: str
    """
    `open`, `used_up`, `expired` or `cancelled`.
    """
    uses_left: int


EstimatedDay = TypedDict(
    "EstimatedDay",
    {
        "accuracy": NotRequired[Within | None],
        "from": str,
        "loss": Within,
        "positives": float,
        "predictions": int,
        "windows": int,
    },
)


class Evaluation(TypedDict):
    """
    How it did before it was signed; recorded by the builder, believed by nobody.
    """

    metric: str
    """
    Lower is better.
    """
    sets: list[EvaluationSet]


class Forecast(TypedDict):
    """
    What was foreseen of a plan.
    """

    actual_s: NotRequired[int | None]
    """
    How long it really took to complete, once it has.
    """
    basis: str
    """
    What was sampled and assumed.
    """
    bugs: list[ForecastBug]
    """
    What would become of a bad bundle.
    """
    cohort: int
    finish: ForecastSpread
    runs: int
    simulated: int
    sites: list[ForecastSite]
    stages: list[ForecastStage]
    warnings: list[str]


class Freeze(TypedDict):
    by: str
    reason: str
    since: str
    site: NotRequired[str | None]
    """
    Absent if the whole fleet is frozen.
    """


class Gate(TypedDict):
    alpha: float
    """
    The chance of a false alarm of all layers together.
    """
    asked_at: str
    layers: list[GateLayer]
    verdict: str
    """
    `pass`, `fail` or `insufficient`.
    """


class Health(TypedDict):
    agent_rss_bytes: int
    at: str
    cpu_percent: float
    disk_free_bytes: int
    memory_total_bytes: int
    memory_used_bytes: int
    spooled: int
    """
    Reports that wait on the box.
    """
    temperature_c: NotRequired[float | None]
    uptime_s: int


HeatWindow = TypedDict(
    "HeatWindow",
    {
        "devices": int,
        "from": str,
        "n": int,
        "streams": list[StreamWindow],
        "to": str,
    },
)


class Identity(DeviceStanding):
    arch: str
    cpu_model: str
    device: str
    enrolled: str
    """
    When it asked first, or was imported.
    """
    enrolment: NotRequired[str | None]
    """
    The file that it came with; absent if it was imported.
    """
    name: str
    rekeying: bool
    """
    It has a new key that has not connected yet; its old one is still good.
    """
    site: str


class IncidentHandled(TypedDict):
    at: str
    by: str
    reason: str


class KeptTelemetry(TypedDict):
    bytes: int
    """
    What they take up, as counted while they were written.
    """
    bytes_max: int
    """
    More than this is dropped, the oldest first.
    """
    dropped_bytes: int
    dropped_early_rows: int
    """
    Rows that were dropped before their age because there was too much.
    """
    dropped_last: NotRequired[str | None]
    dropped_rows: int
    kind: str
    """
    `reports`, `rollups_5m` or `rollups_1h`.
    """
    rows: int
    seconds_max: int
    since: NotRequired[str | None]


class Lease(TypedDict):
    device: NotRequired[str | None]
    """
    The box; absent if the lease is of a site.
    """
    expires: str
    """
    Real time. Nobody holds anything for ever.
    """
    id: str
    owner: str
    reason: str
    site: NotRequired[str | None]
    taken: str


LineageEdge = TypedDict(
    "LineageEdge",
    {
        "at": NotRequired[str | None],
        "by": NotRequired[str | None],
        "evidence": str,
        "from": str,
        "relation": str,
        "sentence": str,
        "to": str,
    },
)


class LineageGraph(TypedDict):
    """
    A graph that leads back from what was asked about.
    """

    edges: list[LineageEdge]
    gaps: list[str]
    """
    What nobody knows.
    """
    nodes: list[LineageNode]
    """
    The first is what was asked about.
    """
    truncated: bool
    """
    There was more than the 200 nodes that a graph may hold.
    """


class ListDatasetVersion(TypedDict):
    """
    A part of a list.
    """

    items: list[DatasetVersion]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListEnrolment(TypedDict):
    """
    A part of a list.
    """

    items: list[Enrolment]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListFreeze(TypedDict):
    """
    A part of a list.
    """

    items: list[Freeze]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListIdentity(TypedDict):
    """
    A part of a list.
    """

    items: list[Identity]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListLease(TypedDict):
    """
    A part of a list.
    """

    items: list[Lease]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListToken(TypedDict):
    """
    A part of a list.
    """

    items: list[Token]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListUndeliveredEvent(TypedDict):
    """
    A part of a list.
    """

    items: list[UndeliveredEvent]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListWebhook(TypedDict):
    """
    A part of a list.
    """

    items: list[Webhook]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class LogEntry(TypedDict):
    actor: Who
    at: str
    id: int
    kind: str
    """
    Such as `rollout.paused`.
    """
    link: NotRequired[str | None]
    """
    SHA-256 of the entry and of the link before it; `muster audit verify` follows them.
    """
    sentence: str
    subject: str
    """
    Id of what it happened to.
    """
    world_at: str


class LostReports(TypedDict):
    boot: str
    reports: int
    since: str
    """
    When the first of them was missed.
    """


class MailFailing(TypedDict):
    retry: str
    since: str
    tries: int
    why: str


class MailRefused(TypedDict):
    at: str
    to: str
    why: str


class Me(TypedDict):
    administrator: bool
    """
    You may administer the whole fleet.
    """
    by: str
    """
    `session`, `token`, or `address` in the open mode.
    """
    display: str
    """
    As other people know you.
    """
    mode: str
    """
    `open`: whoever reaches this server is the operator. `required`: you have shown who you are.
    """
    name: str
    roles: list[MyRole]
    """
    What you are, by project.
    """
    until: NotRequired[str | None]


class MlflowEvent(TypedDict):
    """
    What `MLflow` sends; of what it says, what we look at.
    """

    action: str
    """
    `created` and others.
    """
    data: MlflowEventData
    entity: str
    """
    `model_version`, `model_version_alias` and others.
    """


class ModelSummary(TypedDict):
    aliases: list[Alias]
    devices_running: int
    model: str
    newest: NotRequired[str | None]
    """
    The version that was accepted last.
    """
    versions: int


class Need(TypedDict):
    detail: str
    fingerprint: NotRequired[str | None]
    """
    Of a device that waits: what a person compares with what the box shows.
    """
    id: str
    kind: str
    """
    `device_pending`, `device_suspect`, `rollout_held`, `rollout_proposed`, `incident_open`, `approval`,
    `activation_failed`, `retrain_failed`, `device_silent` or `mail_undelivered`.
    """
    link: str
    """
    Where in the dashboard to decide.
    """
    since: str
    title: str
    urgent: bool
    """
    Whether it is mailed in quiet hours too: boxes answer wrongly or not at all, or somebody may have a key.
    """


class NewCapture(TypedDict):
    bundle: str
    """
    Only rows that this bundle answered, by its digest.
    """
    devices: NotRequired[list[str]]
    """
    Either boxes or a site: then those of its boxes that are ordered to run the bundle.
    """
    every: NotRequired[int | None]
    """
    One of so many rows: all, if neither this nor `score` is given.
    """
    for_s: int
    """
    For how long, in seconds.
    """
    incident: NotRequired[str | None]
    """
    The drift incident, where that is why.
    """
    reason: str
    """
    For people at the site and in the log.
    """
    rows: int
    """
    Rows of each box; a site tells no fewer than its *k*, so ask for more.
    """
    score: NotRequired[ScoreBand | None]
    site: NotRequired[str | None]
    slot: str
    why: Literal["drift", "low_confidence", "review"]


class NewEnrolment(TypedDict):
    """
    What was made. The file is a secret, and this is the only time it is shown.
    """

    enrolment: Enrolment
    file: dict[str, Any]
    """
    The content of the file that a box is enrolled with.
    """


class NewToken(TypedDict):
    for_s: NotRequired[int]
    """
    For how long, in seconds: 90 days if absent, 366 at most.
    """
    label: str
    """
    What it is for.
    """
    models: NotRequired[list[str]]
    """
    Of a builder's: the only models it builds.
    """
    project: NotRequired[str | None]
    """
    All of yours, if absent.
    """
    role: Literal["viewer", "operator", "approver", "admin", "builder"]


class NewTokenMade(TypedDict):
    """
    What was made. The secret is shown this once.
    """

    secret: str
    """
    What to send: `Authorization: Bearer` and this.
    """
    token: Token


PerformanceDay = TypedDict(
    "PerformanceDay",
    {
        "days": int,
        "expected": NotRequired[float | None],
        "from": str,
        "holdout_loss": NotRequired[float | None],
        "labels": int,
        "loss": NotRequired[float | None],
        "loss_z": NotRequired[float | None],
        "observed": float,
        "predictions": int,
        "state": str,
        "z": NotRequired[float | None],
    },
)


class Person(TypedDict):
    disabled: bool
    display: str
    made: str
    made_by: str
    name: str
    provided: bool
    """
    Comes by the identity provider, which says what they are here.
    """
    roles: dict[str, str]
    """
    `viewer`, `operator`, `approver` or `admin`, by project.
    """


class Problem(TypedDict):
    """
    `application/problem+json`.
    """

    code: Literal["bad_path", "bad_query", "bad_header", "bad_body", "invalid", "unauthenticated", "forbidden", "not_found", "no_route", "method_not_allowed", "stale", "state", "rollout_open", "no_root", "fingerprint_mismatch", "trigger_refused", "lease_lost", "not_catalogued", "revoked", "empty_cohort", "digest_mismatch", "rule_broken", "trust_refused", "too_large", "unsupported_media", "cross_site", "wrong_host", "too_fast", "key_reused", "signature", "timed_out", "busy", "internal"]
    """
    Stable: programs may rely on these words.
    """
    detail: str
    """
    What is wrong, where.
    """
    errors: NotRequired[list[Fault]]
    next: NotRequired[str | None]
    """
    What to do about it.
    """
    status: int
    title: str
    type: str
    """
    Reference that names the kind of problem: `/problems/` and the code.
    """


class Project(TypedDict):
    datasets: list[str]
    made: str
    made_by: str
    models: list[str]
    name: str
    sites: list[str]
    """
    Assigned to it. `default` has all that no other project has.
    """


class ResultBody(TypedDict):
    files: NotRequired[list[ResultFile]]
    """
    What was made; each was uploaded before.
    """
    message: NotRequired[str]
    """
    Why it failed.
    """
    status: Literal["succeeded", "failed"]
    """
    `succeeded` or `failed`.
    """


class ResultToken(TypedDict):
    token: str
    """
    Shown once. Good for one result of this attempt.
    """
    until: str


class RolloutDevice(TypedDict):
    """
    Why one device is where it is: exactly one sentence.
    """

    code: str
    device: str
    name: str
    next: str
    """
    What happens next, or what a person can do.
    """
    sentence: str
    since: NotRequired[str | None]
    site: str
    stage: str
    """
    Name of its stage.
    """
    state: str
    """
    `waiting`, `offered`, `baking`, `done`, `failed`, `reverted`, `returning` or `returned`.
    """


RolloutPhase = TypedDict(
    "RolloutPhase",
    {
        "is": str,
        "reason": NotRequired[Reason | None],
        "since": str,
        "stage": NotRequired[str | None],
    },
)


class RolloutRehearsal(TypedDict):
    """
    What a rollout would do.
    """

    bundle: BundleName
    cohort: int
    dry_run: bool
    forecast: Forecast
    """
    How long it would take and what its gates can see, from playing it through on the fleet of now.
    """
    slot: str
    stages: list[RehearsedStage]


class RunApproval(TypedDict):
    approved_by: list[str]
    people: int
    """
    So many different people have to agree.
    """
    until: str
    """
    Then it is rejected.
    """


class RunCheck(TypedDict):
    at_least: NotRequired[float | None]
    """
    What was measured must be at least this.
    """
    at_most: NotRequired[float | None]
    """
    What was measured may be at most this.
    """
    code: str
    """
    Stable, for programs: `worse_on_recent`.
    """
    gate: Literal["provenance", "schema", "offline", "golden", "resources"]
    measured: NotRequired[float | None]
    sentence: str
    verdict: Literal["passed", "failed", "unknown"]


class RunStep(TypedDict):
    actor: NotRequired[str | None]
    """
    The person, builder or policy that moved it; absent if time did.
    """
    at: str
    evidence: NotRequired[str | None]
    """
    What it was moved by: the trigger, the bundle's digest, the code of a cause.
    """
    kind: str
    """
    The state it entered.
    """
    sentence: str
    world_at: str


class RunningBundle(TypedDict):
    numerics: NotRequired[str | None]
    """
    How its numbers come out: `f32`, `f16`, `bf16` or `int8`.
    """
    passed_over: NotRequired[str | None]
    """
    Why no better variant of the bundle runs there.
    """
    path: str
    provider: str
    """
    `openvino` or `onnx_cpu`.
    """
    provider_reason: NotRequired[str | None]
    """
    Why it is not the preferred one.
    """
    sha256: str
    since: str
    variant: str
    version: str


class RunsOn(TypedDict):
    """
    Where it answers now.
    """

    devices: int
    link: str
    """
    The list of these devices.
    """
    sites: list[SiteCount]


class Session(TypedDict):
    agent: str
    """
    What the browser calls itself.
    """
    id: str
    made: str
    seen: str
    """
    Within a minute.
    """
    this: bool
    """
    The one that you ask with.
    """


class ShadowDay(TypedDict):
    against: str
    """
    Digest of the one that answered.
    """
    bundle: str
    """
    Digest of the bundle in the shadow.
    """
    day: str
    """
    Start of the world day.
    """
    differed: int
    """
    Of them, those that it would have answered otherwise.
    """
    rows: int
    """
    Rows that both were asked.
    """
    slot: str


class Site(TypedDict):
    activation: SiteHours
    consent: Literal["not_needed", "ask"]
    download: SiteHours
    in_flight_max: NotRequired[int | None]
    revision: int
    """
    For If-Match; 0 if the site has no rules of its own.
    """
    site: str
    zone: str
    """
    An IANA zone, such as `Europe/Berlin`: what the windows are written in.
    """


class Slot(TypedDict):
    current: NotRequired[RunningBundle | None]
    notice: NotRequired[Reason | None]
    phase: SlotPhase
    previous: NotRequired[BundleName | None]
    slot: str
    wanted: NotRequired[BundleName | None]


class Stage(TypedDict):
    activated: int
    """
    Of them, devices that prove it.
    """
    bake_until: NotRequired[str | None]
    baked: int
    """
    Of them, devices that have also lived with it for the bake time.
    """
    failed: int
    """
    Of them, devices that could not install it or went back by themselves.
    """
    gate: NotRequired[Gate | None]
    handed: int
    """
    Of them, devices that were told to run the bundle.
    """
    name: str
    pending: int
    """
    Of them, devices that have neither proved it nor failed nor gone back.
    """
    permitted: int
    """
    Of them, devices that may switch or have switched.
    """
    returned: int
    """
    Of them, devices that go back or have gone back to what they ran before.
    """
    state: str
    """
    `waiting`, `handing_out`, `baking`, `judging`, `passed`, `failed` or `stopped`.
    """
    target_devices: int
    """
    Devices of this stage alone.
    """


class StagePlan(TypedDict):
    bake_s: int
    """
    How long a device must live with the bundle before it counts, seconds of world time.
    """
    deadline_s: int
    """
    When an undecided stage stops waiting and asks a person: seconds of world time after it opened in which a window was
    open for somebody who is still waited for.
    """
    exposure_device_hours_max: NotRequired[float | None]
    """
    Risk this stage may spend: device-hours with the bundle before its gate has passed; hand-out waits beyond it.
    """
    gate: NotRequired[GateLimits]
    """
    What the stage's gate asks for, where it differs from the defaults.
    """
    name: str
    quorum_percent: NotRequired[float]
    """
    Share of the stage's asked devices that must be baked before the gate is asked, percent.
    """
    size: StageSize1 | StageSize2 | StageSize3 | StageSize4
    """
    Devices in this stage and all before it together; lists and filters add what they name to it.
    """


class Starter(TypedDict):
    kind: Literal["person", "policy"]
    name: NotRequired[str]
    trigger: NotRequired[str | None]


SteppingStone = TypedDict(
    "SteppingStone",
    {
        "from": str,
        "via": SteppingStoneVia,
    },
)


class TelemetryKept(TypedDict):
    kept: list[KeptTelemetry]
    lost_devices: int
    """
    Devices that gave up any.
    """
    lost_reports: int
    """
    Reports that boxes gave up because their spools were full.
    """


class TelemetryPoint(TypedDict):
    """
    One report.
    """

    agent_rss_bytes: int
    at: str
    """
    When the report came.
    """
    cpu_percent: float
    failures: int
    p95_us: NotRequired[int | None]
    """
    Upper bound of the histogram's bucket that holds the 95th percentile; absent without requests.
    """
    requests: int
    world_at: str
    """
    End of its span, world time.
    """


class TelemetrySpan(TypedDict):
    """
    What the reports of one span say together.
    """

    agent_rss_bytes: NotRequired[Values | None]
    at: str
    """
    Start of the span; of a single report, when it was measured.
    """
    cpu_percent: NotRequired[Values | None]
    disk_free_bytes: NotRequired[Values | None]
    failures: int
    latency: list[int]
    """
    Counts of requests by the buckets of latency; trailing zeros are left out.
    """
    memory_percent: NotRequired[Values | None]
    p95_us: NotRequired[int | None]
    """
    Upper bound of the histogram's bucket that holds the 95th percentile; absent without requests.
    """
    reports: int
    requests: int
    temperature_c: NotRequired[Values | None]


class TimelineEntry(TypedDict):
    """
    Something that happened to the thing shown.
    """

    actor: Who
    at: str
    kind: str
    sentence: str
    world_at: str


class TrainedOn(TypedDict):
    builder: str
    """
    Who holds the run's lease.
    """
    datasets: list[TrainedOnOne]


class Trigger(TriggerCause):
    at: str
    last_world_at: NotRequired[str | None]
    model: str
    outcome: str
    """
    `run` or `refused`.
    """
    refusal: NotRequired[Reason | None]
    run: NotRequired[str | None]
    times: int
    """
    How often the same was asked and refused for the same reason within a day.
    """
    world_at: str


class AskedDevice(TypedDict):
    answer: NotRequired[CaptureAnswer | None]
    device: str
    name: str


class Bundle(TypedDict):
    accepted: str
    catalogued: bool
    """
    Whether it may be activated anywhere.
    """
    created: str
    description: str
    devices_running: int
    evaluation: NotRequired[Evaluation | None]
    lineage: Lineage
    model: str
    path: str
    revoked: NotRequired[Revocation | None]
    sha256: str
    """
    SHA-256 of the manifest: the bundle's identity.
    """
    signer: str
    """
    `human`: with the targets keys. `builder`: with a delegated key.
    """
    size_bytes: int
    version: str


class BundlePerformance(TypedDict):
    alarm_since: NotRequired[str | None]
    bundle: str
    """
    SHA-256 of the bundle's manifest.
    """
    days: list[PerformanceDay]
    """
    The oldest first. Days with too few labels are taken together.
    """
    estimated: list[EstimatedDay]
    """
    What the probabilities say of themselves, the oldest day first; of the last 14 days. It needs no label and believes
    the model: it sees a harder mix of cases, never that the same case has come to mean something else. Empty where no
    monitored stream is a probability.
    """
    labelled: int
    """
    Those of them that have one.
    """
    labelled_percent: NotRequired[float | None]
    """
    The same as a share in percent; none if no prediction is old enough.
    """
    matured: int
    """
    Predictions that are old enough for their labels.
    """
    version: str
    waiting: int
    """
    Predictions that are too young.
    """


class Capture(TypedDict):
    asked: str
    boxes: int
    """
    How many boxes it is asked of.
    """
    bundle: BundleName
    by: str
    cancelled: NotRequired[str | None]
    devices: NotRequired[list[AskedDevice]]
    """
    How each of them stands to it; only where one capture is looked at.
    """
    every: NotRequired[int | None]
    """
    One of so many rows; absent where a band of scores is asked for.
    """
    id: str
    incident: NotRequired[str | None]
    """
    The drift incident, where that is why.
    """
    reason: str
    rows: int
    """
    Rows asked of each box.
    """
    score: NotRequired[ScoreBand | None]
    slot: str
    until: str
    why: str
    """
    `drift`, `low_confidence` or `review`.
    """


class Checkup(TypedDict):
    checks: list[CheckupFinding]
    """
    In the order in which one depends on the other.
    """
    now: str
    version: str
    """
    The server's.
    """


class DatasetComparison(TypedDict):
    a: DatasetVersion
    b: DatasetVersion
    changes: dict[str, Any]
    differs: bool


class Device(TypedDict):
    agent_version: str
    capabilities: Capabilities
    captures: list[CaptureAnswer]
    """
    How it stands to what it is asked to capture for its site.
    """
    health: NotRequired[Health | None]
    id: str
    identity: NotRequired[DeviceStanding | None]
    last_seen: str
    name: str
    notices: list[Reason]
    """
    What a person should know of it as a whole though it works: `clock_suspect`, `stale_metadata`.
    """
    observed_generation: int
    """
    Version of the order that its state answers.
    """
    order_version: int
    """
    Version of its newest order; 0 before the first.
    """
    presence: str
    """
    `online` or `offline`.
    """
    presence_since: str
    refusal: NotRequired[Reason | None]
    rollouts: list[DeviceInRollout]
    """
    Where it stands in the rollouts that are open and not done with it. In a list only of rollouts of up to 10,000
    devices.
    """
    root_version: NotRequired[int | None]
    """
    Version of the root that it trusts, as its last hello said.
    """
    site: str
    slots: list[Slot]
    waiting_on: NotRequired[WaitingFor | None]


class DeviceDetail(Device):
    lost_reports: list[LostReports]
    """
    Reports that it gave up because its spool was full, by boot, the newest first.
    """
    recent_events: list[DeviceEvent]
    """
    The newest first.
    """
    shadows: list[ShadowDay]
    """
    How often a bundle in the shadow would have answered otherwise, by day, the newest first.
    """
    telemetry: list[TelemetryPoint]
    """
    The oldest first.
    """


class Drift(TypedDict):
    devices_left_out: int
    """
    Devices beyond the first 50 are left out; ask for them one by one.
    """
    streams: list[str]
    """
    Monitored streams, in the manifest's order.
    """
    windows: list[DriftWindow]
    """
    By device, the oldest first; the last 90 of each device and bundle.
    """


class HeatSite(TypedDict):
    baseline: BaselineView
    site: str
    windows: list[HeatWindow]
    """
    The oldest first.
    """


class Heatmap(TypedDict):
    bundle: NotRequired[str | None]
    """
    SHA-256 of the bundle's manifest; none if no bundle of the model has a window.
    """
    sites: list[HeatSite]
    sites_left_out: int
    """
    Sites beyond the first 50, by name.
    """
    streams: list[str]
    """
    Monitored streams, in the manifest's order.
    """
    version: NotRequired[str | None]
    windows_left_out: bool
    """
    Whether there were more windows than are read at once; then the newest are missing.
    """


class Incident(TypedDict):
    asks_for_retraining: bool
    """
    Whether it is one that may ask for retraining.
    """
    bundle: BundleName
    handled: NotRequired[IncidentHandled | None]
    id: str
    kind: str
    """
    `new_regime`, `site_change`, `device_fault`, `known_season`, `data_quality`, `performance` or `site_differs`.
    """
    kind_said: str
    """
    The kind as a sentence says it.
    """
    model: str
    onset: str
    """
    Start of the first suspicious window, world time.
    """
    opened: str
    reach: str
    """
    `cohort`: the world has changed. `devices`: only some boxes see it.
    """
    scope: IncidentScope
    sentence: str
    state: str
    """
    `open`, `acknowledged` or `closed`.
    """
    streams: list[IncidentStream]
    """
    The strongest first.
    """
    trigger: NotRequired[str | None]
    why: str
    """
    How it was told from the other kinds.
    """
    world_opened: str


class ListBundle(TypedDict):
    """
    A part of a list.
    """

    items: list[Bundle]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListCapture(TypedDict):
    """
    A part of a list.
    """

    items: list[Capture]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListDevice(TypedDict):
    """
    A part of a list.
    """

    items: list[Device]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListIncident(TypedDict):
    """
    A part of a list.
    """

    items: list[Incident]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListLogEntry(TypedDict):
    """
    A part of a list.
    """

    items: list[LogEntry]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListModelSummary(TypedDict):
    """
    A part of a list.
    """

    items: list[ModelSummary]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListPerson(TypedDict):
    """
    A part of a list.
    """

    items: list[Person]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListProject(TypedDict):
    """
    A part of a list.
    """

    items: list[Project]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListRolloutDevice(TypedDict):
    """
    A part of a list.
    """

    items: list[RolloutDevice]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListSession(TypedDict):
    """
    A part of a list.
    """

    items: list[Session]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListSite(TypedDict):
    """
    A part of a list.
    """

    items: list[Site]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListTrigger(TypedDict):
    """
    A part of a list.
    """

    items: list[Trigger]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class MailList(TypedDict):
    failing: NotRequired[MailFailing | None]
    next: NotRequired[str | None]
    project: NotRequired[str | None]
    """
    Of what they are told; of everything, if absent.
    """
    refused: list[MailRefused]
    """
    People whom the relay would not have; the newest 16.
    """
    sent: NotRequired[str | None]
    standing: int
    """
    Things that they were told of, and that still stand.
    """
    to: list[str]
    waiting: int
    """
    Things that they were not told of yet.
    """


class ModelVersion(Bundle):
    aliases: list[str]
    notes: VersionNotes
    runs_on: RunsOn
    variants: list[ModelVariant]


class Published(TypedDict):
    bundle: PublishedBundle
    evaluation: NotRequired[dict[str, Any]]
    gates: NotRequired[list[RunCheck]]
    """
    What it was held to, in order; one that failed rejects the run.
    """


class Outcome1(TypedDict):
    published: Published


class Rejected(TypedDict):
    code: str
    evaluation: NotRequired[dict[str, Any]]
    gates: NotRequired[list[RunCheck]]
    sentence: str


class Outcome2(TypedDict):
    rejected: Rejected


class Performance(TypedDict):
    bundles: list[BundlePerformance]
    """
    Bundles that have answered anybody lately, the newest first.
    """
    horizon_s: int
    """
    World time after a prediction at which its label is in; the model's policy says it.
    """


class Plan(TypedDict):
    """
    Everything that a plan says; what is left out has its default.
    """

    approvals_min: NotRequired[int | None]
    """
    People other than its author who must say yes before it starts.
    """
    attempts_max: NotRequired[int | None]
    """
    How often a device is asked again after a failed install; 3 if absent.
    """
    in_flight_max: NotRequired[int | None]
    """
    Devices that may be fetching or switching at the same moment; 100 if absent.
    """
    in_flight_per_site_max: NotRequired[int | None]
    """
    The same, for each site; a site's own rules may say less.
    """
    install_deadline_s: NotRequired[int | None]
    """
    Reachable time in open windows that a device has to fetch, test and activate it, seconds; 6 hours if absent.
    """
    late_joiners: NotRequired[str | None]
    """
    Where a device enters that begins to match while it runs: `current_stage` (if absent), `last_stage` or `never`.
    """
    on_failure: NotRequired[str | None]
    """
    What a failed gate does by itself: `roll_back` (if absent) or `hold`.
    """
    patience_s: NotRequired[int | None]
    """
    An asked device that stays away for so long is asked anew when it comes back, seconds; 1 hour if absent.
    """
    priority: NotRequired[int | None]
    """
    0 to 1000, 500 if absent: of rollouts that want the same slot of the same box the higher goes first, and of equals
    the newer replaces the older.
    """
    rate_per_hour_max: NotRequired[int | None]
    """
    Devices asked in any hour of world time.
    """
    selector: NotRequired[Selector | None]
    stages: NotRequired[list[StagePlan] | None]
    """
    One device first, then everybody, if absent.
    """
    start_at: NotRequired[str | None]
    stepping_stones: NotRequired[list[SteppingStone] | None]
    """
    Versions that must be run on the way.
    """
    timing: NotRequired[str | None]
    """
    `as_sites_allow` (if absent), or `ignore_windows`: leases and redundancy groups are kept all the same.
    """


class PolicyRollout(TypedDict):
    """
    What happens with a bundle that a run published.
    """

    automatic: bool
    """
    Otherwise it waits for a person.
    """
    in_flight_max: NotRequired[int | None]
    """
    Devices that may be fetching or switching at the same moment; 100 if absent.
    """
    install_deadline_s: NotRequired[int | None]
    """
    Reachable time in open windows that a device has to fetch, test and activate it, seconds; 6 hours if absent.
    """
    stages: NotRequired[list[StagePlan] | None]
    """
    One device first, then everybody, if absent.
    """


RolloutSummary = TypedDict(
    "RolloutSummary",
    {
        "approvals": list[Approval],
        "approvals_min": int,
        "bundle": BundleName,
        "created": str,
        "from": list[RolloutFrom],
        "id": str,
        "model": str,
        "phase": RolloutPhase,
        "reason": str,
        "slot": str,
        "stages": list[Stage],
        "started_by": StartedBy,
        "world_created": str,
    },
)


class Run(TypedDict):
    approval: NotRequired[RunApproval | None]
    attempt: NotRequired[int | None]
    """
    How often it was given to a builder; while it is queued or claimed.
    """
    claimed_by: NotRequired[str | None]
    collecting_until: NotRequired[str | None]
    created: str
    failure: NotRequired[Reason | None]
    gates: list[RunCheck]
    """
    What its result was held to before it was signed, in order.
    """
    heartbeat_at: NotRequired[str | None]
    id: str
    log_tail: list[str]
    """
    Only of one run, not in lists.
    """
    model: str
    progress: NotRequired[RunProgress | None]
    result: NotRequired[RunResult | None]
    rollout: NotRequired[str | None]
    """
    The rollout that followed.
    """
    state: str
    """
    `collecting`, `queued`, `claimed`, `candidate`, `succeeded`, `rejected`, `failed` or `cancelled`.
    """
    timeline: list[RunStep]
    trigger: TriggerCause
    world_created: str


Telemetry = TypedDict(
    "Telemetry",
    {
        "from": str,
        "items": list[TelemetrySpan],
        "next_from": NotRequired[str | None],
        "step": str,
        "to": str,
    },
)


class Claim(TypedDict):
    champion: NotRequired[BundleName | None]
    request: RunRequest
    """
    The trainer's `muster-run/1` document.
    """
    run: Run


class FinishBody(TypedDict):
    builder: str
    outcome: Outcome1 | Outcome2 | Outcome3


class ListRolloutSummary(TypedDict):
    """
    A part of a list.
    """

    items: list[RolloutSummary]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


class ListRun(TypedDict):
    """
    A part of a list.
    """

    items: list[Run]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """


Mail = TypedDict(
    "Mail",
    {
        "from": NotRequired[str | None],
        "items": list[MailList],
        "quiet_until": NotRequired[str | None],
        "relay": NotRequired[str | None],
    },
)


class Model(TypedDict):
    aliases: list[Alias]
    devices_running: int
    model: str
    next: NotRequired[str | None]
    """
    Cursor of the rest of its versions; absent on the last page.
    """
    timeline: list[TimelineEntry]
    """
    What happened to its names and its policy, the oldest first.
    """
    versions: list[ModelVersion]
    """
    The newest first.
    """


class NewRollout(Plan):
    bundle: str
    """
    A bundle's path in the catalogue, the SHA-256 of its manifest, or `model@alias`: what the alias points at now.
    """
    model: str
    reason: NotRequired[str]
    slot: NotRequired[str | None]
    """
    The model's name, if absent.
    """
    started_by: NotRequired[Starter | None]


class Overview(TypedDict):
    devices: DeviceCounts
    incidents_open: int
    models: list[ModelSpread]
    needs_you: list[Need]
    """
    What a person has to decide or look at, the most urgent kind first; at most 50 of each.
    """
    now: str
    rollouts: list[RolloutSummary]
    """
    Running, paused, held or rolling back; the newest first.
    """
    world_now: str


class Policy(TypedDict):
    """
    All spans are seconds of world time.
    """

    approval: NotRequired[Literal["none"] | Literal["if_gates_pass"] | PolicyApproval1]
    """
    Who must agree before what a run published is rolled out.
    """
    cooldown_s: int
    """
    Least time between two runs.
    """
    enabled: bool
    guards: NotRequired[PolicyGuards]
    """
    What holds back a run that no person asked for.
    """
    labels: NotRequired[PolicyLabels]
    """
    A day, and only a person is told, if absent.
    """
    max_runs_per_week: int
    min_data_s: int
    """
    How much of the new world must have been seen before training on it.
    """
    model: str
    on: NotRequired[Literal["world clock"]]
    """
    Which clock the spans are of; always the same word.
    """
    rollout: PolicyRollout
    schedule: NotRequired[PolicySchedule | None]
    trigger: PolicyTrigger
    volume: NotRequired[int | None]
    """
    So many labels that came in since the last run ask for one.
    """


class Rollout(RolloutSummary):
    forecast: NotRequired[Forecast | None]
    revision: int
    """
    For If-Match.
    """
    timeline: list[TimelineEntry]
    """
    The oldest first.
    """
    waiting_on: list[WaitingFor]
    """
    Why it does not go on.
    """


class ListPolicy(TypedDict):
    """
    A part of a list.
    """

    items: list[Policy]
    next: NotRequired[str | None]
    """
    Cursor of the rest; absent on the last page.
    """
