//! What lies in the runtime folder, and what of it this process has mapped. Loads nothing.

use std::collections::BTreeSet;
use std::path::Path;

use super::EngineError;

/// The libraries without which no model runs on OpenVINO's CPU device; a trailing '.' stands for any version.
const LIBRARIES: [&str; 7] = [
    "libonnxruntime.so",
    super::library::OPENVINO_PLUGIN,
    "libopenvino.so.",
    "libopenvino_intel_cpu_plugin.so",
    "libopenvino_onnx_frontend.so.",
    "libopenvino_ir_frontend.so.",
    "libtbb.so.",
];

/// An inference runtime on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Such as `onnxruntime 1.32.0, onnxruntime_ep_openvino 1.8.1, OpenVINO 2026.4.1`.
    pub version: String,
    /// Devices whose plugins are there; the CPU always is.
    pub devices: Vec<String>,
}

pub(super) fn inspect(dir: &Path) -> Result<Installed, EngineError> {
    let missing = |file: &Path| EngineError::Missing { dir: dir.to_owned(), file: file.to_owned() };
    let entries = std::fs::read_dir(dir).map_err(|_| missing(dir))?;
    let names: BTreeSet<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    for library in LIBRARIES {
        let there =
            |name: &String| if library.ends_with('.') { name.starts_with(library) } else { name == library };
        if !names.iter().any(there) {
            return Err(missing(
                &dir.join(format!("{library}{}", if library.ends_with('.') { "*" } else { "" })),
            ));
        }
    }
    let file = dir.join("VERSION");
    let wheels = std::fs::read_to_string(&file).map_err(|_| missing(&file))?;
    let openvino =
        names.iter().find_map(|name| openvino_version(name)).unwrap_or_else(|| "unknown".to_owned());
    let wheels: String = wheels.trim().chars().take(200).collect();
    Ok(Installed { version: format!("{wheels}, OpenVINO {openvino}"), devices: vec!["CPU".to_owned()] })
}

/// OpenVINO numbers its library by release: `libopenvino.so.2641` is 2026.4.1.
fn openvino_version(name: &str) -> Option<String> {
    let digits = name.strip_prefix("libopenvino.so.")?;
    let (year, rest) = digits.split_at_checked(2)?;
    let (minor, patch) = rest.split_at_checked(rest.len().checked_sub(1)?)?;
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    (all_digits && !minor.is_empty()).then(|| format!("20{year}.{minor}.{patch}"))
}

/// Shared libraries mapped into this process: the proof of what really executes.
pub fn mapped_libraries() -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.split_once('/').map(|(_, path)| format!("/{path}")));
    let libraries: BTreeSet<String> = paths.filter(|path| path.contains(".so")).collect();
    libraries.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_library_name() {
        let check = |name: &str, expect: Option<&str>| {
            assert_eq!(openvino_version(name).as_deref(), expect, "{name}");
        };
        check("libopenvino.so.2641", Some("2026.4.1"));
        check("libopenvino.so.26100", Some("2026.10.0"));
        check("libopenvino.so.26", None);
        check("libopenvino.so.x641", None);
        check("libtbb.so.12", None);
    }

    #[test]
    fn the_first_missing_file_is_named_with_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let complaint = |dir: &Path| inspect(dir).unwrap_err().to_string();
        assert!(complaint(&dir.path().join("none")).contains("none is missing; run 'make runtime'"));
        assert!(complaint(dir.path()).contains("libonnxruntime.so is missing"));
        for name in ["libonnxruntime.so", "libonnxruntime_providers_openvino_plugin.so"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert!(complaint(dir.path()).contains("libopenvino.so.* is missing"));
    }

    #[test]
    fn this_process_maps_libc() {
        assert!(mapped_libraries().iter().any(|path| path.contains("libc.so")));
    }
}
