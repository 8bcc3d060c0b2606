//! Somebody with a shell on the server changes its log; the command line finds it from outside.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;

use crate::server::{Server, config};

struct Scene {
    data: TempDir,
    server: Server,
}

impl Scene {
    /// A server with a handful of entries that people made.
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path()).await;
        let scene = Self { data, server };
        for reason in ["flu", "mri", "fire drill", "audit day"] {
            scene.well(&["freeze", "--reason", reason]).await;
            scene.well(&["thaw"]).await;
        }
        scene
    }

    fn path(&self, name: &str) -> String {
        self.data.path().join(name).display().to_string()
    }

    async fn muster(&self, args: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster"));
        command.args(["--server", &self.server.fleet.addresses.http, "--as", "nadia"]).args(args);
        command.args(["--workspace", &self.path("workspace")]);
        command.env_remove("MUSTER_SERVER").stdin(std::process::Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(Duration::from_mins(1), command.output()).await.unwrap().unwrap()
    }

    async fn well(&self, args: &[&str]) -> String {
        let output = self.muster(args).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What verify holds against the log.
    async fn found(&self, args: &[&str]) -> String {
        let output = self.muster(&[&["audit", "verify"], args].concat()).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{text}");
        text
    }

    async fn tamper(&self, sql: &'static str) {
        change(&self.data.path().join("fleet.db"), sql).await;
    }
}

async fn change(database: &Path, sql: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(database).connect().await.unwrap();
    let changed = sqlx::query(sql).execute(&mut connection).await.unwrap().rows_affected();
    assert!(changed > 0, "{sql}");
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_changed_entry_is_named() {
    let scene = Scene::start().await;
    assert!(scene.well(&["audit", "verify"]).await.contains("8 entries hold"));
    scene.tamper("update log set sentence = 'nothing happened' where id = 3").await;
    assert!(scene.found(&[]).await.contains("entry 3 is not what was written"));
    scene.server.stop().await;
}

#[tokio::test]
async fn a_removed_entry_is_missed_in_the_middle_and_at_the_end() {
    let scene = Scene::start().await;
    scene.well(&["audit", "verify"]).await;
    scene.tamper("delete from log where id = 8").await;
    assert!(scene.found(&[]).await.contains("the log ends at entry 7, and entry 8 was there"));
    scene.tamper("delete from log where id = 4").await;
    assert!(scene.found(&[]).await.contains("entry 4 is missing"));
    scene.server.stop().await;
}

#[tokio::test]
async fn entries_that_changed_places_are_found() {
    let scene = Scene::start().await;
    scene.tamper("update log set id = case id when 2 then -5 else -2 end where id in (2, 5)").await;
    scene.tamper("update log set id = -id where id < 0").await;
    let found = scene.found(&[]).await;
    assert!(found.contains("entry 2 is not") && found.contains("entry 5 is not"), "{found}");
    scene.server.stop().await;
}

#[tokio::test]
async fn a_log_that_was_written_anew_differs_from_what_was_kept_elsewhere() {
    let scene = Scene::start().await;
    let newest = scene.well(&["audit", "verify"]).await;
    let newest = newest.trim().rsplit(' ').next().unwrap();
    // All links gone: the next start makes a new chain of what is there.
    scene.tamper("update log set link = null, sentence = 'x'").await;
    let Scene { data, server } = scene;
    server.stop().await;
    let scene = Scene { server: Server::start_with(config(data.path())).await, data };
    // It is another address by now, so that nothing kept under the old one helps.
    scene.well(&["audit", "verify"]).await;
    assert!(scene.found(&["--seen", newest]).await.contains("the log was written anew"));
    scene.server.stop().await;
}

#[tokio::test]
async fn a_file_is_checked_as_the_server_is() {
    let scene = Scene::start().await;
    let file = scene.path("log.jsonl");
    scene.well(&["audit", "export", "--out", &file]).await;
    assert!(scene.well(&["audit", "verify", "--file", &file]).await.contains("8 entries hold"));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("fire drill", "fire")).unwrap();
    assert!(scene.found(&["--file", &file]).await.contains("is not what was written"));
    std::fs::write(&file, "{}\n").unwrap();
    let wrong = scene.muster(&["audit", "verify", "--file", &file]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no log entry"));
    scene.server.stop().await;
}

#[tokio::test]
async fn a_log_of_before_is_linked_when_the_server_starts() {
    let scene = Scene::start().await;
    scene.tamper("update log set link = null").await;
    let Scene { data, server } = scene;
    server.stop().await;
    let scene = Scene { server: Server::start_with(config(data.path())).await, data };
    assert!(scene.well(&["audit", "verify"]).await.contains("entries hold"));
    scene.well(&["freeze", "--reason", "after"]).await;
    assert!(scene.well(&["audit", "verify"]).await.contains("entries hold"));
    scene.server.stop().await;
}
