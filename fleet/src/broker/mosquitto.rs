//! A complete configuration for Mosquitto in the place of the embedded broker: two listeners, certificates, who may do what.
//!
//! ```text
//!   8883  boxes    device authority, list of revoked certificates, client id = name in the certificate, own topics only
//!   8884  fleet    an authority of its own, so no device can be the fleet; observers read and never write
//! ```
//! The rules are those of the embedded broker's `access`; the contract test runs on both.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::limits::PACKET_BYTES_MAX;
use muster_protocol::time::Timestamp;
use muster_protocol::topic::{PREFIX, Topic, Up, every_device, every_trust_file};

use crate::pki::{Pki, PkiError, files};

/// The broker's certificate. Long, as nothing renews it by itself; the file README.md tells the date.
const LIFE: Duration = Duration::from_hours(24 * 730);
pub const CONFIGURATION: &str = "mosquitto.conf";
/// Copies what changes and lets the broker read it again.
pub const ON_CRL: &str = "on-crl.sh";

/// What the operator chooses.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where the files will stay: the configuration names them there.
    pub out: PathBuf,
    pub listen: SocketAddr,
    pub fleet_listen: SocketAddr,
    /// What boxes and the fleet call the broker's machine.
    pub names: Vec<String>,
    /// The system's user that Mosquitto runs as.
    pub user: String,
}

/// Writes the folder anew. Returns when the broker's certificate expires.
pub fn write(pki: &Pki, setup: &Setup, now: Timestamp) -> Result<Timestamp, PkiError> {
    let out = &setup.out;
    std::fs::create_dir_all(out).map_err(|source| PkiError::Write { path: out.clone(), source })?;
    let server = pki.issue_server(&setup.names, LIFE, now)?;
    files::write_private(&out.join("server.key"), &server.key)?;
    files::write(&out.join("server.pem"), &server.certificate)?;
    files::write(&out.join("device-ca.pem"), &pki.device_cas_pem())?;
    files::write(&out.join("client-ca.pem"), &pki.client_ca_pem())?;
    files::write(&out.join("device.crl.pem"), &pki.crl_pem()?)?;
    files::write(&out.join("acl-devices"), &devices_acl())?;
    files::write(&out.join("acl-fleet"), &fleet_acl(&pki.fleet_client_name()))?;
    files::write(&out.join(CONFIGURATION), &configuration(setup))?;
    files::write_program(&out.join(ON_CRL), &on_crl(pki, out))?;
    files::write(&out.join("README.md"), &readme(setup, server.expires))?;
    Ok(server.expires)
}

fn configuration(setup: &Setup) -> String {
    let out = setup.out.display();
    let user = &setup.user;
    let mut text = format!(
        "# Mosquitto 2 for a Muster fleet. Made by `muster-fleet broker-config`: make it again rather than change it.\n\
         per_listener_settings true\n\
         user {user}\n\
         # Small packets would wait for each other otherwise: megabytes a second instead of hundreds.\n\
         set_tcp_nodelay true\n\
         # The database is the truth. What the broker forgets when it stops is published again; what it half remembered\n\
         # after a crash would not be.\n\
         persistence false\n\
         max_packet_size {PACKET_BYTES_MAX}\n\
         max_inflight_messages 200\n\
         # The default of 1000 loses messages in silence. The bytes bound a client that does not read.\n\
         max_queued_messages 20000\n\
         max_queued_bytes 67108864\n\
         persistent_client_expiration 1h\n"
    );
    let listener = |address: SocketAddr, what: &str, ca: &str, acl: &str, extra: &str| {
        format!(
            "\n# {what}\n\
             listener {} {}\n\
             max_connections 20000\n\
             allow_anonymous false\n\
             tls_version tlsv1.3\n\
             certfile {out}/server.pem\n\
             keyfile {out}/server.key\n\
             cafile {out}/{ca}\n\
             require_certificate true\n\
             # The name in the certificate is the client id, whatever the client calls itself.\n\
             use_identity_as_username true\n\
             use_username_as_clientid true\n\
             max_topic_alias 0\n\
             acl_file {out}/{acl}\n\
             {extra}",
            address.port(),
            address.ip()
        )
    };
    let crl = format!("crlfile {out}/device.crl.pem\n");
    text.push_str(&listener(setup.listen, "Boxes.", "device-ca.pem", "acl-devices", &crl));
    let fleet = "The fleet server and those who watch.";
    text.push_str(&listener(setup.fleet_listen, fleet, "client-ca.pem", "acl-fleet", ""));
    text
}

fn devices_acl() -> String {
    format!(
        "# Each box: what it says, what is said to it, and what everybody may read.\n\
         pattern write {PREFIX}/d/%u/up/#\n\
         pattern read {PREFIX}/d/%u/down/#\n\
         pattern read {}\n\
         pattern read {}\n",
        every_trust_file(),
        Topic::Epoch
    )
}

fn fleet_acl(fleet: &str) -> String {
    let mut text =
        format!("# The fleet server.\nuser {fleet}\ntopic readwrite {PREFIX}/#\n\n# Those who watch.\n");
    let watched = [Up::Hello, Up::Status, Up::State, Up::Event].map(every_device);
    for filter in watched.into_iter().chain([
        super::access::every_order(),
        every_trust_file(),
        Topic::Epoch.to_string(),
    ]) {
        // Writing into a String cannot fail.
        writeln!(text, "pattern read {filter}").unwrap_or_default();
    }
    text
}

fn on_crl(pki: &Pki, out: &Path) -> String {
    let (from, out) = (pki.dir().display(), out.display());
    format!(
        "#!/bin/sh\n\
         # Run by the fleet server ([mqtt] on_crl) after the list of revoked certificates changed.\n\
         # RELOAD: how the broker is told; it reads its certificates and lists again on SIGHUP.\n\
         set -eu\n\
         for file in device-ca.pem device.crl.pem; do\n\
         \x20   install -m 644 '{from}/'\"$file\" '{out}/'\"$file.new\"\n\
         \x20   mv '{out}/'\"$file.new\" '{out}/'\"$file\"\n\
         done\n\
         ${{RELOAD:-systemctl reload mosquitto}}\n"
    )
}

fn readme(setup: &Setup, expires: Timestamp) -> String {
    let Setup { out, listen, fleet_listen, names, user } = setup;
    let (out, name) = (out.display(), names.first().map_or("localhost", String::as_str));
    let (boxes, fleet) = (listen.port(), fleet_listen.port());
    format!(
        "# Mosquitto for a Muster fleet\n\n\
         Made by `muster-fleet broker-config`. Next:\n\n\
         1. Let the broker read its key, and nobody else: `chown {user} {out}/server.key`.\n\
         2. Let Mosquitto use it: `ln -s {out}/{CONFIGURATION} /etc/mosquitto/conf.d/muster.conf`, without another listener\n\
         \x20  in `/etc/mosquitto`; give its unit `LimitNOFILE=65536`; `systemctl restart mosquitto`.\n\
         3. Tell the fleet server, in its configuration:\n\n\
         \x20  ```toml\n\
         \x20  [mqtt]\n\
         \x20  broker = \"mqtts://{name}:{fleet}\"\n\
         \x20  public = \"mqtts://{name}:{boxes}\"\n\
         \x20  on_crl = [\"{out}/{ON_CRL}\"]\n\
         \x20  ```\n\n\
         The broker's certificate is good until {expires}. Make this folder again before that, and after each\n\
         `muster-fleet ca …`. With the broker on another machine, let `{ON_CRL}` copy the two files there.\n"
    )
}
