//! What the box works with: the inference runtime, what waits for the fleet, and the agent that runs.

use std::os::unix::net::UnixStream;
use std::path::Path;

use hyper::Method;
use muster_protocol::checkup::Finding;
use muster_protocol::message::{Phase, SlotState, State};
use serde_json::Value;

use crate::commands::local::Local;
use crate::config::Config;
use crate::engine::{Engine, EngineError};
use crate::spool::{self, Bounds, Waiting};
use crate::{capabilities, chain};

const RUNTIME: &str = "runtime";
const SPOOL: &str = "spool";
const AGENT: &str = "agent";
/// Notices of the agent that have a line of their own here.
const LOOKED_AT: [&str; 2] = ["clock_suspect", "stale_metadata"];

/// Found, loadable, and which devices it sees. Loads it into this process, as a self-test does into its child.
pub(super) fn runtime(dir: &Path) -> Finding {
    let next = format!(
        "fetch it anew: scripts/get-runtime.sh {0} (in a source tree 'make runtime'), or name its folder in [runtime] dir",
        dir.display()
    );
    let installed = match Engine::inspect(dir) {
        Ok(installed) => installed,
        Err(error) => {
            let says = if let EngineError::Missing { file, .. } = &error {
                format!("the inference runtime lacks {}", file.display())
            } else {
                chain(&error)
            };
            return Finding::fail(RUNTIME, says, next);
        }
    };
    match Engine::open(dir).map(|engine| engine.devices()) {
        Err(error) => Finding::fail(RUNTIME, chain(&error), next),
        Ok(Err(error)) => {
            let says = format!("{}: models run on ONNX Runtime alone", chain(&error));
            Finding::warn(RUNTIME, says, next)
        }
        Ok(Ok(devices)) if devices.is_empty() => {
            let instead = "OpenVINO drives no device here (it does Intel's), so models run on ONNX Runtime's own kernels";
            let says = format!("{}; {instead}", installed.version);
            // What the box tells the fleet that OpenVINO drives, it should.
            if capabilities::look(&installed).devices.is_empty() {
                Finding::ok(RUNTIME, says)
            } else {
                Finding::warn(RUNTIME, says, next)
            }
        }
        Ok(Ok(devices)) => {
            Finding::ok(RUNTIME, format!("{}; OpenVINO sees {}", installed.version, devices.join(", ")))
        }
    }
}

pub(super) fn spool(state_dir: &Path) -> Finding {
    match spool::look(&state_dir.join("spool")) {
        Ok(waiting) => waits(waiting, Bounds::default()),
        Err(error) => {
            let next = "run this as root, or as the user that the agent runs as; else look at the disk";
            Finding::fail(SPOOL, chain(&error), next)
        }
    }
}

fn waits(waiting: Waiting, bounds: Bounds) -> Finding {
    let Waiting { events, reports, report_bytes } = waiting;
    let says = format!("{events} events and {reports} reports wait for the fleet");
    let reaches = |share: usize| {
        let bytes_max = bounds.report_bytes / share as u64;
        events >= bounds.events / share || reports >= bounds.reports / share || report_bytes >= bytes_max
    };
    let next = "does this box reach its fleet ('broker' above)? If it does: at the fleet 'muster doctor'";
    if reaches(1) {
        Finding::fail(SPOOL, format!("{says}; no more fit, and the oldest are lost"), next)
    } else if reaches(2) {
        Finding::warn(SPOOL, format!("{says}; half of what fits"), next)
    } else {
        Finding::ok(SPOOL, says)
    }
}

