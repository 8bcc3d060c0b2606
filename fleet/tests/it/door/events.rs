//! What can happen to an identity, event by event: a file that leaks, a box that is stolen or copied, time, and the loss of
//! what the fleet itself keeps.

use std::time::Duration;

use futures_util::FutureExt as _;
use muster_fleet::clock::Clocks;
use muster_fleet::enrolment::Verb;
use muster_fleet::pki::certificate::Certificate;
use muster_fleet::pki::csr;
use muster_fleet::registrar::{OfflineError, RollError, export_file, import_file};
use muster_fleet::store::log::Actor;
use muster_fleet::store::{Page, certificates, identities, log};
use muster_protocol::enrol::{CertificateRequest, EnrolmentFile, Fingerprint, RENEW_PATH, VERSION};
use muster_protocol::ids::DeviceId;
use serde_json::{Value, json};

use super::ward::{Newcomer, Ward, certificate, chain, knock, roots, tls};
use crate::server::{Server, eventually};

/// A serial on the broker's list of revoked certificates.
fn is_listed(ward: &Ward, serial: &str) -> bool {
    is_listed_in(&ward.server.fleet.pki.crl_path(), serial)
}

pub(super) fn is_listed_in(path: &std::path::Path, serial: &str) -> bool {
    use x509_parser::prelude::{CertificateRevocationList, FromDer as _};
    let pem = std::fs::read(path).unwrap();
    x509_parser::pem::Pem::iter_from_buffer(&pem).map(Result::unwrap).any(|pem| {
        let (_, list) = CertificateRevocationList::from_der(&pem.contents).unwrap();
        let listed = |raw: &[u8]| hex::encode(raw).trim_start_matches('0') == serial.trim_start_matches('0');
        list.iter_revoked_certificates().any(|revoked| listed(revoked.raw_serial()))
    })
}

fn serial(pem: &str) -> String {
    Certificate::parse(&chain(pem)[0]).unwrap().serial
}

#[tokio::test]
async fn a_file_that_leaks_before_use_gains_the_thief_nothing() {
    let ward = Ward::open().await;
    let file = ward.file(json!({})).await;
    let (thief, real) = (Newcomer::new("er-2-1"), Newcomer::new("er-2-1"));
    let waits = thief.enrol(&file).await.enrolled(202);
    // The installer is told, and looks.
    let problem = real.enrol(&file).await.is_problem(403, "token_used_up");
    assert!(problem["next"].as_str().unwrap().contains("muster device pending"), "{problem}");
    let at_the_box = real.key_fingerprint().to_string();
    ward.verb(&waits.device, "accept", json!({"fingerprint": at_the_box}))
        .await
        .is_problem(409, "fingerprint_mismatch");
    let rejected = ward.verb(&waits.device, "reject", json!({"reason": "not our box"})).await;
    assert_eq!(
        (&rejected.json()["state"], &rejected.json()["reason"]),
        (&json!("rejected"), &json!("not our box"))
    );
    thief.enrol(&file).await.is_problem(403, "rejected");
    thief.renew(&ward).await.is_problem(403, "rejected");
    assert!(!ward.server.fleet.admission.admits(&waits.device));
    ward.verb(&waits.device, "accept", json!({})).await.is_problem(409, "state");
    assert!(ward.see("/api/v1/overview").await["needs_you"].as_array().unwrap().is_empty());
    // The real box comes in with another file.
    ward.member(&real).await;
    ward.close().await;
}

#[tokio::test]
async fn a_file_that_leaks_after_use_is_worthless() {
    let ward = Ward::open().await;
    let file = ward.file(json!({})).await;
    let real = Newcomer::new("er-2-1");
    let waits = real.enrol(&file).await.enrolled(202);
    ward.verb(&waits.device, "accept", json!({})).await;
    let thief = Newcomer::new("er-2-1");
    thief.enrol(&file).await.is_problem(403, "token_used_up");
    thief.renew(&ward).await.is_problem(403, "key_unknown");
    real.enrol(&file).await.enrolled(200);
    ward.close().await;
}

