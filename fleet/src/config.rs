//! What the server is told when it starts: a file, an environment variable, defaults. Nothing else reads the environment.
//!
//! ```toml
//! data = ".muster/fleet"
//! [server]
//! names = ["localhost", "127.0.0.1"]    # what boxes call this machine: names and addresses of its TLS certificate
//! [http]
//! listen = "127.0.0.1:8480"     # port 0: any free one; the real addresses are written to DATA/addresses.json
//! [door]
//! listen = "127.0.0.1:8443"     # TLS: where boxes get their certificates
//! public = "https://fleet.hospital.example:8443"    # what boxes are told; else the first name and the port
//! [mqtt]
//! listen = "127.0.0.1:8883"     # mutual TLS, so any address will do
//! public = "mqtts://fleet.hospital.example:8883"    # what boxes are told; else the first name and the port
//! [identity]                    # who may operate: config/identity.rs
//! mode = "open"
//! [telemetry]                   # how much is kept: config/telemetry.rs
//! reports = { bytes = 2_400_000_000, hours = 6 }
//! [lineage]                     # who is told what was made out of what: config/lineage.rs
//! url = "https://marquez.hospital.example"
//! [[webhooks]]                  # who is told what happens: config/webhooks.rs
//! name = "on-call"
//! [mail]                        # who is told by mail what needs a person: config/mail.rs
//! relay = "smtps://smtp.hospital.example"
//! [mlflow]                      # whose registry may ask for a retraining: config/mlflow.rs
//! secret_file = "/etc/muster/mlflow-webhook.secret"
//! [datasets]                    # where their files are; else in the data folder: config/datasets.rs
//! store = "s3://muster-datasets/er"
//! [disk]                        # how much must be free there: config/disk.rs
//! warn_below_mb = 2048
//! [clock]                       # a rehearsal's scaled world; all processes must be given the same
//! wall_start = "2026-11-24T02:00:00Z"
//! world_start = "2026-01-01T00:00:00Z"
//! factor = 57600.0
//! ```
//!
//! With a broker of one's own instead of the one inside (`muster-fleet broker-config` writes its configuration):
//!
//! ```toml
//! [mqtt]
//! broker = "mqtts://broker.hospital.example:8884"    # its listener for the fleet
//! public = "mqtts://broker.hospital.example:8883"    # its listener for boxes
//! ca = "/etc/muster/broker-ca.pem"                   # who signed it, unless this fleet's own authority did
//! on_crl = ["/etc/mosquitto/muster/on-crl.sh"]       # run after the list of revoked certificates changed
//! ```

mod datasets;
mod disk;
mod door;
mod identity;
mod lineage;
mod mail;
mod mlflow;
mod telemetry;
mod webhooks;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use muster_protocol::time::WorldScale;
use rustls::pki_types::ServerName;
use serde::Deserialize;

pub use datasets::DatasetsConfig;
pub use disk::DiskConfig;
pub use door::DoorConfig;
pub use identity::{GroupRole, IdentityConfig, Mode, OidcConfig};
pub use lineage::LineageConfig;
pub use mail::{MailConfig, MailList, ProjectMail, RelayUrl, Wrapped};
pub use mlflow::{MlflowConfig, Registered};
pub use telemetry::{OtlpConfig, PostgresUrl, TelemetryConfig};
pub use webhooks::WebhookConfig;

/// A clock for all processes of a rehearsal, as JSON.
const WORLD_CLOCK: &str = "MUSTER_WORLD_CLOCK";

#[derive(Clone, Debug)]
pub struct Config {
    pub data: PathBuf,
    /// What clients call this machine; the names in its certificate.
    pub names: Vec<String>,
    pub http: SocketAddr,
    pub door: DoorConfig,
    pub mqtt: MqttConfig,
    pub telemetry: TelemetryConfig,
    pub identity: IdentityConfig,
    pub lineage: LineageConfig,
    /// Nobody is heard if absent.
    pub mlflow: Option<MlflowConfig>,
    pub datasets: DatasetsConfig,
    pub disk: DiskConfig,
    pub webhooks: Vec<WebhookConfig>,
    /// Nobody is mailed if absent.
    pub mail: Option<MailConfig>,
    pub world: WorldScale,
}

