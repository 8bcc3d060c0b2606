//! Devices that are members already, for stories that are not about becoming one.

use muster_fleet::enrolment::{Boots, Identity, Key, Standing, Suspicion};
use muster_fleet::fleet::Fleet;
use muster_fleet::store::{Store, identities};
use muster_protocol::enrol::{Facts, Fingerprint};
use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;

/// Writes an active identity into the register, unless there is one, and admits it. Its key is nobody's.
pub(crate) async fn enrolled(fleet: &Fleet, device: &DeviceId, name: &str, site: &str) {
    written(&fleet.store, fleet.clocks.trust.now(), device, (name, site)).await;
    fleet.admission.admit(device.clone());
}

/// The same without a server.
pub(crate) async fn written(store: &Store, now: Timestamp, device: &DeviceId, (name, site): (&str, &str)) {
    let mut tx = store.write().await.unwrap();
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
}
