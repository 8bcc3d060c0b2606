//! `muster bundle oms`: signatures of OpenSSF Model Signing, and the gate that asks for one before a model comes in.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::builder::bundle::{BundleFolder, MANIFEST_FILE};
use crate::cli::output::Format;
use crate::cli::{CliError, Context};
use crate::oms::{self, SIGNATURE_FILE, SigningKey, Verified, VerifyKey};

const SIGN_EXAMPLES: &str = "\
Examples:
  muster bundle oms new-key acme                      # acme.pem stays with you, acme.pub goes to who verifies
  muster bundle oms sign bundles/er-7 --key acme.pem
  model_signing verify key bundles/er-7 --signature bundles/er-7/model.sig --public_key acme.pub";

const VERIFY_EXAMPLES: &str = "\
Examples:
  model_signing sign key out --signature out/model.sig --private_key acme.pem
  muster bundle oms verify out --key acme.pub
  muster bundle build --oms-key acme.pub --from out --model er-beds --version 7 --out bundles/er-7";

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Verb {
    /// Makes a P-256 key: NAME.pem, for you alone, and NAME.pub.
    #[command(after_help = "Example:\n  muster bundle oms new-key acme")]
    NewKey {
        /// A path without ending.
        name: PathBuf,
    },
    /// Signs every file of a folder, so that `model_signing verify key` accepts it.
    #[command(after_help = SIGN_EXAMPLES)]
    Sign {
        folder: PathBuf,
        /// P-256, P-384 or P-521 in PEM (PKCS#8 or SEC 1), unencrypted, readable by you alone.
        #[arg(long)]
        key: PathBuf,
        /// Where the signature goes; FOLDER/model.sig if not given.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Checks that a folder is, file for file, what the holder of a key signed.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        folder: PathBuf,
        /// The signer's public key in PEM.
        #[arg(long)]
        key: PathBuf,
        /// FOLDER/model.sig if not given.
        #[arg(long)]
        signature: Option<PathBuf>,
    },
}

/// Asks for the data-science team's signature before anything is read.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Gate {
    /// Refuse the folder unless the holder of this key signed every file in it (OpenSSF Model Signing).
    #[arg(long, value_name = "KEY.pub")]
    oms_key: Option<PathBuf>,
    /// That signature; FOLDER/model.sig if not given.
    #[arg(long, value_name = "FILE", requires = "oms_key")]
    oms_signature: Option<PathBuf>,
}

/// A folder to read from: the one that was named, or the verified copy of it, which goes when this does.
#[derive(Debug)]
pub(super) struct SourceFolder {
    path: PathBuf,
    _copy: Option<tempfile::TempDir>,
}

impl SourceFolder {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

pub(super) fn run(context: &mut Context, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::NewKey { name } => {
            let path = name.with_added_extension("pem");
            let key = SigningKey::create(&path).map_err(CliError::other)?;
            context.output.say(&format!("made {}; keep it safe", path.display()))?;
            context.output.line(&key.public().hint())
        }
        Verb::Sign { folder, key, out } => {
            let key = SigningKey::load(key).map_err(CliError::other)?;
            let out = out.clone().unwrap_or_else(|| folder.join(SIGNATURE_FILE));
            let signed = oms::sign(folder, &out, &key).map_err(CliError::other)?;
            context.output.say(&format!("signed {} files of {}", signed.files.len(), signed.name))?;
            context.output.line(&out.display().to_string())
        }
        Verb::Verify { folder, key, signature } => {
            let key = VerifyKey::load(key).map_err(CliError::other)?;
            let verified = oms::verify(folder, &placed(folder, signature.as_deref()), &key);
            show(context, &verified.map_err(CliError::other)?, &key)
        }
    }
}

impl Gate {
    /// Where `muster bundle build` may read the trainer's output: with a key, a private copy beside the new bundle,
    /// because what was verified must be what is read a minute later.
    pub(super) fn source(
        &self,
        context: &mut Context,
        folder: &Path,
        out: &Path,
    ) -> Result<SourceFolder, CliError> {
        let Some(key) = &self.oms_key else {
            return Ok(SourceFolder { path: folder.to_owned(), _copy: None });
        };
        let key = VerifyKey::load(key).map_err(CliError::other)?;
        let beside = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(beside).map_err(CliError::other)?;
        let copy = tempfile::Builder::new().prefix(".signed-").tempdir_in(beside).map_err(CliError::other)?;
        let signature = placed(folder, self.oms_signature.as_deref());
        let verified = oms::verify_copy(folder, &signature, &key, copy.path()).map_err(CliError::other)?;
        say(context, &verified, &key)?;
        Ok(SourceFolder { path: copy.path().to_owned(), _copy: Some(copy) })
    }

    /// For `muster bundle add`: the manifest that was read must be the one that was signed; it names all else by hash.
    pub(super) fn bundle(&self, context: &mut Context, bundle: &BundleFolder) -> Result<(), CliError> {
        let Some(key) = &self.oms_key else { return Ok(()) };
        let key = VerifyKey::load(key).map_err(CliError::other)?;
        let signature = placed(&bundle.path, self.oms_signature.as_deref());
        let verified = oms::verify(&bundle.path, &signature, &key).map_err(CliError::other)?;
        if verified.files.get(MANIFEST_FILE) != Some(&bundle.sha256) {
            return Err(CliError::failed(
                format!("{MANIFEST_FILE} changed while it was read"),
                "let nobody write to the folder, and try again",
            ));
        }
        say(context, &verified, &key)
    }
}

fn placed(folder: &Path, signature: Option<&Path>) -> PathBuf {
    signature.map_or_else(|| folder.join(SIGNATURE_FILE), Path::to_owned)
}

fn say(context: &mut Context, verified: &Verified, key: &VerifyKey) -> Result<(), CliError> {
    let (files, hint) = (verified.files.len(), key.hint());
    context.output.say(&format!("{files} files of {:?} are signed by key {}…", verified.name, &hint[..12]))
}

fn show(context: &mut Context, verified: &Verified, key: &VerifyKey) -> Result<(), CliError> {
    if context.output.format() == Format::Json {
        return context.output.json(&serde_json::json!({
            "name": verified.name, "key": key.hint(), "files": verified.files,
        }));
    }
    say(context, verified, key)
}
