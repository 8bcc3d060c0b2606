//! `muster-agent identity`: who this box is, in words and for scripts. Only reads, so it works beside a running agent.

use clap::Args;

use super::{CommandError, Place, enrolled, say};
use crate::clock::TrustClock;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster-agent identity --config /etc/muster/agent.toml")]
pub struct IdentityArgs {
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &IdentityArgs) -> Result<(), CommandError> {
    let (state_dir, _) = args.place.find()?;
    let identity = enrolled(&state_dir)?;
    let enrolment = identity.enrolment()?;
    let certificate = identity.certificate()?;
    let fingerprint = identity.key()?.fingerprint();
    if args.json {
        say(&serde_json::json!({
            "device": enrolment.device,
            "name": enrolment.name,
            "site": enrolment.site,
            "fingerprint": fingerprint.to_string(),
            "certificate_expires": certificate.map(|found| found.expires),
            "server": enrolment.server,
            "mqtt": enrolment.mqtt,
            "enrolled": enrolment.enrolled,
        })
        .to_string());
        return Ok(());
    }
    let now = TrustClock::system().now();
    let good = match certificate {
        None => "none; the agent asks for one when it runs".to_owned(),
        Some(found) if found.expires <= now => {
            format!("expired {}; the agent renews it when it runs", found.expires)
        }
        Some(found) => {
            let days = found.expires.since(now).as_secs() / 86_400;
            format!("good until {} ({days} days), renewed from {}", found.expires, found.renew_from())
        }
    };
    say(&format!(
        "device       {}\nname         {}\nsite         {}\nfingerprint  {fingerprint}\ncertificate  {good}\nserver       {}\nbroker       {}",
        enrolment.device, enrolment.name, enrolment.site, enrolment.server, enrolment.mqtt
    ));
    Ok(())
}
