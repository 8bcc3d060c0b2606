//! Releases on their way to a real server: publishers that meet, a vendor of its own, a bundle revoked, a root replaced.

use std::path::Path;

use muster_fleet::client::Client;
use muster_fleet::publisher::keys::load_public;
use muster_fleet::serve;
use muster_protocol::trust::Role;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::publisher::Bundle;
use crate::server::{Server, config};

/// A publisher whose root names the server's keys, signed, with nothing published yet.
pub(crate) async fn office(data: &Path, server: &Server) -> Desk {
    let desk = Desk::with_keys(&server.fleet.addresses.http, &["ada", "release"]).await;
    let key = |name: &str| data.join("keys").join(name).display().to_string();
    let (online, order) = (key("online.pub"), key("order.pub"));
    let authority = data.join("pki/server-ca.pem").display().to_string();
    let keys = ["--root-key", "ada", "--targets-key", "release", "--online", &online, "--order", &order];
    desk.ok(&[&["root", "new", "--tls-root", &authority], keys.as_slice()].concat()).await;
    desk.ok(&["root", "sign", "--key", "ada"]).await;
    desk
}

/// Adds a bundle and publishes it.
pub(crate) async fn release(desk: &Desk, bundle: &Bundle) {
    desk.ok(&["bundle", "add", &desk.bundle(bundle)]).await;
    desk.ok(&["release", "publish", "--key", "release"]).await;
}

async fn get(server: &Server, path: &str) -> Value {
    client(server).get(path, &[]).await.unwrap()
}

fn client(server: &Server) -> Client {
    Client::new(&server.fleet.addresses.http).unwrap()
}

#[tokio::test]
async fn two_publishers_do_not_overwrite_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let ada = office(dir.path(), &server).await;
    release(&ada, &Bundle::make("bundles/er-beds/1.json", b"one")).await;
    // Ben has the targets key too, and begins with the root that Ada gave him.
    let ben = Desk::new(&server.fleet.addresses.http);
    ben.refused(&["release", "pull"], "make and sign a root first").await;
    let root = ada.text("metadata/1.root.json");
    ben.ok(&["release", "pull", "--root", &root]).await;
    assert!(ben.ok(&["release", "show"]).await.contains("bundles/er-beds/1.json"));
    let key = ada.text("keys/release.key");
    ben.ok(&["bundle", "add", &ben.bundle(&Bundle::make("bundles/er-beds/2.json", b"two"))]).await;
    ben.ok(&["release", "publish", "--key", &key]).await;

    ada.ok(&["bundle", "add", &ada.bundle(&Bundle::make("bundles/er-beds/3.json", b"three"))]).await;
    let publish = ["release", "publish", "--key", "release"];
    ada.refused(&publish, "somebody published meanwhile").await;
    ada.ok(&["release", "pull"]).await;
    ada.refused(&publish, "began at version 1, and version 2 is published since").await;
    ada.ok(&["release", "discard"]).await;
    release(&ada, &Bundle::make("bundles/er-beds/3.json", b"three")).await;
    let listed = get(&server, "/api/v1/bundles").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 3, "{listed}");
    // A root that has nothing to do with what is here.
    let stranger = Desk::with_keys(&server.fleet.addresses.http, &["ada", "r", "o", "p"]).await;
    let keys = ["--root-key", "ada", "--targets-key", "r", "--online", "o", "--order", "p"];
    stranger.ok(&[&["root", "new"], keys.as_slice()].concat()).await;
    stranger.ok(&["root", "sign", "--key", "ada"]).await;
    stranger.refused(&["release", "pull"], "").await;
    stranger.refused(&["release", "pull", "--root", &root], "exists twice").await;
    server.stop().await;
}

