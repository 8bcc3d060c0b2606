//! Reads what `ArtiVC` and DVC keep: which files belong together, and where they lie.
//!
//! ```text
//!   ArtiVC   refs/latest · refs/tags/v1 ─▶ commits/<sha1> (gzip JSON: path, hash, size) ─▶ objects/xx/yyyy… (as they are)
//!   DVC      beds.parquet.dvc (YAML: outs of md5, path) ─▶ the file or folder beside it; a folder's list in .dvc/cache
//! ```
//! Their hashes tell a file that was damaged from one that was not. They are never taken for what the content is.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest;
use md5::Digest as _;
use serde::Deserialize;

use crate::dataset::External;
use crate::dataset::external::{ExternalError, System};
use crate::dataset::manifest::FILES_MAX;

/// A commit or a list of a folder, unpacked.
const LIST_BYTES_MAX: u64 = 64 * 1024 * 1024;
const MESSAGE_CHARS_MAX: usize = 200;

/// Files that are to be a version, and what the other tool calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub files: Vec<(PathBuf, String)>,
    pub external: Option<External>,
    /// What somebody wrote about it there.
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not what it should be: {what}", path.display())]
    Shape { path: PathBuf, what: String },
    #[error("'{0}' is no tag and no commit of that repository")]
    Reference(String),
    #[error("{} hashes to {found} and not to {wanted}: it was altered or damaged", path.display())]
    Hash { path: PathBuf, wanted: String, found: String },
    #[error("'{0}' leads out of the repository")]
    Path(String),
    #[error("there are no .parquet files in it, or more than {FILES_MAX}")]
    Files,
    #[error(transparent)]
    External(#[from] ExternalError),
}

#[derive(Deserialize)]
struct Commit {
    /// Spelled as `ArtiVC` writes it.
    #[serde(default, rename = "messaage")]
    message: Option<String>,
    blobs: Vec<CommitBlob>,
}

#[derive(Deserialize)]
struct CommitBlob {
    path: String,
    #[serde(default)]
    hash: String,
}

/// The files of a commit: a tag, `latest`, or the first digits of its SHA-1.
pub fn artivc(repository: &Path, reference: &str) -> Result<Found, ForeignError> {
    let sha1 = resolve(repository, reference)?;
    let path = repository.join("commits").join(&sha1);
    let file = File::open(&path).map_err(|source| ForeignError::Read { path: path.clone(), source })?;
    let text = limited(flate2::read::GzDecoder::new(file), &path)?;
    let found = hex::encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text));
    if found != sha1 {
        return Err(ForeignError::Hash { path, wanted: sha1, found });
    }
    let commit: Commit = serde_json::from_slice(&text)
        .map_err(|error| ForeignError::Shape { path: path.clone(), what: error.to_string() })?;
    let mut files = Vec::new();
    for CommitBlob { path: name, hash } in commit.blobs.into_iter().filter(|blob| is_parquet(&blob.path)) {
        safe(&name)?;
        if !is_hex(&hash, 40) {
            return Err(ForeignError::Shape {
                path,
                what: format!("'{name}' has no hash; links are not taken"),
            });
        }
        let object = repository.join("objects").join(&hash[..2]).join(&hash[2..]);
        matches(&object, &hash, &mut Sha1(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)))?;
        files.push((object, name));
    }
    let message = commit.message.unwrap_or_default().chars().take(MESSAGE_CHARS_MAX).collect();
    counted(Found { files, external: Some(External::new(System::ArtiVc, &sha1)?), message })
}

fn resolve(repository: &Path, reference: &str) -> Result<String, ForeignError> {
    let unknown = || ForeignError::Reference(reference.chars().take(80).collect());
    if reference.is_empty() || reference.contains(['/', '\\']) || reference.starts_with('.') {
        return Err(unknown());
    }
    let refs = repository.join("refs");
    for path in [refs.join(reference), refs.join("tags").join(reference)] {
        if path.is_file() {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| ForeignError::Read { path: path.clone(), source })?;
            let sha1 = text.trim().to_owned();
            let what = || "it names no commit".to_owned();
            return if is_hex(&sha1, 40) {
                Ok(sha1)
            } else {
                Err(ForeignError::Shape { path, what: what() })
            };
        }
    }
    let commits = repository.join("commits");
    let unreadable = |source| ForeignError::Read { path: commits.clone(), source };
    let mut found = None;
    for entry in std::fs::read_dir(&commits).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        if reference.len() >= 4 && name.starts_with(reference) && is_hex(&name, 40) {
            // Digits that begin two commits name neither.
            if found.replace(name).is_some() {
                return Err(unknown());
            }
        }
    }
    found.ok_or_else(unknown)
}

