//! A model that answers, and what counts it.
//!
//! Beside each bundle stands its meter. A meter outlives its bundle until everything in it has been reported, and is found
//! again when the bundle comes back, so a pane is never counted in two pieces.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use muster_protocol::manifest::{Manifest, ReferenceFile, Signature};
use muster_protocol::message::up::BundleRef;

use super::slots::lock;
use crate::engine::Model;
use crate::measure::{MeasureError, Panes, Stats, Tally};

/// A loaded model with the manifest that it keeps to: checked, ready to be activated.
#[derive(Debug)]
pub struct Served {
    pub(super) model: Model,
    pub(super) manifest: Manifest,
    pub(super) bundle: BundleRef,
    pub(super) panes: Panes,
}

#[derive(Debug, thiserror::Error)]
pub enum ServedError {
    #[error("the manifest's {side} '{name}' is not one of the model's: {known}")]
    UnknownTensor { side: &'static str, name: String, known: String },
    #[error("the model's input '{0}' is not in the manifest")]
    MissingInput(String),
    #[error("the manifest's {side} '{name}' differs from the model's in datatype or shape")]
    OtherTensor { side: &'static str, name: String },
    #[error(transparent)]
    Measure(#[from] MeasureError),
}

/// What answers in a slot, and what counts it.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) model: Model,
    pub(super) manifest: Manifest,
    pub(super) bundle: BundleRef,
    pub(super) meter: Arc<Meter>,
}

#[derive(Debug)]
pub(super) struct Meter {
    pub(super) panes: Mutex<Panes>,
    pub(super) stats: Mutex<Stats>,
    tally: Mutex<Tally>,
    in_flight: AtomicUsize,
}

/// A request that is being answered; it ends when this is dropped, however it ends.
pub(super) struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ServedError {
    /// Stable word for events and states.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownTensor { .. } | Self::MissingInput(_) | Self::OtherTensor { .. } => {
                "signature_mismatch"
            }
            Self::Measure(_) => "reference_mismatch",
        }
    }
}

impl Served {
    /// Pairs a model with its manifest; refused where the two do not agree.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the reference is used up: nobody needs it after its bins are copied"
    )]
    pub fn new(
        model: Model,
        manifest: Manifest,
        bundle: BundleRef,
        reference: Option<ReferenceFile>,
    ) -> Result<Self, ServedError> {
        agree(&manifest.signature, model.signature())?;
        let panes = Panes::new(bundle.sha256, &manifest, reference.as_ref())?;
        Ok(Self { model, manifest, bundle, panes })
    }
}

impl Serving {
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.meter.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(&self.meter.in_flight)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.meter.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.meter.tally)
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        lock(&self.meter.stats)
    }

    pub(super) fn panes(&self) -> MutexGuard<'_, Panes> {
        lock(&self.meter.panes)
    }
}

impl Meter {
    pub(super) fn new(panes: Panes) -> Self {
        let (stats, tally, in_flight) = Default::default();
        Self { panes: Mutex::new(panes), stats, tally, in_flight }
    }
}

/// The manifest may promise fewer outputs than the model has, and fix dimensions that the model leaves free.
fn agree(manifest: &Signature, model: &Signature) -> Result<(), ServedError> {
    let sides = [("input", &manifest.inputs, &model.inputs), ("output", &manifest.outputs, &model.outputs)];
    for (side, promised, real) in sides {
        for tensor in promised {
            let Some(found) = real.iter().find(|found| found.name == tensor.name) else {
                let known =
                    real.iter().map(|found| format!("'{}'", found.name)).collect::<Vec<_>>().join(", ");
                return Err(ServedError::UnknownTensor { side, name: tensor.name.clone(), known });
            };
            let fits = |(&promised, &real): (&i64, &i64)| {
                promised == real || promised < 0 && side == "output" || real < 0
            };
            // Scikit-learn exports leave out an output's shape altogether.
            let shapes = found.shape.is_empty() && side == "output"
                || found.shape.len() == tensor.shape.len() && tensor.shape.iter().zip(&found.shape).all(fits);
            if found.datatype != tensor.datatype || !shapes {
                return Err(ServedError::OtherTensor { side, name: tensor.name.clone() });
            }
        }
    }
    match model.inputs.iter().find(|input| manifest.inputs.iter().all(|promised| promised.name != input.name))
    {
        Some(missing) => Err(ServedError::MissingInput(missing.name.clone())),
        None => Ok(()),
    }
}
