//! Files that are to be one version: hashed, read once, described.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;
use sha2::Digest as _;

use super::{TableError, read};
use crate::dataset::manifest::SCHEMA;
use crate::dataset::rules::Watched;
use crate::dataset::{Column, FileEntry, Manifest, Profile, Profiler, Rule, Source};

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Where each file is, and what it is called in the version.
    pub files: Vec<(PathBuf, String)>,
    pub time_column: Option<String>,
    pub rules: Vec<Rule>,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Surveyed {
    pub manifest: Manifest,
    pub profile: Profile,
    pub watched: Vec<Watched>,
}

impl Survey {
    /// Reads everything once; `beat` hears of bytes that were hashed and rows that were counted.
    pub fn run(&self, beat: &mut dyn FnMut(Beat)) -> Result<Surveyed, TableError> {
        let columns = self.columns()?;
        let mut profiler = Profiler::new(&columns, &self.rules);
        let mut files = Vec::with_capacity(self.files.len());
        for (path, name) in &self.files {
            let (sha256, bytes) = hashed(path, &mut |bytes| beat(Beat::Bytes(bytes)))
                .map_err(|source| TableError::Open { path: path.clone(), source })?;
            let span =
                self.time_column.as_deref().map(|column| read::span(path, column)).transpose()?.flatten();
            let rows = read::contents(path)?.rows;
            read::profile(path, &mut profiler, &mut |rows| beat(Beat::Rows(rows)))?;
            let (from, to) = span.unzip();
            files.push(FileEntry { path: name.clone(), sha256, bytes, rows, from, to });
        }
        let (profile, watched) = profiler.finish();
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            columns,
            time_column: self.time_column.clone(),
            files,
            source: self.source.clone(),
        };
        Ok(Surveyed { manifest, profile, watched })
    }

    /// The columns, which must be those of every file.
    fn columns(&self) -> Result<Vec<Column>, TableError> {
        let mut first: Option<(&Path, Vec<Column>)> = None;
        for (path, _) in &self.files {
            let columns = read::contents(path)?.columns;
            match &first {
                None => first = Some((path, columns)),
                Some((_, known)) if *known == columns => {}
                Some((first, known)) => {
                    let what = difference(known, &columns);
                    return Err(TableError::OtherColumns {
                        path: path.clone(),
                        first: first.to_path_buf(),
                        what,
                    });
                }
            }
        }
        Ok(first.map(|(_, columns)| columns).unwrap_or_default())
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    Bytes(u64),
    Rows(u64),
}

/// A file's digest and length.
pub fn hashed(path: &Path, beat: &mut dyn FnMut(u64)) -> io::Result<(Digest, u64)> {
    let (mut file, mut hash, mut length) = (File::open(path)?, sha2::Sha256::new(), 0);
    let mut part = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            return Ok((Digest::from_bytes(hash.finalize().into()), length));
        }
        hash.update(&part[..read]);
        length += read as u64;
        beat(read as u64);
    }
}

fn difference(known: &[Column], found: &[Column]) -> String {
    if known.len() != found.len() {
        return format!("{} and not {}", found.len(), known.len());
    }
    let other = known.iter().zip(found).find(|(known, found)| known != found);
    other.map_or_else(String::new, |(known, found)| {
        format!("'{}' as {} and not '{}' as {}", found.name, found.stored, known.name, known.stored)
    })
}
