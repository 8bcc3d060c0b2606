//! What this box can run, found out by looking. Read once, at start.

use std::fs;
use std::thread;

use muster_protocol::message::Capabilities;
use muster_protocol::trust::Fitness;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::engine::Installed;

/// CPU features on which models are selected.
const FLAGS: &[&str] = &[
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
    "avx_ne_convert",
    "avx_vnni_int8",
    "fphp",
    "asimd",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
];

/// A host's name is ASCII.
const HOST_NAME_CHARS_MAX: usize = 64;

pub fn look(installed: &Installed) -> Capabilities {
    let cpuinfo = cpuinfo();
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    Capabilities {
        arch: std::env::consts::ARCH.to_owned(),
        cpu_model: model(&cpuinfo),
        cores: thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: System::new_with_specifics(memory).map_or(0, |system| system.total_memory()),
        cpu_flags: flags(&cpuinfo),
        devices: driven(&cpuinfo, installed),
        runtime: installed.version.clone(),
    }
}

/// What the machine calls itself, as far as it fits a name.
pub fn host_name() -> String {
    let name = System::host_name().unwrap_or_default();
    let name: String = name.chars().filter(|letter| !letter.is_control()).take(HOST_NAME_CHARS_MAX).collect();
    if name.trim().is_empty() { "box".to_owned() } else { name }
}

/// Architecture and model of the processor.
pub(crate) fn processor() -> (String, String) {
    (std::env::consts::ARCH.to_owned(), model(&cpuinfo()))
}

fn cpuinfo() -> String {
    fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

fn model(cpuinfo: &str) -> String {
    field(cpuinfo, "model name").unwrap_or("unknown").chars().take(100).collect()
}

/// What the catalogue may ask of this box. A version of ours that is not a plain one counts as the oldest, so that it is
/// trusted with nothing that asks for a newer agent.
pub fn fitness(capabilities: &Capabilities) -> Fitness {
    Fitness::of(capabilities, env!("CARGO_PKG_VERSION").parse().unwrap_or_default())
}

/// OpenVINO's provider for ONNX Runtime compares the processor's maker.
fn driven(cpuinfo: &str, installed: &Installed) -> Vec<String> {
    let is_intels = field(cpuinfo, "vendor_id") == Some("GenuineIntel");
    if is_intels { installed.devices.clone() } else { Vec::new() }
}

fn flags(cpuinfo: &str) -> Vec<String> {
    let all = field(cpuinfo, "flags").or_else(|| field(cpuinfo, "Features")).unwrap_or_default();
    let all: Vec<&str> = all.split_whitespace().collect();
    FLAGS.iter().filter(|flag| all.contains(flag)).map(|&flag| flag.to_owned()).collect()
}

/// The first value of a field of `/proc/cpuinfo`.
fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_matter_are_picked() {
        let check = |cpuinfo: &str, wanted: &[&str]| assert_eq!(flags(cpuinfo), wanted);
        check(
            "model name\t: X\nflags\t\t: fpu avx2 avx512f amx_bf16 sse\n",
            &["avx2", "avx512f", "amx_bf16"],
        );
        check("Features\t: fp asimd i8mm\n", &["asimd", "i8mm"]);
        check("", &[]);
    }

    #[test]
    fn openvino_drives_intels_processors_alone() {
        let installed = Installed { version: "x".to_owned(), devices: vec!["CPU".to_owned()] };
        let check = |cpuinfo: &str, wanted: &[&str]| assert_eq!(driven(cpuinfo, &installed), wanted);
        check("processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: X\n", &["CPU"]);
        check("processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: X\n", &[]);
        check("Features\t: fp asimd i8mm\n", &[]);
    }

    #[test]
    fn this_release_has_a_version_that_catalogues_can_ask_for() {
        let fitness = fitness(&Capabilities { arch: "x86_64".to_owned(), ..Capabilities::default() });
        assert_eq!(fitness.agent.to_string(), env!("CARGO_PKG_VERSION"));
        assert!(fitness.hardware.contains(&"x86_64-cpu".parse().unwrap()));
    }

    #[test]
    fn this_machine_is_described() {
        let installed = Installed { version: "x".to_owned(), devices: vec!["CPU".to_owned()] };
        let found = look(&installed);
        assert!(found.cores > 0 && found.memory_bytes > 0 && !found.cpu_model.is_empty());
    }
}