/// The agent of this folder, as applications meet it.
pub(super) fn agent(config: &Config) -> Vec<Finding> {
    let answer =
        Local::find(&config.state_dir).and_then(|local| local.ask(Method::GET, "/muster/v1/state", None));
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let next =
                "start it: systemctl start muster-agent, or muster-agent run; its log says why it ended";
            return vec![Finding::fail(AGENT, chain(&error), next)];
        }
    };
    let Ok(state) = serde_json::from_value::<State>(answer.clone()) else {
        let next = "it may have started a moment ago: look again; else start it anew with this version";
        return vec![Finding::unknown(AGENT, "it answers, and does not say how it is", next)];
    };
    let mut found = vec![answers(&answer, &state)];
    found.extend(config.serve.unix.as_deref().map(socket));
    let notices = state.notices.iter().filter(|notice| !LOOKED_AT.contains(&notice.code.as_str()));
    found.extend(notices.map(|notice| {
        let next = "the sentence names the cause; at the fleet 'muster device show ID' shows the other side";
        Finding::warn(&format!("{AGENT}.{}", notice.code), notice.sentence.as_str(), next)
    }));
    found.extend(state.refusal.iter().map(|refusal| {
        let says = format!("the agent refuses its order: {}", refusal.sentence.as_str());
        Finding::fail(
            "order",
            says,
            "at the fleet: muster device show ID; the next order may be a better one",
        )
    }));
    found.extend(state.slots.iter().filter_map(slot));
    found
}

fn answers(answer: &Value, state: &State) -> Finding {
    let pid = &answer["pid"];
    let running = answer["version"].as_str().unwrap_or("unknown");
    let program = env!("CARGO_PKG_VERSION");
    if running != program {
        let says = format!("process {pid} is version {running}, and this program is {program}");
        return Finding::warn(AGENT, says, "start it anew: systemctl restart muster-agent");
    }
    let slots = state.slots.len();
    let says = format!(
        "process {pid} answers; order {}, {slots} slots, version {running}",
        state.observed_generation
    );
    Finding::ok(AGENT, says)
}

fn socket(path: &Path) -> Finding {
    match UnixStream::connect(path) {
        Ok(_) => Finding::ok("socket", format!("{} answers", path.display())),
        Err(error) => Finding::fail(
            "socket",
            format!("{} does not answer: {error}", path.display()),
            "start the agent anew; if you may not open it, join its group",
        ),
    }
}

/// A slot that cannot have its wish.
fn slot(slot: &SlotState) -> Option<Finding> {
    let check = format!("slot.{}", slot.slot);
    let next = format!("at the fleet 'muster rollout why' tells the whole story of {}", slot.slot);
    match &slot.phase {
        Phase::Failed { bundle, sentence, .. } | Phase::Stopped { bundle, sentence, .. } => {
            Some(Finding::fail(&check, format!("{}: {}", bundle.path, sentence.as_str()), next))
        }
        Phase::Empty
        | Phase::Downloading { .. }
        | Phase::Verifying { .. }
        | Phase::SelfTesting { .. }
        | Phase::Ready { .. }
        | Phase::Activating { .. }
        | Phase::Running { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::checkup::Condition;

    use super::*;

    #[test]
    fn a_spool_is_full_by_whichever_bound_comes_first() {
        let check = |events, reports, report_bytes, condition| {
            let bounds = Bounds { events: 100, reports: 10, report_bytes: 1000 };
            let found = waits(Waiting { events, reports, report_bytes }, bounds);
            assert_eq!(found.state, condition, "{found:?}");
        };
        check(0, 0, 0, Condition::Ok);
        check(49, 4, 499, Condition::Ok);
        check(50, 0, 0, Condition::Warn);
        check(0, 5, 0, Condition::Warn);
        check(0, 0, 500, Condition::Warn);
        check(100, 0, 0, Condition::Fail);
        check(0, 0, 1000, Condition::Fail);
    }

    #[test]
    fn a_runtime_that_is_not_there_is_named_with_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let found = runtime(dir.path());
        assert_eq!(found.state, Condition::Fail);
        assert!(found.says.contains("libonnxruntime.so"), "{found:?}");
        assert!(found.do_next.unwrap().contains("get-runtime.sh"));
    }
}
