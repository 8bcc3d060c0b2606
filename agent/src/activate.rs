//! From content that is here to a model that may answer: read the manifest, choose the variant, check every file, prove
//! the golden outputs in a child process, load.
//!
//! Each step either succeeds or says with a code why not. What runs is not touched here.

use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;
use muster_protocol::limits::MANIFEST_BYTES_MAX;
use muster_protocol::manifest::{Golden, Manifest, ManifestError, ReferenceFile, Variant};
use muster_protocol::message::Sentence;
use muster_protocol::message::up::BundleRef;

use crate::blobs::{Blobs, Found};
use crate::chain;
use crate::disk::DiskError;
use crate::engine::{Engine, EngineError, LoadSpec, ProviderChoice};
use crate::reconcile::Blob;
use crate::selftest::{self, GoldenPair, SelfTestError, SelfTestReport, SelfTestSpec};
use crate::serve::{Served, ServedError};

/// The device that this version runs models on.
const DEVICE: &str = "CPU";

#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    #[error("the bundle's manifest cannot be used")]
    Manifest(#[source] ManifestError),
    #[error("the manifest is of {found}, the catalogue calls it {wanted}; build and sign the bundle again")]
    Misnamed { wanted: String, found: String },
    #[error("no variant of the bundle fits this box: {0}")]
    NoVariant(String),
    #[error("the drift reference of the bundle cannot be used")]
    Reference(#[source] muster_protocol::manifest::reference::ReferenceFileError),
    #[error("{0} of the bundle is missing or damaged on the disk")]
    Damaged(String),
    #[error("the self-test did not pass")]
    SelfTest(#[source] SelfTestError),
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
            Self::Reference(_) => "reference_invalid".to_owned(),
            Self::Damaged(_) => "content_damaged".to_owned(),
            Self::SelfTest(error) => error.code().to_owned(),
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
            Self::Damaged(_) | Self::Interrupted(_) | Self::Disk(_) => Blame::Moment,
            Self::SelfTest(error) if error.code() == "start_failed" => Blame::Moment,
            Self::Manifest(_)
            | Self::Misnamed { .. }
            | Self::NoVariant(_)
            | Self::Reference(_)
            | Self::SelfTest(_)
            | Self::Load(_)
            | Self::LoadTime { .. }
            | Self::Served(_) => Blame::Bundle,
        }
    }
}

/// A bundle whose manifest was read, and the form of it that this box runs.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub bundle: BundleRef,
    pub manifest: Manifest,
    pub variant: Variant,
}

/// What the hands below need to know of the box.
#[derive(Clone, Debug)]
pub struct Workbench {
    pub blobs: Blobs,
    pub engine: Engine,
    pub runtime_dir: PathBuf,
    /// This program, which is also the self-test's child.
    pub exe: PathBuf,
    /// Requests that may wait for one model.
    pub waiting_max: usize,
}

impl Chosen {
    /// Reads the manifest from the store; `None` if it is not there, whole.
    pub fn read(blobs: &Blobs, bundle: &BundleRef) -> Result<Option<Self>, ActivateError> {
        match blobs.read(&bundle.sha256)? {
            Some(bytes) => Self::of(bundle, &bytes).map(Some),
            None => Ok(None),
        }
    }

    fn of(bundle: &BundleRef, bytes: &[u8]) -> Result<Self, ActivateError> {
        let manifest = Manifest::parse(bytes).map_err(ActivateError::Manifest)?;
        if manifest.model != *bundle.path.model() || manifest.version != *bundle.path.version() {
            let found = format!("{} {}", manifest.model, manifest.version);
            return Err(ActivateError::Misnamed { wanted: bundle.path.to_string(), found });
        }
        let variant = choose(&manifest)?.clone();
        Ok(Self { bundle: bundle.clone(), manifest, variant })
    }

