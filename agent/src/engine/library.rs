//! The one ONNX Runtime of this process.
//!
//! A process can load one such library and hold one environment; both stay until it ends. Opening twice (as tests do)
//! therefore shares them, and a second folder is refused instead of being ignored.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::device::Device;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::memory::DeviceType;

use super::aside::Aside;
use super::{EngineError, installed};
use crate::quiet;

pub(super) const OPENVINO_PLUGIN: &str = "libonnxruntime_providers_openvino_plugin.so";
/// The exact name: the plugin also offers `….AUTO`, which would choose behind our back.
pub(super) const OPENVINO_PROVIDER: &str = "OpenVINOExecutionProvider";
const CPU_PROVIDER: &str = "CPUExecutionProvider";

static LOADED: Mutex<Option<Arc<Library>>> = Mutex::new(None);

#[derive(Debug)]
pub(super) struct Library {
    dir: PathBuf,
    version: String,
    environment: Environment,
    /// Registered once, when first needed: it costs some 47 MB. A failure stays, and is every later model's reason.
    openvino: OnceLock<Result<(), String>>,
    aside: Aside,
}

pub(super) fn open(dir: &Path) -> Result<Arc<Library>, EngineError> {
    let version = installed::inspect(dir)?.version;
    let unusable = |reason: String| EngineError::Library { dir: dir.to_owned(), reason };
    // A library named by a relative path would depend on the working directory.
    let dir = dir.canonicalize().map_err(|error| unusable(error.to_string()))?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = loaded.as_ref() {
        return if library.dir == dir {
            Ok(Arc::clone(library))
        } else {
            Err(EngineError::OtherFolder { loaded: library.dir.clone(), asked: dir })
        };
    }
    if !quiet::is_quiet() {
        return Err(EngineError::Reports);
    }
    let builder = ort::init_from(dir.join("libonnxruntime.so")).map_err(|error| unusable(chain(&error)))?;
    let builder = builder.with_name("muster").with_telemetry(false);
    let environment = builder.build().map_err(|error| unusable(chain(&error)))?;
    // What matters comes back as an error; the rest would fill the log of a box for years.
    environment.set_log_level(LogLevel::Error);
    let library =
        Arc::new(Library { dir, version, environment, openvino: OnceLock::new(), aside: Aside::default() });
    *loaded = Some(Arc::clone(&library));
    Ok(library)
}

impl Library {
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Where models are compiled and freed.
    pub(super) fn aside(&self) -> &Aside {
        &self.aside
    }

    /// OpenVINO's device for the CPU.
    pub(super) fn openvino_cpu(&self) -> Result<Vec<Device<'_>>, EngineError> {
        self.register_openvino()?;
        let cpu: Vec<Device<'_>> = self
            .openvino_devices()
            .filter(|device| device.hardware_device().ty() == DeviceType::CPU)
            .collect();
        if cpu.is_empty() { Err(EngineError::OpenVino(self.why_no_cpu())) } else { Ok(cpu) }
    }

    /// ONNX Runtime names a processor's maker as the processor itself does.
    fn why_no_cpu(&self) -> String {
        let all = self.environment.devices().map(|device| device.hardware_device());
        let mut cpus = all.filter(|device| device.ty() == DeviceType::CPU);
        if let Some(maker) = cpus.find_map(|cpu| cpu.vendor().ok().filter(|maker| !maker.contains("Intel"))) {
            return format!("its provider drives Intel's processors alone, and this one is of {maker}");
        }
        let plugin = self.dir.join("libopenvino_intel_cpu_plugin.so");
        format!("it finds no CPU device (is {} intact?)", plugin.display())
    }

    /// ONNX Runtime's own CPU kernels.
    pub(super) fn onnx_cpu(&self) -> Result<Vec<Device<'_>>, EngineError> {
        let cpu: Vec<Device<'_>> =
            self.environment.devices().filter(|device| device.ep().ok() == Some(CPU_PROVIDER)).collect();
        if cpu.is_empty() {
            let reason = "it offers no CPU provider".to_owned();
            return Err(EngineError::Library { dir: self.dir.clone(), reason });
        }
        Ok(cpu)
    }

    pub(super) fn devices(&self) -> Result<Vec<String>, EngineError> {
        self.register_openvino()?;
        let mut names: Vec<String> =
            self.openvino_devices().map(|device| name(device.hardware_device().ty())).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn openvino_devices(&self) -> impl Iterator<Item = Device<'_>> {
        self.environment.devices().filter(|device| device.ep().ok() == Some(OPENVINO_PROVIDER))
    }

    fn register_openvino(&self) -> Result<(), EngineError> {
        let register = || {
            let plugin = self.dir.join(OPENVINO_PLUGIN);
            self.environment.register_ep_library("openvino", plugin).map_err(|error| error.to_string())
        };
        self.openvino.get_or_init(register).clone().map_err(EngineError::OpenVino)
    }
}

fn name(ty: DeviceType) -> String {
    match ty {
        DeviceType::CPU => "CPU".to_owned(),
        DeviceType::GPU => "GPU".to_owned(),
        DeviceType::NPU => "NPU".to_owned(),
        DeviceType::FPGA => "FPGA".to_owned(),
    }
}

/// The whole story: the loader's own message only says that loading failed.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