/// The broker: the one inside, or one elsewhere.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    pub listen: SocketAddr,
    /// What boxes are told, where the names and the port do not say it.
    pub public: Option<BrokerUrl>,
    /// An external broker's listener for the fleet. The one inside is not started then.
    pub broker: Option<BrokerUrl>,
    /// PEM of the authorities that signed the external broker, if our own did not.
    pub ca: Option<PathBuf>,
    /// A command and its arguments, run after the list of revoked certificates changed.
    pub on_crl: Vec<String>,
}

/// `mqtts://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BrokerUrl {
    pub host: String,
    pub port: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from(".muster/fleet"),
            names: ["localhost", "127.0.0.1"].map(str::to_owned).to_vec(),
            http: SocketAddr::from(([127, 0, 0, 1], 8480)),
            door: DoorConfig::default(),
            mqtt: MqttConfig::default(),
            telemetry: TelemetryConfig::default(),
            identity: IdentityConfig::default(),
            lineage: LineageConfig::default(),
            mlflow: None,
            datasets: DatasetsConfig::default(),
            disk: DiskConfig::default(),
            webhooks: Vec::new(),
            mail: None,
            world: WorldScale::default(),
        }
    }
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8883)),
            public: None,
            broker: None,
            ca: None,
            on_crl: Vec::new(),
        }
    }
}

impl FromStr for BrokerUrl {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Broker(text.chars().take(200).collect());
        let (host, port) =
            text.strip_prefix("mqtts://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(wrong)?;
        // No IPv6 literals: the client library that boxes and we use cannot verify them. A name for one will do.
        if host.contains(':') || ServerName::try_from(host).is_err() {
            return Err(wrong());
        }
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self { host: host.to_owned(), port }),
            Ok(_) | Err(_) => Err(wrong()),
        }
    }
}

impl TryFrom<String> for BrokerUrl {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtts://{}:{}", self.host, self.port)
    }
}

