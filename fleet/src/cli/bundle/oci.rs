//! `muster bundle export` and `import`: bundles as OCI layouts, for registries and for whoever has no fleet server.

use std::path::PathBuf;

use serde_json::json;

use crate::builder::bundle::BundleFolder;
use crate::cli::output::Format;
use crate::cli::{CliError, Context};
use crate::oci::{self, Package};

pub(super) const EXPORT_EXAMPLES: &str = "\
The layout follows the CNCF ModelPack specification; one layer a file, the bundle's manifest and its OpenSSF signature
(model.sig, if there is one) among them. The same bundle gives the same bytes everywhere.

Examples:
  muster bundle export bundles/er-7 --oci er-7.oci
  oras copy --from-oci-layout er-7.oci:er-beds:7 registry.example/models/er-beds:7
  muster bundle export bundles/er-7 --tar er-7.tar";

pub(super) const IMPORT_EXAMPLES: &str = "\
Every blob is held against its digest and every file against the bundle's manifest. Who may run it is still said by the
signed catalogue: `muster bundle add` comes next.

Examples:
  muster bundle import --oci er-7.oci --out bundles/er-7
  muster bundle import --tar er-7.tar --out bundles/er-7 && muster bundle add bundles/er-7";

/// Where a layout is, or goes.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct Place {
    /// A folder.
    #[arg(long, value_name = "DIR")]
    oci: Option<PathBuf>,
    /// One tar file.
    #[arg(long, value_name = "FILE")]
    tar: Option<PathBuf>,
}

pub(super) fn export(context: &mut Context, folder: &std::path::Path, to: &Place) -> Result<(), CliError> {
    // Refuses a folder that is not what its manifest says before anything is written.
    let bundle = BundleFolder::open(folder).map_err(CliError::other)?;
    let package = match (&to.oci, &to.tar) {
        (Some(out), _) => oci::export(&bundle.path, out),
        (None, Some(out)) => oci::export_tar(&bundle.path, out),
        (None, None) => return Err(CliError::Usage("name a place with --oci or --tar".to_owned())),
    };
    show(context, &package.map_err(CliError::other)?)
}

pub(super) fn import(context: &mut Context, from: &Place, out: &std::path::Path) -> Result<(), CliError> {
    let package = match (&from.oci, &from.tar) {
        (Some(layout), _) => oci::import(layout, out),
        (None, Some(tar)) => oci::import_tar(tar, out),
        (None, None) => return Err(CliError::Usage("name a layout with --oci or --tar".to_owned())),
    };
    show(context, &package.map_err(CliError::other)?)
}

fn show(context: &mut Context, package: &Package) -> Result<(), CliError> {
    let Package { reference, image, bundle, files } = package;
    match context.output.format() {
        Format::Json => context.output.json(&json!({
            "reference": reference, "image": format!("sha256:{image}"), "bundle": bundle, "files": files,
        })),
        Format::Name => context.output.line(&bundle.to_string()),
        Format::Table => {
            context.output.say(&format!("{reference}: {files} files"))?;
            context.output.line(&format!("image   sha256:{image}"))?;
            context.output.line(&format!("bundle  {bundle}"))
        }
    }
}
