//! Device events in words for people.

use muster_protocol::message::{EventKind, Provider};

/// The event's name, and its kind in the log.
pub(super) fn names(kind: &EventKind) -> (&'static str, &'static str) {
    match kind {
        EventKind::Started { .. } => ("started", "device.event.started"),
        EventKind::Activated { .. } => ("activated", "device.event.activated"),
        EventKind::ActivationFailed { .. } => ("activation_failed", "device.event.activation_failed"),
        EventKind::Reverted { .. } => ("reverted", "device.event.reverted"),
        EventKind::Stopped { .. } => ("stopped", "device.event.stopped"),
        EventKind::Cleared { .. } => ("cleared", "device.event.cleared"),
        EventKind::ConsentGiven { .. } => ("consent_given", "device.event.consent_given"),
        EventKind::ConsentWithdrawn { .. } => ("consent_withdrawn", "device.event.consent_withdrawn"),
        EventKind::Capture { .. } => ("capture", "device.event.capture"),
        EventKind::OrderRefused { .. } => ("order_refused", "device.event.order_refused"),
        EventKind::TrustRefused { .. } => ("trust_refused", "device.event.trust_refused"),
        EventKind::TelemetryDropped { .. } => ("telemetry_dropped", "device.event.telemetry_dropped"),
        EventKind::Malformed { .. } => ("malformed", "device.event.malformed"),
    }
}

pub(super) fn sentence(kind: &EventKind) -> String {
    match kind {
        EventKind::Started { agent_version } => format!("the agent {agent_version} started"),
        EventKind::Activated { slot, bundle, provider, load_ms, self_test_ms } => {
            let by = match provider.provider {
                Provider::OpenVino => "OpenVINO",
                Provider::OnnxCpu => "ONNX Runtime on the CPU",
            };
            format!("{slot} runs {} on {by} (self-test {self_test_ms} ms, load {load_ms} ms)", bundle.path)
        }
        EventKind::ActivationFailed { slot, bundle, sentence, .. } => {
            format!("{} cannot run in {slot}: {sentence}", bundle.path)
        }
        EventKind::Reverted { slot, from, to: Some(to), sentence, .. } => {
            format!("{slot} went back from {} to {}: {sentence}", from.path, to.path)
        }
        EventKind::Reverted { slot, from, to: None, sentence, .. } => {
            format!("{slot} gave up {} and had nothing to go back to: {sentence}", from.path)
        }
        EventKind::Stopped { slot, sentence, .. } => {
            format!("{slot} stopped answering: {sentence}")
        }
        EventKind::Cleared { slot } => format!("{slot} was cleared"),
        EventKind::ConsentGiven { slot, bundle, by } => format!("{by} consents to {} in {slot}", bundle.path),
        EventKind::ConsentWithdrawn { slot, bundle, by } => {
            format!("{by} takes back the consent to {} in {slot}", bundle.path)
        }
        EventKind::Capture { slot, standing, .. } => {
            format!("captures of {slot}: {} ({})", standing.sentence(), standing.code())
        }
        EventKind::OrderRefused { sentence, .. } => format!("the order was refused: {sentence}"),
        EventKind::TrustRefused { sentence, .. } => format!("a trust file was refused: {sentence}"),
        EventKind::TelemetryDropped { reports } => {
            format!("{reports} reports were dropped, the oldest first, because the spool was full")
        }
        EventKind::Malformed { count, sentence } => format!("{count} messages could not be read: {sentence}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_name_what_happened() {
        let kind = EventKind::TelemetryDropped { reports: 3 };
        assert_eq!(names(&kind), ("telemetry_dropped", "device.event.telemetry_dropped"));
        assert!(sentence(&kind).starts_with("3 reports"));
    }
}
