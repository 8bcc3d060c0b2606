//! `muster-fleet identities export|import`: the register to a file and back, on the data folder itself.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::roll::{Imported, Roll, RollError, export, import};
use crate::addresses::{DataDirError, DataLock};
use crate::clock::Clocks;
use crate::store::log::Actor;
use crate::store::{Store, StoreError};

/// Longest file that is read: some hundred thousand devices.
const ROLL_BYTES_MAX: u64 = 256 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error("stop the server first: it would not see what is imported until it starts again")]
    Data(#[from] DataDirError),
    #[error("there is no fleet's database in {}; name its folder with --data", .0.display())]
    NoData(PathBuf),
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    #[error("{} cannot be imported", path.display())]
    Roll {
        path: PathBuf,
        #[source]
        source: RollError,
    },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {}; it must not exist, and its folder must be writable", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Writes every present and former member into a new file. May be done while the server runs. Returns how many.
pub async fn export_file(data: &Path, path: &Path) -> Result<usize, OfflineError> {
    if !data.join("fleet.db").is_file() {
        return Err(OfflineError::NoData(data.to_owned()));
    }
    let store = Store::open(data).await?;
    let roll = export(&store).await?;
    store.close().await;
    write(path, &roll).map_err(|source| OfflineError::Write { path: path.to_owned(), source })?;
    Ok(roll.identities.len())
}

/// Takes a file's members into the database, all of them or none. The server must be stopped.
pub async fn import_file(data: &Path, path: &Path, clocks: Clocks) -> Result<Imported, OfflineError> {
    let bytes = read(path).map_err(|source| OfflineError::Read { path: path.to_owned(), source })?;
    let failed = |source| OfflineError::Roll { path: path.to_owned(), source };
    let roll = Roll::from_json(&bytes).map_err(failed)?;
    let _lock = DataLock::take(data)?;
    let store = Store::open(data).await?;
    let imported = import(&store, &roll, clocks.moment(), Actor::Fleet).await;
    store.close().await;
    imported.map_err(failed)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if path.metadata()?.len() > ROLL_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is longer than {ROLL_BYTES_MAX} bytes")));
    }
    std::fs::read(path)
}

fn write(path: &Path, roll: &Roll) -> std::io::Result<()> {
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer_pretty(&mut file, roll)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}