#[tokio::test]
async fn a_vendor_publishes_from_its_own_desk_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let ada = office(dir.path(), &server).await;
    let vendor = Desk::with_keys(&server.fleet.addresses.http, &["vendor"]).await;
    let key = vendor.public("vendor");
    let add = ["delegation", "add", "radiology", "--key", &key, "--path", "bundles/radiology/*"];
    ada.ok(&add).await;
    ada.ok(&["release", "publish", "--key", "release"]).await;
    vendor.ok(&["release", "pull", "--root", &ada.text("metadata/1.root.json")]).await;
    let own = Bundle::make("bundles/radiology/1.json", b"theirs");
    vendor.ok(&["bundle", "add", &vendor.bundle(&own), "--role", "radiology"]).await;
    vendor.ok(&["release", "publish", "--role", "radiology", "--key", "vendor"]).await;
    let trusted = server.fleet.intake.trusted().await.unwrap().unwrap();
    assert!(trusted.lookup(&own.path, server.fleet.clocks.trust.now()).is_ok());

    let foreign = Bundle::make("bundles/er-beds/1.json", b"not theirs");
    vendor.ok(&["bundle", "add", &vendor.bundle(&foreign), "--role", "radiology"]).await;
    let publish = ["release", "publish", "--role", "radiology", "--key", "vendor"];
    vendor.refused(&publish, "bundles/er-beds/1.json is not delegated to radiology").await;
    vendor.ok(&["release", "discard", "--role", "radiology"]).await;
    let other = ["release", "publish", "--role", "cardiology", "--key", "vendor"];
    vendor.refused(&other, "delegates nothing to 'cardiology'").await;
    vendor
        .refused(&["release", "publish", "--role", "Root", "--key", "vendor"], "no name of a delegated role")
        .await;
    // The publisher may revoke what the vendor lists, and end it all.
    let revoke =
        ["release", "revoke", "bundles/radiology/1.json", "--reason", "withdrawn", "--action", "retain"];
    ada.ok(&revoke).await;
    ada.ok(&["release", "publish", "--key", "release"]).await;
    let listed = get(&server, "/api/v1/bundles").await;
    assert_eq!(listed["items"][0]["catalogued"], false);
    assert_eq!(listed["items"][0]["revoked"], json!({"reason": "withdrawn", "action": "retain"}));
    ada.ok(&["release", "reinstate", "bundles/radiology/1.json"]).await;
    ada.ok(&["release", "publish", "--key", "release"]).await;
    let listed = get(&server, "/api/v1/bundles").await;
    assert_eq!(
        (&listed["items"][0]["catalogued"], &listed["items"][0]["revoked"]),
        (&json!(true), &Value::Null)
    );
    ada.ok(&["delegation", "remove", "radiology"]).await;
    ada.ok(&["release", "publish", "--key", "release"]).await;
    assert_eq!(get(&server, "/api/v1/bundles").await["items"][0]["catalogued"], false);
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_bundle_is_shown_with_its_reason_and_never_rolled_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let ada = office(dir.path(), &server).await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"one");
    release(&ada, &bundle).await;
    let reason = "miscalibrated on portable films";
    ada.ok(&["release", "revoke", "bundles/er-beds/1.json", "--reason", reason, "--action", "stop"]).await;
    ada.ok(&["release", "publish", "--key", "release"]).await;
    let shown = get(&server, &format!("/api/v1/bundles/{}", bundle.sha256())).await;
    assert_eq!(shown["revoked"], json!({"reason": reason, "action": "stop"}));
    assert_eq!(shown["catalogued"], false);
    let log = get(&server, "/api/v1/log").await;
    let told =
        log["items"].as_array().unwrap().iter().find(|entry| entry["kind"] == "bundle.revoked").unwrap();
    let sentence = told["sentence"].as_str().unwrap();
    assert!(sentence.contains(reason) && sentence.contains("boxes that run it stop"), "{sentence}");
    for name in ["bundles/er-beds/1.json".to_owned(), bundle.sha256().to_string()] {
        let create = ["rollout", "create", "--model", "er-beds", "--reason", "x", "--bundle", &name];
        ada.refused(&create, &format!("is revoked: {reason}")).await;
    }
    let gone = client(&server).get(&format!("/tuf/blobs/{}", bundle.sha256()), &[]).await.unwrap_err();
    assert_eq!(gone.status(), Some(404), "what is revoked is not handed out: {gone}");
    server.stop().await;
}