#[tokio::test]
async fn a_stolen_box_is_refused_by_table_at_once_and_listed_for_brokers() {
    let ward = Ward::open().await;
    let stolen = Newcomer::new("er-2-1");
    let member = ward.member(&stolen).await;
    let (device, pem) = (member.device.clone(), certificate(&member));
    ward.verb(&device, "revoke", json!({"reason": ""})).await.is_problem(422, "invalid");
    assert!(!is_listed(&ward, &serial(&pem)));
    let list = ward.server.fleet.pki.crl_path();
    let older = std::fs::read(&list).unwrap();
    let revoked = ward.verb(&device, "revoke", json!({"reason": "stolen from the ambulance bay"})).await;
    assert_eq!((revoked.status.as_u16(), &revoked.json()["state"]), (200, &json!("revoked")));
    assert!(!ward.server.fleet.admission.admits(&device));
    assert!(is_listed(&ward, &serial(&pem)));
    stolen.renew(&ward).await.is_problem(403, "revoked");
    let new = Newcomer::new("er-2-1");
    let refused = stolen.rekey(&ward, &pem, &new.key).await;
    assert!(refused.is_err(), "its certificate opens no connection any more: {refused:?}");
    for verb in ["release", "quarantine", "revoke", "accept"] {
        ward.verb(&device, verb, if verb == "accept" { json!({}) } else { json!({"reason": "x"}) })
            .await
            .is_problem(409, "state");
    }
    // It stays so after a start from nothing but the database: the list lying there is an older one, from a backup.
    std::fs::write(&list, older).unwrap();
    assert!(!is_listed(&ward, &serial(&pem)));
    let ward = ward.killed().await;
    assert!(is_listed(&ward, &serial(&pem)) && !ward.server.fleet.admission.admits(&device));
    stolen.renew(&ward).await.is_problem(403, "revoked");
    ward.close().await;
}

#[tokio::test]
async fn a_revocation_comes_to_its_end_though_nobody_waits_for_it() {
    let ward = Ward::open().await;
    let member = ward.member(&Newcomer::new("er-2-1")).await;
    let serial = serial(&certificate(&member));
    let fleet = &ward.server.fleet;
    let verb = Verb::Revoke { reason: "stolen".to_owned() };
    let deed = fleet.registrar.decide(&member.device, verb, None, Actor::Person("ada".to_owned()));
    assert!(deed.now_or_never().is_none(), "it has only begun");
    let (admission, list) = (fleet.admission.clone(), fleet.pki.crl_path());
    let is_over = || !admission.admits(&member.device) && is_listed_in(&list, &serial);
    eventually("it is barred and listed", is_over).await;
    ward.close().await;
}

#[tokio::test]
async fn a_box_that_is_set_apart_gets_nothing_new_until_it_is_released() {
    let ward = Ward::open().await;
    let doubted = Newcomer::new("er-2-1");
    let member = ward.member(&doubted).await;
    ward.verb(&member.device, "quarantine", json!({"reason": "two boots"})).await;
    assert!(ward.server.fleet.admission.admits(&member.device), "whoever doubts it wants to see it");
    doubted.renew(&ward).await.is_problem(403, "quarantined");
    let released = ward.verb(&member.device, "release", json!({"reason": "a restored snapshot"})).await;
    assert_eq!(released.json()["state"], "active");
    assert_eq!(doubted.renew(&ward).await.certificate(), certificate(&member));
    ward.close().await;
}

#[tokio::test]
async fn a_certificate_that_expired_offline_is_no_end() {
    let ward = Ward::open().await;
    let sleeper = Newcomer::new("er-2-1");
    let member = ward.member(&sleeper).await;
    // Its last certificate is of half a year ago.
    let fleet = &ward.server.fleet;
    let now = fleet.clocks.trust.now();
    let then = now.minus(Duration::from_hours(24 * 180));
    let key = csr(&sleeper.csr()).unwrap();
    let old = fleet.pki.issue(&member.device, &key, then).unwrap();
    let mut tx = fleet.store.write().await.unwrap();
    certificates::revoke_of_key(&mut tx, &member.device, key.fingerprint, then).await.unwrap();
    let row = certificates::Certificate {
        serial: old.serial,
        device: member.device.clone(),
        key: key.fingerprint,
        issued: then,
        expires: old.expires,
        pem: old.pem.clone(),
    };
    certificates::add(&mut tx, &row).await.unwrap();
    tx.commit().await.unwrap();
    assert!(old.expires < now);
    assert!(
        sleeper.rekey(&ward, &old.pem, &Newcomer::new("x").key).await.is_err(),
        "it opens nothing by itself"
    );
    let fresh = sleeper.renew(&ward).await.enrolled(200);
    assert_eq!(fresh.device, member.device);
    assert!(
        Certificate::parse(&chain(&certificate(&fresh))[0]).unwrap().expires
            > now.plus(Duration::from_hours(24 * 89))
    );
    ward.close().await;
}

