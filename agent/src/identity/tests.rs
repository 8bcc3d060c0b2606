//! Cut off after every step, and in the middle of each: a box is what it was or what it was to become.

use std::fs;
use std::path::Path;

use muster_protocol::time::Timestamp;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair, SerialNumber};

use super::steps::Step;
use super::*;
use crate::disk;

struct Fleet(CertifiedIssuer<'static, KeyPair>);

impl Fleet {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn certify(&self, key: &DeviceKey, device: &DeviceId, serial: u64) -> String {
        let key = KeyPair::from_pem(&key.pem()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, device.as_str());
        params.serial_number = Some(SerialNumber::from(serial));
        params.signed_by(&key, &self.0).unwrap().pem()
    }
}

fn device() -> DeviceId {
    DeviceId::mint([1; 16])
}

fn enrolment(key: &DeviceKey) -> Enrolment {
    Enrolment {
        v: 1,
        device: device(),
        name: "er-1".to_owned(),
        site: "er".parse().unwrap(),
        server: "https://a:1".to_owned(),
        mqtt: "mqtts://a:2".to_owned(),
        fingerprint: key.fingerprint(),
        enrolled: Timestamp::default(),
    }
}

fn enrol(state: &Path, fleet: &Fleet) -> Identity {
    let held = StateDir::open(state).unwrap();
    let enrolling = Enrolling::begin(&held, KeyChoice::Kept).unwrap();
    let pem = fleet.certify(enrolling.key(), &device(), 1);
    enrolling.finish(&enrolment(enrolling.key()), b"{}", &pem).unwrap()
}

/// Does the first `whole` steps, and of the next what a crash may leave of it.
fn crash(steps: &[Step], whole: usize, half: bool) {
    super::steps::run(&steps[..whole]).unwrap();
    if half && let Some(Step::Write(path, bytes)) = steps.get(whole) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path.with_added_extension(disk::UNFINISHED), &bytes[..bytes.len() / 2]).unwrap();
    }
}

fn serials(identity: &Identity) -> Vec<String> {
    identity.credentials().unwrap().into_iter().map(|found| found.certificate.serial).collect()
}

#[test]
fn an_enrolment_cut_off_anywhere_is_none_or_whole_and_keeps_its_key() {
    let fleet = Fleet::new();
    for (again, total) in [(false, 4), (true, 6)] {
        for (cut, half) in (0..=total).flat_map(|cut| [(cut, false), (cut, true)]) {
            let dir = tempfile::tempdir().unwrap();
            if again {
                enrol(dir.path(), &fleet);
            }
            let held = StateDir::open(dir.path()).unwrap();
            let enrolling = Enrolling::begin(&held, KeyChoice::Kept).unwrap();
            let fingerprint = enrolling.key().fingerprint();
            let next = Enrolment { site: "icu".parse().unwrap(), ..enrolment(enrolling.key()) };
            let pem = fleet.certify(enrolling.key(), &device(), 2);
            let steps = enrolling.steps(&next, b"{\"root\":2}", &pem).unwrap();
            assert_eq!(steps.len(), total);
            crash(&steps, cut, half);
            drop(enrolling);
            match Identity::open(dir.path()).unwrap() {
                None => assert!(!again && cut < 3, "step {cut}"),
                Some(identity) => {
                    let found = identity.enrolment().unwrap();
                    let new = found == next;
                    assert!(new || (again && found.site.as_str() == "er"), "step {cut}: {found:?}");
                    let (root, serial): (&[u8], _) =
                        if new { (b"{\"root\":2}", "02") } else { (b"{}", "01") };
                    assert_eq!(identity.root().unwrap(), root, "step {cut}");
                    assert_eq!(serials(&identity), [serial], "step {cut}");
                }
            }
            // The same command again: the same key, and this time to the end.
            let enrolling = Enrolling::begin(&held, KeyChoice::Kept).unwrap();
            assert_eq!(enrolling.key().fingerprint(), fingerprint, "step {cut}");
            let pem = fleet.certify(enrolling.key(), &device(), 3);
            assert_eq!(serials(&enrolling.finish(&next, b"{}", &pem).unwrap()), ["03"]);
        }
    }
}