#[tokio::test]
async fn the_tuf_address_has_what_is_published_now_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let ada = office(dir.path(), &server).await;
    let (one, two) =
        (Bundle::make("bundles/er-beds/1.json", b"1"), Bundle::make("bundles/er-beds/2.json", b"2"));
    release(&ada, &one).await;
    ada.ok(&["release", "yank", "bundles/er-beds/1.json"]).await;
    release(&ada, &two).await;
    let there = async |path: &str| match client(&server).get(&format!("/tuf/{path}"), &[]).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.status(), Some(404), "{path}: {error}");
            false
        }
    };
    let timestamp = get(&server, "/tuf/metadata/timestamp.json").await;
    let snapshot = &timestamp["signed"]["meta"]["snapshot.json"]["version"];
    for (path, expect) in [
        ("metadata/1.root.json".to_owned(), true),
        (format!("metadata/{snapshot}.snapshot.json"), true),
        ("metadata/2.targets.json".to_owned(), true),
        ("metadata/1.targets.json".to_owned(), false),
        ("metadata/targets.json".to_owned(), false),
        ("metadata/2.root.json".to_owned(), false),
        ("metadata/1.timestamp.json".to_owned(), false),
        (format!("targets/bundles/er-beds/{}.2.json", two.sha256()), true),
        (format!("targets/bundles/er-beds/{}.1.json", one.sha256()), false),
        (format!("targets/bundles/other/{}.2.json", two.sha256()), false),
        ("targets/bundles/er-beds/2.json".to_owned(), false),
        ("targets/..%2f..%2fetc%2fpasswd".to_owned(), false),
        (format!("blobs/{}", one.sha256()), false),
    ] {
        assert_eq!(there(&path).await, expect, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_servers_keys_are_replaced_by_the_next_root() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let ada = office(dir.path(), &server).await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"one");
    release(&ada, &bundle).await;
    server.stop().await;
    // The machine was broken into. New keys are made at the next start; until a root names them nothing is signed.
    for name in ["online", "order"] {
        std::fs::remove_file(dir.path().join("keys").join(format!("{name}.key"))).unwrap();
        std::fs::remove_file(dir.path().join("keys").join(format!("{name}.pub"))).unwrap();
    }
    let server = Server::start(dir.path()).await;
    let ada = ada.moved_to(&server.fleet.addresses.http);
    let key = |name: &str| dir.path().join("keys").join(name).display().to_string();
    let (online, order) = (key("online.pub"), key("order.pub"));
    ada.ok(&["root", "edit", "--online", &online, "--order", &order]).await;
    ada.ok(&["root", "sign", "--key", "ada"]).await;
    ada.ok(&["release", "push"]).await;
    let trusted = server.fleet.intake.trusted().await.unwrap().unwrap();
    assert_eq!(trusted.versions().root, 2);
    assert!(trusted.lookup(&bundle.path, server.fleet.clocks.trust.now()).is_ok());
    release(&ada, &Bundle::make("bundles/er-beds/2.json", b"two")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_release_key_is_replaced_by_the_next_root() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let ada = office(dir.path(), &server).await;
    let vendor = Desk::with_keys(&server.fleet.addresses.http, &["vendor"]).await;
    let key = vendor.public("vendor");
    ada.ok(&["delegation", "add", "radiology", "--key", &key, "--path", "bundles/radiology/*"]).await;
    let own = Bundle::make("bundles/er-beds/1.json", b"one");
    release(&ada, &own).await;
    vendor.ok(&["release", "pull", "--root", &ada.text("metadata/1.root.json")]).await;
    let theirs = Bundle::make("bundles/radiology/1.json", b"theirs");
    vendor.ok(&["bundle", "add", &vendor.bundle(&theirs), "--role", "radiology"]).await;
    vendor.ok(&["release", "publish", "--role", "radiology", "--key", "vendor"]).await;

    ada.ok(&["key", "new", "next", "--no-passphrase"]).await;
    ada.ok(&["root", "edit", "--remove-targets-key", "release", "--add-targets-key", "next"]).await;
    ada.ok(&["root", "sign", "--key", "ada"]).await;
    ada.refused(&["release", "publish", "--key", "release"], "").await;
    ada.ok(&["release", "publish", "--key", "next"]).await;
    let check = async |server: &Server| {
        let trusted = server.fleet.intake.trusted().await.unwrap().unwrap();
        assert_eq!(trusted.versions().root, 2);
        for bundle in [&own, &theirs] {
            assert!(trusted.lookup(&bundle.path, server.fleet.clocks.trust.now()).is_ok(), "{}", bundle.path);
        }
        assert!(
            !trusted.keys(Role::Targets).contains_key(&load_public(&ada.public("release")).unwrap().key_id())
        );
    };
    check(&server).await;
    let log = get(&server, "/api/v1/log").await.to_string();
    assert!(!log.contains("yanked"), "nothing was taken out of the catalogue: {log}");
    server.stop().await;
    let server = Server::start(dir.path()).await;
    check(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_targets_key_on_the_server_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let ada = office(dir.path(), &server).await;
    ada.ok(&["release", "publish", "--key", "release"]).await;
    server.stop().await;
    for (name, role) in [("release", "targets"), ("ada", "root")] {
        std::fs::copy(ada.path(&format!("keys/{name}.key")), dir.path().join("keys/online.key")).unwrap();
        let (ready, _) = oneshot::channel();
        let error = serve::run(config(dir.path()), CancellationToken::new(), ready).await.unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        let expect = format!("online.key is a {role} key of root.json; such keys belong offline");
        assert!(why.contains(&expect) && why.contains("consider it stolen"), "{why}");
    }
}
