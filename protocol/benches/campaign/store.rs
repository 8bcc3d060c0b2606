//! The streams that the peers see, as files: written once, read by their programs and by ours.
//!
//! `NAME.json` says which columns are categories and how many rows each window has; `NAME.f32` holds the rows' columns
//! one after the other, little-endian.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

/// One window: a list of values for each column. NaN is a missing value; a category is its number.
pub(crate) type Window = Vec<Vec<f32>>;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) name: String,
    /// Of the columns, where they have some.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    pub(crate) categorical: Vec<bool>,
    /// Windows of reference; the rest are watched.
    pub(crate) reference: usize,
    pub(crate) rows: Vec<usize>,
    /// Days of an epidemic after which a model's error had doubled for a week.
    #[serde(default)]
    pub(crate) error_doubled: Option<usize>,
    #[serde(skip)]
    pub(crate) windows: Vec<Window>,
}

impl Run {
    pub(crate) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let mut bytes = Vec::new();
        for column in 0..self.categorical.len() {
            for value in self.windows.iter().flat_map(|window| &window[column]) {
                bytes.extend(value.to_le_bytes());
            }
        }
        fs::write(folder.join(format!("{}.f32", self.name)), bytes).unwrap();
        fs::write(folder.join(format!("{}.json", self.name)), serde_json::to_vec(self).unwrap()).unwrap();
    }

    pub(crate) fn read(description: &Path) -> Self {
        let mut run: Self = serde_json::from_slice(&fs::read(description).unwrap()).unwrap();
        let bytes = fs::read(description.with_extension("f32")).unwrap();
        let mut values =
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        run.windows = vec![Vec::new(); run.rows.len()];
        for _ in &run.categorical {
            for (window, &rows) in run.windows.iter_mut().zip(&run.rows) {
                window.push(values.by_ref().take(rows).collect());
            }
        }
        run
    }
}

/// All runs of a folder whose names begin like this, in order.
pub(crate) fn runs(folder: &Path, begin: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| {
        let stem = path.file_stem().unwrap().to_string_lossy();
        stem.starts_with(begin) && path.extension().is_some_and(|extension| extension == "json")
    });
    found.sort();
    found
}

/// Writes years of the emergency department, with the example's own generator.
pub(crate) fn write_emergency_department(folder: &Path, arguments: &[&str]) {
    let status = Command::new(root().join(".muster/python/bin/python"))
        .arg(root().join("protocol/benches/peers/er_streams.py"))
        .arg(folder)
        .args(arguments)
        .status()
        .unwrap();
    assert!(status.success(), "er_streams.py: {status}; run `make python`");
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
