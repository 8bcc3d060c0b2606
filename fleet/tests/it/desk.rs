//! A publisher's desk: a folder, and the program `muster` run in it as a person would.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use crate::publisher::Bundle;

/// Nobody listens there: what runs offline must not notice.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:9";

pub(crate) struct Desk {
    folder: TempDir,
    server: String,
}

impl Desk {
    pub(crate) fn new(server: &str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: server.to_owned() }
    }

    /// Nothing on it but unencrypted keys of these names.
    pub(crate) async fn with_keys(server: &str, names: &[&str]) -> Self {
        let desk = Self::new(server);
        for name in names {
            desk.ok(&["key", "new", name, "--no-passphrase"]).await;
        }
        desk
    }

    /// The same desk, and the server at another address.
    pub(crate) fn moved_to(self, server: &str) -> Self {
        Self { server: server.to_owned(), ..self }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn public(&self, name: &str) -> String {
        self.text(&format!("keys/{name}.pub"))
    }

    /// Stdout and stderr of a command that ends well.
    pub(crate) async fn both(&self, args: &[&str]) -> (String, String) {
        let (ok, out, err) = self.run(args, &[]).await;
        assert!(ok, "muster {}: {err}", args.join(" "));
        (out, err)
    }

    /// Stdout of a command that ends well.
    pub(crate) async fn ok(&self, args: &[&str]) -> String {
        self.both(args).await.0
    }

    /// Refused, with these words on stderr.
    pub(crate) async fn refused(&self, args: &[&str], expect: &str) {
        let (ok, out, err) = self.run(args, &[]).await;
        assert!(!ok, "muster {} should have been refused: {out}", args.join(" "));
        assert!(err.contains(expect), "muster {}: {err}", args.join(" "));
    }

    pub(crate) async fn run(&self, args: &[&str], env: &[(&str, &Path)]) -> (bool, String, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster"));
        command
            .args(["--server", &self.server, "--as", "ada", "--workspace"])
            .arg(self.folder.path())
            .args(args);
        command.env_remove("MUSTER_PASSPHRASE_FILE").envs(env.iter().copied());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_mins(1), command.output()).await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// A file that only its owner may read.
    pub(crate) fn secret_file(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// The bundle as a folder, as `muster bundle build` leaves it.
    pub(crate) fn bundle(&self, bundle: &Bundle) -> String {
        let folder = self.path(&format!("bundle-{}", bundle.sha256().short()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in &bundle.files {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        std::fs::write(folder.join("manifest.json"), &bundle.manifest).unwrap();
        folder.display().to_string()
    }
}
