//! A model's folder, walked without trusting who filled it: plain files only, bounded in number, length and depth.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;
use muster_protocol::limits::{BUNDLE_BYTES_MAX, BUNDLE_FILES_MAX};
use rustix::fs::OFlags;
use sha2::Digest as _;

use super::statement::{GIT_PATHS, is_plain};

/// Folders and files together: nothing honest has more folders than files.
const ENTRIES_MAX: usize = 2 * BUNDLE_FILES_MAX;

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{} could not be {what}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path:?} is a symbolic link; put the file itself there")]
    Link { path: PathBuf },
    #[error("{path:?} is neither a file nor a folder")]
    Special { path: PathBuf },
    #[error(
        "{path:?} cannot be named in a signature: names are UTF-8 without control characters, at most 256 bytes"
    )]
    Name { path: PathBuf },
    #[error("{} holds more than {BUNDLE_FILES_MAX} files", path.display())]
    TooMany { path: PathBuf },
    #[error("{} holds more than {BUNDLE_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} holds no file", path.display())]
    Empty { path: PathBuf },
}

/// The SHA-256 of every file, by its name inside the folder; the signature and what belongs to git are left out.
pub(super) fn hashed(folder: &Path, signature: &Path) -> Result<BTreeMap<String, Digest>, FolderError> {
    read_all(folder, signature, |_| Ok(None))
}

/// The same, and every file copied to `copy`.
pub(super) fn copied(
    folder: &Path,
    signature: &Path,
    copy: &Path,
) -> Result<BTreeMap<String, Digest>, FolderError> {
    read_all(folder, signature, |name| {
        let path = copy.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io("made", parent))?;
        }
        File::create_new(&path).map(Some).map_err(io("written", &path))
    })
}

/// The signature's name inside the folder, if it is there.
pub(super) fn inside(folder: &Path, signature: &Path) -> Option<String> {
    let parent = signature.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = parent.canonicalize().ok()?;
    let relative = parent.join(signature.file_name()?);
    let relative = relative.strip_prefix(folder.canonicalize().ok()?).ok()?.to_str()?;
    Some(relative.to_owned())
}

/// What the folder is called.
pub(super) fn name_of(folder: &Path) -> Result<String, FolderError> {
    let path = folder.canonicalize().map_err(io("read", folder))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("model");
    Ok(name.to_owned())
}

fn read_all(
    folder: &Path,
    signature: &Path,
    into: impl Fn(&str) -> Result<Option<File>, FolderError>,
) -> Result<BTreeMap<String, Digest>, FolderError> {
    let signature = inside(folder, signature);
    let mut left = BUNDLE_BYTES_MAX;
    let mut files = BTreeMap::new();
    for (name, path) in listed(folder)? {
        if Some(&name) != signature.as_ref() {
            let copy = into(&name)?;
            files.insert(name, hash(&path, copy, &mut left)?);
        }
    }
    if files.is_empty() { Err(FolderError::Empty { path: folder.to_owned() }) } else { Ok(files) }
}

/// Every file by its name inside the folder.
fn listed(folder: &Path) -> Result<BTreeMap<String, PathBuf>, FolderError> {
    let mut found = BTreeMap::new();
    let mut open = vec![(folder.to_owned(), String::new())];
    let mut entries = 0;
    while let Some((dir, prefix)) = open.pop() {
        for entry in std::fs::read_dir(&dir).map_err(io("read", &dir))? {
            let path = entry.map_err(io("read", &dir))?.path();
            entries += 1;
            if entries > ENTRIES_MAX {
                return Err(FolderError::TooMany { path: folder.to_owned() });
            }
            let name = path.file_name().and_then(|name| name.to_str()).map(|name| format!("{prefix}{name}"));
            let Some(name) = name.filter(|name| is_plain(name)) else {
                return Err(FolderError::Name { path });
            };
            if GIT_PATHS.contains(&name.as_str()) {
                continue;
            }
            // Of the entry itself, not of what it points to.
            let kind = std::fs::symlink_metadata(&path).map_err(io("read", &path))?.file_type();
            if kind.is_symlink() {
                return Err(FolderError::Link { path });
            } else if kind.is_dir() {
                open.push((path, format!("{name}/")));
            } else if kind.is_file() {
                found.insert(name, path);
            } else {
                return Err(FolderError::Special { path });
            }
        }
    }
    if found.len() > BUNDLE_FILES_MAX {
        return Err(FolderError::TooMany { path: folder.to_owned() });
    }
    Ok(found)
}

/// Reads once: what is hashed is what is copied.
fn hash(path: &Path, mut copy: Option<File>, left: &mut u64) -> Result<Digest, FolderError> {
    // Somebody may put a link or a pipe there between our look and this: neither is followed nor waited for.
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).unwrap_or_default();
    let mut file =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io("opened", path))?;
    if !file.metadata().map_err(io("read", path))?.is_file() {
        return Err(FolderError::Special { path: path.to_owned() });
    }
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(io("read", path))?;
        if read == 0 {
            break;
        }
        *left =
            left.checked_sub(read as u64).ok_or_else(|| FolderError::TooLarge { path: path.to_owned() })?;
        hash.update(&buffer[..read]);
        if let Some(copy) = &mut copy {
            copy.write_all(&buffer[..read]).map_err(io("copied", path))?;
        }
    }
    Ok(Digest::from_bytes(hash.finalize().into()))
}

fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> FolderError + 'a {
    move |source| FolderError::Io { what, path: path.to_owned(), source }
}
