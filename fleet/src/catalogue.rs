//! The trusted state as it is published, rebuilt from the trust files in the database and remembered until they change.

use std::sync::{Arc, Mutex, PoisonError};

use muster_protocol::trust::{FileName, Files, TrustError, TrustedSet};

use crate::store::{Control, StoreError, trust_files};

/// Names and versions that a trusted state was made of.
type Made = Vec<(String, u64)>;

type Remembered = (Made, Arc<TrustedSet>);

/// Cheap to clone; all clones remember together.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    last: Arc<Mutex<Option<Remembered>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("reading the published trust files")]
    Store(#[from] StoreError),
    #[error("the published trust files in the database contradict each other; restore it from a backup")]
    Trust(#[from] TrustError),
}

impl Catalogue {
    /// What is published in this view of the database; `None` before the first root.
    pub async fn published(&self, db: &mut Control) -> Result<Option<Arc<TrustedSet>>, CatalogueError> {
        let made: Made =
            trust_files::list(db).await?.into_iter().map(|file| (file.name, file.version)).collect();
        if let Some((last, trusted)) = &*self.last.lock().unwrap_or_else(PoisonError::into_inner)
            && *last == made
        {
            return Ok(Some(trusted.clone()));
        }
        let mut files = trust_files::all(db).await?;
        // Files are loaded by their names at rest, and the database keeps them by their names on the wire.
        for (name, version) in &made {
            if let (Ok(file), Some(bytes)) = (name.parse::<FileName>(), files.remove(name)) {
                files.insert(file.stored(*version), bytes);
            }
        }
        let Some(trusted) = load(&files)? else { return Ok(None) };
        let trusted = Arc::new(trusted);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((made, trusted.clone()));
        Ok(Some(trusted))
    }
}

fn load(files: &Files) -> Result<Option<TrustedSet>, TrustError> {
    let root = |name: &String| match name.parse() {
        Ok(FileName::Root(version)) => Some(version),
        Ok(_) | Err(_) => None,
    };
    let Some(first) = files.keys().filter_map(root).min() else { return Ok(None) };
    let pinned = files.get(&FileName::Root(first).wire()).map(Vec::as_slice).unwrap_or_default();
    TrustedSet::load(pinned, files).map(Some)
}
