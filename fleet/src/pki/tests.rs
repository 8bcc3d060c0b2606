use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::clock::TrustClock;

const DAY: Duration = Duration::from_hours(24);

struct Folder {
    dir: TempDir,
    now: Timestamp,
}

/// A client's side: what it shows, and whom it trusts.
struct Client {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Folder {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), now: TrustClock.now() }
    }

    fn open(&self) -> Pki {
        self.open_as(&["localhost", "127.0.0.1"], self.now).unwrap()
    }

    fn open_as(&self, names: &[&str], now: Timestamp) -> Result<Pki, PkiError> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        Pki::open(&self.dir.path().join("pki"), &names, now)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("pki").join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

fn request() -> (KeyPair, PublicKeyInfo) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let public = csr(&pem).unwrap();
    (key, public)
}

fn device(number: u8) -> DeviceId {
    DeviceId::mint([number; 16])
}

fn facts(pem: &str) -> Certificate {
    Certificate::parse(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
}

fn holder(pki: &Pki, number: u8, now: Timestamp) -> (Client, Issued) {
    let (key, public) = request();
    let issued = pki.issue(&device(number), &public, now).unwrap();
    (client(&issued.pem, &key.serialize_pem()), issued)
}

fn client(chain: &str, key: &str) -> Client {
    let first = CertificateDer::pem_slice_iter(chain.as_bytes()).next().unwrap().unwrap();
    Client { chain: vec![first], key: PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap() }
}

/// Whether the two sides come to speak with each other.
async fn meets(pki: &Pki, auth: ClientAuth, client: Option<&Client>) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    for root in pki.tls_roots() {
        roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    }
    let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => builder.with_client_auth_cert(client.chain.clone(), client.key.clone_key()).unwrap(),
    };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let acceptor = tokio_rustls::TlsAcceptor::from(pki.server_config(auth).unwrap());
    let serving = async {
        let mut stream = acceptor.accept(far).await.ok()?;
        stream.write_all(b"!").await.ok()?;
        stream.flush().await.ok()
    };
    let asking = async {
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, near).await.ok()?;
        // In TLS 1.3 a client learns only here that it is refused.
        stream.read_u8().await.ok()
    };
    let (served, asked) = tokio::join!(serving, asking);
    assert_eq!(served.is_some(), asked.is_some());
    asked.is_some()
}

