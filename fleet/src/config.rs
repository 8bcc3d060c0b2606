//! What the server is told when it starts: a file, an environment variable, defaults. Nothing else reads the environment.
//!
//! ```toml
//! data = ".muster/fleet"
//! [http]
//! listen = "127.0.0.1:8480"     # port 0: any free one; the real addresses are written to DATA/addresses.json
//! [mqtt]
//! listen = "127.0.0.1:1883"
//! [clock]                       # a rehearsal's scaled world; all processes must be given the same
//! wall_start = "2026-11-24T02:00:00Z"
//! world_start = "2026-01-01T00:00:00Z"
//! factor = 57600.0
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use muster_protocol::time::WorldScale;
use serde::Deserialize;

/// A clock for all processes of a rehearsal, as JSON.
const WORLD_CLOCK: &str = "MUSTER_WORLD_CLOCK";

#[derive(Clone, Debug)]
pub struct Config {
    pub data: PathBuf,
    pub http: SocketAddr,
    pub mqtt: SocketAddr,
    pub world: WorldScale,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from(".muster/fleet"),
            http: SocketAddr::from(([127, 0, 0, 1], 8480)),
            mqtt: SocketAddr::from(([127, 0, 0, 1], 1883)),
            world: WorldScale::default(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the configuration {} is wrong", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("{WORLD_CLOCK} is not a clock: write {{\"wall_start\": …, \"world_start\": …, \"factor\": …}}")]
    Clock(#[source] serde_json::Error),
    #[error("the world's factor {0} must be a number above 0")]
    Factor(f64),
    #[error(
        "{what} would listen on {address}, beyond this machine, without encryption; bind it to 127.0.0.1"
    )]
    Exposed { what: &'static str, address: SocketAddr },
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    data: Option<PathBuf>,
    http: Listen,
    mqtt: Listen,
    clock: Option<WorldScale>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Listen {
    listen: Option<SocketAddr>,
}

impl Config {
    /// The file, if one is named; then `data`, if it is given; then the environment's clock, if the file has none.
    pub fn load(file: Option<&Path>, data: Option<PathBuf>) -> Result<Self, ConfigError> {
        let text = match file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
        };
        Self::parse(&text, file.unwrap_or(Path::new("fleet.toml")), data, world_clock()?)
    }

    fn parse(
        text: &str,
        path: &Path,
        data: Option<PathBuf>,
        clock: Option<WorldScale>,
    ) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let default = Self::default();
        let config = Self {
            data: data.or(file.data).unwrap_or(default.data),
            http: file.http.listen.unwrap_or(default.http),
            mqtt: file.mqtt.listen.unwrap_or(default.mqtt),
            world: file.clock.or(clock).unwrap_or_default(),
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses what this version must not do.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (what, address) in [("HTTP", self.http), ("MQTT", self.mqtt)] {
            if !address.ip().is_loopback() {
                return Err(ConfigError::Exposed { what, address });
            }
        }
        if !(self.world.factor.is_finite() && self.world.factor > 0.0) {
            return Err(ConfigError::Factor(self.world.factor));
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place where the environment comes in")]
fn world_clock() -> Result<Option<WorldScale>, ConfigError> {
    match std::env::var(WORLD_CLOCK) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(ConfigError::Clock),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("fleet.toml"), None, None)
    }

    #[test]
    fn nothing_is_needed() {
        let config = parse("").unwrap();
        assert_eq!(config.http.port(), 8480);
        assert_eq!(config.world, WorldScale::default());
    }

    #[test]
    fn the_file_wins_over_the_environment_and_the_argument_over_the_file() {
        let clock =
            "[clock]\nwall_start='2026-01-01T00:00:00Z'\nworld_start='2026-01-01T00:00:00Z'\nfactor=2.0";
        let other = WorldScale { factor: 3.0, ..WorldScale::default() };
        let text = format!("data='a'\n{clock}");
        let config = Config::parse(&text, Path::new("f"), Some("b".into()), Some(other)).unwrap();
        assert_eq!((config.data, config.world.factor), (PathBuf::from("b"), 2.0));
    }

    #[test]
    fn wrong_files_are_refused() {
        let check = |text: &str, part: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        };
        check("[http]\nlisten='0.0.0.0:80'", "HTTP would listen on 0.0.0.0:80");
        check("[mqtt]\nlisten='192.168.1.2:1883'", "MQTT would listen");
        check("[mqtt]\nport=1", "fleet.toml is wrong");
        check(
            "[clock]\nwall_start='2026-01-01T00:00:00Z'\nworld_start='2026-01-01T00:00:00Z'\nfactor=0.0",
            "factor 0 must",
        );
    }
}
