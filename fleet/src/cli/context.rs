//! `muster context` and `muster login`: which fleet, and as whom. The tokens stand in one file that nobody else may read.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap_complete::engine::ArgValueCompleter;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::output::{Column, text};
use super::{CliError, Context, completing};
use crate::client::{Client, DEFAULT_SERVER};

const OTHERS: u32 = 0o077;
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const TOKEN_S: u64 = 12 * 3600;
const NAME_CHARS_MAX: usize = 64;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Adds a fleet, or replaces one of that name, and uses it from now on. Asks for a token; empty for none.
    #[command(after_help = "\
Examples:
  muster context add er --server https://fleet.hospital.example
  muster context add ci --server https://fleet.hospital.example --token-stdin < token")]
    Add {
        name: String,
        /// Reads the token from stdin instead of asking.
        #[arg(long)]
        token_stdin: bool,
    },
    /// Uses another from now on.
    #[command(after_help = "Example:\n  muster context use er")]
    Use {
        #[arg(add = ArgValueCompleter::new(completing::contexts))]
        name: String,
    },
    /// Lists them; the one in use is marked.
    #[command(visible_alias = "ls", after_help = "Example:\n  muster context list")]
    List,
    /// Forgets one, with its token. The token stays good: revoke it with `muster token revoke`.
    #[command(after_help = "Example:\n  muster context remove er")]
    Remove {
        #[arg(add = ArgValueCompleter::new(completing::contexts))]
        name: String,
    },
}

/// Logs in with a name and a password, and keeps a token of twelve hours in the context.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster login ada
  muster login ada --server https://fleet.hospital.example --password-stdin < password")]
pub(super) struct Login {
    /// Your name there.
    name: String,
    /// Reads the password from stdin instead of asking.
    #[arg(long)]
    password_stdin: bool,
}

/// The whole file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    contexts: BTreeMap<String, Known>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Where a command goes, and with which token.
pub(super) struct Chosen {
    pub(super) server: String,
    pub(super) token: Option<String>,
    /// The context that was meant.
    pub(super) context: Option<String>,
    /// Whether the address is that of the context.
    pub(super) is_kept: bool,
    /// Whether the token is kept there too, and was not said.
    pub(super) token_is_kept: bool,
}

impl Contexts {
    fn read(path: &Path) -> Result<Self, CliError> {
        let Ok(metadata) = path.metadata() else { return Ok(Self::default()) };
        let wrong = |what: String, next: &str| CliError::failed(format!("{}: {what}", path.display()), next);
        let mode = metadata.permissions().mode();
        if mode & OTHERS != 0 {
            return Err(wrong(
                "others may read the tokens in it".to_owned(),
                "chmod 600 it, and revoke its tokens",
            ));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(wrong(
                "it is too long to be a list of contexts".to_owned(),
                "name another with --contexts",
            ));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path)?);
        // The error's own text would show a line of the file.
        toml::from_str(&text)
            .map_err(|_| wrong("it is no list of contexts".to_owned(), "correct it or delete it"))
    }

    fn write(&self, path: &Path) -> Result<(), CliError> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let text = Zeroizing::new(toml::to_string(self).map_err(CliError::other)?);
        // The mode is 0600 from the first moment on.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(std::fs::File::open(dir)?.sync_all()?)
    }
}

/// What was said wins over the context; a context's token goes to the context's server and nowhere else.
pub(super) fn choose(
    path: Option<&Path>,
    name: Option<&str>,
    server: Option<String>,
    token: Option<String>,
) -> Result<Chosen, CliError> {
    let contexts = path.map_or_else(|| Ok(Contexts::default()), Contexts::read)?;
    let found = match name.or(contexts.current.as_deref()) {
        Some(name) => Some(contexts.contexts.get(name).cloned().ok_or_else(|| unknown(name))?),
        None => None,
    };
    let same =
        |known: &Known| server.as_ref().is_none_or(|server| server.trim_end_matches('/') == known.server);
    let is_kept = found.as_ref().is_some_and(same);
    let kept = found.as_ref().filter(|_| is_kept).and_then(|known| known.token.clone());
    let known = found.map(|known| known.server);
    let said = token.filter(|token| !token.is_empty());
    let token_is_kept = said.is_none() && kept.is_some();
    Ok(Chosen {
        server: server.or(known).unwrap_or_else(|| DEFAULT_SERVER.to_owned()),
        token: said.or(kept),
        context: name.map(str::to_owned).or(contexts.current),
        is_kept,
        token_is_kept,
    })
}

/// Names of the contexts that are kept; none if the file cannot be read.
pub(super) fn names(path: &Path) -> Vec<String> {
    Contexts::read(path).unwrap_or_default().contexts.into_keys().collect()
}

/// Where the file is, if nobody said.
pub(super) fn default_file() -> Option<PathBuf> {
    std::env::home_dir()
        .filter(|home| !home.as_os_str().is_empty())
        .map(|home| home.join(".config/muster/contexts.toml"))
}

