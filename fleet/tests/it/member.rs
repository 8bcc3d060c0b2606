//! Devices that are members already, for stories that are not about becoming one.

use muster_fleet::enrolment::{Boots, Identity, Key, Standing, Suspicion};
use muster_fleet::fleet::Fleet;
use muster_fleet::store::identities;
use muster_protocol::enrol::{Facts, Fingerprint};
use muster_protocol::ids::DeviceId;

/// Writes an active identity into the register, unless there is one, and admits it. Its key is nobody's.
pub(crate) async fn enrolled(fleet: &Fleet, device: &DeviceId, name: &str, site: &str) {
    let now = fleet.clocks.trust.now();
    let mut tx = fleet.store.write().await.unwrap();
    if identities::get(&mut tx, device).await.unwrap().is_none() {
        let spki = device.as_str().as_bytes().to_vec();
        let identity = Identity {
            device: device.clone(),
            name: name.to_owned(),
            site: site.parse().unwrap(),
            key: Key { fingerprint: Fingerprint::of(&spki), spki },
            former: None,
            standing: Standing::Active,
            since: now,
            facts: Facts::default(),
            enrolment: None,
            enrolled: now,
            boots: Boots::default(),
            suspicion: Suspicion::default(),
        };
        identities::save(&mut tx, &identity).await.unwrap();
        tx.commit().await.unwrap();
    }
    fleet.admission.admit(device.clone());
}