#[tokio::test]
async fn certificates_are_renewed_from_a_third_of_their_life_on() {
    let ward = Ward::open().await;
    let newcomer = Newcomer::new("er-2-1");
    let member = ward.member(&newcomer).await;
    let fleet = &ward.server.fleet;
    let now = fleet.clocks.trust.now();
    let key = csr(&newcomer.csr()).unwrap();
    for (days, again) in [(59_u64, true), (61, false)] {
        let then = now.minus(Duration::from_hours(24 * days));
        let issued = fleet.pki.issue(&member.device, &key, then).unwrap();
        let mut tx = fleet.store.write().await.unwrap();
        certificates::revoke_of_device(&mut tx, &member.device, now).await.unwrap();
        let row = certificates::Certificate {
            serial: issued.serial,
            device: member.device.clone(),
            key: key.fingerprint,
            issued: then,
            expires: issued.expires,
            pem: issued.pem.clone(),
        };
        certificates::add(&mut tx, &row).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(newcomer.renew(&ward).await.certificate() == issued.pem, again, "{days} days old");
    }
    ward.close().await;
}

#[tokio::test]
async fn a_new_authority_of_devices_takes_over_without_a_refusal() {
    let ward = Ward::open().await;
    let (old, fresh) = (Newcomer::new("er-2-1"), Newcomer::new("er-2-1"));
    let member = ward.member(&old).await;
    let pem = certificate(&member);
    let fleet = &ward.server.fleet;
    fleet.pki.rotate_device_ca(fleet.clocks.trust.now()).unwrap();
    // What the old one signed is good still, and whoever renews comes over.
    let moved = old.renew(&ward).await.certificate();
    let issuer = |pem: &str| Certificate::parse(&chain(pem)[0]).unwrap().issuer;
    assert_eq!(
        (issuer(&pem).as_str(), issuer(&moved).as_str()),
        ("Muster Fleet Device CA 1", "Muster Fleet Device CA 2")
    );
    old.rekey(&ward, &pem, &fresh.key).await.unwrap().enrolled(200);
    // Both are on the list once both are revoked.
    ward.verb(&member.device, "revoke", json!({"reason": "the test ends"})).await;
    assert!(is_listed(&ward, &serial(&pem)) && is_listed(&ward, &serial(&moved)));
    ward.close().await;
}

#[tokio::test]
async fn a_new_authority_of_servers_waits_for_the_boxes() {
    let ward = Ward::open().await;
    let newcomer = Newcomer::new("er-2-1");
    ward.member(&newcomer).await;
    let fleet = ward.server.fleet.clone();
    let before = ward.file(json!({})).await;
    let now = fleet.clocks.trust.now();
    fleet.pki.prepare_server_ca(now).unwrap();
    ward.publish_root(2, fleet.pki.tls_roots()).await;
    let after = ward.file(json!({})).await;
    assert_eq!((roots(&before.root).len(), roots(&after.root).len()), (1, 2));
    let comes = async |file: &EnrolmentFile| {
        let body = CertificateRequest { v: VERSION, csr: newcomer.csr() };
        let body = serde_json::to_string(&body).unwrap();
        knock(&ward.door(), tls(&roots(&file.root), None), RENEW_PATH, None, body).await
    };
    comes(&before).await.unwrap().enrolled(200);
    comes(&after).await.unwrap().enrolled(200);
    fleet.pki.switch_server_ca(now).unwrap();
    comes(&after).await.unwrap().enrolled(200);
    assert!(comes(&before).await.is_err(), "a box that never got root 2 is why one waits");
    ward.close().await;
}

#[tokio::test]
async fn a_file_that_no_box_could_use_is_not_made() {
    let ward = Ward::bare().await;
    let problem = ward.post("/api/v1/enrolments", json!({"site": "er-2"})).await.is_problem(409, "no_root");
    assert!(problem["next"].as_str().unwrap().contains("muster root new"), "{problem}");
    assert_eq!(ward.see("/api/v1/enrolments").await["items"], json!([]));
    ward.close().await;
}

