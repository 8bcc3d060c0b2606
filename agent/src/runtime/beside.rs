//! Keeps beside each slot's bundle what should run there, and begins nothing while the box has other work.

use std::collections::BTreeSet;

use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::up::BundleRef;

use super::agent::Agent;
use super::deeds::{LOAD_MAX, aside, whole};
use super::event::Event;
use crate::activate::ActivateError;
use crate::chain;
use crate::reconcile::beside;
use crate::shadow::Shadow;

/// Bundles remembered as not to be tried again.
const UNFIT_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Beside {
    /// A model is being loaded.
    comes: bool,
    /// Bundles that could not run here.
    unfit: BTreeSet<Digest>,
}

impl Agent {
    /// What runs in the shadow of each slot becomes what should: a bundle that waits for its moment, or the one before.
    pub(super) fn look_beside(&mut self) {
        let world = self.world();
        let now = self.parts.clock.now();
        let running: Vec<_> = self.parts.slots.shadows();
        for (slot, phase) in self.phases().to_vec() {
            let Some(occupied) = world.slots.get(&slot) else { continue };
            let Some(since) =
                self.records.get(&slot).and_then(|record| record.current.as_ref()).map(|it| it.since)
            else {
                continue;
            };
            let wanted =
                beside(&phase, occupied, since, now).filter(|_| self.parts.config.serve.shadow_percent > 0);
            let has = running.iter().find(|(name, _)| *name == slot).map(|(_, shadow)| shadow);
            let fits = has.is_some_and(|shadow| {
                wanted == Some(&shadow.bundle) && occupied.current.as_ref() == Some(&shadow.against)
            });
            if fits {
                continue;
            }
            if has.is_some() {
                self.parts.slots.shadow(&slot, None);
            }
            if let (Some(bundle), Some(against)) = (wanted, &occupied.current) {
                self.begin_beside(slot, bundle.clone(), against.clone());
            }
        }
    }

    fn begin_beside(&mut self, slot: SlotName, bundle: BundleRef, against: BundleRef) {
        if self.busy.is_some() || self.beside.comes || self.beside.unfit.contains(&bundle.sha256) {
            return;
        }
        let before = self.records.get(&slot).and_then(|record| record.previous.clone());
        let before = before.filter(|before| before.bundle == bundle);
        let proven = self.chosen(&bundle).cloned();
        let workbench = self.parts.workbench.clone();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let percent = self.parts.config.serve.shadow_percent;
        let budget =
            f64::from(u32::from(percent)) / 100.0 * f64::from(u32::try_from(cores).unwrap_or(u32::MAX));
        self.beside.comes = true;
        self.spawn(async move {
            let chosen = match (before, proven) {
                (Some(ran), _) => {
                    let (blobs, has) = (workbench.blobs.clone(), workbench.has.clone());
                    aside(move || whole(&blobs, &ran, &has)).await
                }
                (None, Some(chosen)) => Ok(chosen),
                (None, None) => Err(ActivateError::Damaged(format!("the manifest {}", bundle.path))),
            };
            let result = match chosen {
                Ok(chosen) => {
                    let load = workbench.load_beside(&chosen, against, budget);
                    let late = |_| Err(ActivateError::LoadTime { limit_s: LOAD_MAX.as_secs() });
                    tokio::time::timeout(LOAD_MAX, load).await.unwrap_or_else(late)
                }
                Err(error) => Err(error),
            };
            Event::Beside { slot, bundle, result }
        });
    }

    /// It is looked at again before it runs: the order may have changed while it loaded.
    pub(super) fn beside_loaded(
        &mut self,
        slot: &SlotName,
        bundle: &BundleRef,
        result: Result<Shadow, ActivateError>,
    ) {
        self.beside.comes = false;
        match result {
            Ok(shadow) => {
                tracing::info!(%slot, bundle = %bundle.path, against = %shadow.against.path, "runs in the shadow");
                self.parts.slots.shadow(slot, Some(shadow));
            }
            Err(error) => {
                tracing::warn!(%slot, bundle = %bundle.path, reason = chain(&error), "cannot run in the shadow");
                if self.beside.unfit.len() >= UNFIT_MAX {
                    self.beside.unfit.clear();
                }
                self.beside.unfit.insert(bundle.sha256);
            }
        }
    }
}
