//! From content that is here to a model that may answer: read the manifest, choose the variants, check every file, prove
//! the golden outputs in a child process, load.
//!
//! ```text
//!   variants that fit, best first ──▶ self-test ──passes──▶ this one is loaded, and kept over restarts
//!                                        └──fails──▶ the next; the bundle is bad when there is none
//! ```
//!
//! Each step either succeeds or says with a code why not. What runs is not touched here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_protocol::ids::Digest;
use muster_protocol::limits::MANIFEST_BYTES_MAX;
use muster_protocol::manifest::{BundleFile, Fit, Golden, Manifest, ManifestError, ReferenceFile, Variant};
use muster_protocol::message::up::BundleRef;
use muster_protocol::message::{Capabilities, Sentence};

use crate::blobs::{Blobs, Found, Layout};
use crate::chain;
use crate::disk::DiskError;
use crate::engine::{Engine, EngineError, LoadSpec};
use crate::reconcile::Blob;
use crate::selftest::{self, GoldenPair, SelfTestError, SelfTestReport, SelfTestSpec};
use crate::serve::{Served, ServedError};
use crate::shadow::Shadow;

#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    #[error("the bundle's manifest cannot be used")]
    Manifest(#[source] ManifestError),
    #[error("the manifest is of {found}, the catalogue calls it {wanted}; build and sign the bundle again")]
    Misnamed { wanted: String, found: String },
    #[error("no variant of the bundle fits this box: {0}")]
    NoVariant(String),
    #[error("the variant '{0}', which ran here, fits this box no more; another is to be proven first")]
    Gone(String),
    #[error("the drift reference of the bundle cannot be used")]
    Reference(#[source] muster_protocol::manifest::reference::ReferenceFileError),
    #[error("{0} of the bundle is missing or damaged on the disk")]
    Damaged(String),
    #[error("the self-test did not pass")]
    SelfTest(#[source] SelfTestError),
    #[error("no variant passed the self-test: {tried}")]
    NoneProved { code: &'static str, tried: String },
    #[error("the model cannot be loaded")]
    Load(#[source] EngineError),
    #[error("the model was not loaded after {limit_s} s")]
    LoadTime { limit_s: u64 },
    #[error("the model is not what its manifest says")]
    Served(#[source] ServedError),
    #[error("the work on the bundle was cut short")]
    Interrupted(#[source] tokio::task::JoinError),
    #[error("the content of the bundle cannot be read")]
    Disk(#[from] DiskError),
}

/// Whether the bundle is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It fails here however often it is tried.
    Bundle,
    /// The box had a bad moment.
    Moment,
}

impl ActivateError {
    pub fn code(&self) -> String {
        match self {
            Self::Manifest(ManifestError::UnknownFeature(_)) => "manifest_unknown_feature".to_owned(),
            Self::Manifest(_) => "manifest_invalid".to_owned(),
            Self::Misnamed { .. } => "manifest_misnamed".to_owned(),
            Self::NoVariant(_) => "no_variant".to_owned(),
            Self::Gone(_) => "variant_gone".to_owned(),
            Self::Reference(_) => "reference_invalid".to_owned(),
            Self::Damaged(_) => "content_damaged".to_owned(),
            Self::SelfTest(error) => error.code().to_owned(),
            Self::NoneProved { code, .. } => (*code).to_owned(),
            Self::Load(error) => error.code().to_owned(),
            Self::LoadTime { .. } => "load_timed_out".to_owned(),
            Self::Served(error) => error.code().to_owned(),
            Self::Interrupted(_) => "interrupted".to_owned(),
            Self::Disk(error) if error.is_full() => "disk_full".to_owned(),
            Self::Disk(_) => "disk_error".to_owned(),
        }
    }

    pub fn sentence(&self) -> Sentence {
        chain(self).into()
    }

    pub fn blame(&self) -> Blame {
        match self {
            Self::Damaged(_) | Self::Interrupted(_) | Self::Disk(_) | Self::Gone(_) => Blame::Moment,
            // It passed its self-test: what is too slow now is the box.
            Self::LoadTime { .. } | Self::Load(EngineError::Thread(_) | EngineError::Aborted) => {
                Blame::Moment
            }
            Self::SelfTest(error) if error.code() == "start_failed" => Blame::Moment,
            Self::Manifest(_)
            | Self::Misnamed { .. }
            | Self::NoVariant(_)
            | Self::Reference(_)
            | Self::SelfTest(_)
            | Self::NoneProved { .. }
            | Self::Load(_)
            | Self::Served(_) => Blame::Bundle,
        }
    }
}

/// A bundle whose manifest was read, and the form of it that this box runs.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub bundle: BundleRef,
    pub manifest: Manifest,
    /// What runs, or is tried first.
    pub variant: Variant,
    /// What is tried after it, in this order.
    pub others: Vec<Variant>,
    /// Why better ones do not run here.
    pub passed_over: Vec<String>,
}

/// A bundle of which a variant passed its self-test: `chosen` runs that one.
#[derive(Debug)]
pub struct Proven {
    pub chosen: Chosen,
    pub report: SelfTestReport,
}

/// Whether anything answers meanwhile that must not notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    None,
    /// Nothing does: the box has just started.
    Now,
}

/// What the hands below need to know of the box.
#[derive(Clone, Debug)]
pub struct Workbench {
    pub blobs: Blobs,
    pub engine: Engine,
    pub runtime_dir: PathBuf,
    /// This program, which is also the self-test's child.
    pub exe: PathBuf,
    /// What variants are chosen by.
    pub has: Arc<Capabilities>,
    /// Requests that may wait for one model.
    pub waiting_max: usize,
}

impl Chosen {
    /// Reads the manifest from the store; `None` if it is not there, whole.
    pub fn read(
        blobs: &Blobs,
        bundle: &BundleRef,
        has: &Capabilities,
    ) -> Result<Option<Self>, ActivateError> {
        match blobs.read(&bundle.sha256)? {
            Some(bytes) => Self::of(bundle, &bytes, has).map(Some),
            None => Ok(None),
        }
    }

    fn of(bundle: &BundleRef, bytes: &[u8], has: &Capabilities) -> Result<Self, ActivateError> {
        let manifest = Manifest::parse(bytes).map_err(ActivateError::Manifest)?;
        if manifest.model != *bundle.path.model() || manifest.version != *bundle.path.version() {
            let found = format!("{} {}", manifest.model, manifest.version);
            return Err(ActivateError::Misnamed { wanted: bundle.path.to_string(), found });
        }
        let Fit { fitting, refused } = Fit::of(&manifest.variants, has);
        let said = |refused: &[muster_protocol::manifest::fit::Refused<'_>]| {
            refused.iter().map(|r| format!("'{}': {}", r.variant.id, r.reason)).collect::<Vec<_>>()
        };
        let mut fitting = fitting.into_iter().cloned();
        let Some(variant) = fitting.next() else {
            return Err(ActivateError::NoVariant(said(&refused).join("; ")));
        };
        let others = fitting.collect();
        let better: Vec<_> = refused.into_iter().filter(|r| r.variant.rank > variant.rank).collect();
        let passed_over = said(&better);
        Ok(Self { bundle: bundle.clone(), manifest, variant, others, passed_over })
    }

    /// Runs the variant that ran before, if it still fits: the others failed here, or were worse.
    pub fn again(mut self, variant: &str, passed_over: Option<&Sentence>) -> Result<Self, ActivateError> {
        let others = std::mem::take(&mut self.others);
        if self.variant.id != variant {
            let before = others.into_iter().find(|other| other.id == variant);
            self.variant = before.ok_or_else(|| ActivateError::Gone(variant.to_owned()))?;
            self.passed_over = passed_over.iter().map(ToString::to_string).collect();
        }
        Ok(self)
    }

    /// Why no better variant runs here, in one sentence.
    pub fn why(&self) -> Option<Sentence> {
        (!self.passed_over.is_empty()).then(|| self.passed_over.join("; ").into())
    }

    /// Every file of the bundle that this box has a use for.
    pub fn files(&self) -> impl Iterator<Item = Blob> + '_ {
        self.needed().map(|file| Blob { digest: file.sha256, length: file.length })
    }

    fn needed(&self) -> impl Iterator<Item = &BundleFile> {
        self.manifest.files.iter().filter(|file| {
            let named = |variant: &Variant| variant.named().any(|path| *path == file.path);
            std::iter::once(&self.variant).chain(&self.others).any(named)
                || !self.manifest.variants.iter().any(named)
        })
    }

    fn digest(&self, path: &str) -> Option<Digest> {
        self.manifest.file(path).map(|file| file.sha256)
    }
}

/// Reads every file and compares its digest. What is damaged is removed, so that it is fetched again.
pub fn verify(blobs: &Blobs, chosen: &Chosen) -> Result<(), ActivateError> {
    let mut wrong = None;
    for file in chosen.needed() {
        let blob = Blob { digest: file.sha256, length: file.length };
        match blobs.check(&blob)? {
            Found::Whole => {}
            Found::Absent => wrong = Some(&file.path),
            Found::Damaged => {
                blobs.remove(&blob.digest)?;
                wrong = Some(&file.path);
            }
        }
    }
    match wrong {
        Some(path) => Err(ActivateError::Damaged(path.clone())),
        None => Ok(()),
    }
}

impl Workbench {
    /// Loads one variant after the other in a limited child process, until one answers as its golden outputs say and
    /// keeps its limits.
    pub async fn prove(&self, mut chosen: Chosen) -> Result<Proven, ActivateError> {
        let mut first = None;
        let mut others = std::mem::take(&mut chosen.others).into_iter();
        loop {
            let failed = match self.test(&chosen).await {
                Ok(report) => return Ok(Proven { chosen, report }),
                Err(ActivateError::SelfTest(error)) if error.is_the_models() => error,
                Err(error) => return Err(error),
            };
            let (id, code) = (&chosen.variant.id, failed.code());
            tracing::warn!(bundle = %chosen.bundle.path, variant = id, code, reason = chain(&failed), "a variant failed its self-test");
            chosen.passed_over.push(format!("'{id}': {code}: {}", chain(&failed)));
            let Some(next) = others.next() else {
                return Err(match first {
                    None => ActivateError::SelfTest(failed),
                    Some(code) => ActivateError::NoneProved { code, tried: chosen.passed_over.join("; ") },
                });
            };
            first.get_or_insert(code);
            chosen.variant = next;
        }
    }

    async fn test(&self, chosen: &Chosen) -> Result<SelfTestReport, ActivateError> {
        let layout = self.lay_out(chosen).await?;
        let spec = self.spec(chosen, &layout)?;
        selftest::run(&self.exe, &spec).await.map_err(ActivateError::SelfTest)
    }

    /// Loads the model into this process, ready to answer.
    pub async fn load(&self, chosen: &Chosen, haste: Haste) -> Result<Loaded, ActivateError> {
        let layout = self.lay_out(chosen).await?;
        let spec = LoadSpec::new(model_path(chosen, &layout), chosen.variant.inference_precision);
        let spec = LoadSpec { waiting_max: self.waiting_max, ..spec };
        let model = match haste {
            Haste::None => self.engine.load_aside(spec).await,
            Haste::Now => self.engine.load_now(spec).await,
        };
        let model = model.map_err(ActivateError::Load)?;
        drop(layout);
        let reference = self.reference(chosen)?;
        let (provider, load_ms) = (model.provider().clone(), model.load_ms());
        let served = Served::new(model, chosen.manifest.clone(), chosen.bundle.clone(), reference)
            .map_err(ActivateError::Served)?;
        let (variant, passed_over) = (chosen.variant.clone(), chosen.why());
        Ok(Loaded { served, variant, passed_over, provider, load_ms })
    }

    /// Loads the model to run beside `against`, within `budget` processor seconds a second.
    pub async fn load_beside(
        &self,
        chosen: &Chosen,
        against: BundleRef,
        budget: f64,
    ) -> Result<Shadow, ActivateError> {
        let layout = self.lay_out(chosen).await?;
        let spec = LoadSpec::new(model_path(chosen, &layout), chosen.variant.inference_precision);
        let model = self.engine.load_lone(spec).await.map_err(ActivateError::Load)?;
        drop(layout);
        let (manifest, bundle) = (chosen.manifest.clone(), chosen.bundle.clone());
        Shadow::start(model, manifest, bundle, against, budget).map_err(ActivateError::Load)
    }

    fn spec(&self, chosen: &Chosen, layout: &Layout) -> Result<SelfTestSpec, ActivateError> {
        let variant = chosen.variant.clone();
        let (model, has) = (model_path(chosen, layout), Arc::clone(&self.has));
        let mut spec = SelfTestSpec::new(model, variant, has, self.runtime_dir.clone());
        if let Some(Golden { request, response, .. }) = &chosen.variant.golden {
            let (request, response) = (self.content(chosen, request)?, self.content(chosen, response)?);
            spec.golden = Some(GoldenPair { request, response });
        }
        Ok(spec)
    }

    fn reference(&self, chosen: &Chosen) -> Result<Option<ReferenceFile>, ActivateError> {
        let Some(path) = &chosen.manifest.reference else { return Ok(None) };
        let bytes = self.content(chosen, path)?;
        let streams = chosen.manifest.monitoring.streams.iter().map(|stream| &stream.name);
        ReferenceFile::parse(&bytes, streams).map(Some).map_err(ActivateError::Reference)
    }

    /// The variant's own files and no others, so that a model can open nothing else by a name of its choice.
    async fn lay_out(&self, chosen: &Chosen) -> Result<Layout, ActivateError> {
        let digest = |path: &str| chosen.digest(path).ok_or_else(|| ActivateError::Damaged(path.to_owned()));
        let files: Vec<_> = chosen
            .variant
            .model_files()
            .map(|path| Ok((file_name(path).to_owned(), digest(path)?)))
            .collect::<Result<_, ActivateError>>()?;
        let blobs = self.blobs.clone();
        // Where links cannot be, whole models are copied.
        let lay_out = move || blobs.lay_out(files.iter().map(|(name, digest)| (name.as_str(), *digest)));
        Ok(tokio::task::spawn_blocking(lay_out).await.map_err(ActivateError::Interrupted)??)
    }

    fn content(&self, chosen: &Chosen, path: &str) -> Result<Vec<u8>, ActivateError> {
        let damaged = || ActivateError::Damaged(path.to_owned());
        let digest = chosen.digest(path).ok_or_else(damaged)?;
        self.blobs.read(&digest)?.ok_or_else(damaged)
    }
}

/// A model in this process.
#[derive(Debug)]
pub struct Loaded {
    pub served: Served,
    pub variant: Variant,
    /// Why no better variant runs here.
    pub passed_over: Option<Sentence>,
    pub provider: muster_protocol::message::ProviderUse,
    pub load_ms: u64,
}

/// A manifest's length as the catalogue has it may not exceed what a manifest may.
pub fn manifest_blob(digest: Digest, length: u64) -> Result<Blob, ActivateError> {
    if length > MANIFEST_BYTES_MAX {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        return Err(ActivateError::Manifest(ManifestError::Long(length)));
    }
    Ok(Blob { digest, length })
}

fn model_path(chosen: &Chosen, layout: &Layout) -> PathBuf {
    layout.path().join(file_name(&chosen.variant.file))
}

/// A variant's files lie in one folder, as its manifest was checked for.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The path of the program that runs, for its child processes.
pub fn this_program() -> std::io::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    // After an update in place the old file is gone by name; the kernel still has it open for us.
    if exe.exists() { Ok(exe) } else { Ok(Path::new("/proc/self/exe").to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = include_str!("../../protocol/tests/wire/manifest.json");

    fn edited(edit: impl FnOnce(&mut serde_json::Value)) -> Result<Chosen, ActivateError> {
        let mut value: serde_json::Value = serde_json::from_str(MANIFEST).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let path = format!("bundles/{}/{}.json", text(&value["model"]), text(&value["version"]));
        edit(&mut value);
        let bytes = value.to_string().into_bytes();
        let has = Capabilities { devices: vec!["CPU".to_owned()], ..Capabilities::default() };
        Chosen::of(&BundleRef { path: path.parse().unwrap(), sha256: Digest::of(&bytes) }, &bytes, &has)
    }

    fn code(edit: impl FnOnce(&mut serde_json::Value)) -> String {
        edited(edit).unwrap_err().code()
    }

    #[test]
    fn the_highest_rank_that_fits_is_taken() {
        let chosen = edited(|m| {
            let mut better = m["variants"][0].clone();
            better["id"] = "better".into();
            better["rank"] = 200.into();
            let mut gpu = better.clone();
            gpu["id"] = "gpu".into();
            gpu["rank"] = 300.into();
            gpu["select"]["device"] = "GPU".into();
            let variants = m["variants"].as_array_mut().unwrap();
            variants.extend([gpu, better]);
        });
        let chosen = chosen.unwrap();
        assert_eq!((chosen.variant.id.as_str(), chosen.others.len()), ("better", 1));
        assert_eq!(chosen.why().unwrap().as_str(), "'gpu': OpenVINO drives no GPU of this box");
        let before = chosen.clone().again("cpu-f32", Some(&"why".into())).unwrap();
        assert_eq!((before.variant.id.as_str(), before.others.len()), ("cpu-f32", 0));
        assert_eq!(before.why().unwrap().as_str(), "why");
        let error = chosen.again("gone", None).unwrap_err();
        assert_eq!((error.code().as_str(), error.blame()), ("variant_gone", Blame::Moment));
    }

    #[test]
    fn files_that_only_other_hardware_needs_are_left_alone() {
        let chosen = edited(|m| {
            let mut gpu = m["variants"][0].clone();
            gpu["id"] = "gpu".into();
            gpu["file"] = "gpu.onnx".into();
            gpu["select"]["device"] = "GPU".into();
            m["variants"].as_array_mut().unwrap().push(gpu);
            let mut file = m["files"][0].clone();
            file["path"] = "gpu.onnx".into();
            m["files"].as_array_mut().unwrap().push(file);
        })
        .unwrap();
        let needed: Vec<_> = chosen.needed().map(|file| file.path.as_str()).collect();
        assert_eq!(needed, ["model.onnx", "golden/request.json", "golden/response.json", "reference.json"]);
    }

    #[test]
    fn what_cannot_be_used_is_named_and_blamed_on_the_bundle() {
        assert_eq!(code(|m| m["requires"] = serde_json::json!(["telepathy"])), "manifest_unknown_feature");
        assert_eq!(code(|m| m["version"] = "0.0.0-other".into()), "manifest_misnamed");
        assert_eq!(code(|m| m["schema"] = 3.into()), "manifest_invalid");
        let error = edited(|m| m["variants"][0]["select"]["device"] = "NPU".into()).unwrap_err();
        assert_eq!((error.code().as_str(), error.blame()), ("no_variant", Blame::Bundle));
        assert!(error.to_string().contains("NPU"), "{error}");
    }

    #[test]
    fn damaged_files_are_removed_and_not_blamed_on_the_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"model");
        let chosen = edited(|m| {
            for file in m["files"].as_array_mut().unwrap() {
                file["length"] = 5.into();
                file["sha256"] = digest.to_string().into();
            }
        })
        .unwrap();
        assert!(matches!(verify(&blobs, &chosen), Err(ActivateError::Damaged(_))));
        let part = dir.path().join("part");
        std::fs::write(&part, b"model").unwrap();
        blobs.adopt(&part, &digest).unwrap();
        verify(&blobs, &chosen).unwrap();
        std::fs::write(blobs.path(&digest), b"mudel").unwrap();
        let error = verify(&blobs, &chosen).unwrap_err();
        assert_eq!(error.blame(), Blame::Moment);
        assert!(!blobs.path(&digest).exists());
    }

    #[test]
    fn an_overlong_manifest_is_not_even_fetched() {
        assert!(manifest_blob(Digest::of(b""), MANIFEST_BYTES_MAX).is_ok());
        assert!(manifest_blob(Digest::of(b""), MANIFEST_BYTES_MAX + 1).is_err());
    }
}
