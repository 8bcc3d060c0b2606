//! Keys are made private, read back, and opened by nobody else.

use std::process::Command;

use super::*;

fn phrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
}

#[test]
fn keys_are_made_private_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys/release.key");
    let public = create(&path, "targets").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(load(&path).unwrap().key(), public);
    for text in
        [public.to_string(), path.display().to_string(), path.with_extension("pub").display().to_string()]
    {
        assert_eq!(load_public(&text).unwrap(), public);
    }
    assert!(matches!(create(&path, "targets"), Err(KeyFileError::Write { .. })), "a key was overwritten");
    assert_ne!(create(&dir.path().join("other.key"), "root").unwrap(), public);
}

#[test]
fn an_encrypted_key_opens_to_its_passphrase_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.key");
    let public = create_encrypted(&path, "root", &phrase("correct horse")).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let file = || KeyFile::read(&path).unwrap();
    assert!(file().is_encrypted());
    assert_eq!((file().role(), file().public().unwrap()), (Some("root"), public));
    assert_eq!(file().unlock(Some(&phrase("correct horse"))).unwrap().key(), public);
    assert!(matches!(file().unlock(Some(&phrase("battery staple"))), Err(KeyFileError::Passphrase { .. })));
    assert!(matches!(load(&path), Err(KeyFileError::Locked { .. })));
    // The label is no more than a label.
    let text = std::fs::read_to_string(&path).unwrap();
    let other = SecretKey::from_seed([1; 32]).key();
    std::fs::write(&path, text.replace(&public.to_string(), &other.to_string())).unwrap();
    assert!(matches!(file().unlock(Some(&phrase("correct horse"))), Err(KeyFileError::Format { .. })));
}

#[test]
fn openssl_reads_our_keys_and_we_read_its() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let path = |name: &str| dir.path().join(name);
    let locked = create_encrypted(&path("locked.key"), "root", &phrase("correct horse")).unwrap();
    let open = create(&path("open.key"), "root").unwrap();
    let public = |args: &[&str]| {
        let der = openssl(&[&["pkey", "-pubout", "-outform", "DER"], args].concat());
        hex::encode(&der[der.len() - 32..])
    };
    assert_eq!(public(&["-in", "locked.key", "-passin", "pass:correct horse"]), locked.to_string());
    assert_eq!(public(&["-in", "open.key"]), open.to_string());
    // Made elsewhere: no label, another derivation of the key.
    openssl(&[
        "genpkey",
        "-algorithm",
        "ed25519",
        "-aes-256-cbc",
        "-pass",
        "pass:correct horse",
        "-out",
        "theirs.key",
    ]);
    let theirs = KeyFile::read(&path("theirs.key")).unwrap();
    assert!(matches!(theirs.public(), Err(KeyFileError::Unlabelled { .. })));
    let theirs = theirs.unlock(Some(&phrase("correct horse"))).unwrap().key();
    assert_eq!(public(&["-in", "theirs.key", "-passin", "pass:correct horse"]), theirs.to_string());
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.key");
    create(&path, "root").unwrap();
    for mode in [0o640, 0o604, 0o644, 0o660] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::Open { .. })), "{mode:o}");
        assert!(load_public(&path.display().to_string()).is_err());
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    load(&path).unwrap();
}

#[test]
fn bad_key_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.key");
    let public = create(&path, "root").unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let check = |text: &str, expect: &str| {
        std::fs::write(&path, text).unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains(expect), "{text}: {error}");
    };
    check("", "there is no '-----BEGIN");
    check(&good.replace("PRIVATE KEY", "PUBLIC KEY"), "no PKCS#8 private key");
    check(&good.replace("MC4C", "MC5C"), "no PKCS#8 private key");
    check(&good.replace("MC4C", "M!4C"), "damaged");
    check(&good.replace(&public.to_string(), "zz"), "no usable public key");
    let other = SecretKey::from_seed([1; 32]).key();
    check(&good.replace(&public.to_string(), &other.to_string()), "do not belong together");
    assert!(matches!(load_public("no-such-file"), Err(KeyFileError::Unknown(_))));
}

#[test]
fn files_of_the_first_version_are_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.key");
    let key = SecretKey::from_seed([2; 32]).key();
    let good = format!("muster-key 1\nrole online\npublic {key}\nsecret {}\n", "02".repeat(32));
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write(&good);
    assert_eq!(load(&path).unwrap().key(), key);
    for bad in [
        good.replace("secret ", "secret 00"),
        good.lines().take(3).collect::<Vec<_>>().join("\n"),
        good.replace("muster-key 1", "muster-key 12"),
        good.replace(&"02".repeat(32), &"03".repeat(32)),
    ] {
        write(&bad);
        assert!(load(&path).is_err(), "{bad}");
    }
}