#[tokio::test]
async fn boxes_survive_the_loss_of_the_database() {
    let ward = Ward::open().await;
    let (kept, gone) = (Newcomer::new("er-2-1"), Newcomer::new("er-2-2"));
    let member = ward.member(&kept).await;
    let stolen = ward.member(&gone).await;
    ward.verb(&stolen.device, "revoke", json!({"reason": "stolen"})).await;
    let roll = ward.data.path().join("roll.json");
    assert_eq!(export_file(ward.data.path(), &roll).await.unwrap(), 2, "while the server runs");
    assert!(export_file(ward.data.path(), &roll).await.is_err(), "never over another file");
    let clocks = Clocks::default();
    let refused = import_file(ward.data.path(), &roll, clocks).await.unwrap_err();
    assert!(refused.to_string().contains("stop the server"), "{refused}");

    // The disk with the database dies; keys and authorities were in the backup.
    let Ward { server, data } = ward;
    server.stop().await;
    for file in ["fleet.db", "fleet.db-wal", "fleet.db-shm"] {
        std::fs::remove_file(data.path().join(file)).ok();
    }
    let lost = Ward { server: Server::start(data.path()).await, data };
    kept.renew(&lost).await.is_problem(403, "key_unknown");
    let Ward { server, data } = lost;
    server.stop().await;
    let imported = import_file(data.path(), &roll, clocks).await.unwrap();
    assert_eq!((imported.added, imported.known), (2, 0));
    let again = import_file(data.path(), &roll, clocks).await.unwrap();
    assert_eq!((again.added, again.known), (0, 2));

    let ward = Ward { server: Server::start(data.path()).await, data };
    let back = kept.renew(&ward).await.enrolled(200);
    assert_eq!(back.device, member.device);
    assert!(ward.server.fleet.admission.admits(&member.device));
    gone.renew(&ward).await.is_problem(403, "revoked");
    assert!(is_listed(&ward, &serial(&certificate(&stolen))), "the list forgets nothing that is still alive");
    let identity = identities::get(&mut ward.server.read().await, &member.device).await.unwrap().unwrap();
    assert_eq!((identity.name.as_str(), identity.site.as_str()), ("er-2-1", "er-2"));
    assert_eq!(identity.facts, kept.facts);

    // A roll that gives a box's key to another one changes nothing.
    let text = std::fs::read_to_string(&roll).unwrap();
    let altered = text.replace(member.device.as_str(), DeviceId::mint([9; 16]).as_str());
    let wrong = data_file(&ward, "wrong.json", &altered);
    let Ward { server, data } = ward;
    server.stop().await;
    let refused = import_file(data.path(), &wrong, clocks).await.unwrap_err();
    let OfflineError::Roll { source: RollError::Conflict { owner, .. }, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!(owner, member.device);
}

#[tokio::test]
async fn whom_a_backup_does_not_know_to_be_barred_the_file_bars_again() {
    let ward = Ward::open().await;
    let [kept, copied, stolen] = ["er-2-1", "er-2-2", "er-2-3"].map(Newcomer::new);
    let (kept_is, copied_is) = (ward.member(&kept).await.device, ward.member(&copied).await.device);
    let stolen_is = ward.member(&stolen).await;
    let older = ward.data.path().join("older.json");
    assert_eq!(export_file(ward.data.path(), &older).await.unwrap(), 3);
    // Exported after somebody had looked; the database is from before that, and from before one had changed its key.
    let mut roll: Value = serde_json::from_slice(&std::fs::read(&older).unwrap()).unwrap();
    for line in roll["identities"].as_array_mut().unwrap() {
        let (state, reason) = match line["device"].as_str().unwrap() {
            device if device == copied_is.as_str() => {
                line["spki"] = json!(hex::encode(csr(&Newcomer::new("x").csr()).unwrap().spki_der));
                ("quarantined", "its disk may have been copied")
            }
            device if device == stolen_is.device.as_str() => ("revoked", "stolen"),
            _ => continue,
        };
        line["state"] = json!(state);
        line["reason"] = json!(reason);
    }
    let newer = data_file(&ward, "newer.json", &roll.to_string());

    let Ward { server, data } = ward;
    server.stop().await;
    for (file, expect, other_key) in
        [(&newer, (0, 1, 2), &["er-2-2"][..]), (&newer, (0, 3, 0), &["er-2-2"]), (&older, (0, 3, 0), &[])]
    {
        let imported = import_file(data.path(), file, Clocks::default()).await.unwrap();
        assert_eq!((imported.added, imported.known, imported.changed), expect, "{}", file.display());
        assert_eq!(imported.other_key, other_key, "{}", file.display());
    }
    let ward = Ward { server: Server::start(data.path()).await, data };
    kept.renew(&ward).await.enrolled(200);
    copied.renew(&ward).await.is_problem(403, "quarantined");
    stolen.renew(&ward).await.is_problem(403, "revoked");
    let admission = &ward.server.fleet.admission;
    let admitted = [&kept_is, &copied_is, &stolen_is.device].map(|device| admission.admits(device));
    assert_eq!(admitted, [true, true, false], "whoever is set apart still shows that it is there");
    assert!(is_listed(&ward, &serial(&certificate(&stolen_is))));
    let mut db = ward.server.read().await;
    let told = log::after(&mut db, Some(stolen_is.device.as_str()), &Page::first(100)).await.unwrap();
    drop(db);
    let revoked = told.iter().find(|entry| entry.kind == "identity.revoked").unwrap();
    assert_eq!(revoked.sentence, "er-2-3 was revoked, for good: stolen (as imported)");
    ward.close().await;
}

fn data_file(ward: &Ward, name: &str, text: &str) -> std::path::PathBuf {
    let path = ward.data.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

impl Newcomer {
    fn key_fingerprint(&self) -> Fingerprint {
        csr(&self.csr()).unwrap().fingerprint
    }
}
