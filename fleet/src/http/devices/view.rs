//! A device as the API shows it.

use muster_protocol::ids::DeviceId;
use muster_protocol::manifest::Numerics;
use muster_protocol::message::up::{Phase, Running, SlotState};
use muster_protocol::message::{Capabilities, Presence, Provider, Refusal};
use muster_protocol::trust::Want;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::captures::CaptureAnswer;
use super::super::identities::Standing;
use super::super::parts::{BundleName, Reason, WaitingFor};
use super::super::problem::Answer;
use super::super::time::Time;
use super::waiting::waiting_on;
use super::within::InRollout;
use crate::store::devices::Device;
use crate::store::reports::HealthAt;
use crate::store::{Control, Telemetry, orders, reports};

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Device)]
pub(crate) struct DeviceView {
    id: String,
    name: String,
    site: String,
    /// `online` or `offline`.
    presence: &'static str,
    presence_since: Time,
    last_seen: Time,
    agent_version: String,
    /// Where it stands in the register; absent for a device of before there was one.
    identity: Option<Standing>,
    capabilities: CapabilitiesView,
    /// Version of its newest order; 0 before the first.
    order_version: u64,
    /// Version of the root that it trusts, as its last hello said.
    root_version: Option<u64>,
    /// Version of the order that its state answers.
    observed_generation: u64,
    slots: Vec<SlotView>,
    refusal: Option<Reason>,
    /// What a person should know of it as a whole though it works: `clock_suspect`, `stale_metadata`.
    notices: Vec<Reason>,
    /// How it stands to what it is asked to capture for its site.
    captures: Vec<CaptureAnswer>,
    health: Option<HealthView>,
    /// Why it does not run what it should, if it does not.
    waiting_on: Option<WaitingFor>,
    /// Where it stands in the rollouts that are open and not done with it. In a list only of rollouts of up to 10,000
    /// devices.
    rollouts: Vec<InRollout>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Capabilities)]
struct CapabilitiesView {
    arch: String,
    cpu_model: String,
    cores: u32,
    memory_bytes: u64,
    cpu_flags: Vec<String>,
    devices: Vec<String>,
    runtime: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Slot)]
struct SlotView {
    slot: String,
    phase: PhaseView,
    /// What answers applications now.
    current: Option<RunningView>,
    /// What it can go back to at once.
    previous: Option<BundleName>,
    /// What its newest order wants.
    wanted: Option<BundleName>,
    /// What a person should know of the current bundle: `running_yanked`, `running_revoked`, `stopped_revoked`.
    notice: Option<Reason>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = SlotPhase)]
struct PhaseView {
    /// `empty`, `downloading`, `verifying`, `self_testing`, `activating`, `running`, `failed` or `stopped`.
    is: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<BundleName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sentence: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunningBundle)]
struct RunningView {
    path: String,
    version: String,
    sha256: String,
    variant: String,
    /// `openvino` or `onnx_cpu`.
    provider: &'static str,
    /// Why it is not the preferred one.
    provider_reason: Option<String>,
    /// How its numbers come out: `f32`, `f16`, `bf16` or `int8`.
    numerics: Option<&'static str>,
    /// Why no better variant of the bundle runs there.
    passed_over: Option<String>,
    since: Time,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
struct HealthView {
    cpu_percent: f32,
    memory_used_bytes: u64,
    memory_total_bytes: u64,
    agent_rss_bytes: u64,
    disk_free_bytes: u64,
    temperature_c: Option<f32>,
    uptime_s: u64,
    /// Reports that wait on the box.
    spooled: u32,
    at: Time,
}

impl DeviceView {
    pub(super) async fn load(
        db: &mut Control,
        telemetry: &mut Telemetry,
        device: Device,
        rollouts: Vec<InRollout>,
    ) -> Answer<Self> {
        let order = orders::get(db, &device.id).await?;
        let health = reports::health_of(telemetry, &device.id).await?;
        let identity = Standing::load(db, &device.id).await?;
        let (version, wants) = order.map_or((0, Vec::new()), |order| (order.version, order.wants));
        Ok(Self { rollouts, ..Self::of(device, identity, (version, &wants), health) })
    }

