//! `agent.toml`: read, completed from the environment, checked. The only file that reads the environment.
//!
//! Where the fleet is and whom to trust is not written here: that comes with the enrolment, once, and whoever may write
//! this file may not change it.
//!
//! An unknown key is refused, because a misspelt key would otherwise be a setting that silently is not set.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::checkup::Room;
use muster_protocol::drift::Floor;
use muster_protocol::time::WorldScale;
use muster_protocol::trust::Consent;
use serde::Deserialize;

/// Folder of the inference runtime, where the configuration names none.
pub const RUNTIME_VARIABLE: &str = "MUSTER_RUNTIME";
/// Scale of the world's time as JSON, where the configuration has none.
pub const CLOCK_VARIABLE: &str = "MUSTER_WORLD_CLOCK";

const RUNTIME_DEFAULT: &str = ".muster/runtime";
const NAME_BYTES_MAX: usize = 64;
const SERVE_MB_MAX: usize = 16 * 1024;
const WAITING_MAX: usize = 4096;
const MEGABYTE: u64 = 1_000_000;

/// Everything the agent must be told, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What people call the box; else as it was enrolled.
    pub name: Option<String>,
    pub state_dir: PathBuf,
    pub serve: Serve,
    pub runtime_dir: PathBuf,
    /// World time between reports.
    pub report_every: Duration,
    /// Nothing of fewer rows leaves the box.
    pub floor: Floor,
    /// A download that brings fewer bytes a second than this, over that time, is given up and tried again later.
    pub slowest: (u64, Duration),
    pub scale: WorldScale,
    /// Whether the owner of this box wants to be asked before another bundle takes over, whatever the fleet wants.
    pub consent: Consent,
    /// The site's own word on which rows may be captured; without it none ever are.
    pub capture_policy: Option<PathBuf>,
    /// What `muster-agent doctor` wants free where the state folder is.
    pub room: Room,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}; give its path with --config", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the configuration {} is not understood", path.display())]
    Toml {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("'{key}' is '{value}': {rule}")]
    Value { key: &'static str, value: String, rule: &'static str },
    #[error(
        "{CLOCK_VARIABLE} is not the JSON of a clock: {{\"wall_start\":…,\"world_start\":…,\"factor\":…}}"
    )]
    Clock(#[source] serde_json::Error),
}

/// What is logged, such as `debug` or `muster_agent=debug,info`.
const LOG_VARIABLE: &str = "MUSTER_LOG";

/// What the environment may add.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub runtime: Option<PathBuf>,
    pub clock: Option<String>,
    pub log: Option<String>,
}

impl Environment {
    #[expect(clippy::disallowed_methods, reason = "this file is where the environment is read")]
    pub fn read() -> Self {
        let runtime = std::env::var_os(RUNTIME_VARIABLE).map(PathBuf::from);
        Self { runtime, clock: std::env::var(CLOCK_VARIABLE).ok(), log: std::env::var(LOG_VARIABLE).ok() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    state_dir: PathBuf,
    #[serde(default)]
    serve: Serve,
    #[serde(default)]
    runtime: Runtime,
    #[serde(default)]
    report: Report,
    #[serde(default)]
    download: Download,
    #[serde(default)]
    activation: Activation,
    #[serde(default)]
    capture: Capture,
    #[serde(default)]
    disk: Disk,
    clock: Option<WorldScale>,
}

/// As `checkup::Room`, in megabytes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Disk {
    warn_below_mb: u64,
    fail_below_mb: u64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Capture {
    policy: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Activation {
    consent: House,
}

/// As `trust::Consent`, in a configuration's spelling.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum House {
    #[default]
    NotNeeded,
    Ask,
}

/// Where and how much applications are served.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serve {
    pub listen: SocketAddr,
    /// One more address.
    pub grpc: Option<SocketAddr>,
    /// A socket file.
    pub unix: Option<PathBuf>,
    /// Of one request, after it was inflated.
    pub request_mb: usize,
    /// Of all requests that are held at one moment.
    pub requests_mb: usize,
    /// Requests that may wait for one model.
    pub waiting: usize,
    /// Of all cores what a bundle may take that runs beside the one that answers, to be compared with it; 0 runs none.
    pub shadow_percent: u8,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Runtime {
    dir: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Report {
    every_s: u64,
    k: u64,
}

/// See `download::Slowest`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Download {
    slowest_bytes_per_s: u64,
    slowest_over_s: u64,
}

impl Default for Download {
    fn default() -> Self {
        Self { slowest_bytes_per_s: 1024, slowest_over_s: 600 }
    }
}

impl Default for Disk {
    /// Room for a bundle, and for what a download leaves free.
    fn default() -> Self {
        Self { warn_below_mb: 512, fail_below_mb: 64 }
    }
}

impl Default for Serve {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8001));
        Self {
            listen,
            grpc: None,
            unix: None,
            request_mb: 64,
            requests_mb: 256,
            waiting: 64,
            shadow_percent: 25,
        }
    }
}