#[test]
fn what_was_made_is_found_again() {
    let folder = Folder::new();
    let first = folder.open();
    let names = ["device-ca-1", "server-ca-1", "client-ca", "server"];
    let before = names.map(|name| folder.text(&format!("{name}.pem")));
    let second = folder.open();
    assert_eq!(names.map(|name| folder.text(&format!("{name}.pem"))), before);
    assert_eq!(first.view(), second.view());
    assert_eq!(folder.text("device-ca.pem"), before[0]);
    assert_eq!((folder.text("server-ca.pem"), second.tls_root_pem()), (before[1].clone(), before[1].clone()));
    for name in names {
        let mode = std::fs::metadata(folder.path(&format!("{name}.key"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn folders_that_cannot_be_trusted_are_refused() {
    let folder = Folder::new();
    drop(folder.open());
    let check = |name: &str, spoil: &dyn Fn(&std::path::Path), expect: &str| {
        let path = folder.path(name);
        let before = std::fs::read(&path).unwrap();
        spoil(&path);
        let error = folder.open_as(&["localhost"], folder.now).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
        assert!(!error.contains("BEGIN"), "{error}");
        std::fs::remove_file(&path).unwrap_or_default();
        files::write_private(&path, &String::from_utf8(before).unwrap()).unwrap();
    };
    let open_to_all = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    };
    check("device-ca-1.key", &open_to_all, "can be read by others");
    check("server.key", &open_to_all, "can be read by others");
    check("device-ca-1.key", &|path| std::fs::remove_file(path).unwrap(), "its key file is missing");
    check("server-ca-1.key", &|path| std::fs::write(path, "no key").unwrap(), "not a private key");
    check("client-ca.pem", &|path| std::fs::write(path, "nothing").unwrap(), "not a certificate");
    let foreign = KeyPair::generate().unwrap().serialize_pem();
    check("device-ca-1.key", &|path| std::fs::write(path, &foreign).unwrap(), "does not belong to its key");
    folder.open();
    for (names, expect) in [(vec![], "names is empty"), (vec!["a b"], "'a b' is neither")] {
        let error = folder.open_as(&names, folder.now).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
}

#[test]
fn a_crash_while_an_authority_was_made_leaves_none() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("")).unwrap();
    // The key is written first; nothing was signed with it.
    files::write_private(&folder.path("device-ca-1.key"), "half a key").unwrap();
    files::write_private(&folder.path("server.key.new"), "half a file").unwrap();
    let pki = folder.open();
    // The key of a certificate that was being renewed.
    files::write_private(&folder.path("server.key"), &KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let again = folder.open();
    assert_eq!(pki.tls_root_pem(), again.tls_root_pem());
    assert_eq!(facts(&folder.text("server.pem")).issuer, "Muster Fleet Server CA 1");
}

#[test]
fn a_device_gets_what_it_may_have_and_nothing_it_asked_for() {
    let folder = Folder::new();
    let pki = folder.open();
    let (_, public) = request();
    let issued = pki.issue(&device(1), &public, folder.now).unwrap();
    let certificate = facts(&issued.pem);
    assert_eq!(certificate.device(), Some(device(1)));
    assert_eq!(certificate.issuer, "Muster Fleet Device CA 1");
    assert_eq!((&certificate.serial, certificate.expires), (&issued.serial, issued.expires));
    assert_eq!(certificate.spki_der, public.spki_der);
    assert_eq!(issued.expires.since(folder.now).as_secs().div_ceil(86_400), 90);
    assert_eq!(certificate.starts.as_seconds(), folder.now.minus(Duration::from_hours(1)).as_seconds());
    let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
    let (_, x509) = x509_parser::parse_x509_certificate(&der).unwrap();
    let usage = x509.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!x509.is_ca());
    let san = x509.subject_alternative_name().unwrap().unwrap().value;
    let urn = format!("urn:muster:device:{}", device(1));
    assert!(
        matches!(san.general_names.as_slice(), [x509_parser::extensions::GeneralName::URI(uri)] if *uri == urn)
    );
    assert!(issued.pem.ends_with(&folder.text("device-ca-1.pem")));
    assert_ne!(pki.issue(&device(1), &public, folder.now).unwrap().serial, issued.serial);
    let authority = facts(&folder.text("device-ca-1.pem"));
    assert_eq!(authority.common_name, "Muster Fleet Device CA 1");
}

#[tokio::test]
async fn who_may_speak_with_this_server() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let (pki, other) = (folder.open(), elsewhere.open());
    let good = holder(&pki, 1, folder.now).0;
    let expired = holder(&pki, 1, folder.now.minus(91 * DAY)).0;
    let unborn = holder(&pki, 1, folder.now.plus(DAY)).0;
    let foreign = holder(&other, 1, folder.now).0;
    let (revoked, issued) = holder(&pki, 2, folder.now);
    pki.write_crl(&[Revoked { serial: issued.serial, at: folder.now }], folder.now).unwrap();
    let made = pki.issue_client("o-night-shift", DAY, folder.now).unwrap();
    let observer = client(&made.certificate, &made.key);
    let server = client(&folder.text("server.pem"), &folder.text("server.key"));
    let check = async |who: &str, client: Option<&Client>, expect: [bool; 4]| {
        use ClientAuth::{Devices, DevicesAndClients, None, OptionalDevice};
        for (auth, expect) in [None, Devices, OptionalDevice, DevicesAndClients].into_iter().zip(expect) {
            assert_eq!(meets(&pki, auth, client).await, expect, "{who} {auth:?}");
        }
    };
    check("nobody", None, [true, false, true, false]).await;
    check("a device", Some(&good), [true; 4]).await;
    check("expired", Some(&expired), [true, false, false, false]).await;
    check("not yet", Some(&unborn), [true, false, false, false]).await;
    check("foreign", Some(&foreign), [true, false, false, false]).await;
    check("revoked", Some(&revoked), [true, false, false, false]).await;
    check("observer", Some(&observer), [true, false, false, true]).await;
    check("server", Some(&server), [true, false, false, false]).await;
}

#[test]
fn clients_have_names_of_their_kind() {
    let folder = Folder::new();
    let pki = folder.open();
    let check = |name: &str, good: bool| {
        assert_eq!(pki.issue_client(name, DAY, folder.now).is_ok(), good, "{name}");
    };
    check("o-night-shift", true);
    check("fleet-00ff", true);
    for wrong in
        [device(1).as_str(), "", "o-", "fleet-", "o", "O-x", "o-a/b", "o-+", &format!("o-{}", "x".repeat(49))]
    {
        check(wrong, false);
    }
}

#[tokio::test]
async fn revoked_certificates_stay_revoked_through_rotation_and_restart() {
    let folder = Folder::new();
    let pki = folder.open();
    let server = pki.server_config(ClientAuth::Devices).unwrap();
    let (revoked, issued) = holder(&pki, 1, folder.now);
    let mut written = pki.crl_written();
    pki.write_crl(&[Revoked { serial: issued.serial, at: folder.now }], folder.now).unwrap();
    assert!(written.has_changed().unwrap());
    written.mark_unchanged();
    pki.rotate_device_ca(folder.now).unwrap();
    assert!(written.has_changed().unwrap());
    let lists = crl::parse(&folder.text(CRL_FILE)).unwrap();
    assert_eq!(lists.len(), 2);
    for list in &lists {
        assert_eq!(list.revoked.len(), 1);
    }
    for pki in [pki, folder.open()] {
        assert!(!meets(&pki, ClientAuth::Devices, Some(&revoked)).await);
        assert!(meets(&pki, ClientAuth::Devices, Some(&holder(&pki, 2, folder.now).0)).await);
    }
    drop(server);
    let bad = Revoked { serial: "not hex".to_owned(), at: folder.now };
    assert!(matches!(folder.open().write_crl(&[bad], folder.now), Err(PkiError::Serial(_))));
}

#[tokio::test]
async fn a_list_that_cannot_be_read_stops_the_start_and_opens_nothing_meanwhile() {
    let folder = Folder::new();
    let pki = folder.open();
    let (revoked, issued) = holder(&pki, 1, folder.now);
    let entry = Revoked { serial: issued.serial, at: folder.now };
    pki.rotate_device_ca(folder.now).unwrap();
    pki.write_crl(std::slice::from_ref(&entry), folder.now).unwrap();
    let good = folder.text(CRL_FILE);
    let second = good.rfind("-----BEGIN").unwrap();
    let check = |what: &str, text: &str| {
        std::fs::write(folder.path(CRL_FILE), text).unwrap();
        for opened in [folder.open_as(&["localhost"], folder.now), Pki::load(&folder.path(""))] {
            let error = opened.err().unwrap_or_else(|| panic!("{what} was taken")).to_string();
            assert!(
                error.contains("device.crl.pem cannot be used") && error.contains("move it away"),
                "{error}"
            );
        }
        assert_eq!(folder.text(CRL_FILE), text, "{what} was written over");
    };
    check("no list", "nothing of the kind");
    check("cut off", &good[..good.len() - 40]);
    check("cut off in its first line", &good[..12]);
    check("the second cut off", &good[..second + 60]);
    check("another kind of block", &good.replacen("X509 CRL", "X509 CRX", 2));
    check("no Base64", &good.replacen("MII", "M!I", 1));
    check("no DER", &good.replacen("MII", "AII", 1));
    check("an authority among them", &format!("{good}{}", folder.text("device-ca-1.pem")));
    // The server that runs goes on refusing, also with what is made anew.
    assert!(pki.renew_server(folder.now.plus(300 * DAY)).unwrap());
    assert!(!meets(&pki, ClientAuth::Devices, Some(&revoked)).await);
    assert_eq!(pki.listed(), [Revoked { at: Timestamp::from_seconds(entry.at.as_seconds()), ..entry }]);
    std::fs::remove_file(folder.path(CRL_FILE)).unwrap();
    folder.open();
}

#[test]
fn an_authority_that_was_lost_stops_the_start() {
    let folder = Folder::new();
    let pki = folder.open();
    pki.rotate_device_ca(folder.now).unwrap();
    pki.rotate_device_ca(folder.now).unwrap();
    pki.prepare_server_ca(folder.now).unwrap();
    let check = |lost: &[&str], expect: Option<&str>| {
        let away = |name: &str| folder.path(&format!("{name}.away"));
        for name in lost {
            std::fs::rename(folder.path(name), away(name)).unwrap();
        }
        for opened in [folder.open_as(&["localhost"], folder.now), Pki::load(&folder.path(""))] {
            let error = opened.err().map(|error| error.to_string());
            match expect {
                None => assert_eq!(error, None, "{lost:?}"),
                Some(expect) => {
                    let error = error.unwrap_or_else(|| panic!("{lost:?} was not missed"));
                    assert!(error.contains(expect) && error.contains("from a backup"), "{error}");
                }
            }
        }
        for name in lost {
            std::fs::rename(away(name), folder.path(name)).unwrap();
        }
    };
    check(&["device-ca-1.pem"], Some("Muster Fleet Device CA 1 is gone"));
    check(&["device-ca-2.pem"], Some("Muster Fleet Device CA 2 is gone"));
    check(&["device-ca-3.pem"], Some("Muster Fleet Device CA 3 is gone"));
    check(&["device-ca-3.pem", "device-ca-3.key"], Some("Muster Fleet Device CA 3 is gone"));
    check(&["server-ca-1.pem", "server-ca-2.pem"], Some("Muster Fleet Server CA 1 is gone"));
    check(&["client-ca.pem"], Some("client-ca.pem is gone"));
    check(&["client-ca.pem", "client-ca.key"], Some("client-ca.pem is gone"));
    // Without the file that names them all, too.
    check(&["device-ca.pem", "device-ca-1.pem"], Some("device-ca-1.pem is gone"));
    check(&["device-ca.pem", "device-ca-2.pem", "device-ca-2.key"], Some("device-ca-2.pem is gone"));
    check(&["device-ca.pem", "device-ca-3.pem"], Some("device-ca-3.pem is gone"));
    check(&[], None);
    // A backup of an authority with the same name is not the authority.
    let elsewhere = Folder::new();
    elsewhere.open();
    for name in ["device-ca-1.pem", "device-ca-1.key"] {
        files::write_private(&folder.path(name), &elsewhere.text(name)).unwrap();
    }
    check(&[], Some("Muster Fleet Device CA 1 is gone"));
}

#[test]
fn a_crash_while_authorities_were_replaced_loses_nothing() {
    let folder = Folder::new();
    let pki = folder.open();
    pki.rotate_device_ca(folder.now).unwrap();
    let names = |pki: &Pki| pki.view().device.into_iter().map(|one| one.name).collect::<Vec<_>>();
    let both = ["Muster Fleet Device CA 1", "Muster Fleet Device CA 2"];
    // The next one's key was written, and no more of it.
    files::write_private(&folder.path("device-ca-3.key"), "half a key").unwrap();
    assert_eq!(names(&folder.open()), both);
    std::fs::remove_file(folder.path("device-ca-3.key")).unwrap();
    // The next one was made, and not yet named.
    let bundle = folder.text("device-ca.pem");
    std::fs::write(folder.path("device-ca.pem"), folder.text("device-ca-1.pem")).unwrap();
    assert_eq!(names(&folder.open()), both);
    assert_eq!(folder.text("device-ca.pem"), bundle);
    // The oldest was no longer named, or gone without its key.
    std::fs::write(folder.path("device-ca.pem"), folder.text("device-ca-2.pem")).unwrap();
    assert_eq!(names(&folder.open()), both);
    std::fs::write(folder.path("device-ca.pem"), folder.text("device-ca-2.pem")).unwrap();
    std::fs::remove_file(folder.path("device-ca-1.pem")).unwrap();
    assert_eq!(names(&folder.open()), both[1..]);
}

#[tokio::test]
async fn an_authority_that_cannot_be_taken_away_stays_whole() {
    let folder = Folder::new();
    let pki = folder.open();
    let old = holder(&pki, 1, folder.now).0;
    pki.rotate_device_ca(folder.now).unwrap();
    let after = folder.now.plus(91 * DAY);
    std::fs::remove_file(folder.path("device-ca-1.key")).unwrap();
    std::fs::create_dir(folder.path("device-ca-1.key")).unwrap();
    assert!(matches!(pki.retire(after), Err(PkiError::Write { .. })));
    assert_eq!(pki.view().device.len(), 2);
    assert!(meets(&pki, ClientAuth::Devices, Some(&old)).await);
    std::fs::remove_dir(folder.path("device-ca-1.key")).unwrap();
    assert_eq!(pki.retire(after).unwrap(), ["Muster Fleet Device CA 1"]);
    assert!(!meets(&pki, ClientAuth::Devices, Some(&old)).await);
    assert_eq!(folder.text("device-ca.pem"), folder.text("device-ca-2.pem"));
}

#[tokio::test]
async fn devices_of_the_old_authority_are_trusted_until_their_last_certificate_ends() {
    let folder = Folder::new();
    let pki = folder.open();
    let old = holder(&pki, 1, folder.now).0;
    pki.rotate_device_ca(folder.now).unwrap();
    let (new, issued) = holder(&pki, 2, folder.now);
    assert_eq!(facts(&issued.pem).issuer, "Muster Fleet Device CA 2");
    for client in [&old, &new] {
        assert!(meets(&pki, ClientAuth::Devices, Some(client)).await);
    }
    assert_eq!(folder.text("device-ca.pem").matches("BEGIN").count(), 2);
    assert!(pki.retire(folder.now.plus(90 * DAY)).unwrap().is_empty());
    assert_eq!(pki.retire(folder.now.plus(91 * DAY)).unwrap(), ["Muster Fleet Device CA 1"]);
    assert!(!meets(&pki, ClientAuth::Devices, Some(&old)).await);
    assert!(meets(&pki, ClientAuth::Devices, Some(&new)).await);
    assert!(pki.retire(folder.now.plus(9000 * DAY)).unwrap().is_empty(), "the last one was taken away");
    let again = folder.open();
    assert_eq!(again.view().device.len(), 1);
    again.rotate_device_ca(folder.now).unwrap();
    assert_eq!(again.view().device[1].name, "Muster Fleet Device CA 3");
}

#[tokio::test]
async fn the_servers_authority_is_replaced_in_two_steps() {
    let folder = Folder::new();
    let pki = folder.open();
    let device = holder(&pki, 1, folder.now).0;
    assert!(matches!(pki.switch_server_ca(folder.now), Err(PkiError::NothingPrepared)));
    let old = pki.tls_root_pem();
    let prepared = pki.prepare_server_ca(folder.now).unwrap();
    assert!(matches!(pki.prepare_server_ca(folder.now), Err(PkiError::Prepared(2))));
    assert_eq!((pki.tls_root_pem(), pki.tls_roots()), (old.clone(), vec![old, prepared.clone()]));
    // A restart and a renewal in between switch nothing.
    let pki = folder.open();
    assert!(pki.renew_server(folder.now.plus(300 * DAY)).unwrap());
    assert_eq!(facts(&folder.text("server.pem")).issuer, "Muster Fleet Server CA 1");
    pki.switch_server_ca(folder.now).unwrap();
    assert_eq!(pki.tls_root_pem(), prepared);
    assert!(meets(&pki, ClientAuth::Devices, Some(&device)).await);
    assert_eq!(folder.open().tls_root_pem(), prepared);
}

#[test]
fn the_servers_certificate_renews_itself() {
    let folder = Folder::new();
    let pki = folder.open();
    let first = folder.text("server.pem");
    let check = |days: u32, renewed: bool| {
        assert_eq!(pki.renew_server(folder.now.plus(days * DAY)).unwrap(), renewed, "after {days} days");
    };
    check(0, false);
    check(243, false);
    check(244, true);
    check(244, false);
    assert_ne!(folder.text("server.pem"), first);
    let renamed = folder.open_as(&["fleet.hospital.example", "10.1.2.3", "fd00::1"], folder.now).unwrap();
    assert_eq!(renamed.view().names, ["fleet.hospital.example", "10.1.2.3", "fd00::1"]);
}

#[test]
fn roots_lead_here_or_elsewhere() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let pki = folder.open();
    let own = pki.tls_root_pem();
    let foreign = elsewhere.open().tls_root_pem();
    let check = |roots: &[&String], expect: bool| {
        let roots: Vec<String> = roots.iter().map(|&root| root.clone()).collect();
        assert_eq!(pki.leads_here(&roots, folder.now), expect);
    };
    check(&[], false);
    check(&[&own], true);
    check(&[&foreign], false);
    check(&[&foreign, &own], true);
    // Two in one text, as server-ca.pem has them.
    check(&[&format!("{foreign}{own}")], true);
    check(&[&"no certificate".to_owned()], false);
    check(&[&folder.text("device-ca.pem")], false);
    let prepared = pki.prepare_server_ca(folder.now).unwrap();
    check(&[&prepared], false);
    pki.switch_server_ca(folder.now).unwrap();
    check(&[&own], false);
    check(&[&prepared], true);
}

#[test]
fn the_fleets_own_client_keeps_its_name() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let pki = folder.open();
    let name = pki.fleet_client_name();
    assert!(name.starts_with("fleet-") && name.len() == 38, "{name}");
    assert_ne!(elsewhere.open().fleet_client_name(), name);
    let first = folder.text("fleet-client.pem");
    assert!(!pki.renew_client(folder.now).unwrap());
    assert!(pki.renew_client(folder.now.plus(300 * DAY)).unwrap());
    assert_ne!(folder.text("fleet-client.pem"), first);
    assert_eq!(folder.open().fleet_client_name(), name);
    assert!(matches!(pki.client_config(Some("nothing")), Err(PkiError::BrokerAuthority)));
}

