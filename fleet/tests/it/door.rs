//! Becoming a member and staying one: real boxes' keys, real TLS, a real register. The rows of the identity's event table
//! are stories in [`events`].

mod bounds;
mod events;
mod members;
mod people;
mod ward;

use muster_fleet::pki::certificate::Certificate;
use muster_fleet::store::Page;
use muster_fleet::store::{identities, log};
use muster_protocol::enrol::{EnrolState, Fingerprint, REKEY_PATH};
use muster_protocol::ids::DeviceId;
use rcgen::PublicKeyData as _;
use serde_json::json;

use ward::{Newcomer, Ward, certificate, chain, knock};

#[tokio::test]
async fn a_box_asks_is_compared_accepted_and_comes_back_for_more() {
    let ward = Ward::open().await;
    let file = ward.file(json!({})).await;
    assert!(file.server.starts_with("https://localhost:"), "{}", file.server);
    let newcomer = Newcomer::new("er-2-1");
    let fingerprint = Fingerprint::of(&newcomer.key.subject_public_key_info());

    let waits = newcomer.enrol(&file).await.enrolled(202);
    assert_eq!((waits.state, waits.fingerprint), (EnrolState::Pending, fingerprint));
    assert!(!ward.server.fleet.admission.admits(&waits.device));
    newcomer.renew(&ward).await.is_problem(403, "pending");

    // The person sees what to compare, and another key is not accepted by mistake.
    let pending = ward.see("/api/v1/identities?state=pending").await;
    assert_eq!(pending["items"][0]["fingerprint"], fingerprint.to_string(), "{pending}");
    assert_eq!(pending["items"][0]["site"], "er-2");
    let needs = ward.see("/api/v1/overview").await["needs_you"].clone();
    assert_eq!(
        (&needs[0]["kind"], &needs[0]["fingerprint"]),
        (&json!("device_pending"), &json!(fingerprint.to_string()))
    );
    let other = json!({"fingerprint": Fingerprint::of(b"other").to_string()});
    ward.verb(&waits.device, "accept", other).await.is_problem(409, "fingerprint_mismatch");
    let accepted = ward.verb(&waits.device, "accept", json!({"fingerprint": fingerprint.to_string()})).await;
    assert_eq!((accepted.status.as_u16(), &accepted.json()["state"]), (200, &json!("active")));
    assert!(ward.server.fleet.admission.admits(&waits.device));

    let first = newcomer.enrol(&file).await.enrolled(200);
    assert_eq!((&first.device, first.fingerprint), (&waits.device, fingerprint));
    let EnrolState::Active { certificate: pem, mqtt } = &first.state else { panic!("{first:?}") };
    assert!(mqtt.starts_with("mqtts://localhost:"), "{mqtt}");
    let leaf = Certificate::parse(&chain(pem)[0]).unwrap();
    assert_eq!(leaf.device().as_ref(), Some(&first.device));
    assert_eq!(Fingerprint::of(&leaf.spki_der), fingerprint);

    // The same key gets the same answer, whatever the token is worth by now.
    assert_eq!(newcomer.enrol(&file).await.enrolled(200), first);
    assert_eq!(newcomer.renew(&ward).await.enrolled(200), first);

    let mut db = ward.server.read().await;
    let told = log::after(&mut db, Some(first.device.as_str()), &Page::first(9)).await.unwrap();
    let told: Vec<_> = told.iter().map(|entry| (entry.kind.as_str(), entry.actor.to_string())).collect();
    let device = format!("device:{}", first.device);
    assert_eq!(told, [("identity.pending", device), ("identity.accepted", "person:operator".to_owned())]);
    drop(db);
    ward.close().await;
}

#[tokio::test]
async fn a_file_that_accepts_by_itself_makes_members_at_once() {
    let ward = Ward::open().await;
    let file = ward.file(json!({"approve": "auto", "count": 2})).await;
    for name in ["lab-1", "lab-2"] {
        let member = Newcomer::new(name).enrol(&file).await.enrolled(200);
        assert!(ward.server.fleet.admission.admits(&member.device));
    }
    Newcomer::new("lab-3").enrol(&file).await.is_problem(403, "token_used_up");
    let listed = ward.see("/api/v1/enrolments").await;
    assert_eq!(
        (&listed["items"][0]["state"], &listed["items"][0]["uses_left"]),
        (&json!("used_up"), &json!(0))
    );
    assert!(!listed.to_string().contains("fle_"), "the token is nowhere but in its file: {listed}");
    ward.close().await;
}