impl Default for Report {
    fn default() -> Self {
        Self { every_s: 30, k: Floor::LEAST.rows() }
    }
}

impl Config {
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path, environment)
    }

    /// All defaults, for a state folder whose box has no configuration.
    pub fn bare(state_dir: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        Self::parse("state_dir = '.'", state_dir, environment)
            .map(|config| Self { state_dir: state_dir.to_owned(), ..config })
    }

    /// Paths in the text are relative to the folder of `path`, so that a configuration can be started from anywhere.
    fn parse(text: &str, path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text)
            .map_err(|source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) })?;
        let beside = path.parent().unwrap_or(Path::new(""));
        let runtime_dir = match (file.runtime.dir, &environment.runtime) {
            (Some(dir), _) => beside.join(dir),
            (None, Some(dir)) => dir.clone(),
            (None, None) => PathBuf::from(RUNTIME_DEFAULT),
        };
        let scale = match (file.clock, &environment.clock) {
            (Some(scale), _) => scale,
            (None, Some(json)) => serde_json::from_str(json).map_err(ConfigError::Clock)?,
            (None, None) => WorldScale::default(),
        };
        if !(scale.factor.is_finite() && scale.factor > 0.0) {
            return wrong("clock.factor", &scale.factor.to_string(), "write a number above 0");
        }
        if let Some(name) = &file.name
            && (name.trim().is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control))
        {
            return wrong(
                "name",
                name,
                "write 1 to 64 bytes, or leave it out: then it is as the box was enrolled",
            );
        }
        if file.report.every_s == 0 {
            return wrong("report.every_s", "0", "write at least 1 second of world time");
        }
        let Ok(floor) = Floor::try_from(file.report.k) else {
            let rule = "write 5 to 1000: a site may tell less than the default of 5, and never more";
            return wrong("report.k", &file.report.k.to_string(), rule);
        };
        let serve = file.serve;
        for (key, address) in [("serve.listen", Some(serve.listen)), ("serve.grpc", serve.grpc)] {
            if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
                let rule = "this version serves applications on the box only; write 127.0.0.1:PORT";
                return wrong(key, &address.to_string(), rule);
            }
        }
        for (key, value, max) in [
            ("serve.request_mb", serve.request_mb, SERVE_MB_MAX),
            ("serve.requests_mb", serve.requests_mb, SERVE_MB_MAX),
            ("serve.waiting", serve.waiting, WAITING_MAX),
        ] {
            if value == 0 || value > max {
                return wrong(
                    key,
                    &value.to_string(),
                    "write at least 1; 16384 megabytes and 4096 requests are the most",
                );
            }
        }
        let Disk { warn_below_mb, fail_below_mb } = file.disk;
        if fail_below_mb > warn_below_mb {
            let rule = "write no more than disk.warn_below_mb: what is broken is worth a warning before";
            return wrong("disk.fail_below_mb", &fail_below_mb.to_string(), rule);
        }
        if serve.shadow_percent > 100 {
            return wrong("serve.shadow_percent", &serve.shadow_percent.to_string(), "write 0 (none) to 100");
        }
        Ok(Self {
            name: file.name,
            state_dir: beside.join(file.state_dir),
            serve: Serve { unix: serve.unix.map(|path| beside.join(path)), ..serve },
            runtime_dir,
            report_every: Duration::from_secs(file.report.every_s),
            floor,
            slowest: (
                file.download.slowest_bytes_per_s,
                Duration::from_secs(file.download.slowest_over_s.max(1)),
            ),
            scale,
            consent: match file.activation.consent {
                House::NotNeeded => Consent::NotNeeded,
                House::Ask => Consent::Ask,
            },
            capture_policy: file.capture.policy.map(|policy| beside.join(policy)),
            room: Room {
                warn_below: warn_below_mb.saturating_mul(MEGABYTE),
                fail_below: fail_below_mb.saturating_mul(MEGABYTE),
            },
        })
    }
}