    /// Every file of the bundle.
    pub fn files(&self) -> impl Iterator<Item = Blob> + '_ {
        self.manifest.files.iter().map(|file| Blob { digest: file.sha256, length: file.length })
    }

    fn digest(&self, path: &str) -> Option<Digest> {
        self.manifest.file(path).map(|file| file.sha256)
    }

    fn model_path(&self, blobs: &Blobs) -> Option<PathBuf> {
        self.digest(&self.variant.file).map(|digest| blobs.path(&digest))
    }
}

/// Reads every file and compares its digest. What is damaged is removed, so that it is fetched again.
pub fn verify(blobs: &Blobs, chosen: &Chosen) -> Result<(), ActivateError> {
    let mut wrong = None;
    for file in &chosen.manifest.files {
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
    /// Loads the model in a limited child process and compares its answers with the golden ones.
    pub async fn prove(&self, chosen: &Chosen) -> Result<SelfTestReport, ActivateError> {
        let spec = self.spec(chosen)?;
        selftest::run(&self.exe, &spec).await.map_err(ActivateError::SelfTest)
    }

    /// Loads the model into this process, ready to answer.
    pub async fn load(&self, chosen: &Chosen) -> Result<Loaded, ActivateError> {
        let path = self.model(chosen)?;
        let spec = LoadSpec::new(path, chosen.variant.inference_precision);
        let spec = LoadSpec { waiting_max: self.waiting_max, ..spec };
        let model = self.engine.load_aside(spec).await.map_err(ActivateError::Load)?;
        let reference = self.reference(chosen)?;
        let (provider, load_ms) = (model.provider().clone(), model.load_ms());
        let served = Served::new(model, chosen.manifest.clone(), chosen.bundle.clone(), reference)
            .map_err(ActivateError::Served)?;
        Ok(Loaded { served, provider, load_ms })
    }

    fn spec(&self, chosen: &Chosen) -> Result<SelfTestSpec, ActivateError> {
        let variant = &chosen.variant;
        let mut spec =
            SelfTestSpec::new(self.model(chosen)?, variant.inference_precision, self.runtime_dir.clone());
        spec.provider = ProviderChoice::Auto;
        spec.limits = variant.limits.clone();
        if let Some(Golden { request, response, tolerance_abs }) = &variant.golden {
            let (request, response) = (self.content(chosen, request)?, self.content(chosen, response)?);
            spec.golden = Some(GoldenPair { request, response, tolerance_abs: *tolerance_abs });
        }
        Ok(spec)
    }

    fn reference(&self, chosen: &Chosen) -> Result<Option<ReferenceFile>, ActivateError> {
        let Some(path) = &chosen.manifest.reference else { return Ok(None) };
        let bytes = self.content(chosen, path)?;
        let streams = chosen.manifest.monitoring.streams.iter().map(|stream| &stream.name);
        ReferenceFile::parse(&bytes, streams).map(Some).map_err(ActivateError::Reference)
    }

    fn model(&self, chosen: &Chosen) -> Result<PathBuf, ActivateError> {
        chosen.model_path(&self.blobs).ok_or_else(|| ActivateError::Damaged(chosen.variant.file.clone()))
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

/// The highest-ranked variant that this box can run; the first of equals.
fn choose(manifest: &Manifest) -> Result<&Variant, ActivateError> {
    let fits = |variant: &&Variant| variant.select.device == DEVICE;
    let best = manifest.variants.iter().rev().filter(fits).max_by_key(|variant| variant.rank);
    best.ok_or_else(|| {
        let reasons = manifest.variants.iter().map(|v| format!("'{}' needs {}", v.id, v.select.device));
        ActivateError::NoVariant(reasons.collect::<Vec<_>>().join(", "))
    })
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
        Chosen::of(&BundleRef { path: path.parse().unwrap(), sha256: Digest::of(&bytes) }, &bytes)
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
        assert_eq!(chosen.unwrap().variant.id, "better");
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