#[tokio::test]
async fn one_use_is_one_box_however_many_ask_at_once() {
    let ward = Ward::open().await;
    let file = ward.file(json!({})).await;
    let boxes: Vec<Newcomer> = (0..12).map(|n| Newcomer::new(&format!("er-2-{n}"))).collect();
    let answers = futures_util::future::join_all(boxes.iter().map(|newcomer| newcomer.enrol(&file))).await;
    let won: Vec<usize> = (0..12).filter(|n| answers[*n].status == 202).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    for (n, answer) in answers.iter().enumerate().filter(|(n, _)| *n != won[0]) {
        answer.is_problem(403, "token_used_up");
        boxes[n].renew(&ward).await.is_problem(403, "key_unknown");
    }
    assert_eq!(ward.see("/api/v1/identities").await["items"].as_array().unwrap().len(), 1);
    ward.close().await;
}

#[tokio::test]
async fn a_lost_answer_costs_no_use() {
    let ward = Ward::open().await;
    let file = ward.file(json!({"approve": "auto"})).await;
    let newcomer = Newcomer::new("er-2-1");
    let lost = newcomer.enrol(&file).await.enrolled(200);
    // Committed, and killed before the box has seen the answer.
    let ward = ward.killed().await;
    assert!(ward.server.fleet.admission.admits(&lost.device), "who is a member is known from the start on");
    let file = muster_protocol::enrol::EnrolmentFile { server: ward.door(), ..file };
    let again = newcomer.enrol(&file).await.enrolled(200);
    assert_eq!((&again.device, certificate(&again)), (&lost.device, certificate(&lost)));
    assert_eq!(ward.see("/api/v1/identities").await["items"].as_array().unwrap().len(), 1);
    ward.close().await;
}

#[tokio::test]
async fn the_server_chooses_every_name() {
    let ward = Ward::open().await;
    let file = ward.file(json!({"approve": "auto"})).await;
    let newcomer = Newcomer::new("er-2-1");
    let victim = DeviceId::mint([9; 16]);
    // A request that asks to be somebody else, and an authority.
    let mut wish = rcgen::CertificateParams::new(vec!["fleet.example".to_owned()]).unwrap();
    wish.distinguished_name.push(rcgen::DnType::CommonName, victim.as_str());
    wish.is_ca = rcgen::IsCa::NoCa;
    let wish = wish.serialize_request(&newcomer.key).unwrap().pem().unwrap();
    let body = newcomer.asks(wish).to_string();
    let answer =
        knock(&file.server, ward.tls(None), "/v1/enrol", Some(file.token.secret()), body).await.unwrap();
    let member = answer.enrolled(200);
    assert_ne!(member.device, victim);
    let leaf = Certificate::parse(&chain(&certificate(&member))[0]).unwrap();
    assert_eq!((leaf.device(), leaf.names), (Some(member.device), Vec::new()));
    ward.close().await;
}

#[tokio::test]
async fn a_new_key_takes_over_and_the_old_one_waits_for_it() {
    let ward = Ward::open().await;
    let old = Newcomer::new("er-2-1");
    let member = ward.member(&old).await;
    let first = certificate(&member);
    let mut next = Newcomer::new("er-2-1");
    let body = serde_json::to_string(&json!({"v": 1, "csr": next.csr()})).unwrap();
    let bare = knock(&ward.door(), ward.tls(None), REKEY_PATH, None, body).await.unwrap();
    bare.is_problem(401, "certificate_missing");

    let changed = old.rekey(&ward, &first, &next.key).await.unwrap().enrolled(200);
    assert_eq!(changed.device, member.device);
    assert_eq!(changed.fingerprint, Fingerprint::of(&next.key.subject_public_key_info()));
    // The answer was lost: again, and with another new key; both keys may renew until the new one was seen.
    assert_eq!(old.rekey(&ward, &first, &next.key).await.unwrap().enrolled(200), changed);
    let unused = std::mem::replace(&mut next, Newcomer::new("er-2-1"));
    let changed = old.rekey(&ward, &first, &next.key).await.unwrap().enrolled(200);
    unused.renew(&ward).await.is_problem(403, "key_unknown");
    assert_eq!(old.renew(&ward).await.enrolled(200).device, member.device);
    assert_eq!(next.renew(&ward).await.enrolled(200), changed);

    // Another member's key cannot be had, and a key is no door to another member.
    let other = Newcomer::new("er-2-2");
    ward.member(&other).await;
    let pem = certificate(&changed);
    let taken = next.rekey(&ward, &pem, &other.key).await.unwrap();
    taken.is_problem(403, "key_taken");
    let identity = identities::get(&mut ward.server.read().await, &member.device).await.unwrap().unwrap();
    assert_eq!(identity.key.fingerprint, changed.fingerprint);
    ward.close().await;
}