fn wrong<T>(key: &'static str, value: &str, rule: &'static str) -> Result<T, ConfigError> {
    Err(ConfigError::Value { key, value: value.chars().take(120).collect(), rule })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    const GOOD: &str = r#"
        name = "er-1"
        state_dir = "state"
    "#;

    fn parse(text: &str, environment: &Environment) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/muster/agent.toml"), environment)
    }

    #[test]
    fn the_least_is_enough_and_paths_are_beside_the_file() {
        let config = parse(GOOD, &Environment::default()).unwrap();
        assert_eq!(config.state_dir, Path::new("/etc/muster/state"));
        assert_eq!(config.name.as_deref(), Some("er-1"));
        assert_eq!(parse("state_dir = 'state'", &Environment::default()).unwrap().name, None);
        assert_eq!(config.runtime_dir, Path::new(".muster/runtime"));
        assert_eq!(config.serve, Serve::default());
        assert_eq!(config.report_every, Duration::from_secs(30));
        assert_eq!(config.scale, WorldScale::default());
        assert_eq!(config.consent, Consent::NotNeeded);
        assert_eq!(config.capture_policy, None);
        let policy = parse(&format!("{GOOD}\n[capture]\npolicy = \"capture.toml\""), &Environment::default());
        assert_eq!(policy.unwrap().capture_policy.unwrap(), Path::new("/etc/muster/capture.toml"));
        let room =
            parse(&format!("{GOOD}\n[disk]\nwarn_below_mb = 64"), &Environment::default()).unwrap().room;
        assert_eq!(room, Room { warn_below: 64_000_000, fail_below: 64_000_000 });
        let bare = Config::bare(Path::new("/var/lib/muster"), &Environment::default()).unwrap();
        assert_eq!(bare.state_dir, Path::new("/var/lib/muster"));
        let asked = parse(&format!("{GOOD}\n[activation]\nconsent = \"ask\""), &Environment::default());
        assert_eq!(asked.unwrap().consent, Consent::Ask);
    }

    #[test]
    fn where_and_how_much_is_served() {
        let text = format!(
            "{GOOD}\n[serve]\ngrpc = \"127.0.0.1:0\"\nunix = \"oip.sock\"\nrequest_mb = 1\nrequests_mb = 2\nwaiting = 3"
        );
        let config = parse(&text, &Environment::default()).unwrap();
        let expect = Serve {
            grpc: Some("127.0.0.1:0".parse().unwrap()),
            unix: Some("/etc/muster/oip.sock".into()),
            request_mb: 1,
            requests_mb: 2,
            waiting: 3,
            ..Serve::default()
        };
        assert_eq!(config.serve, expect);
    }

    #[test]
    fn the_file_wins_over_the_environment() {
        let environment = Environment {
            runtime: Some("/opt/runtime".into()),
            log: None,
            clock: Some(
                r#"{"wall_start":"2026-01-01T00:00:00Z","world_start":"2026-01-01T00:00:00Z","factor":60}"#
                    .to_owned(),
            ),
        };
        let config = parse(GOOD, &environment).unwrap();
        assert_eq!(config.runtime_dir, Path::new("/opt/runtime"));
        assert!((config.scale.factor - 60.0).abs() < f64::EPSILON);
        let config = parse(&format!("{GOOD}\n[runtime]\ndir = \"/usr/lib/ml\""), &environment).unwrap();
        assert_eq!(config.runtime_dir, Path::new("/usr/lib/ml"));
    }

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, says: &str| {
            let error = parse(text, &Environment::default()).unwrap_err();
            let chain = format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
            assert!(chain.contains(says), "{chain}");
        };
        check(&format!("colour = 1\n{GOOD}"), "colour");
        check(&format!("{GOOD}\nusername = \"x\""), "username");
        check(&format!("{GOOD}\nroot = \"root.json\""), "root");
        check(&format!("{GOOD}\n[fleet]\nmqtt = \"mqtt://127.0.0.1:1883\""), "fleet");
        check(&GOOD.replace("name = \"er-1\"", "name = \"\""), "'name'");
        check(&format!("{GOOD}\n[serve]\nlisten = \"0.0.0.0:80\""), "serve.listen");
        check(&format!("{GOOD}\n[serve]\ngrpc = \"0.0.0.0:80\""), "serve.grpc");
        check(&format!("{GOOD}\n[serve]\nrequest_mb = 0"), "serve.request_mb");
        check(&format!("{GOOD}\n[serve]\nwaiting = 5000"), "serve.waiting");
        check(&format!("{GOOD}\n[serve]\nshadow_percent = 101"), "serve.shadow_percent");
        check(&format!("{GOOD}\n[report]\nevery_s = 0"), "report.every_s");
        check(&format!("{GOOD}\n[report]\nk = 4"), "report.k");
        check(&format!("{GOOD}\n[capture]\nrows = 5"), "rows");
        check(&format!("{GOOD}\n[disk]\nwarn_below_mb = 5"), "disk.fail_below_mb");
        check(&format!("{GOOD}\n[activation]\nconsent = \"yes\""), "not-needed");
    }

    #[test]
    fn a_clock_that_is_none_is_refused() {
        let environment = Environment { clock: Some("fast".to_owned()), ..Environment::default() };
        assert!(matches!(parse(GOOD, &environment), Err(ConfigError::Clock(_))));
    }
}
