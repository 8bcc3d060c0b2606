//! Datasets as people use them: `muster dataset` against a real server, with files on the disk.

use std::path::{Path, PathBuf};

use muster_fleet::dataset::join::{Cell, Table};
use muster_fleet::dataset::profile::Values;
use muster_fleet::dataset::{Column, Kind, Profiler};
use muster_fleet::table::{contents, profile, write};
use serde_json::Value;
use tempfile::TempDir;

use crate::desk::Desk;
use crate::server::Server;

/// A table of `rows` rows: beds that ward by ward fill up, each hour.
pub(crate) fn beds(path: &Path, rows: u32, shift: f64) {
    let column = |name: &str, kind| Column { name: name.to_owned(), kind, stored: String::new() };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX)
    };
    let times = (0..rows).map(|row| Cell::Number(f64::from(row) * 3_600_000.0)).collect();
    let values = (0..rows).map(|_| Cell::Number(draw() * 40.0 + shift)).collect();
    let wards =
        (0..rows).map(|row| if row % 7 == 0 { Cell::Null } else { Cell::Text(format!("ward {}", row % 3)) });
    let columns = vec![
        (column("at", Kind::Time), times),
        (column("beds", Kind::Real), values),
        (column("ward", Kind::Text), wards.collect()),
    ];
    write(path, &Table { columns }).unwrap();
}

struct Scene {
    server: Server,
    desk: Desk,
    data: TempDir,
    folder: TempDir,
}

impl Scene {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path()).await;
        let desk = Desk::new(&server.fleet.addresses.http);
        Self { server, desk, data, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    async fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = ["-o", "json", "dataset"].iter().chain(args).copied().collect();
        serde_json::from_str(&self.desk.ok(&args).await).unwrap()
    }

    fn rules(&self, text: &str) -> String {
        std::fs::write(self.path("rules.toml"), text).unwrap();
        self.text("rules.toml")
    }
}

#[tokio::test]
async fn files_become_versions_that_are_looked_at_compared_and_brought_back() {
    let scene = Scene::start().await;
    std::fs::create_dir(scene.path("may")).unwrap();
    beds(&scene.path("may/a.parquet"), 400, 0.0);
    beds(&scene.path("may/b.parquet"), 600, 0.0);
    beds(&scene.path("june.parquet"), 1000, 30.0);
    let rules = scene.rules(
        "[[rules]]\nrows = { min = 1000 }\n[[rules]]\nnull_share = { column = 'ward', max = 0.2 }\n\
         [[rules]]\nrange = { column = 'beds', min = 0 }\n",
    );
    let (may, june) = (scene.text("may"), scene.text("june.parquet"));
    let add = [
        "add",
        "er-beds",
        &may,
        "--time-column",
        "at",
        "--rules",
        &rules,
        "--external",
        "lakefs:wards@4f3c2b1a",
    ];
    let dry = scene.json(&[&add[..], &["--dry-run"]].concat()).await;
    assert_eq!(scene.json(&["list"]).await["items"], serde_json::json!([]), "a dry run changes nothing");
    let one = scene.json(&add).await;
    assert_eq!((&one["sha256"], &one["number"], &one["rows"]), (&dry["sha256"], &1.into(), &1000.into()));
    assert_eq!(
        (&one["from"], &one["to"]),
        (&"1970-01-01T00:00:00.000Z".into(), &"1970-01-25T23:00:00.000Z".into())
    );
    assert_eq!(one["external"], serde_json::json!(["lakefs:wards@4f3c2b1a"]));
    assert_eq!(one["checks"].as_array().unwrap().len(), 3);
    assert_eq!(one["manifest"]["files"][1]["path"], "b.parquet");
    let again = scene.json(&add).await;
    assert_eq!(
        (&again["number"], &again["added"]),
        (&one["number"], &one["added"]),
        "the same content is one version"
    );
    let two = scene.json(&["add", "er-beds", &june, "--time-column", "at", "--note", "new monitors"]).await;
    assert_eq!(
        (&two["number"], &two["note"], &two["by"]),
        (&2.into(), &"new monitors".into(), &"ada".into())
    );
    assert_eq!(two["schema_sha256"], one["schema_sha256"]);

    assert_eq!(scene.desk.ok(&["dataset", "list", "-o", "name"]).await, "er-beds@2\n");
    assert_eq!(scene.desk.ok(&["dataset", "list", "er-beds", "-o", "name"]).await, "er-beds@2\ner-beds@1\n");
    let shown = scene.desk.ok(&["dataset", "show", "er-beds@1"]).await;
    assert!(
        shown.contains("a.parquet") && shown.contains("null_share ward") && shown.contains("lakefs:"),
        "{shown}"
    );
    let table = scene.desk.ok(&["dataset", "profile", "er-beds@1"]).await;
    assert!(table.contains("ward 0") && table.contains("1970-01-01T00:00:00.000Z"), "{table}");

    let page = scene.text("changes.html");
    let (changed, _) =
        scene.desk.both(&["dataset", "compare", "er-beds@1", "er-beds@2", "--html", &page]).await;
    assert!(changed.lines().any(|line| line.starts_with("beds") && line.contains("major")), "{changed}");
    assert!(changed.lines().any(|line| line.starts_with("ward") && line.contains("same")), "{changed}");
    assert!(std::fs::read_to_string(&page).unwrap().starts_with("<!doctype html>"));
    let names = scene.desk.ok(&["dataset", "compare", "er-beds@1", &june, "-o", "name"]).await;
    assert!(
        names.contains("beds\n") && !names.contains("ward"),
        "files here are compared as versions are: {names}"
    );
    let fail = ["dataset", "compare", "er-beds@1", "er-beds@2", "--fail-on", "major"];
    scene.desk.refused(&fail, "differ by more than was allowed").await;
    let alike = ["dataset", "compare", "er-beds@1", &may, "--fail-on", "small"];
    scene.desk.ok(&alike).await;

    let out = scene.text("back");
    scene.desk.ok(&["dataset", "pull", "er-beds@1", "--out", &out]).await;
    let same = |name: &str| {
        std::fs::read(scene.path("may").join(name)).unwrap()
            == std::fs::read(scene.path("back").join(name)).unwrap()
    };
    assert!(same("a.parquet") && same("b.parquet"));
    std::fs::write(scene.path("back/a.parquet"), b"something else").unwrap();
    scene.desk.refused(&["dataset", "pull", "er-beds@1", "--out", &out], "remove it and repeat").await;
    scene.server.stop().await;
}

