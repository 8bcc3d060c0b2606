//! The publisher's ceremonies with the real program, offline: keys, roots, releases, and who must sign.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use muster_protocol::trust::{Files, TrustedSet};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::desk::{Desk, NOWHERE};
use crate::publisher::Bundle;

async fn openssl(desk: &Desk, args: &[&str]) -> Vec<u8> {
    let output = tokio::process::Command::new("openssl").args(args).current_dir(desk.path("")).output().await;
    let output = output.unwrap();
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn keys_are_encrypted_unless_somebody_says_otherwise() {
    let desk = Desk::new(NOWHERE);
    desk.refused(&["key", "new", "ada"], "--no-passphrase").await;
    let phrase = desk.secret_file("phrase", "correct horse\n");
    let public = desk.ok(&["key", "new", "ada", "--role", "root", "--passphrase-file", &phrase]).await;
    let shown: Value = serde_json::from_str(&desk.ok(&["-o", "json", "key", "show", "ada"]).await).unwrap();
    assert_eq!(shown["public"], public.trim());
    assert_eq!((&shown["role"], &shown["encrypted"]), (&"root".into(), &true.into()));
    openssl(&desk, &["pkey", "-in", "keys/ada.key", "-passin", "pass:correct horse", "-noout"]).await;

    desk.ok(&["key", "new", "builder", "--role", "builder", "--no-passphrase"]).await;
    let listed = desk.ok(&["key", "list"]).await;
    assert!(listed.contains("passphrase") && listed.contains("file mode"), "{listed}");

    let taken = ["key", "new", "ada", "--no-passphrase"];
    desk.refused(&taken, "a key is never overwritten").await;
    desk.refused(&["key", "new", "../x", "--no-passphrase"], "no name for a key").await;
    desk.refused(&["key", "show", "nobody"], "'nobody' is no").await;
    let short = desk.secret_file("short", "short\n");
    desk.refused(&["key", "new", "b", "--passphrase-file", &short], "fewer than 8 characters").await;
    assert!(!desk.path("keys/b.key").exists());
    std::fs::write(desk.path("open"), "correct horse").unwrap();
    let open = desk.text("open");
    desk.refused(&["key", "new", "b", "--passphrase-file", &open], "may be read by others").await;
}

#[tokio::test]
async fn a_terminal_is_asked_twice() {
    let desk = Desk::new(NOWHERE);
    let ask = async |answers: [&str; 2]| {
        let line =
            format!("{} --workspace {} key new ada", env!("CARGO_BIN_EXE_muster"), desk.path("").display());
        let mut child = tokio::process::Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env_remove("MUSTER_PASSPHRASE_FILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut seen = String::new();
        for (question, answer) in ["New passphrase for ada: ", "The same again: "].iter().zip(answers) {
            while !seen.contains(question) {
                let mut bytes = [0; 1024];
                let count = screen.read(&mut bytes).await.unwrap();
                assert!(count > 0, "{seen}");
                seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            keyboard.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
        }
        let mut rest = Vec::new();
        screen.read_to_end(&mut rest).await.unwrap();
        seen.push_str(&String::from_utf8_lossy(&rest));
        (child.wait().await.unwrap().success(), seen)
    };
    let within = |answers| tokio::time::timeout(Duration::from_mins(1), ask(answers));
    let (ok, screen) = within(["correct horse", "correct house"]).await.unwrap();
    assert!(!ok && screen.contains("the two passphrases differ"), "{screen}");
    let (ok, screen) = within(["correct horse", "correct horse"]).await.unwrap();
    assert!(ok, "{screen}");
    let phrase = desk.secret_file("phrase", "correct horse\n");
    desk.ok(&["key", "new", "online", "--no-passphrase"]).await;
    desk.ok(&["key", "new", "order", "--no-passphrase"]).await;
    let keys = ["--root-key", "ada", "--targets-key", "ada", "--online", "online", "--order", "order"];
    desk.ok(&[&["root", "new"], keys.as_slice()].concat()).await;
    let other = desk.secret_file("other", "battery staple\n");
    let sign = ["root", "sign", "--key", "ada", "--passphrase-file"];
    desk.refused(&[sign.as_slice(), &[&other]].concat(), "the passphrase does not open").await;
    desk.refused(&sign[..4], "there is no terminal to ask for its passphrase").await;
    let env = [("MUSTER_PASSPHRASE_FILE", Path::new(&phrase))];
    let (ok, _, said) = desk.run(&sign[..4], &env).await;
    assert!(ok, "{said}");
}

#[tokio::test]
async fn a_hospitals_root_is_signed_by_two_of_three_on_their_own_machines() {
    let ada = Desk::with_keys(NOWHERE, &["ada", "release", "online", "order", "online-2"]).await;
    let ben = Desk::with_keys(NOWHERE, &["ben"]).await;
    let eve = Desk::with_keys(NOWHERE, &["eve"]).await;
    let dan = Desk::with_keys(NOWHERE, &["dan"]).await;
    let (ben_pub, eve_pub, dan_pub) = (ben.public("ben"), eve.public("eve"), dan.public("dan"));
    let roots = ["--root-key", "ada", "--root-key", &ben_pub, "--root-key", &eve_pub];
    let rest = ["--targets-key", "release", "--online", "online", "--order", "order"];
    let new = |more: &[&'static str]| [&["root", "new"], roots.as_slice(), rest.as_slice(), more].concat();
    ada.refused(&new(&["--root-threshold", "4"]), "can never reach its threshold of 4").await;
    ada.refused(&new(&["--root-key", "ada"]), "given twice for root").await;
    ada.refused(&new(&["--root-key", "online"]), "one key for both root and online").await;
    ada.refused(&new(&["--root-key", "nobody"]), "'nobody' is neither a public key").await;
    ada.refused(&["root", "sign", "--key", "ada"], "there is no draft of a root").await;
    let draft = ada.ok(&new(&["--root-threshold", "2"])).await.trim().to_owned();
    ada.refused(&new(&[]), "exists already").await;

    let (_, said) = ada.both(&["root", "sign", "--key", "ada"]).await;
    assert!(said.contains("1 of 2 keys of root 1, 1 more of ") && said.contains("ben ("), "{said}");
    ada.refused(&["root", "sign", "--key", "release"], "is not asked for 1.root.json").await;
    // Carried to Ben and back.
    std::fs::copy(&draft, ben.path("root.json")).unwrap();
    let carried = ben.text("root.json");
    ben.ok(&["root", "sign", "--file", &carried, "--key", "ben"]).await;
    let altered = std::fs::read_to_string(&carried).unwrap().replace("\"version\": 1", "\"version\": 2");
    std::fs::write(ada.path("altered.json"), altered.replace("1.root.json", "2.root.json")).unwrap();
    ada.refused(&["root", "collect", &ada.text("altered.json")], "is not a copy of the draft").await;
    std::fs::write(ada.path("garbled.json"), "{").unwrap();
    ada.refused(&["root", "collect", &ada.text("garbled.json")], "is no draft").await;
    let finished = ada.ok(&["root", "collect", &carried]).await;
    assert!(finished.trim().ends_with("metadata/1.root.json"), "{finished}");
    TrustedSet::from_root(&std::fs::read(finished.trim()).unwrap()).unwrap();
    let shown = ada.ok(&["root", "show"]).await;
    assert!(shown.contains("2 of ") && shown.contains("eve ("), "{shown}");

    // Eve leaves and Dan comes; the server's key changes too. Both roots' key holders must agree.
    let shown: Value = serde_json::from_str(&eve.ok(&["-o", "json", "key", "show", "eve"]).await).unwrap();
    let eve_id = &shown["key_id"].as_str().unwrap()[..12];
    let edit = ["root", "edit", "--add-root-key", &dan_pub, "--online", "online-2", "--remove-root-key"];
    ada.refused(&[edit.as_slice(), &["release"]].concat(), "is no root key").await;
    ada.refused(&["root", "edit", "--add-root-key", "ada"], "is a root key already").await;
    let draft = ada.ok(&[edit.as_slice(), &[eve_id]].concat()).await.trim().to_owned();
    let (_, said) = ada.both(&["root", "sign", "--key", "ada"]).await;
    assert!(
        said.contains("1 of 2 keys of root 1, 1 more of ") && said.contains("root: remove key"),
        "{said}"
    );
    std::fs::copy(&draft, dan.path("root.json")).unwrap();
    dan.ok(&["root", "sign", "--file", &dan.text("root.json"), "--key", "dan"]).await;
    let (_, said) = ada.both(&["root", "collect", &dan.text("root.json")]).await;
    assert!(said.contains("2 of 2 keys of root 2") && said.contains("not finished yet"), "{said}");
    std::fs::copy(&draft, ben.path("root.json")).unwrap();
    ben.ok(&["root", "sign", "--file", &ben.text("root.json"), "--key", "ben"]).await;
    ada.ok(&["root", "collect", &ben.text("root.json")]).await;
    let root = |version: u32| std::fs::read(ada.path(&format!("metadata/{version}.root.json"))).unwrap();
    let mut device = TrustedSet::from_root(&root(1)).unwrap();
    let roots = device.update_roots(&Files::from([("2.root.json".to_owned(), root(2))]));
    assert!(roots.refused.is_none() && device.versions().root == 2);
}

#[tokio::test]
async fn tls_roots_are_authorities_and_nothing_else() {
    let desk = Desk::with_keys(NOWHERE, &["ada", "release", "online", "order"]).await;
    let request = |name: &'static str, ca: &'static str| {
        [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "key.pem",
        ]
        .into_iter()
        .chain(["-out", name, "-days", "30", "-subj", "/CN=Hospital CA", "-addext", ca])
        .collect::<Vec<_>>()
    };
    openssl(&desk, &request("ca.pem", "basicConstraints=critical,CA:TRUE")).await;
    let secret =
        [std::fs::read(desk.path("ca.pem")).unwrap(), std::fs::read(desk.path("key.pem")).unwrap()].concat();
    std::fs::write(desk.path("secret.pem"), secret).unwrap();
    openssl(&desk, &request("leaf.pem", "basicConstraints=critical,CA:FALSE")).await;
    let keys = ["--root-key", "ada", "--targets-key", "release", "--online", "online", "--order", "order"];
    let new = [&["root", "new"], keys.as_slice(), &["--tls-root"]].concat();
    for (file, expect) in [
        ("secret.pem", "something beside certificates"),
        ("leaf.pem", "is no authority"),
        ("keys/ada.pub", "has no '-----BEGIN CERTIFICATE"),
        ("absent.pem", "cannot read"),
    ] {
        desk.refused(&[new.as_slice(), &[&desk.text(file)]].concat(), expect).await;
    }
    desk.ok(&[new.as_slice(), &[&desk.text("ca.pem")]].concat()).await;
    desk.ok(&["root", "sign", "--key", "ada"]).await;
    let shown: Value = serde_json::from_str(&desk.ok(&["-o", "json", "root", "show"]).await).unwrap();
    assert_eq!(shown["tls_roots"][0]["subject"], "CN=Hospital CA");
    let fingerprint = shown["tls_roots"][0]["fingerprint"].as_str().unwrap();
    desk.refused(&["root", "edit", "--add-tls-root", &desk.text("ca.pem")], "has this TLS root already")
        .await;
    // As a server writes them: its authority of now, and the next one.
    openssl(&desk, &request("next.pem", "basicConstraints=critical,CA:TRUE")).await;
    let both = ["ca.pem", "next.pem"].map(|name| std::fs::read(desk.path(name)).unwrap()).concat();
    std::fs::write(desk.path("both.pem"), both).unwrap();
    desk.ok(&["root", "edit", "--add-tls-root", &desk.text("both.pem")]).await;
    desk.ok(&["root", "sign", "--key", "ada"]).await;
    let roots = |shown: &str| serde_json::from_str::<Value>(shown).unwrap()["tls_roots"].clone();
    assert_eq!(roots(&desk.ok(&["-o", "json", "root", "show"]).await).as_array().map(Vec::len), Some(2));
    desk.ok(&["root", "edit", "--remove-tls-root", fingerprint]).await;
    desk.ok(&["root", "sign", "--key", "ada"]).await;
    let left = roots(&desk.ok(&["-o", "json", "root", "show"]).await);
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    assert_ne!(left[0]["fingerprint"], fingerprint);
}

#[tokio::test]
async fn a_program_signs_in_place_of_a_key_file() {
    let desk = Desk::with_keys(NOWHERE, &["online", "order"]).await;
    openssl(&desk, &["genpkey", "-algorithm", "ed25519", "-out", "token.pem"]).await;
    let der = openssl(&desk, &["pkey", "-in", "token.pem", "-pubout", "-outform", "DER"]).await;
    let public = hex::encode(&der[der.len() - 32..]);
    std::fs::write(desk.path("token.pub"), &public).unwrap();
    let (token, program) = (desk.text("token.pub"), desk.path("sign.sh"));
    let script = format!(
        "set -eu\ncat > {0}/message\nopenssl pkeyutl -sign -rawin -inkey {0}/token.pem -in {0}/message | \
         od -An -v -tx1 | tr -d ' \\n'\n",
        desk.path("").display()
    );
    std::fs::write(&program, script).unwrap();
    let program = format!("sh {}", program.display());
    let keys = ["--root-key", &token, "--targets-key", &token, "--online", "online", "--order", "order"];
    desk.ok(&[&["root", "new"], keys.as_slice()].concat()).await;
    let sign = |command: &'static str| ["root", "sign", "--sign-with", command, "--public"];
    desk.refused(&[sign("exit 7").as_slice(), &[&token]].concat(), "exit status: 7").await;
    desk.refused(&[sign("echo no token >&2; false").as_slice(), &[&token]].concat(), "it says: no token")
        .await;
    let other = desk.public("online");
    desk.refused(&["root", "sign", "--sign-with", &program, "--public", &other], "is not asked for").await;
    desk.ok(&["root", "sign", "--sign-with", &program, "--public", &token]).await;
    let publish = ["release", "publish", "--offline", "--sign-with", &program, "--public", &token];
    let path = desk.ok(&publish).await;
    assert!(path.trim().ends_with("metadata/1.targets.json"), "{path}");
    let root = TrustedSet::from_root(&std::fs::read(desk.path("metadata/1.root.json")).unwrap()).unwrap();
    let bytes = std::fs::read(path.trim()).unwrap();
    let envelope = muster_protocol::trust::Envelope::parse(&bytes).unwrap();
    assert!(root.count(muster_protocol::trust::Role::Targets, &envelope).met());
}

#[tokio::test]
async fn a_release_is_edited_read_and_signed_by_two() {
    let desk = Desk::with_keys(NOWHERE, &["ada", "a", "online", "order", "builder"]).await;
    let ben = Desk::with_keys(NOWHERE, &["b"]).await;
    let b_pub = ben.public("b");
    let root = ["root", "new", "--root-key", "ada", "--targets-key", "a", "--targets-key", &b_pub];
    let online = [
        "--targets-threshold",
        "2",
        "--online",
        "online",
        "--order",
        "order",
        "--delegate",
        "er-beds=builder",
    ];
    desk.ok(&[root.as_slice(), &online].concat()).await;
    desk.refused(&["release", "publish", "--key", "a", "--offline"], "make and sign a root first").await;
    desk.ok(&["root", "sign", "--key", "ada"]).await;

    let bundles = ["1", "2", "3"].map(|v| Bundle::make(&format!("bundles/er-beds/{v}.json"), v.as_bytes()));
    for bundle in &bundles {
        desk.ok(&["bundle", "add", &desk.bundle(bundle), "--offline"]).await;
    }
    let other = Bundle::make("bundles/er-beds/3.json", b"another model under the same name");
    desk.refused(&["bundle", "add", &desk.bundle(&other), "--offline"], "names another one already").await;
    let gpu = ["--hardware", "x86_64-openvino-gpu", "--min-agent", "0.3.0"];
    let folder = desk.bundle(&bundles[2]);
    desk.ok(&[&["bundle", "add", &folder, "--offline"], gpu.as_slice()].concat()).await;
    let shown: Value = serde_json::from_str(&desk.ok(&["-o", "json", "release", "show"]).await).unwrap();
    assert_eq!(shown["items"][0]["hardware"], serde_json::json!(["x86_64-cpu"]));
    assert_eq!(shown["items"][2]["hardware"], serde_json::json!(["x86_64-openvino-gpu"]));
    assert_eq!(shown["items"][2]["min_agent"], "0.3.0");

    // One of two is nothing, and leaves nothing.
    desk.refused(&["release", "publish", "--key", "a", "--offline"], "1 of 2 keys of targets in root 1")
        .await;
    assert!(
        !desk.path("draft/targets.signing.json").exists() && !desk.path("metadata/targets.json").exists()
    );
    let draft = desk.ok(&["release", "sign", "--key", "a"]).await.trim().to_owned();
    desk.refused(&["release", "yank", "bundles/er-beds/1.json"], "is being signed").await;
    std::fs::copy(&draft, ben.path("draft.json")).unwrap();
    let carried = ben.text("draft.json");
    let (_, said) = ben.both(&["release", "sign", "--file", &carried, "--key", "b"]).await;
    assert!(said.contains("add bundles/er-beds/1.json for x86_64-cpu"), "{said}");
    let finished = desk.ok(&["release", "collect", &carried]).await;
    assert!(finished.trim().ends_with("metadata/1.targets.json"), "{finished}");
    assert!(!desk.path("draft/targets.json").exists() && !desk.path("draft/targets.signing.json").exists());

    desk.refused(&["release", "yank", "bundles/er-beds/9.json"], "is not in the catalogue").await;
    desk.refused(&["release", "reinstate", "bundles/er-beds/1.json"], "is not revoked").await;
    let revoke =
        |path: &'static str| ["release", "revoke", path, "--reason", "miscalibrated", "--action", "stop"];
    desk.refused(&revoke("bundles/unheard-of/1.json"), "is neither in the catalogue nor delegated").await;
    let (_, said) = desk.both(&revoke("bundles/er-beds/1.json")).await;
    assert!(said.contains("Boxes that run it stop answering"), "{said}");
    desk.ok(&revoke("bundles/er-beds/auto/7.json")).await;
    desk.refused(&["bundle", "add", &desk.bundle(&bundles[0]), "--offline"], "is revoked; take that back")
        .await;
    let diff = desk.ok(&["release", "diff"]).await;
    assert!(
        diff.contains("revoke bundles/er-beds/1.json: miscalibrated") && !diff.contains("yank"),
        "{diff}"
    );
    desk.ok(&["release", "reinstate", "bundles/er-beds/auto/7.json"]).await;
    // Two are left of one model; the later one by name stays.
    let pruned = desk.ok(&["release", "prune", "--keep", "1"]).await;
    assert_eq!(pruned, "bundles/er-beds/2.json\n");
    let (_, said) = desk.both(&["release", "prune", "--keep", "1"]).await;
    assert!(said.contains("nothing was changed"), "{said}");
    desk.ok(&["delegation", "add", "vendor", "--key", "builder", "--path", "bundles/radiology/*"]).await;
    let listed = desk.ok(&["delegation", "list"]).await;
    assert!(listed.contains("auto-er-beds") && listed.contains("bundles/radiology/*"), "{listed}");
    let bad = ["delegation", "add", "vendor", "--key", "builder", "--path", "models/*"];
    desk.refused(&bad, "matches no bundle").await;
    let bad = ["delegation", "add", "x", "--key", "a", "--threshold", "2", "--path", "bundles/x/*"];
    desk.refused(&bad, "can never reach its threshold of 2").await;
    desk.refused(&["delegation", "remove", "nobody"], "there is no delegation 'nobody'").await;
    desk.ok(&["delegation", "remove", "vendor"]).await;
    desk.ok(&["release", "discard"]).await;
    assert!(desk.ok(&["release", "diff"]).await.is_empty());
}