#[derive(Deserialize)]
struct DvcFile {
    outs: Vec<DvcOut>,
}

#[derive(Deserialize)]
struct DvcOut {
    md5: String,
    path: String,
}

#[derive(Deserialize)]
struct DvcEntry {
    md5: String,
    relpath: String,
}

/// The files that a `.dvc` file names, from where `dvc pull` puts them.
pub fn dvc(file: &Path) -> Result<Found, ForeignError> {
    let shape = |what: String| ForeignError::Shape { path: file.to_owned(), what };
    let open = File::open(file).map_err(|source| ForeignError::Read { path: file.to_owned(), source })?;
    let text = limited(open, file)?;
    let text = std::str::from_utf8(&text).map_err(|error| shape(error.to_string()))?;
    let DvcFile { outs } = serde_saphyr::from_str(text).map_err(|error| shape(error.to_string()))?;
    let [out] = outs.as_slice() else { return Err(shape("it does not name exactly one output".to_owned())) };
    safe(&out.path)?;
    let place = file.parent().unwrap_or(Path::new(".")).join(&out.path);
    let entries = match out.md5.strip_suffix(".dir") {
        None => vec![(place, out.md5.clone(), last(&out.path))],
        Some(md5) => {
            let list = list(file, md5)?;
            let own = |DvcEntry { md5, relpath }: DvcEntry| (place.join(&relpath), md5, relpath);
            list.into_iter().filter(|entry| is_parquet(&entry.relpath)).map(own).collect()
        }
    };
    let mut files = Vec::new();
    for (path, md5, name) in entries {
        safe(&name)?;
        matches(&path, &md5, &mut Md5(md5::Md5::new()))?;
        files.push((path, name));
    }
    counted(Found { files, external: Some(External::new(System::Dvc, &out.md5)?), message: String::new() })
}

/// A folder's list, from the cache of the repository that the file is in.
fn list(file: &Path, md5: &str) -> Result<Vec<DvcEntry>, ForeignError> {
    let shape = |what: &str| ForeignError::Shape { path: file.to_owned(), what: what.to_owned() };
    if !is_hex(md5, 32) {
        return Err(shape("its md5 is none"));
    }
    let place =
        std::path::absolute(file).map_err(|source| ForeignError::Read { path: file.to_owned(), source })?;
    let name = format!("{}.dir", &md5[2..]);
    let caches = place.ancestors().skip(1).map(|folder| folder.join(".dvc/cache"));
    let path = caches
        .flat_map(|cache| [cache.join("files/md5"), cache])
        .map(|folder| folder.join(&md5[..2]).join(&name))
        .find(|path| path.is_file())
        .ok_or_else(|| shape("the list of its folder is not in .dvc/cache; run 'dvc fetch'"))?;
    let open = File::open(&path).map_err(|source| ForeignError::Read { path: path.clone(), source })?;
    let text = limited(open, &path)?;
    let found = hex::encode(md5::Md5::digest(&text));
    if found != md5 {
        return Err(ForeignError::Hash { path, wanted: md5.to_owned(), found });
    }
    serde_json::from_slice(&text).map_err(|error| ForeignError::Shape { path, what: error.to_string() })
}

/// A hash that another tool uses.
trait Weak {
    fn update(&mut self, part: &[u8]);
    fn hex(&self) -> String;
}

struct Sha1(digest::Context);
struct Md5(md5::Md5);

impl Weak for Sha1 {
    fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    fn hex(&self) -> String {
        hex::encode(self.0.clone().finish())
    }
}

impl Weak for Md5 {
    fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    fn hex(&self) -> String {
        hex::encode(self.0.clone().finalize())
    }
}

fn matches(path: &Path, wanted: &str, hash: &mut dyn Weak) -> Result<(), ForeignError> {
    let unreadable = |source| ForeignError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut part = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut part).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        hash.update(&part[..read]);
    }
    let found = hash.hex();
    if found == wanted {
        Ok(())
    } else {
        Err(ForeignError::Hash { path: path.to_owned(), wanted: wanted.to_owned(), found })
    }
}

fn limited(from: impl Read, path: &Path) -> Result<Vec<u8>, ForeignError> {
    let mut text = Vec::new();
    let read = from.take(LIST_BYTES_MAX + 1).read_to_end(&mut text);
    read.map_err(|source| ForeignError::Read { path: path.to_owned(), source })?;
    if text.len() as u64 > LIST_BYTES_MAX {
        return Err(ForeignError::Shape { path: path.to_owned(), what: "it is too long".to_owned() });
    }
    Ok(text)
}

fn counted(found: Found) -> Result<Found, ForeignError> {
    if (1..=FILES_MAX).contains(&found.files.len()) { Ok(found) } else { Err(ForeignError::Files) }
}