#[tokio::test]
async fn a_version_that_breaks_its_rules_is_not_added() {
    let scene = Scene::start().await;
    beds(&scene.path("may.parquet"), 100, 0.0);
    let may = scene.text("may.parquet");
    let rules =
        scene.rules("[[rules]]\nnot_null = { column = 'ward' }\n[[rules]]\nunique = { column = 'at' }\n");
    let broken = "not_null of 'ward': 15 rows without a value";
    scene.desk.refused(&["dataset", "add", "er-beds", &may, "--rules", &rules], broken).await;
    assert_eq!(scene.desk.ok(&["dataset", "list", "-o", "name"]).await, "");
    let wrong = scene.rules("[[rules]]\nrange = { column = 'beds', min = 2, max = 1 }\n");
    scene.desk.refused(&["dataset", "add", "er-beds", &may, "--rules", &wrong], "min is above max").await;
    beds(&scene.path("other.parquet"), 5, 0.0);
    std::fs::write(scene.path("text.parquet"), b"not a table").unwrap();
    scene.desk.refused(&["dataset", "add", "er-beds", &scene.text("text.parquet")], "no Parquet file").await;
    scene.server.stop().await;
}

#[tokio::test]
async fn what_the_disk_altered_is_not_brought_back() {
    let scene = Scene::start().await;
    beds(&scene.path("may.parquet"), 100, 0.0);
    let one = scene.json(&["add", "er-beds", &scene.text("may.parquet")]).await;
    let sha256 = one["manifest"]["files"][0]["sha256"].as_str().unwrap();
    let kept = scene.data.path().join("datasets/sha256").join(&sha256[..2]).join(sha256);
    let mut bytes = std::fs::read(&kept).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&kept, &bytes).unwrap();
    let out = scene.text("back");
    let (ok, _, err) = scene.desk.run(&["dataset", "pull", "er-beds", "--out", &out], &[]).await;
    assert!(!ok, "{err}");
    assert!(!scene.path("back/may.parquet").exists(), "nothing stands under the file's name");
    scene.server.stop().await;
}