#[test]
fn a_renewal_or_a_new_key_cut_off_anywhere_leaves_a_pair_that_works() {
    let fleet = Fleet::new();
    for rekey in [false, true] {
        for cut in 0..6 {
            for half in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let identity = enrol(dir.path(), &fleet);
                let key = if rekey { identity.next_key().unwrap() } else { identity.key().unwrap() };
                let certificate = Certificate::parse(&fleet.certify(&key, &device(), 2)).unwrap();
                let steps = identity.keeping(&key, &certificate).unwrap();
                crash(&steps, cut.min(steps.len()), half);
                let identity = Identity::open(dir.path()).unwrap().unwrap();
                let found = serials(&identity);
                assert!(!found.is_empty(), "step {cut} of {steps:?}");
                let done = cut >= steps.len() - 1;
                assert_eq!(
                    found.first().map(String::as_str),
                    Some(if done { "02" } else { "01" }),
                    "step {cut}"
                );
                // What was begun can be repeated.
                if rekey && !done {
                    assert_eq!(identity.next_key().unwrap().fingerprint(), key.fingerprint(), "step {cut}");
                    identity.keep_rekeyed(&certificate.pem, "mqtts://b:2").unwrap();
                } else {
                    identity.keep_renewed(&fleet.certify(&key, &device(), 2), "mqtts://b:2").unwrap();
                }
                assert_eq!(serials(&identity).first().map(String::as_str), Some("02"));
                assert_eq!(identity.enrolment().unwrap().mqtt, "mqtts://b:2");
                identity.proven(&certificate).unwrap();
                assert_eq!(serials(&identity), ["02"]);
            }
        }
    }
}

#[test]
fn what_works_is_kept_until_something_newer_has_connected() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::new();
    let identity = enrol(dir.path(), &fleet);
    let key = identity.key().unwrap();
    let renew =
        |serial| identity.keep_renewed(&fleet.certify(&key, &device(), serial), "mqtts://a:2").unwrap();
    renew(2);
    assert_eq!(serials(&identity), ["02", "01"]);
    // 2 never connected, so it is not what is known to work.
    let third = renew(3);
    assert_eq!(serials(&identity), ["03", "01"]);
    let old = Certificate::parse(&fleet.certify(&key, &device(), 1)).unwrap();
    identity.proven(&old).unwrap();
    assert_eq!(serials(&identity), ["03", "01"], "the old one connecting proves nothing");
    identity.proven(&third).unwrap();
    assert_eq!(serials(&identity), ["03"]);
}

#[test]
fn certificates_for_others_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::new();
    let identity = enrol(dir.path(), &fleet);
    let key = identity.key().unwrap();
    let other_key = fleet.certify(&DeviceKey::generate().unwrap(), &device(), 2);
    let other_device = fleet.certify(&key, &DeviceId::mint([2; 16]), 2);
    assert!(matches!(identity.keep_renewed(&other_key, "mqtts://a:2"), Err(IdentityError::OtherKey)));
    assert!(matches!(
        identity.keep_renewed(&other_device, "mqtts://a:2"),
        Err(IdentityError::OtherDevice { .. })
    ));
    assert!(matches!(
        identity.keep_renewed("nonsense", "mqtts://a:2"),
        Err(IdentityError::Certificate { .. })
    ));
    assert_eq!(serials(&identity), ["01"]);
    assert_ne!(boot().unwrap(), boot().unwrap());
}

#[test]
fn a_certificate_is_renewed_from_a_third_of_its_life_left() {
    let fleet = Fleet::new();
    let key = DeviceKey::generate().unwrap();
    let at = Timestamp::from_seconds;
    let certificate = Certificate::parse(&fleet.certify(&key, &device(), 1)).unwrap();
    let ninety = Certificate { starts: at(0), expires: at(90 * 86_400), ..certificate };
    assert_eq!(ninety.renew_from(), at(60 * 86_400));
}