impl MqttConfig {
    /// Where boxes find the broker. `port`: where the one inside really listens.
    pub fn public(&self, names: &[String], port: u16) -> BrokerUrl {
        match (&self.public, &self.broker) {
            (Some(public), _) => public.clone(),
            // `check` wants `public` with an external broker: its listener for the fleet is not the one for boxes.
            (None, Some(broker)) => broker.clone(),
            (None, None) => BrokerUrl { host: names.first().cloned().unwrap_or_default(), port },
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
        "HTTP would listen on {address}, beyond this machine, and whoever reaches it would be the operator; bind it to \
         127.0.0.1, or set [identity] mode = \"required\""
    )]
    Exposed { address: SocketAddr },
    #[error(
        "HTTP would listen on {address}, beyond this machine: put a proxy with TLS before it, and set [identity] url to \
         its address, https://…"
    )]
    NoUrl { address: SocketAddr },
    #[error(
        "'{0}' in [identity] url is not how browsers may reach this server: write https://host or https://host:port"
    )]
    Url(String),
    #[error(
        "[identity.oidc]: write issuer = \"https://…\", client_id, and 500 roles at most; http:// is for this machine only"
    )]
    Oidc,
    #[error(
        "'{0}' is not a broker's address: write mqtts://host:port, the host as a name or an IPv4 address"
    )]
    Broker(String),
    #[error("[server] names is empty: name at least what boxes call this machine, the best name first")]
    NoNames,
    #[error("'{0}' in [server] names is neither a host name nor an address")]
    Name(String),
    #[error(
        "MQTT would listen on {address}, but boxes would be told '{name}', which is only this machine; put its real name \
         first in [server] names, or set [mqtt] public"
    )]
    Unreachable { address: SocketAddr, name: String },
    #[error(
        "[mqtt] broker is the external broker's listener for the fleet; set [mqtt] public to the one for boxes"
    )]
    NoPublic,
    #[error("'{0}' is not the address of a door: write https://host:port")]
    Door(String),
    #[error(
        "the door would listen on {address}, but boxes would be told '{name}', which is only this machine; put its real \
         name first in [server] names, or set [door] public"
    )]
    UnreachableDoor { address: SocketAddr, name: String },
    #[error("[telemetry] {name}: write at least one byte and one hour, and {days} days at most")]
    Kept { name: &'static str, days: u64 },
    #[error(
        "[telemetry] otlp: write endpoint = \"https://host:4318/v1/metrics\", every_s from 1 to 3600, and 16 headers at most"
    )]
    Otlp,
    #[error(
        "[lineage]: write url = \"https://host\", namespace with 1 to 200 characters, and token_file only beside url"
    )]
    Lineage,
    #[error("[[webhooks]]: at most 16, each with a name of its own")]
    Webhooks,
    #[error(
        "the webhook '{0}': its name is of a-z, 0-9 and '-', its url https:// (http:// on this machine only), and it asks for at least one event"
    )]
    Webhook(String),
    #[error("[mail]: {0}")]
    Mail(&'static str),
    #[error(
        "'{0}' in [mail] relay is no relay: write smtps://user@host or smtp://user@host, the host as a name or an IPv4 address; \
         the password stands in password_file"
    )]
    Relay(String),
    #[error(
        "[mlflow]: write secret_file, and models = [{{ name = \"as MLflow calls it\", model = \"as it is called here\" }}], each name \
         once; the alias 'challenger' is what a builder writes there itself"
    )]
    Mlflow,
    #[error("[telemetry] database: write postgres://user@host/database")]
    Database,
    #[error("'{0}' is no place for datasets: write a folder's path, file://, s3://, gs:// or az://")]
    DatasetStore(String),
    #[error("[datasets] options have no meaning without a store that is a bucket")]
    DatasetOptions,
    #[error("[disk]: write fail_below_mb no higher than warn_below_mb")]
    Disk,
    #[error("[mqtt] {0} has no meaning without [mqtt] broker")]
    NoBroker(&'static str),
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    data: Option<PathBuf>,
    server: Server,
    http: Listen,
    door: door::Door,
    mqtt: Mqtt,
    telemetry: telemetry::Telemetry,
    identity: identity::Identity,
    lineage: LineageConfig,
    mlflow: Option<MlflowConfig>,
    datasets: DatasetsConfig,
    disk: DiskConfig,
    webhooks: Vec<WebhookConfig>,
    mail: Option<MailConfig>,
    clock: Option<WorldScale>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Listen {
    listen: Option<SocketAddr>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Server {
    names: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mqtt {
    listen: Option<SocketAddr>,
    public: Option<BrokerUrl>,
    broker: Option<BrokerUrl>,
    ca: Option<PathBuf>,
    on_crl: Vec<String>,
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
            names: file.server.names.unwrap_or(default.names),
            http: file.http.listen.unwrap_or(default.http),
            door: file.door.into(),
            mqtt: MqttConfig {
                listen: file.mqtt.listen.unwrap_or(default.mqtt.listen),
                public: file.mqtt.public,
                broker: file.mqtt.broker,
                ca: file.mqtt.ca,
                on_crl: file.mqtt.on_crl,
            },
            telemetry: file.telemetry.into(),
            identity: file.identity.into(),
            lineage: file.lineage,
            mlflow: file.mlflow,
            datasets: file.datasets,
            disk: file.disk,
            webhooks: file.webhooks,
            mail: file.mail,
            world: file.clock.or(clock).unwrap_or_default(),
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses what this version must not do.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.identity.check(self.http)?;
        self.check_names()?;
        self.door.check(&self.names)?;
        self.check_mqtt()?;
        self.telemetry.check()?;
        self.lineage.check()?;
        self.mlflow.as_ref().map_or(Ok(()), MlflowConfig::check)?;
        self.datasets.check()?;
        self.disk.check()?;
        WebhookConfig::check_all(&self.webhooks)?;
        self.mail.as_ref().map_or(Ok(()), MailConfig::check)?;
        if !(self.world.factor.is_finite() && self.world.factor > 0.0) {
            return Err(ConfigError::Factor(self.world.factor));
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        if self.names.is_empty() {
            return Err(ConfigError::NoNames);
        }
        let wrong = |name: &&String| ServerName::try_from(name.as_str()).is_err();
        match self.names.iter().find(wrong) {
            Some(name) => Err(ConfigError::Name(name.chars().take(200).collect())),
            None => Ok(()),
        }
    }

    fn check_mqtt(&self) -> Result<(), ConfigError> {
        let MqttConfig { listen, public, broker, ca, on_crl } = &self.mqtt;
        if broker.is_some() {
            return if public.is_some() { Ok(()) } else { Err(ConfigError::NoPublic) };
        }
        if ca.is_some() {
            return Err(ConfigError::NoBroker("ca"));
        }
        if !on_crl.is_empty() {
            return Err(ConfigError::NoBroker("on_crl"));
        }
        let told = self.mqtt.public(&self.names, listen.port()).host;
        if told.contains(':') {
            return Err(ConfigError::Broker(told));
        }
        if !listen.ip().is_loopback() && is_this_machine(&told) {
            return Err(ConfigError::Unreachable { address: *listen, name: told });
        }
        Ok(())
    }
}

/// A name by which another machine would mean itself.
fn is_this_machine(name: &str) -> bool {
    name == "localhost"
        || name.parse().is_ok_and(|address: IpAddr| address.is_loopback() || address.is_unspecified())
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
    fn boxes_are_told_where_the_broker_is() {
        let check = |text: &str, expect: &str| {
            let config = parse(text).unwrap();
            assert_eq!(config.mqtt.public(&config.names, 4711).to_string(), expect);
        };
        check("", "mqtts://localhost:4711");
        check("[server]\nnames=['fleet.example']\n[mqtt]\nlisten='0.0.0.0:0'", "mqtts://fleet.example:4711");
        check("[mqtt]\nlisten='0.0.0.0:1'\npublic='mqtts://door.example:9'", "mqtts://door.example:9");
        check("[mqtt]\nbroker='mqtts://b:8884'\npublic='mqtts://b:8883'", "mqtts://b:8883");
    }

    #[test]
    fn broker_addresses() {
        let check = |text: &str, good: bool| match text.parse::<BrokerUrl>() {
            Ok(url) => assert!(good && url.to_string() == text, "{text}"),
            Err(error) => assert!(!good && error.to_string().contains("mqtts://host:port"), "{error}"),
        };
        check("mqtts://localhost:8883", true);
        check("mqtts://10.0.0.1:8883", true);
        for wrong in [
            "mqtt://localhost:1883",
            "mqtts://localhost",
            "mqtts://:8883",
            "mqtts://a b:1",
            "mqtts://a:0",
            "mqtts://a:99999",
            "localhost:1",
            "mqtts://[fd00::1]:8883",
        ] {
            check(wrong, false);
        }
    }

    #[test]
    fn wrong_files_are_refused() {
        let check = |text: &str, part: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        };
        check("[http]\nlisten='0.0.0.0:80'", "HTTP would listen on 0.0.0.0:80");
        check("[mqtt]\nlisten='192.168.1.2:8883'", "boxes would be told 'localhost'");
        check("[server]\nnames=['0.0.0.0']\n[mqtt]\nlisten='0.0.0.0:8883'", "boxes would be told '0.0.0.0'");
        check("[server]\nnames=['fd00::1']", "'fd00::1' is not a broker's address");
        check("[server]\nnames=[]", "names is empty");
        check("[server]\nnames=['a b']", "'a b' in [server] names");
        check("[mqtt]\nbroker='mqtts://broker:8884'", "set [mqtt] public");
        check("[mqtt]\nca='x.pem'", "[mqtt] ca has no meaning");
        check("[mqtt]\non_crl=['x']", "[mqtt] on_crl has no meaning");
        check("[mqtt]\nport=1", "fleet.toml is wrong");
        check("[mlflow]\nsecret_file='s'", "fleet.toml is wrong");
        check("[mlflow]\nsecret_file='s'\nmodels=[]", "[mlflow]: write");
        check("[mlflow]\nsecret_file='s'\nmodels=[{name='a',model='b',alias='challenger'}]", "'challenger'");
        check("[datasets]\nstore='ftp://x'", "'ftp://x' is no place for datasets");
        check("[datasets]\noptions={aws_region='x'}", "[datasets] options");
        check("[disk]\nwarn_below_mb=1", "[disk]: write fail_below_mb");
        check(
            "[clock]\nwall_start='2026-01-01T00:00:00Z'\nworld_start='2026-01-01T00:00:00Z'\nfactor=0.0",
            "factor 0 must",
        );
    }
}
