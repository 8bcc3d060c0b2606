//! One rollout with everything that the engine is asked about it, and how that differs from what its journal has.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_protocol::ids::{DeviceId, RolloutId, SiteName};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{Demands, Standing, TrustedSet, Unfit};

use super::{Grounds, Seen};
use crate::gate::DeviceEvidence;
use crate::rollout::claims::{Contender, Left, beside, busy_elsewhere, claim, kept, way_back};
use crate::rollout::journal::Change;
use crate::rollout::{
    Advance, BundleStanding, Cause, Claim, DeviceView, FleetView, Freeze, Lease, Members, Rollout, SiteView,
};
use crate::store::Versioned;
use crate::store::bad_bundles::Bad;

#[derive(Clone, Debug)]
pub struct Watch {
    pub revision: u64,
    pub rollout: Arc<Rollout>,
    pub members: Arc<Members>,
    pub view: Arc<FleetView>,
    /// When the engine must be asked at the latest; nothing if only news can change its answer.
    pub look_again: Option<Timestamp>,
    /// When it was asked last, real time.
    pub asked: Timestamp,
    /// Something differs from what it was asked about then.
    pub is_due: bool,
    evidence: BTreeMap<DeviceId, DeviceEvidence>,
    bad: BTreeMap<DeviceId, Bad>,
    demands: Result<Demands, Unfit>,
    trusted: Option<Arc<TrustedSet>>,
    journal: Option<Told>,
}

/// What the journal has where the view differs from it by now.
#[derive(Clone, Debug, Default)]
struct Told {
    devices: BTreeMap<DeviceId, Option<DeviceView>>,
    sites: BTreeMap<SiteName, SiteView>,
    freezes: Vec<Freeze>,
    bundle: BundleStanding,
    unheard: bool,
}

/// A watched rollout for those who only look.
#[derive(Clone, Debug)]
pub struct Shared {
    pub revision: u64,
    pub rollout: Arc<Rollout>,
    pub members: Arc<Members>,
    pub view: Arc<FleetView>,
}

/// The other rollouts, as a device's line depends on them.
#[derive(Debug, Default)]
pub(super) struct Surroundings<'a> {
    contenders: Vec<Contender<'a>>,
    left: Vec<&'a Left>,
}

impl<'a> Surroundings<'a> {
    pub(super) fn of(watches: &'a BTreeMap<RolloutId, Watch>, left: impl Iterator<Item = &'a Left>) -> Self {
        let contenders =
            watches.values().map(|watch| Contender { rollout: &watch.rollout, members: &watch.members });
        Self { contenders: contenders.collect(), left: left.collect() }
    }
}

impl Watch {
    /// Begins where the journal stands: what is drawn from now on is what changed since. A rollout without a journal, from
    /// before there were any or beyond its bound, gets none.
    pub(super) fn begin(
        loaded: Versioned<Rollout>,
        members: Members,
        bad: BTreeMap<DeviceId, Bad>,
        journalled: Option<FleetView>,
    ) -> Self {
        let journal = journalled.as_ref().map(|view| Told {
            devices: BTreeMap::new(),
            sites: view.sites.clone(),
            freezes: view.freezes.clone(),
            bundle: view.bundle.clone(),
            unheard: view.unheard,
        });
        Self {
            revision: loaded.revision,
            rollout: Arc::new(loaded.document),
            members: Arc::new(members),
            view: Arc::new(journalled.unwrap_or_default()),
            look_again: None,
            asked: Timestamp::default(),
            is_due: true,
            evidence: BTreeMap::new(),
            bad,
            demands: Ok(Demands::default()),
            trusted: None,
            journal,
        }
    }

    /// Somebody else saved the rollout. Returns whether lines of devices may be others now.
    pub(super) fn follow(&mut self, loaded: Versioned<Rollout>) -> bool {
        let before = std::mem::replace(&mut self.rollout, Arc::new(loaded.document));
        self.revision = loaded.revision;
        self.is_due = true;
        before.retried != self.rollout.retried || before.phase.name() != self.rollout.phase.name()
    }

    /// The engine's answer was saved at this revision.
    pub fn saved(&mut self, revision: u64, rollout: Rollout, answer: &Advance) {
        self.revision = revision;
        self.rollout = Arc::new(rollout);
        // What was saved is the next question.
        self.is_due = true;
        let members = Arc::make_mut(&mut self.members);
        for (device, member) in &answer.members {
            members.insert(device.clone(), member.clone());
        }
        if let Some(journal) = &mut self.journal {
            journal.devices.clear();
            journal.sites.clone_from(&self.view.sites);
            journal.freezes.clone_from(&self.view.freezes);
            journal.bundle.clone_from(&self.view.bundle);
            journal.unheard = self.view.unheard;
        }
    }

    /// The journal takes nothing more.
    pub fn end_journal(&mut self) {
        self.journal = None;
    }

    /// How the view differs from what the journal has; nothing if there is no journal.
    pub fn change(&self) -> Option<Change> {
        let told = self.journal.as_ref()?;
        let before = FleetView {
            devices: BTreeMap::new(),
            sites: told.sites.clone(),
            freezes: told.freezes.clone(),
            bundle: told.bundle.clone(),
            unheard: told.unheard,
        };
        let after = FleetView {
            devices: BTreeMap::new(),
            sites: self.view.sites.clone(),
            freezes: self.view.freezes.clone(),
            bundle: self.view.bundle.clone(),
            unheard: self.view.unheard,
        };
        let mut change = Change::between(&before, &after);
        for (id, told) in &told.devices {
            let now = self.view.devices.get(id);
            if now != told.as_ref() {
                change.devices.insert(id.clone(), now.cloned());
            }
        }
        Some(change)
    }

