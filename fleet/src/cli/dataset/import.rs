//! Data that another tool keeps, as a version here: files are found by that tool's hashes, which are held against them, and
//! hashed again by ours, because SHA-1 and MD5 can be forged.

use std::path::{Path, PathBuf};

use clap::ArgGroup;
use muster_protocol::ids::DatasetName;

use super::super::{CliError, Context};
use super::add::{How, put};
use crate::dataset::Source;
use crate::table::foreign::{ForeignError, Found, artivc, dvc};

pub(super) const EXAMPLES: &str = "\
Only .parquet files are taken. The commit is kept with the version as an external reference, and a file whose content does
not match the other tool's own hash is refused.

Examples:
  muster dataset import er-beds --artivc /srv/artivc/wards
  muster dataset import er-beds --artivc /srv/artivc/wards --ref v1.2
  muster dataset import er-beds --dvc data/beds.parquet.dvc
  muster dataset import er-beds --dvc data/warehouse.dvc";

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("from").required(true))]
pub(in crate::cli) struct Args {
    name: DatasetName,
    /// The folder of an `ArtiVC` repository: the one with commits, objects and refs in it.
    #[arg(long, group = "from", value_name = "FOLDER")]
    artivc: Option<PathBuf>,
    /// Which commit: a tag, latest, or a commit's first digits.
    #[arg(long = "ref", value_name = "REF", default_value = "latest", conflicts_with = "dvc")]
    reference: String,
    /// A .dvc file; its data lies beside it, as `dvc pull` leaves it.
    #[arg(long, group = "from", value_name = "FILE")]
    dvc: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Result<(), CliError> {
    let Args { name, artivc: repository, reference, dvc: file, mut how } = args;
    let find = move || found(repository.as_deref(), &reference, file.as_deref());
    let found = tokio::task::spawn_blocking(find).await.map_err(CliError::other)?;
    let Found { files, external, message } = found.map_err(CliError::other)?;
    how.external.extend(external);
    if how.note.is_empty() {
        how.note = message;
    }
    put(context, &name, files, Source::Files, &how).await
}

fn found(repository: Option<&Path>, reference: &str, file: Option<&Path>) -> Result<Found, ForeignError> {
    match (repository, file) {
        (Some(repository), _) => artivc(repository, reference),
        (None, Some(file)) => dvc(file),
        (None, None) => Ok(Found::default()),
    }
}