#[test]
fn the_authority_tells_who_somebody_is() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let pki = folder.open();
    let (_, issued) = holder(&pki, 1, folder.now);
    assert_eq!(pki.peer(&facts(&issued.pem)), Some(Peer::Device(device(1))));
    let observer = pki.issue_observer("ward", DAY, folder.now).unwrap();
    assert_eq!(pki.peer(&facts(&observer.certificate)), Some(Peer::Client("o-ward".to_owned())));
    assert_eq!(pki.peer(&facts(&folder.text("server.pem"))), None);
    // A device of an authority that is not ours, and a name that is no device's.
    elsewhere.open().rotate_device_ca(folder.now).unwrap();
    let (_, foreign) = holder(&elsewhere.open(), 1, folder.now);
    assert_eq!(pki.peer(&facts(&foreign.pem)), None);
    let named = Certificate { common_name: "fleet-00".to_owned(), ..facts(&issued.pem) };
    assert_eq!(pki.peer(&named), None);
}

#[test]
fn what_is_loaded_beside_a_server_writes_nothing() {
    let folder = Folder::new();
    assert!(matches!(Pki::load(&folder.path("")), Err(PkiError::Absent { .. })));
    let pki = folder.open();
    let files = || {
        let mut found: Vec<_> = std::fs::read_dir(folder.path(""))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().modified().unwrap()))
            .collect();
        found.sort();
        found
    };
    let before = files();
    assert_eq!(Pki::load(&folder.path("")).unwrap().view(), pki.view());
    assert_eq!(files(), before);
}
