//! With whose keys a command signs: key files, opened by their passphrases, and programs in front of hardware.
//!
//! A signing command may be as small as this one, which has its Ed25519 key in a file where a module would hold it:
//!
//! ```sh
//! t=$(mktemp) && cat > "$t" && openssl pkeyutl -sign -rawin -inkey key.pem -in "$t" | od -An -v -tx1 | tr -d ' \n'
//! ```
//!
//! A passphrase is never an argument or a variable, where other processes could read it: it is typed, or it is the first
//! line of a file.

use std::path::PathBuf;

use clap::Args;
use muster_protocol::trust::Sign;
use zeroize::Zeroizing;

use super::{CliError, Context};
use crate::publisher::Workspace;
use crate::publisher::external::ExternalSigner;
use crate::publisher::passphrase::Passphrase;

/// Signs with all of them.
#[derive(Debug, Args)]
pub(super) struct Signers {
    /// A private key of the workspace by name, or a key file. Repeatable.
    #[arg(long, required_unless_present = "sign_with")]
    key: Vec<String>,
    /// A command that signs for a hardware module, key service or smart card. It is run by `sh -c`, gets the bytes to
    /// sign on stdin and prints the Ed25519 signature as 128 hexadecimal digits, within two minutes. Repeatable, each
    /// with its --public.
    #[arg(long, value_name = "CMD", requires = "public")]
    sign_with: Vec<String>,
    /// The public key that belongs to --sign-with: a name in the workspace, a .pub file or 64 digits. What comes back
    /// is verified with it.
    #[arg(long, value_name = "KEY", requires = "sign_with")]
    public: Vec<String>,
    #[command(flatten)]
    passphrase: PassphraseFile,
}

#[derive(Debug, Args)]
pub(super) struct PassphraseFile {
    /// A file whose first line is the passphrase, for use without a terminal; readable by its owner only.
    #[arg(long, env = "MUSTER_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Signers {
    pub(super) fn open(
        &self,
        context: &mut Context,
        workspace: &Workspace,
    ) -> Result<Vec<Box<dyn Sign>>, CliError> {
        if self.sign_with.len() != self.public.len() {
            return Err(CliError::Usage(format!(
                "error: {} times --sign-with and {} times --public: give each command the public key of its own",
                self.sign_with.len(),
                self.public.len()
            )));
        }
        let mut signers: Vec<Box<dyn Sign>> = Vec::with_capacity(self.key.len() + self.sign_with.len());
        for name in &self.key {
            let file = workspace.key_file(name).map_err(CliError::other)?;
            let passphrase =
                if file.is_encrypted() { Some(self.passphrase.opening(context, name)?) } else { None };
            signers.push(Box::new(file.unlock(passphrase.as_ref()).map_err(CliError::other)?));
        }
        for (command, public) in self.sign_with.iter().zip(&self.public) {
            let public = workspace.public_key(public).map_err(CliError::other)?;
            signers.push(Box::new(ExternalSigner::new(command, public)));
        }
        Ok(signers)
    }
}

impl PassphraseFile {
    /// What a new key is to be encrypted with.
    pub(super) fn choose(&self, context: &Context, name: &str) -> Result<Passphrase, CliError> {
        let text = match &self.passphrase_file {
            Some(file) => Passphrase::read(file).map_err(CliError::other)?,
            None if !context.output.is_interactive() => {
                return Err(CliError::failed(
                    "a key is encrypted with a passphrase, and there is no terminal to ask for one",
                    "give --passphrase-file FILE, or --no-passphrase for a key that only its file mode protects",
                ));
            }
            None => {
                let first = typed(&format!("New passphrase for {name}: "))?;
                if first != typed("The same again: ")? {
                    return Err(CliError::failed("the two passphrases differ; no key was made", "try again"));
                }
                first
            }
        };
        Passphrase::new(text).map_err(CliError::other)
    }

    fn opening(&self, context: &Context, name: &str) -> Result<Passphrase, CliError> {
        let text = match &self.passphrase_file {
            Some(file) => Passphrase::read(file).map_err(CliError::other)?,
            None if !context.output.is_interactive() => {
                return Err(CliError::failed(
                    format!(
                        "the key '{name}' is encrypted, and there is no terminal to ask for its passphrase"
                    ),
                    "give --passphrase-file FILE, or set MUSTER_PASSPHRASE_FILE",
                ));
            }
            None => typed(&format!("Passphrase for {name}: "))?,
        };
        Passphrase::given(text).map_err(CliError::other)
    }
}

/// All signers as the ceremonies take them.
pub(super) fn borrowed(signers: &[Box<dyn Sign>]) -> Vec<&dyn Sign> {
    signers.iter().map(AsRef::as_ref).collect()
}

fn typed(question: &str) -> Result<Zeroizing<String>, CliError> {
    Ok(Zeroizing::new(rpassword::prompt_password(question)?))
}
