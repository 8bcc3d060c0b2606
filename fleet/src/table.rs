//! Tables in files: Parquet as it lies on the disk, read column by column and written whole.
//!
//! Opened only where people and builders work, never in the server: a reader of other people's files has a large surface,
//! and the server decides what boxes run. Knows nothing of datasets' names and versions.

pub mod foreign;
mod read;
mod survey;
mod write;

use std::path::PathBuf;

pub use read::{Contents, contents, profile};
pub use survey::{Beat, Survey, Surveyed, hashed};
pub use write::write;

#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("{} cannot be opened", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is no Parquet file that can be read here; write it with snappy, zstd or no compression", path.display())]
    Parquet {
        path: PathBuf,
        #[source]
        source: Box<parquet::errors::ParquetError>,
    },
    #[error("{} has {found} columns; at most {max} are looked at", path.display())]
    Columns { path: PathBuf, found: usize, max: usize },
    #[error("{} has no column '{column}'", path.display())]
    NoColumn { path: PathBuf, column: String },
    #[error("{} has other columns than {}: {what}", path.display(), first.display())]
    OtherColumns { path: PathBuf, first: PathBuf, what: String },
}