    fn of(
        device: Device,
        identity: Option<Standing>,
        (order_version, wants): (u64, &[Want]),
        health: Option<HealthAt>,
    ) -> Self {
        let waiting_on = match &identity {
            Some(identity) => identity.holds_back().or_else(|| waiting_on(&device, order_version, wants)),
            None => waiting_on(&device, order_version, wants),
        };
        let Device { id, name, site, agent_version, capabilities, presence, state, .. } = device;
        let (mut slots, refusal, notices, captures, observed) = match state {
            None => (Vec::new(), None, Vec::new(), Vec::new(), 0),
            Some(state) => {
                let slots = state.slots.into_iter().map(|slot| SlotView::of(slot, wants)).collect();
                let notices = state.notices.into_iter().map(reason).collect();
                let captures = state.captures.into_iter().map(CaptureAnswer::from).collect();
                (slots, state.refusal.map(reason), notices, captures, state.observed_generation)
            }
        };
        slots.extend(unheard(&slots, wants));
        Self {
            id: DeviceId::into(id),
            name,
            site: site.into(),
            presence: match presence {
                Presence::Online => "online",
                Presence::Offline => "offline",
            },
            presence_since: device.presence_since.into(),
            last_seen: device.last_seen.into(),
            agent_version,
            identity,
            capabilities: capabilities.into(),
            order_version,
            root_version: device.root,
            observed_generation: observed,
            slots,
            refusal,
            notices,
            captures,
            health: health.map(HealthView::from),
            waiting_on,
            rollouts: Vec::new(),
        }
    }
}

/// Slots that are ordered and that the device has not spoken of yet.
fn unheard(slots: &[SlotView], wants: &[Want]) -> Vec<SlotView> {
    let new = wants.iter().filter(|want| slots.iter().all(|slot| slot.slot != want.slot.as_str()));
    new.map(|want| SlotView {
        slot: want.slot.to_string(),
        phase: PhaseView { is: "empty", ..PhaseView::default() },
        current: None,
        previous: None,
        wanted: Some(wanted(want)),
        notice: None,
    })
    .collect()
}

fn reason(said: Refusal) -> Reason {
    Reason { code: said.code, sentence: said.sentence.into() }
}

fn wanted(want: &Want) -> BundleName {
    BundleName {
        path: Some(want.bundle.to_string()),
        version: Some(want.bundle.version().to_string()),
        sha256: want.sha256.to_string(),
    }
}

impl SlotView {
    fn of(state: SlotState, wants: &[Want]) -> Self {
        let SlotState { slot, phase, current, previous, notice } = state;
        Self {
            wanted: wants.iter().find(|want| want.slot == slot).map(wanted),
            slot: slot.into(),
            phase: phase.into(),
            current: current.map(RunningView::from),
            previous: previous.as_ref().map(BundleName::from),
            notice: notice.map(reason),
        }
    }
}

/// A phase's word.
fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Empty => "empty",
        Phase::Downloading { .. } => "downloading",
        Phase::Verifying { .. } => "verifying",
        Phase::SelfTesting { .. } => "self_testing",
        Phase::Ready { .. } => "ready",
        Phase::Activating { .. } => "activating",
        Phase::Running { .. } => "running",
        Phase::Failed { .. } => "failed",
        Phase::Stopped { .. } => "stopped",
    }
}

impl From<Phase> for PhaseView {
    fn from(phase: Phase) -> Self {
        let is = phase_name(&phase);
        match phase {
            Phase::Empty => Self { is, ..Self::default() },
            Phase::Downloading { bundle, received_bytes, total_bytes } => Self {
                is,
                bundle: Some(BundleName::from(&bundle)),
                received_bytes: Some(received_bytes),
                total_bytes: Some(total_bytes),
                ..Self::default()
            },
            Phase::Verifying { bundle }
            | Phase::SelfTesting { bundle }
            | Phase::Ready { bundle, .. }
            | Phase::Activating { bundle }
            | Phase::Running { bundle } => {
                Self { is, bundle: Some(BundleName::from(&bundle)), ..Self::default() }
            }
            Phase::Failed { bundle, code, sentence, .. } | Phase::Stopped { bundle, code, sentence } => {
                Self {
                    is,
                    bundle: Some(BundleName::from(&bundle)),
                    code: Some(code),
                    sentence: Some(sentence.into()),
                    ..Self::default()
                }
            }
        }
    }
}

impl From<Running> for RunningView {
    fn from(running: Running) -> Self {
        let Running { bundle, variant, provider, numerics, passed_over, since } = running;
        Self {
            version: bundle.path.version().to_string(),
            path: bundle.path.into(),
            sha256: bundle.sha256.into(),
            variant,
            provider: match provider.provider {
                Provider::OpenVino => "openvino",
                Provider::OnnxCpu => "onnx_cpu",
            },
            provider_reason: provider.reason.map(String::from),
            numerics: numerics.map(Numerics::as_str),
            passed_over: passed_over.map(String::from),
            since: since.into(),
        }
    }
}

impl From<Capabilities> for CapabilitiesView {
    fn from(has: Capabilities) -> Self {
        let Capabilities { arch, cpu_model, cores, memory_bytes, cpu_flags, devices, runtime } = has;
        Self { arch, cpu_model, cores, memory_bytes, cpu_flags, devices, runtime }
    }
}

impl From<HealthAt> for HealthView {
    fn from(HealthAt { received, health }: HealthAt) -> Self {
        Self {
            cpu_percent: health.cpu_percent,
            memory_used_bytes: health.memory_used_bytes,
            memory_total_bytes: health.memory_total_bytes,
            agent_rss_bytes: health.agent_rss_bytes,
            disk_free_bytes: health.disk_free_bytes,
            temperature_c: health.temperature_c,
            uptime_s: health.uptime_s,
            spooled: health.spooled,
            at: received.into(),
        }
    }
}
