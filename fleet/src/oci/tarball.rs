//! A layout as one file, as `docker load`, `skopeo` and `oras` take it: sorted names, no times, nobody's files.

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use muster_protocol::limits::{BUNDLE_BYTES_MAX, BUNDLE_FILES_MAX};
use tar::{Archive, Builder, EntryType, Header};

use super::{OciError, io};

/// Entries of a layout beside its bundle's files: index, version, image manifest, configuration, folders.
const OTHERS: usize = 16;

pub(super) fn pack(layout: &Path, out: &Path) -> Result<(), OciError> {
    let file = File::create_new(out).map_err(io("written", out))?;
    let mut builder = Builder::new(file);
    for name in names(layout)? {
        let path = layout.join(&name);
        let mut source = File::open(&path).map_err(io("read", &path))?;
        let length = source.metadata().map_err(io("read", &path))?.len();
        let mut header = Header::new_ustar();
        header.set_size(length);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(EntryType::Regular);
        builder.append_data(&mut header, &name, &mut source).map_err(io("written", out))?;
    }
    let file = builder.into_inner().map_err(io("written", out))?;
    file.sync_all().map_err(io("written", out))
}

/// Takes out only what a layout has, and no more than a bundle may have.
pub(super) fn unpack(tar: &Path, into: &Path) -> Result<(), OciError> {
    let file = File::open(tar).map_err(io("read", tar))?;
    let mut archive = Archive::new(file.take(BUNDLE_BYTES_MAX.saturating_add(64 * 1024 * 1024)));
    let blobs = into.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(io("made", &blobs))?;
    for (n, entry) in archive.entries().map_err(io("read", tar))?.enumerate() {
        let mut entry = entry.map_err(io("read", tar))?;
        if n > BUNDLE_FILES_MAX + OTHERS {
            return Err(OciError::Refused("the tar file has too many entries".to_owned()));
        }
        let name = entry.path().map_err(io("read", tar))?.into_owned();
        if entry.header().entry_type() == EntryType::Directory {
            continue;
        }
        let Some(name) = within(&name).filter(|_| entry.header().entry_type() == EntryType::Regular) else {
            let why = format!("{:?} in the tar file is no file of a layout", name.display().to_string());
            return Err(OciError::Refused(why));
        };
        let target = into.join(name);
        let mut file = File::create_new(&target).map_err(io("written", &target))?;
        std::io::copy(&mut entry, &mut file).map_err(io("written", &target))?;
    }
    Ok(())
}

/// The name, if a layout has such a file.
fn within(path: &Path) -> Option<PathBuf> {
    let parts: Vec<&str> = path
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| match part {
            Component::Normal(part) => part.to_str(),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
        })
        .collect::<Option<_>>()?;
    match parts.as_slice() {
        [name @ ("oci-layout" | "index.json")] => Some(PathBuf::from(name)),
        ["blobs", "sha256", digest] if digest.parse::<muster_protocol::ids::Digest>().is_ok() => {
            Some(Path::new("blobs/sha256").join(digest))
        }
        _ => None,
    }
}

fn names(layout: &Path) -> Result<Vec<PathBuf>, OciError> {
    let blobs = layout.join("blobs/sha256");
    let mut names = vec![PathBuf::from("index.json"), PathBuf::from("oci-layout")];
    for entry in std::fs::read_dir(&blobs).map_err(io("read", &blobs))? {
        let entry = entry.map_err(io("read", &blobs))?;
        names.push(Path::new("blobs/sha256").join(entry.file_name()));
    }
    names.sort();
    Ok(names)
}
