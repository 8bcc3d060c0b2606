//! Bundles as OCI layouts of `ModelPack`: what goes out comes back byte for byte, and nothing else does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;
use serde_json::{Value, json};

use crate::desk::{Desk, NOWHERE};
use crate::publisher::Bundle;
use crate::schemas::Schemas;

const CONFIG: &str = "https://github.com/modelpack/model-spec/config";

/// A desk with a bundle's folder, signed as OpenSSF Model Signing does.
async fn desk() -> (Desk, Bundle) {
    let desk = Desk::new(NOWHERE);
    let bundle = Bundle::with("bundles/er-beds/7.json", b"model", |manifest| {
        manifest["licences"] = json!(["Apache-2.0"]);
        manifest["description"] = json!("beds of tomorrow");
    });
    let folder = desk.path("bundle");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.json"), &bundle.manifest).unwrap();
    for (name, bytes) in &bundle.files {
        fs::write(folder.join(name), bytes).unwrap();
    }
    desk.ok(&["bundle", "oms", "new-key", &desk.text("acme")]).await;
    desk.ok(&["bundle", "oms", "sign", &desk.text("bundle"), "--key", &desk.text("acme.pem")]).await;
    (desk, bundle)
}

async fn export(desk: &Desk, to: &str) {
    desk.ok(&["bundle", "export", &desk.text("bundle"), "--oci", &desk.text(to)]).await;
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn json_at(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn blob(layout: &Path, described: &Value) -> PathBuf {
    let digest = described["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    layout.join("blobs/sha256").join(digest)
}

fn image(layout: &Path) -> Value {
    json_at(&blob(layout, &json_at(&layout.join("index.json"))["manifests"][0]))
}

#[tokio::test]
async fn a_bundle_comes_back_byte_for_byte() {
    let (desk, bundle) = desk().await;
    export(&desk, "one").await;
    export(&desk, "two").await;
    assert_eq!(files(&desk.path("one")), files(&desk.path("two")), "the same bundle gives the same bytes");
    let args = ["-o", "name", "bundle", "import", "--oci", &desk.text("one"), "--out", &desk.text("back")];
    assert_eq!(desk.ok(&args).await.trim(), bundle.sha256().to_string());
    assert_eq!(files(&desk.path("back")), files(&desk.path("bundle")));
    let args = ["bundle", "oms", "verify", &desk.text("back"), "--key", &desk.text("acme.pub")];
    let (_, said) = desk.both(&args).await;
    assert!(said.contains("3 files"), "{said}");

    for tar in ["one.tar", "two.tar"] {
        desk.ok(&["bundle", "export", &desk.text("bundle"), "--tar", &desk.text(tar)]).await;
    }
    assert_eq!(fs::read(desk.path("one.tar")).unwrap(), fs::read(desk.path("two.tar")).unwrap());
    desk.ok(&["bundle", "import", "--tar", &desk.text("one.tar"), "--out", &desk.text("again")]).await;
    assert_eq!(files(&desk.path("again")), files(&desk.path("bundle")));
    desk.refused(
        &["bundle", "import", "--oci", &desk.text("one"), "--out", &desk.text("back")],
        "is there already",
    )
    .await;
}

#[tokio::test]
async fn the_layout_is_what_modelpack_says() {
    let (desk, bundle) = desk().await;
    export(&desk, "out").await;
    let layout = desk.path("out");
    assert_eq!(json_at(&layout.join("oci-layout")), json!({"imageLayoutVersion": "1.0.0"}));
    let index = json_at(&layout.join("index.json"));
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "er-beds:7");
    let image = image(&layout);
    assert_eq!(image["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(image["artifactType"], "application/vnd.cncf.model.manifest.v1+json");
    assert_eq!(image["config"]["mediaType"], "application/vnd.cncf.model.config.v1+json");
    assert_eq!(image["annotations"]["io.github.muster-edge.bundle.sha256"], bundle.sha256().to_string());
    let config = json_at(&blob(&layout, &image["config"]));
    Schemas::modelpack().check(&[(CONFIG.to_owned(), config.clone())]);
    let layers = image["layers"].as_array().unwrap();
    let kinds: BTreeMap<&str, &str> = layers
        .iter()
        .map(|layer| {
            let path = layer["annotations"]["org.cncf.model.filepath"].as_str().unwrap();
            (path, layer["mediaType"].as_str().unwrap())
        })
        .collect();
    let expect = BTreeMap::from([
        ("manifest.json", "application/vnd.cncf.model.weight.config.v1.raw"),
        ("model.onnx", "application/vnd.cncf.model.weight.v1.raw"),
        ("model.sig", "application/vnd.cncf.model.doc.v1.raw"),
        ("reference.json", "application/vnd.cncf.model.weight.config.v1.raw"),
    ]);
    assert_eq!(kinds, expect);
    let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    assert_eq!(config["modelfs"]["diffIds"].as_array().unwrap().iter().collect::<Vec<_>>(), digests);
    for described in layers.iter().chain([&image["config"], &index["manifests"][0]]) {
        let bytes = fs::read(blob(&layout, described)).unwrap();
        assert_eq!(described["digest"], format!("sha256:{}", Digest::of(&bytes)));
        assert_eq!(described["size"], bytes.len());
    }
    assert!(!Schemas::modelpack().holds(CONFIG, &json!({"config": {}})));
}

/// Rewrites the image manifest, with every digest on the way to it made to fit.
fn rewritten(layout: &Path, edit: impl FnOnce(&mut Value)) {
    let index_path = layout.join("index.json");
    let mut index = json_at(&index_path);
    let mut image = json_at(&blob(layout, &index["manifests"][0]));
    edit(&mut image);
    let bytes = image.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    fs::write(layout.join("blobs/sha256").join(digest.to_string()), &bytes).unwrap();
    index["manifests"][0]["digest"] = json!(format!("sha256:{digest}"));
    index["manifests"][0]["size"] = json!(bytes.len());
    fs::write(index_path, index.to_string()).unwrap();
}

#[tokio::test]
async fn what_was_altered_on_the_way_is_refused_and_leaves_nothing() {
    let (desk, _) = desk().await;
    let import = |from: String| {
        let out = desk.text("back");
        vec!["bundle".to_owned(), "import".to_owned(), "--oci".to_owned(), from, "--out".to_owned(), out]
    };
    let check = async |name: &str, expect: &str, harm: &dyn Fn(&Path)| {
        export(&desk, name).await;
        harm(&desk.path(name));
        let args = import(desk.text(name));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        desk.refused(&args, expect).await;
        assert!(!desk.path("back").exists(), "{name} left something");
    };
    let layer = |layout: &Path, name: &str| {
        let image = image(layout);
        let layers = image["layers"].as_array().unwrap();
        let of = |layer: &&Value| layer["annotations"]["org.cncf.model.filepath"] == name;
        blob(layout, layers.iter().find(of).unwrap())
    };
    check("flipped", "its SHA-256 is", &|layout| {
        fs::write(layer(layout, "model.onnx"), "mOdel").unwrap();
    })
    .await;
    check("cut", "bytes long", &|layout| fs::write(layer(layout, "model.onnx"), "mode").unwrap()).await;
    check("gone", "could not be read", &|layout| fs::remove_file(layer(layout, "model.onnx")).unwrap()).await;
    check("image", "its SHA-256 is", &|layout| {
        let path = blob(layout, &json_at(&layout.join("index.json"))["manifests"][0]);
        let text = fs::read_to_string(&path).unwrap().replace("er-beds", "er-bedz");
        fs::write(path, text).unwrap();
    })
    .await;
    check("stranger", "none of the bundle's files", &|layout| {
        rewritten(layout, |image| {
            let mut stranger = image["layers"][1].clone();
            stranger["annotations"]["org.cncf.model.filepath"] = json!("../../evil");
            image["layers"].as_array_mut().unwrap().push(stranger);
        });
    })
    .await;
    check("swapped", "is not among its layers", &|layout| {
        rewritten(layout, |image| {
            let other = image["layers"][0]["digest"].clone();
            image["layers"][1]["digest"] = other;
        });
    })
    .await;
    check("other", "no model of ModelPack", &|layout| {
        rewritten(layout, |image| image["artifactType"] = json!("application/vnd.example"));
    })
    .await;
}

#[tokio::test]
async fn a_tar_file_of_other_things_is_refused() {
    let (desk, _) = desk().await;
    for (name, entry, kind) in [
        ("up.tar", "blobs/../../evil", tar::EntryType::Regular),
        ("link.tar", "index.json", tar::EntryType::Symlink),
        ("other.tar", "evil.sh", tar::EntryType::Regular),
    ] {
        let mut builder = tar::Builder::new(fs::File::create(desk.path(name)).unwrap());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        // The crate refuses to write such a name itself.
        header.as_old_mut().name[..entry.len()].copy_from_slice(entry.as_bytes());
        if kind == tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
        builder.finish().unwrap();
        let args = ["bundle", "import", "--tar", &desk.text(name), "--out", &desk.text("back")];
        desk.refused(&args, "no file of a layout").await;
        assert!(!desk.path("back").exists());
    }
}
