//! What is known of a dataset: which files are one version of it, what is in them, whether that is good enough, and how
//! two versions differ.
//!
//! ```text
//!   files ─▶ manifest ─ its digest is the version's name
//!     └ columns, row by row ─▶ sketch ─▶ profile ─┬▶ rules: held or broken, with what was measured
//!                                                 └▶ compare (A, B) ─▶ report
//! ```
//!
//! Pure: values come in by [`profile::Profiler`] from whoever reads the files; nothing here reads or writes one.

pub mod compare;
pub mod external;
pub mod join;
pub mod manifest;
pub mod profile;
pub mod reference;
pub mod report;
pub mod rules;
pub mod sketch;

pub use compare::{Comparison, compare};
pub use external::External;
pub use manifest::{Column, FileEntry, Kind, Manifest, ManifestError, Source};
pub use profile::{Profile, Profiler};
pub use reference::{DatasetRef, VersionRef};
pub use rules::{Checked, Rule, check};