fn safe(name: &str) -> Result<(), ForeignError> {
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if inside && !name.is_empty() { Ok(()) } else { Err(ForeignError::Path(name.chars().take(80).collect())) }
}

fn is_parquet(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "parquet")
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn last(path: &str) -> String {
    Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn sha1(bytes: &[u8]) -> String {
        hex::encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes))
    }

    /// A repository as `ArtiVC` lays it out, with one file and a readme.
    fn repository(root: &Path, path: &str, content: &[u8]) -> String {
        let hash = sha1(content);
        let object = root.join("objects").join(&hash[..2]);
        std::fs::create_dir_all(&object).unwrap();
        std::fs::write(object.join(&hash[2..]), content).unwrap();
        let commit = format!(
            r#"{{"createdAt":"2026-11-01T00:00:00Z","messaage":"May","blobs":[{{"path":"{path}","hash":"{hash}","mode":420,"size":3}},{{"path":"README","hash":"{hash}","mode":420,"size":3}}]}}"#
        );
        let name = sha1(commit.as_bytes());
        std::fs::create_dir_all(root.join("commits")).unwrap();
        let file = File::create(root.join("commits").join(&name)).unwrap();
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        packed.write_all(commit.as_bytes()).unwrap();
        packed.finish().unwrap();
        std::fs::create_dir_all(root.join("refs/tags")).unwrap();
        std::fs::write(root.join("refs/latest"), &name).unwrap();
        std::fs::write(root.join("refs/tags/v1"), &name).unwrap();
        name
    }

    #[test]
    fn a_commit_is_found_by_tag_by_name_and_by_its_first_digits() {
        let folder = tempfile::tempdir().unwrap();
        let name = repository(folder.path(), "wards/beds.parquet", b"abc");
        for reference in ["latest", "v1", &name, &name[..7]] {
            let found = artivc(folder.path(), reference).unwrap();
            assert_eq!(found.files.len(), 1);
            assert_eq!(found.files[0].1, "wards/beds.parquet");
            assert_eq!(found.external.unwrap().to_string(), format!("artivc:{name}"));
            assert_eq!(found.message, "May");
        }
        for reference in ["v2", "../latest", ".", ""] {
            assert!(
                matches!(artivc(folder.path(), reference), Err(ForeignError::Reference(_))),
                "{reference}"
            );
        }
    }

    #[test]
    fn what_was_altered_or_leads_away_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        repository(folder.path(), "beds.parquet", b"abc");
        let hash = sha1(b"abc");
        std::fs::write(folder.path().join("objects").join(&hash[..2]).join(&hash[2..]), b"abd").unwrap();
        assert!(matches!(artivc(folder.path(), "latest"), Err(ForeignError::Hash { .. })));
        let other = tempfile::tempdir().unwrap();
        repository(other.path(), "../../etc/beds.parquet", b"abc");
        assert!(matches!(artivc(other.path(), "latest"), Err(ForeignError::Path(_))));
        let third = tempfile::tempdir().unwrap();
        repository(third.path(), "beds.csv", b"abc");
        assert!(matches!(artivc(third.path(), "latest"), Err(ForeignError::Files)));
    }

    #[test]
    fn a_dvc_file_names_a_file_or_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("data/warehouse")).unwrap();
        std::fs::write(root.join("data/beds.parquet"), b"abc").unwrap();
        let md5 = hex::encode(md5::Md5::digest(b"abc"));
        let one = root.join("data/beds.parquet.dvc");
        std::fs::write(&one, format!("outs:\n- md5: {md5}\n  size: 3\n  hash: md5\n  path: beds.parquet\n"))
            .unwrap();
        let found = dvc(&one).unwrap();
        assert_eq!(
            (found.files[0].1.as_str(), found.external.unwrap().to_string()),
            ("beds.parquet", format!("dvc:{md5}"))
        );

        std::fs::write(root.join("data/warehouse/a.parquet"), b"abc").unwrap();
        let list = format!(r#"[{{"md5": "{md5}", "relpath": "a.parquet"}}]"#);
        let dir = hex::encode(md5::Md5::digest(list.as_bytes()));
        let cache = root.join(".dvc/cache/files/md5").join(&dir[..2]);
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(cache.join(format!("{}.dir", &dir[2..])), &list).unwrap();
        let two = root.join("data/warehouse.dvc");
        std::fs::write(&two, format!("outs:\n- md5: {dir}.dir\n  nfiles: 1\n  path: warehouse\n")).unwrap();
        assert_eq!(dvc(&two).unwrap().files[0].1, "a.parquet");

        std::fs::write(root.join("data/beds.parquet"), b"abd").unwrap();
        assert!(matches!(dvc(&one), Err(ForeignError::Hash { .. })));
    }
}