pub(super) fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let path = file(context)?;
    let mut contexts = Contexts::read(&path)?;
    match verb {
        Verb::Add { name, token_stdin } => {
            named(&name)?;
            // Refuses what is no address before it is kept.
            let server = Client::new(&context.server)?.server().to_owned();
            let token = secret(context, token_stdin, "Token (empty for none): ")?;
            let token = (!token.is_empty()).then(|| token.to_string());
            contexts.contexts.insert(name.clone(), Known { server: server.clone(), token });
            contexts.current = Some(name.clone());
            contexts.write(&path)?;
            context.output.say(&format!("using {name}: {server}"))
        }
        Verb::Use { name } => {
            let known = contexts.contexts.get(&name).ok_or_else(|| unknown(&name))?.server.clone();
            contexts.current = Some(name.clone());
            contexts.write(&path)?;
            context.output.say(&format!("using {name}: {known}"))
        }
        Verb::List => {
            let item = |(name, known): (&String, &Known)| {
                json!({"name": name, "server": known.server, "token": known.token.is_some(),
                    "current": contexts.current.as_ref() == Some(name)})
            };
            let items: Vec<Value> = contexts.contexts.iter().map(item).collect();
            context.output.list(&json!({ "items": items }), "/name", COLUMNS)
        }
        Verb::Remove { name } => {
            contexts.contexts.remove(&name).ok_or_else(|| unknown(&name))?;
            contexts.current = contexts.current.filter(|current| *current != name);
            contexts.write(&path)?;
            context.output.say(&format!("forgot {name}"))
        }
    }
}

const COLUMNS: &[Column] = &[
    Column { title: "", cell: |c| if c["current"] == true { "*".to_owned() } else { String::new() } },
    Column { title: "NAME", cell: |c| text(c, "/name") },
    Column { title: "SERVER", cell: |c| text(c, "/server") },
    Column {
        title: "TOKEN",
        cell: |c| if c["token"] == true { "kept".to_owned() } else { "none".to_owned() },
    },
];

pub(super) async fn login(context: &mut Context, login: Login) -> Result<(), CliError> {
    let path = file(context)?;
    let mut contexts = Contexts::read(&path)?;
    let password = secret(context, login.password_stdin, "Password: ")?;
    let client = Client::new(&context.server)?.logged_in(&login.name, &password).await?;
    let wish = json!({"label": "muster login", "role": "admin", "for_s": TOKEN_S});
    let made = client.post("/api/v1/tokens", &[], &wish).await?;
    client.post("/api/v1/logout", &[], &json!({})).await?;
    let secret = made.get("secret").and_then(Value::as_str);
    let secret =
        secret.ok_or_else(|| CliError::failed("the answer holds no token", "is the server newer?"))?;
    let server = client.server().to_owned();
    let named =
        contexts.contexts.iter().find(|(_, known)| known.server == server).map(|(name, _)| name.clone());
    let name = named.unwrap_or_else(|| "default".to_owned());
    contexts.contexts.insert(name.clone(), Known { server, token: Some(secret.to_owned()) });
    contexts.current = Some(name);
    contexts.write(&path)?;
    context.output.say(&format!("logged in as {} until {}", login.name, text(&made, "/token/expires")))
}

fn file(context: &Context) -> Result<PathBuf, CliError> {
    let none = || CliError::failed("there is no home folder for the contexts", "name a file with --contexts");
    context.contexts.clone().ok_or_else(none)
}

fn named(name: &str) -> Result<(), CliError> {
    let fits = (1..=NAME_CHARS_MAX).contains(&name.len());
    if fits && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        Ok(())
    } else {
        Err(CliError::Usage(format!(
            "error: '{name}' is no name of a context: use letters, digits, '-', '_' and '.'"
        )))
    }
}

fn unknown(name: &str) -> CliError {
    CliError::failed(format!("there is no context {name}"), "look at `muster context list`, or add it")
}

/// Never as an argument: those are for everybody on the machine to see.
fn secret(context: &mut Context, stdin: bool, question: &str) -> Result<Zeroizing<String>, CliError> {
    if stdin || !context.output.is_interactive() {
        let mut line = Zeroizing::new(String::with_capacity(1024));
        std::io::stdin().read_line(&mut line)?;
        return Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()));
    }
    Ok(Zeroizing::new(rpassword::prompt_password(question)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/contexts.toml");
        let known =
            |server: &str, token: &str| Known { server: server.to_owned(), token: Some(token.to_owned()) };
        let contexts =
            [("a".to_owned(), known("http://a", "mst_a")), ("b".to_owned(), known("http://b", "mst_b"))];
        Contexts { current: Some("a".to_owned()), contexts: contexts.into() }.write(&path).unwrap();
        (dir, path)
    }

    #[test]
    fn what_was_said_wins_and_tokens_stay_with_their_server() {
        let (_dir, path) = contexts();
        let check =
            |name: Option<&str>, server: Option<&str>, token: Option<&str>, expect: (&str, Option<&str>)| {
                let chosen =
                    choose(Some(&path), name, server.map(str::to_owned), token.map(str::to_owned)).unwrap();
                assert_eq!(
                    (chosen.server.as_str(), chosen.token.as_deref()),
                    expect,
                    "{name:?} {server:?} {token:?}"
                );
            };
        check(None, None, None, ("http://a", Some("mst_a")));
        check(Some("b"), None, None, ("http://b", Some("mst_b")));
        check(None, Some("http://a/"), None, ("http://a/", Some("mst_a")));
        check(None, Some("http://evil"), None, ("http://evil", None));
        check(None, Some("http://evil"), Some("mst_c"), ("http://evil", Some("mst_c")));
        check(None, None, Some("mst_c"), ("http://a", Some("mst_c")));
        assert!(choose(Some(&path), Some("c"), None, None).is_err());
        assert_eq!(choose(None, None, None, None).unwrap().server, DEFAULT_SERVER);
    }

    #[test]
    fn the_file_is_private_and_an_open_one_is_refused() {
        let (_dir, path) = contexts();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Contexts::read(&path).unwrap_err().message().contains("others may read"));
        std::fs::write(&path, "token = \"mst_secret\"").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let message = Contexts::read(&path).unwrap_err().message();
        assert!(!message.contains("mst_secret"), "{message}");
    }
}
