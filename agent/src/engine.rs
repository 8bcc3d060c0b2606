//! Runs models: ONNX Runtime with Intel's OpenVINO plugin, from one folder of shared libraries.
//!
//! ```text
//!  Engine::open(dir) ──> library   one environment for the whole process, OpenVINO registered when first needed
//!  Engine::load(spec) ─> session   OpenVINO for the whole graph, or else the CPU provider and the reason why
//!                     └> model     a few one-thread sessions, each owned by an OS thread, behind one bounded queue
//! ```
//!
//! A model arrives here verified and self-tested: this module must never judge what may run, and never answer from a
//! model that was only half loaded. `ORT_DYLIB_PATH` is never relied upon (a bad path there panics).
//!
//! *A later step*: for tiny float models the CPU provider is the faster one; until both are measured at activation,
//! [`ProviderChoice::Auto`] always prefers OpenVINO.

mod aside;
mod beat;
mod convert;
mod installed;
mod library;
mod lone;
mod model;
mod queue;
mod session;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_protocol::manifest::InferencePrecision;

use crate::quiet::NO_REPORTS;
use crate::stopwatch::Stopwatch;

use aside::Lane;
pub(crate) use aside::{give_way, take_little};
pub(crate) use beat::Beat;
pub use installed::{Installed, mapped_libraries};
pub use lone::Lone;
pub use model::{Answer, InferError, Model};

/// Requests that may wait for one model, where nothing else is said.
pub const WAITING: usize = 64;

#[derive(Clone, Debug)]
pub struct Engine {
    library: Arc<library::Library>,
}

/// A model file and how it shall run.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    pub model_path: PathBuf,
    pub precision: InferencePrecision,
    pub want: ProviderChoice,
    /// One-thread sessions, which is also how many requests run at once.
    pub sessions: usize,
    /// Requests that may wait for a session; more are turned away at once.
    pub waiting_max: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProviderChoice {
    /// OpenVINO where it takes the whole graph, the CPU provider otherwise.
    #[default]
    Auto,
    /// OpenVINO or an error.
    #[value(name = "openvino")]
    OpenVino,
    OnnxCpu,
}

impl LoadSpec {
    /// OpenVINO preferred, and as many sessions as there are cores, at most two.
    pub fn new(model_path: impl Into<PathBuf>, precision: InferencePrecision) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (want, sessions) = (ProviderChoice::Auto, cores.min(2));
        Self { model_path: model_path.into(), precision, want, sessions, waiting_max: WAITING }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the inference runtime is incomplete: {} is missing; run 'make runtime' (or scripts/get-runtime.sh {})", file.display(), dir.display())]
    Missing { dir: PathBuf, file: PathBuf },
    #[error("the inference runtime in {} cannot be loaded: {reason}; run 'make runtime' to fetch it anew", dir.display())]
    Library { dir: PathBuf, reason: String },
    #[error("this process already runs the inference runtime in {}, so the one in {} cannot be loaded; restart it", loaded.display(), asked.display())]
    OtherFolder { loaded: PathBuf, asked: PathBuf },
    #[error("the inference runtime would report to its maker what runs here; set {}={} before the program starts", NO_REPORTS.0, NO_REPORTS.1)]
    Reports,
    #[error("OpenVINO cannot be used: {0}")]
    OpenVino(String),
    #[error("the model {} cannot be read", path.display())]
    ModelFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the model {} is empty", path.display())]
    EmptyModel { path: PathBuf },
    #[error("the model {} was refused: {reason}", path.display())]
    Refused { path: PathBuf, reason: String },
    #[error("the model {} has the {side} '{name}' of a type that is not served: {found}", path.display())]
    Unsupported { path: PathBuf, side: &'static str, name: String, found: String },
    #[error("no thread could be started to run the model")]
    Thread(#[source] std::io::Error),
    #[error("the thread that loaded the model ended before it was done")]
    Aborted,
}

impl EngineError {
    /// Stable word for events and states.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "runtime_missing",
            Self::Library { .. } | Self::OtherFolder { .. } | Self::Reports => "runtime_unusable",
            Self::OpenVino(_) => "openvino_unusable",
            Self::ModelFile { .. } => "model_unreadable",
            Self::EmptyModel { .. } | Self::Refused { .. } => "model_refused",
            Self::Unsupported { .. } => "model_unsupported",
            Self::Thread(_) | Self::Aborted => "load_aborted",
        }
    }
}

impl Engine {
    /// Looks at the files only; nothing is loaded, so an idle agent stays small.
    pub fn inspect(dir: &Path) -> Result<Installed, EngineError> {
        installed::inspect(dir)
    }

    /// Loads ONNX Runtime. OpenVINO follows with the first model that wants it.
    pub fn open(dir: &Path) -> Result<Self, EngineError> {
        Ok(Self { library: library::open(dir)? })
    }

    pub fn runtime_version(&self) -> &str {
        self.library.version()
    }

    /// What OpenVINO finds in this machine: `CPU`, `GPU`, `NPU`.
    pub fn devices(&self) -> Result<Vec<String>, EngineError> {
        self.library.devices()
    }

    /// Compiles a model and warms it up; takes from tens of milliseconds to many seconds of the calling thread.
    pub fn load(&self, spec: &LoadSpec) -> Result<Model, EngineError> {
        let watch = Stopwatch::start();
        let (sessions, signature, provider) = session::open(&self.library, spec)?;
        Model::new(&self.library, sessions, spec.waiting_max, signature, provider, watch.elapsed())
    }

    /// [`Engine::load`] where blocking is allowed, at the ordinary priority.
    pub async fn load_now(&self, spec: LoadSpec) -> Result<Model, EngineError> {
        let engine = self.clone();
        let loaded = tokio::task::spawn_blocking(move || engine.load(&spec));
        loaded.await.unwrap_or(Err(EngineError::Aborted))
    }

    /// [`Engine::load`] by the thread that gives way to every other: what answers now must not notice it.
    pub async fn load_aside(&self, spec: LoadSpec) -> Result<Model, EngineError> {
        let library = Arc::clone(&self.library);
        let waiting_max = spec.waiting_max;
        let opened = self.library.aside().run(Lane::Answers, move || {
            let watch = Stopwatch::start();
            session::open(&library, &spec).map(|opened| (opened, watch.elapsed()))
        });
        let ((sessions, signature, provider), took) = opened.await??;
        // Threads inherit their maker's priority, so those that answer are not made by the one that loaded.
        Model::new(&self.library, sessions, waiting_max, signature, provider, took)
    }

    /// One session aside, without a thread: for a shadow.
    pub async fn load_lone(&self, spec: LoadSpec) -> Result<Lone, EngineError> {
        let library = Arc::clone(&self.library);
        let spec = LoadSpec { sessions: 1, ..spec };
        let (mut sessions, signature, _) =
            self.library.aside().run(Lane::Beside, move || session::open(&library, &spec)).await??;
        sessions.pop().map(|session| Lone::new(session, signature)).ok_or(EngineError::Aborted)
    }

    /// What else a shadow needs, where [`Engine::load_lone`] works.
    pub async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Clone + Send + 'static,
    ) -> Result<T, EngineError> {
        self.library.aside().run(Lane::Beside, work).await
    }
}
