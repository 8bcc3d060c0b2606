//! The server's own command line on its data folder: beside a running server, and instead of one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use muster_fleet::pki::{Certificate, Pki};
use muster_protocol::ids::DeviceId;

use crate::device::Client;
use crate::publisher::Publisher;
use crate::server::Server;

/// Runs `muster-fleet …`. What it said, and whether it went well.
async fn run(data: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster-fleet"));
    command.args(arguments).arg("--data").arg(data);
    finish(command).await
}

/// Without holding up the server, which runs in this process.
async fn finish(mut command: Command) -> (bool, String) {
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

fn device() -> DeviceId {
    DeviceId::mint([1; 16])
}

#[tokio::test]
async fn an_observer_watches_with_mosquittos_own_tool() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    Publisher::begin(&server.fleet, &[]).await;
    let out = dir.path().join("ward");
    let (good, said) =
        run(dir.path(), &["observer-certificate", "ward", "--out", out.to_str().unwrap()]).await;
    assert!(good && said.contains("mosquitto_sub"), "{said}");
    let mode = std::fs::metadata(out.join("client.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let watch = async |id: &str| {
        let mut command = Command::new("mosquitto_sub");
        command.args([
            "-V",
            "5",
            "-h",
            "localhost",
            "-i",
            id,
            "-t",
            "muster/1/trust/+",
            "-C",
            "1",
            "-W",
            "10",
            "-v",
        ]);
        command.args(["-p", &server.mqtt().port.to_string()]);
        for (option, file) in [("--cafile", "ca.pem"), ("--cert", "client.pem"), ("--key", "client.key")] {
            command.arg(option).arg(out.join(file));
        }
        finish(command).await
    };
    let (good, said) = watch("o-ward").await;
    assert!(good && said.starts_with("muster/1/trust/"), "{said}");
    assert!(!watch("o-night").await.0, "another name than the certificate's");
    for wrong in ["Ward", "a/b", ""] {
        let (good, said) =
            run(dir.path(), &["observer-certificate", wrong, "--out", out.to_str().unwrap()]).await;
        assert!(!good && said.contains("is no name for a client"), "{said}");
    }
    server.stop().await;
}

#[tokio::test]
async fn authorities_are_shown_beside_a_server_and_replaced_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let (good, said) = run(data, &["ca", "show"]).await;
    assert!(!good && said.contains("start the server once"), "{said}");
    let server = Server::start(data).await;
    server.admit(&device()).await;
    let old = server.mqtt().holder(device().as_str());
    let (good, said) = run(data, &["ca", "show"]).await;
    assert!(
        good && said.contains("Muster Fleet Device CA 1") && said.contains("localhost, 127.0.0.1"),
        "{said}"
    );
    for verb in ["rotate-device", "prepare-server", "switch-server"] {
        let (good, said) = run(data, &["ca", verb]).await;
        assert!(!good && said.contains("another muster-fleet runs"), "{said}");
    }
    server.stop().await;
    let (good, said) = run(data, &["ca", "switch-server"]).await;
    assert!(!good && said.contains("prepare-server"), "{said}");
    for (verb, expect) in [
        ("rotate-device", "Device CA 2"),
        ("prepare-server", "server-ca.pem"),
        ("switch-server", "Server CA 2"),
    ] {
        let (good, said) = run(data, &["ca", verb]).await;
        assert!(good && said.contains(expect), "{said}");
    }
    let server = Server::start(data).await;
    server.admit(&device()).await;
    let door = server.mqtt();
    let new = door.holder(device().as_str());
    let issuer = |holder: &crate::device::Holder| Certificate::parse(&holder.chain[0]).unwrap().issuer;
    assert_eq!([issuer(&old), issuer(&new)], ["Muster Fleet Device CA 1", "Muster Fleet Device CA 2"]);
    for holder in [&old, &new] {
        Client::try_connect_with(&door, device().as_str(), holder, None).await.unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn a_folder_for_mosquitto_holds_everything_and_no_foreign_key() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    Server::start(data).await.stop().await;
    let out = data.join("broker");
    let (good, said) = run(
        data,
        &[
            "broker-config",
            "--out",
            out.to_str().unwrap(),
            "--listen",
            "10.0.0.7:8883",
            "--name",
            "broker.example",
        ],
    )
    .await;
    assert!(good && said.contains("README.md"), "{said}");
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let configuration = text("mosquitto.conf");
    assert!(
        configuration.contains("listener 8883 10.0.0.7\n")
            && configuration.contains("listener 8884 0.0.0.0\n")
    );
    // Whatever it names is there.
    for line in configuration.lines().filter(|line| line.contains(out.to_str().unwrap())) {
        let (_, path) = line.split_once(' ').unwrap();
        assert!(Path::new(path).is_file(), "{line}");
    }
    let pki = Pki::load(&data.join("pki")).unwrap();
    assert!(text("acl-fleet").contains(&format!("user {}\n", pki.fleet_client_name())));
    assert!(text("README.md").contains("mqtts://broker.example:8884"));
    for key in ["server.key", "fleet-client.key", "device-ca-1.key", "client-ca.key"] {
        let ours = std::fs::read_to_string(data.join("pki").join(key)).unwrap();
        assert!(
            std::fs::read_dir(&out)
                .unwrap()
                .all(|file| std::fs::read_to_string(file.unwrap().path()).unwrap() != ours)
        );
    }
    let (good, said) = run(data, &["broker-config", "--out", "/tmp/a'b"]).await;
    assert!(!good && said.contains("cannot be named"), "{said}");
}