#[tokio::test]
async fn captured_rows_and_their_labels_become_a_version() {
    let scene = Scene::start().await;
    let header = format!(
        "{{\"v\":1,\"request\":\"cap-00000000000000000000000001\",\"slot\":\"er-beds\",\"bundle\":\"{}\",\"columns\":[\"age\",\"ward\"]}}\n",
        "0".repeat(64)
    );
    let row = |id: &str, age: u32| {
        format!(
            "{{\"at\":\"2026-11-01T00:00:00Z\",\"id\":\"{id}\",\"row\":0,\"inputs\":[{age},\"er\"],\"outputs\":{{\"risk\":[0.5]}}}}\n"
        )
    };
    std::fs::write(
        scene.path("captured.jsonl"),
        format!("{header}{}{}{}", row("a", 30), row("b", 40), row("c", 50)),
    )
    .unwrap();
    let labels = "id,label,at\na,1,2026-11-02T00:00:00Z\nb,0,2026-11-02T00:00:00Z\nwho,1,2026-11-02T00:00:00Z\nc,1,2199-01-01T00:00:00Z\n";
    std::fs::write(scene.path("labels.csv"), labels).unwrap();
    let (out, samples, labels) =
        (scene.text("beds.parquet"), scene.text("captured.jsonl"), scene.text("labels.csv"));
    let export = ["capture", "export", &samples, "--labels", &labels, "--out", &out];
    let unasked = [&export[..], &["--add", "er-beds"]].concat();
    scene.desk.refused(&unasked, "add --yes to confirm").await;
    assert_eq!(
        scene.desk.ok(&["dataset", "list", "-o", "name"]).await,
        "",
        "rows leave the site only when somebody says so"
    );
    std::fs::remove_file(&out).unwrap();
    let (said, refused) = scene.desk.both(&[&unasked[..], &["--yes", "--time-column", "at"]].concat()).await;
    assert!(said.contains("2 rows with a label"), "{said}");
    for part in [
        "1 labels refused: for predictions that nobody captured",
        "1 labels refused: from the future",
        "1 rows have no label yet",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    let version = scene.json(&["show", "er-beds@1"]).await;
    let source = &version["manifest"]["source"]["captures"];
    assert_eq!(
        (&source["slot"], &source["captures"][0]),
        (&"er-beds".into(), &"cap-00000000000000000000000001".into())
    );
    let columns: Vec<&str> = version["manifest"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["sample", "at", "age", "ward", "output:risk", "label", "labelled_at"]);
    scene.server.stop().await;
}

#[test]
fn a_file_of_another_writer_is_read() {
    // Made by pyarrow 25 with dictionaries, snappy and two row groups; its types are those that warehouses hold.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pyarrow.parquet");
    let found = contents(&path).unwrap();
    let kinds: Vec<(&str, Kind, &str)> = found
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.kind, column.stored.as_str()))
        .collect();
    assert_eq!(
        kinds,
        [
            ("age", Kind::Integer, "INT32"),
            ("visits", Kind::Integer, "INT32 uint32"),
            ("lactate", Kind::Real, "FLOAT"),
            ("charted_at", Kind::Time, "INT64 timestamp(us,utc)"),
            ("born", Kind::Time, "INT32 date"),
            ("ward", Kind::Text, "BYTE_ARRAY text"),
            ("cost", Kind::Real, "FIXED_LEN_BYTE_ARRAY decimal(20,2)"),
            ("ventilated", Kind::Boolean, "BOOLEAN"),
            ("codes", Kind::Opaque, "nested"),
            ("raw", Kind::Opaque, "BYTE_ARRAY"),
        ]
    );
    let mut profiler = Profiler::new(&found.columns, &[]);
    profile(&path, &mut profiler, &mut |_| ()).unwrap();
    let (seen, _) = profiler.finish();
    let nulls: Vec<u64> = seen.columns.iter().map(|column| column.nulls).collect();
    assert_eq!((seen.rows, nulls), (4, vec![1, 0, 2, 0, 1, 1, 1, 1, 0, 1]));
    let ends = |name: &str| match &seen.column(name).unwrap().values {
        Values::Numeric(numeric) => (numeric.min.unwrap(), numeric.max.unwrap()),
        other @ (Values::Text(_) | Values::Opaque) => panic!("{other:?}"),
    };
    assert_eq!(ends("visits"), (1.0, 4_294_967_295.0));
    assert_eq!(ends("cost"), (-0.25, 99_999_999.99));
    let span = seen.column("charted_at").unwrap().span().unwrap();
    assert_eq!(
        (span.0.to_string(), span.1.to_string()),
        ("2026-05-01T12:00:00.000Z".into(), "2026-05-04T12:00:00.000Z".into())
    );
    let born = seen.column("born").unwrap().span().unwrap();
    assert_eq!(born.0.to_string(), "1955-06-01T00:00:00.000Z");
}
