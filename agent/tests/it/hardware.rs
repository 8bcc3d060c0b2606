//! What this machine is. OpenVINO's provider drives Intel's processors alone; on others the tests hold the box to what it
//! does instead, and that is to run on ONNX Runtime's own kernels and to say why.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use muster_protocol::message::{Provider, ProviderUse};

pub(crate) fn is_intel() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").unwrap().contains("GenuineIntel")
}

/// Whatever OpenVINO could run runs there, and nothing falls back silently.
pub(crate) fn is_best(used: &ProviderUse) -> bool {
    let reason = used.reason.as_ref().map_or("", |reason| reason.as_str());
    if is_intel() {
        used.provider == Provider::OpenVino && reason.is_empty()
    } else {
        used.provider == Provider::OnnxCpu && reason.contains("Intel's processors alone")
    }
}