    pub fn share(&self) -> Shared {
        Shared {
            revision: self.revision,
            rollout: self.rollout.clone(),
            members: self.members.clone(),
            view: self.view.clone(),
        }
    }

    /// Notes, or forgets, that the bundle failed on a device.
    pub fn mark(&mut self, device: &DeviceId, bad: Option<Bad>) {
        match bad {
            Some(bad) => self.bad.insert(device.clone(), bad),
            None => self.bad.remove(device),
        };
    }

    pub fn is_bad(&self, device: &DeviceId) -> bool {
        self.bad.contains_key(device)
    }

    /// Rules, leases and freezes of sites, what the catalogue says of the bundle, and whether what devices show is heard.
    pub(super) fn stand_on(&mut self, grounds: &Grounds, trusted: Option<&Arc<TrustedSet>>, unheard: bool) {
        self.trusted = trusted.cloned();
        let bundle = trusted.map_or(BundleStanding::Catalogued, |trusted| self.standing(trusted));
        self.demands = trusted
            .and_then(|trusted| trusted.find_target(&self.rollout.bundle.path))
            .map_or(Ok(Demands::default()), |target| Demands::of(&target.custom));
        let same = self.view.sites == grounds.sites
            && self.view.freezes == grounds.freezes
            && self.view.bundle == bundle
            && self.view.unheard == unheard;
        if same {
            return;
        }
        let view = Arc::make_mut(&mut self.view);
        view.sites.clone_from(&grounds.sites);
        view.freezes.clone_from(&grounds.freezes);
        view.bundle = bundle;
        view.unheard = unheard;
        self.is_due = true;
    }

    fn standing(&self, trusted: &TrustedSet) -> BundleStanding {
        let bundle = &self.rollout.bundle;
        match trusted.standing(&bundle.path, &bundle.sha256) {
            // Without a usable catalogue nothing can be signed, and nothing is known against the bundle.
            Standing::Listed | Standing::Unknown => BundleStanding::Catalogued,
            Standing::Yanked => BundleStanding::Yanked,
            Standing::Revoked(revocation) => BundleStanding::Revoked { reason: revocation.reason },
        }
    }

    /// The device's line in this rollout's view.
    pub(super) fn line(
        &self,
        id: &DeviceId,
        seen: &Seen,
        leases: &[Lease],
        around: &Surroundings<'_>,
    ) -> DeviceView {
        let mut line = seen.line(&self.rollout.slot, leases);
        line.unfit = self.unfit(seen).map(Box::new);
        // A retry forgives what failed before it.
        let forgiven = self.rollout.retried;
        let bad = self.bad.get(id).filter(|bad| forgiven.is_none_or(|retried| bad.at >= retried));
        line.bad = bad.map(|bad| Box::new(bad.cause.clone()));
        line.busy_elsewhere |= busy_elsewhere(&self.rollout, &around.contenders, id);
        if let Some(shown) = self.evidence.get(id) {
            line.evidence = Box::new(shown.clone());
        }
        line.beside = beside(&self.rollout, &around.contenders, id);
        line.claim = claim(&self.rollout, &around.contenders, id, &line);
        if line.claim == Claim::Free {
            line.claim = kept(&self.rollout, around.left.iter().copied(), &line);
        }
        line.way_back = way_back(&self.rollout, &around.contenders, id, &line);
        line
    }

    fn unfit(&self, seen: &Seen) -> Option<Cause> {
        let unfit = match &self.demands {
            Ok(demands) => demands.met_by(seen.fitness()?).err()?,
            Err(unfit) => unfit.clone(),
        };
        let code = match &unfit {
            Unfit::Hardware { .. } => "unfit_hardware",
            Unfit::Agent { .. } => "unfit_agent",
            Unfit::Unreadable(_) => "unfit_unreadable",
        };
        Some(Cause::new(code, unfit.to_string()))
    }

    /// Puts a line into the view, and remembers what the journal has in its place.
    pub(super) fn put(&mut self, id: &DeviceId, line: Option<DeviceView>) {
        let devices = &mut Arc::make_mut(&mut self.view).devices;
        let before = match line {
            Some(line) => devices.insert(id.clone(), line),
            None => devices.remove(id),
        };
        self.is_due = true;
        if let Some(journal) = &mut self.journal
            && !journal.devices.contains_key(id)
        {
            journal.devices.insert(id.clone(), before);
        }
    }

    /// All that devices have shown of the bundle.
    pub(super) fn show_all(&mut self, evidence: BTreeMap<DeviceId, DeviceEvidence>) {
        self.evidence = evidence;
    }

    /// What one device has shown by now. Returns whether that is new.
    pub(super) fn show(&mut self, id: &DeviceId, shown: DeviceEvidence) -> bool {
        if shown == DeviceEvidence::default() {
            return self.evidence.remove(id).is_some();
        }
        let before = self.evidence.insert(id.clone(), shown);
        before.as_ref() != self.evidence.get(id)
    }
}
