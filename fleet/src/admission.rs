//! Which devices may be connected now. Filled from the store at the start, changed after each commit, read at the gate.
//!
//! It decides nothing: whoever changes a device's state says so here, and the broker's front cuts what is barred. It is
//! in memory only, so it can never disagree with the database for longer than a restart.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_protocol::ids::DeviceId;
use tokio::sync::watch;

/// A handle to the one set of this process. Cheap to clone. A new one admits nobody.
#[derive(Clone, Debug)]
pub struct Admission {
    admitted: Arc<watch::Sender<BTreeSet<DeviceId>>>,
}

impl Default for Admission {
    fn default() -> Self {
        Self::new()
    }
}

impl Admission {
    pub fn new() -> Self {
        Self { admitted: Arc::new(watch::Sender::new(BTreeSet::new())) }
    }

    /// Sets the whole of it.
    pub fn replace(&self, admitted: BTreeSet<DeviceId>) {
        self.admitted.send_if_modified(|now| {
            let differs = *now != admitted;
            *now = admitted;
            differs
        });
    }

    pub fn admit(&self, device: DeviceId) {
        self.admitted.send_if_modified(|now| now.insert(device));
    }

    /// Cuts the device's live session, too.
    pub fn bar(&self, device: &DeviceId) {
        self.admitted.send_if_modified(|now| now.remove(device));
    }

    pub fn admits(&self, device: &DeviceId) -> bool {
        self.admitted.borrow().contains(device)
    }

    /// Wakes whoever waits on it after each change.
    pub fn changed(&self) -> watch::Receiver<BTreeSet<DeviceId>> {
        self.admitted.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_told_and_what_does_not_is_not() {
        let (one, two) = (DeviceId::mint([1; 16]), DeviceId::mint([2; 16]));
        let admission = Admission::new();
        let mut changed = admission.changed();
        let mut check = |expect: [bool; 2], told: bool| {
            assert_eq!([admission.admits(&one), admission.admits(&two)], expect);
            assert_eq!(changed.has_changed().unwrap(), told);
            changed.mark_unchanged();
        };
        check([false, false], false);
        admission.admit(one.clone());
        check([true, false], true);
        admission.clone().admit(one.clone());
        check([true, false], false);
        admission.bar(&two);
        check([true, false], false);
        admission.replace(BTreeSet::from([two.clone()]));
        check([false, true], true);
        admission.replace(BTreeSet::from([two.clone()]));
        check([false, true], false);
        admission.bar(&two);
        check([false, false], true);
    }
}
