//! `muster doctor`: from this desk to the server, and into it.
//!
//! ```text
//!   context ─▶ server ─▶ tls · clock · version ─▶ token ─▶ what the server finds when it looks at itself
//! ```
//! What depends on something that is broken is not looked at: one cause, one line.

use std::error::Error;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use muster_protocol::checkup::{Checkup, End, Finding, span};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::AgentVersion;
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::context::Chosen;
use super::output::{Format, Output, text};
use super::{CliError, Whom, now};
use crate::client::{Client, ClientError, Greeting};

pub(super) const HELP: &str = "\
It changes nothing. What the server finds in itself is told to whoever may look everywhere in it. On a box:
muster-agent doctor. With -o name: the names of what is not well.

Exit codes:
  0   all is well
  4   no fleet server answers
  10  something wants attention, or could not be looked at
  11  something is broken

Examples:
  muster doctor
  muster doctor --context er
  muster doctor -o json | jq '.checks[] | select(.state != \"ok\")'";

const CONTEXT: &str = "context";
const SERVER: &str = "server";
const TLS: &str = "tls";
const CLOCK: &str = "clock";
const VERSION: &str = "version";
const TOKEN: &str = "token";
/// The whole of what the server finds, where it does not tell.
const FLEET: &str = "fleet";

/// As every command ends that finds nobody.
const UNREACHABLE: u8 = 4;
const CERTIFICATE_NOTICE: Duration = Duration::from_hours(21 * 24);
/// A token of `muster login` lives for half a day, so its last hour is soon enough.
const LOGIN_NOTICE: Duration = Duration::from_hours(1);
/// Somebody must make another one and bring it to the program that uses it.
const PROGRAM_NOTICE: Duration = Duration::from_hours(7 * 24);
/// Clocks that somebody keeps set differ by less.
const SKEW: Duration = Duration::from_mins(1);
/// From here on a box does not believe its own clock either.
const SKEW_BROKEN: Duration = Duration::from_hours(1);

/// What was found, and whether there was a server at all.
struct Look {
    found: Vec<Finding>,
    is_reached: bool,
}

/// The server's answer.
#[derive(Deserialize)]
struct Answer {
    checks: Vec<Finding>,
}

pub(super) async fn run(whom: &Whom, output: &mut Output) -> Result<ExitCode, CliError> {
    let Look { found, is_reached } = look(whom).await;
    let checkup = Checkup::from(found);
    match output.format() {
        Format::Json => output.json(&serde_json::to_value(&checkup).map_err(CliError::other)?)?,
        Format::Name => checkup.troubles().try_for_each(|trouble| output.line(&trouble.check))?,
        Format::Table => checkup.picture().lines().try_for_each(|line| output.line(line))?,
    }
    Ok(ExitCode::from(if is_reached { checkup.state.exit_code() } else { UNREACHABLE }))
}

async fn look(whom: &Whom) -> Look {
    let mut found = Vec::new();
    let chosen = whom.choose().and_then(|chosen| Ok((whom.client(&chosen)?, chosen)));
    let (client, chosen) = match chosen {
        Ok(chosen) => chosen,
        Err(error) => {
            found.push(Finding::fail(CONTEXT, sentence(&error), advice(error.next())));
            return Look { found, is_reached: true };
        }
    };
    found.push(Finding::ok(CONTEXT, meant(&chosen, client.server())));
    let greeting = match client.greet().await {
        Ok(greeting) => greeting,
        Err(error) => {
            let (finding, is_reached) = unmet(&error);
            found.push(finding);
            return Look { found, is_reached };
        }
    };
    found.push(Finding::ok(
        SERVER,
        format!("{} answers, in {} ms", client.server(), greeting.took.as_millis()),
    ));
    found.push(tls(client.server(), greeting.certificate_expires, now()));
    found.push(clock(now(), &greeting));
    found.push(version(env!("CARGO_PKG_VERSION"), &greeting.version));
    found.extend(known(&client, &chosen).await);
    Look { found, is_reached: true }
}

/// Which server, and why that one.
fn meant(Chosen { context, is_kept, .. }: &Chosen, server: &str) -> String {
    match context {
        Some(name) if *is_kept => format!("{name}: {server}"),
        Some(name) => format!("{server}, as was said; the context {name} is of another server"),
        None => format!("none is kept; {server} is asked"),
    }
}

/// No greeting; and whether it was for want of a server.
fn unmet(error: &ClientError) -> (Finding, bool) {
    let says = sentence(error);
    if error.is_untrusted() {
        let next = "is it the right address? If its certificate is of the hospital's own authority: let this machine trust that";
        return (Finding::fail(TLS, says, next), true);
    }
    let is_there = !matches!(error, ClientError::Unreachable { .. } | ClientError::Silent { .. });
    (Finding::fail(SERVER, says, advice(error.next())), is_there)
}

fn tls(server: &str, expires: Option<Timestamp>, now: Timestamp) -> Finding {
    let url: Option<Url> = server.parse().ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse().ok();
    let is_here = host == "localhost" || address.is_some_and(|address: IpAddr| address.is_loopback());
    match (url.as_ref().map(Url::scheme), expires) {
        (Some("https"), Some(expires)) => {
            let next = "whoever runs the proxy before the server renews it";
            Finding::expiry(
                TLS,
                "the server's certificate",
                End { expires, now, notice: CERTIFICATE_NOTICE },
                next,
            )
        }
        (Some("https"), None) => Finding::ok(TLS, "the server's certificate is accepted"),
        _ if is_here => Finding::ok(TLS, "plain HTTP, which does not leave this machine"),
        _ => Finding::warn(
            TLS,
            "plain HTTP: everybody on the way reads the token and may change what is said",
            "put a proxy with TLS before the server, and use its https:// address: docs/identity.md",
        ),
    }
}

fn clock(here: Timestamp, Greeting { date, took, .. }: &Greeting) -> Finding {
    let Some(there) = date else {
        return Finding::unknown(
            CLOCK,
            "the server does not say what time it is",
            "does a proxy take the Date header away?",
        );
    };
    // The server wrote its time, cut to the second, somewhere in between.
    let then = here.minus(*took / 2);
    let apart = then.since(*there).max(there.since(then));
    let order = if then > *there { "ahead of" } else { "behind" };
    let next = "set the one that is wrong, and keep both set: timedatectl set-ntp true";
    let says = format!("this machine's clock is {} {order} the server's", span(apart));
    if apart >= SKEW_BROKEN {
        Finding::fail(CLOCK, says, next)
    } else if apart >= SKEW + *took {
        Finding::warn(CLOCK, says, next)
    } else {
        Finding::ok(CLOCK, "this machine's clock and the server's agree")
    }
}

fn version(ours: &str, theirs: &str) -> Finding {
    match (ours.parse::<AgentVersion>(), theirs.parse::<AgentVersion>()) {
        (Ok(us), Ok(them)) if us < them => Finding::warn(
            VERSION,
            format!("this program is {ours}, older than the server, which is {theirs}"),
            format!("install muster {theirs} here: this one does not know what that server can do"),
        ),
        (Ok(us), Ok(them)) if us > them => Finding::warn(
            VERSION,
            format!("the server is {theirs}, older than this program, which is {ours}"),
            format!(
                "update the server to {ours}, or use muster {theirs} here: what is new in this one is refused there"
            ),
        ),
        (Ok(_), Ok(_)) => Finding::ok(VERSION, format!("server and program are {theirs}")),
        _ => Finding::unknown(
            VERSION,
            format!(
                "the server says that it is '{}', and this program is '{ours}'",
                theirs.chars().take(40).collect::<String>()
            ),
            "is it a fleet server? Look at its /healthz",
        ),
    }
}

/// Who we are there, and what it tells such a one of itself.
async fn known(client: &Client, chosen: &Chosen) -> Vec<Finding> {
    let me = match client.get("/api/v1/me", &[]).await {
        Ok(me) => me,
        Err(error) => {
            let token = Finding::fail(TOKEN, sentence(&error), advice(error.next()));
            let next = "mend the token first";
            let fleet = Finding::unknown(
                FLEET,
                "the server tells nothing of itself to whoever did not show who they are",
                next,
            );
            return vec![token, fleet];
        }
    };
    let mut found = vec![token(&me, chosen.token_is_kept, now())];
    match client.get("/api/v1/doctor", &[]).await.and_then(parsed) {
        Ok(answer) => found.extend(answer.checks),
        Err(error) => found.push(untold(&error)),
    }
    found
}

fn parsed(answer: Value) -> Result<Answer, ClientError> {
    serde_json::from_value(answer)
        .map_err(|source| ClientError::Json { path: "/api/v1/doctor".to_owned(), source })
}

fn token(me: &Value, is_kept: bool, now: Timestamp) -> Finding {
    if me.get("mode").and_then(Value::as_str) == Some("open") {
        return Finding::ok(TOKEN, "none is needed: whoever reaches this server is its operator");
    }
    let roles = me.get("roles").and_then(Value::as_array).into_iter().flatten();
    let roles: Vec<String> =
        roles.map(|role| format!("{} of {}", text(role, "/role"), text(role, "/project"))).collect();
    let roles = if roles.is_empty() { "nothing in any project".to_owned() } else { roles.join(", ") };
    let who = format!("you are {}, {roles}; your {}", text(me, "/name"), text(me, "/by"));
    let (notice, next) = if is_kept {
        (LOGIN_NOTICE, "muster login NAME keeps another one")
    } else {
        (
            PROGRAM_NOTICE,
            "make another with 'muster token new', and give it to whoever uses this one as MUSTER_TOKEN",
        )
    };
    match text(me, "/until").parse() {
        Ok(expires) => Finding::expiry(TOKEN, &who, End { expires, now, notice }, next),
        Err(_) => Finding::ok(TOKEN, format!("{who} has no end")),
    }
}

/// Why the server tells nothing of itself.
fn untold(error: &ClientError) -> Finding {
    match error.status() {
        Some(403) => Finding::unknown(
            FLEET,
            "what the server finds in itself is told to those who may look everywhere",
            "ask an administrator of the whole fleet to run muster doctor",
        ),
        Some(404) => Finding::unknown(
            FLEET,
            "the server does not know how to look at itself",
            "it is older than this program: update it",
        ),
        _ => Finding::fail(FLEET, sentence(error), advice(error.next())),
    }
}

/// An error with its causes, in one line.
fn sentence(error: &dyn Error) -> String {
    let mut all = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !all.contains(&more) {
            all = format!("{all}: {more}");
        }
        cause = error.source();
    }
    all.replace('\n', " ")
}

fn advice(next: Option<String>) -> String {
    next.unwrap_or_else(|| "look at the server's log for the same moment".to_owned())
}

#[cfg(test)]
mod tests {
    use muster_protocol::checkup::Condition;
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn who_is_older_is_said_and_what_to_do() {
        let check = |ours: &str, theirs: &str, state: Condition, next: &str| {
            let found = version(ours, theirs);
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.do_next.unwrap_or_default().contains(next));
        };
        check("0.1.0", "0.1.0", Condition::Ok, "");
        check("0.1.0", "0.2.0", Condition::Warn, "install muster 0.2.0 here");
        check("0.10.0", "0.9.1", Condition::Warn, "update the server to 0.10.0");
        check("0.1.0", "nginx", Condition::Unknown, "fleet server");
    }

    #[test]
    fn clocks_that_differ_are_said_with_the_way_between_taken_off() {
        let check = |here: i64, there: i64, took_s: u64, state: Condition, says: &str| {
            let greeting = Greeting {
                version: String::new(),
                date: Some(at(there)),
                took: Duration::from_secs(took_s),
                certificate_expires: None,
            };
            let found = clock(at(here), &greeting);
            assert!(found.state == state && found.says.contains(says), "{found:?}");
        };
        check(1000, 999, 0, Condition::Ok, "agree");
        check(1000, 1059, 0, Condition::Ok, "agree");
        check(1000, 1060, 0, Condition::Warn, "60 seconds behind");
        check(10_000, 9_000, 0, Condition::Warn, "16 minutes ahead of");
        check(10_000, 6_000, 0, Condition::Fail, "66 minutes ahead of");
        // Eight seconds on the way are four at most to be wrong by.
        check(1000, 1060, 8, Condition::Ok, "agree");
        let silent =
            Greeting { version: String::new(), date: None, took: Duration::ZERO, certificate_expires: None };
        assert_eq!(clock(at(0), &silent).state, Condition::Unknown);
    }

    #[test]
    fn what_goes_in_the_clear_is_said_where_others_may_read_it() {
        let check = |server: &str, expires: Option<i64>, state: Condition| {
            assert_eq!(tls(server, expires.map(at), at(1_000_000)).state, state, "{server}");
        };
        check("http://127.0.0.1:8480", None, Condition::Ok);
        check("http://[::1]:8480", None, Condition::Ok);
        check("http://localhost", None, Condition::Ok);
        check("http://fleet.example", None, Condition::Warn);
        check("https://fleet.example", None, Condition::Ok);
        check("https://fleet.example", Some(1_000_000 + 30 * 86_400), Condition::Ok);
        check("https://fleet.example", Some(1_000_000 + 20 * 86_400), Condition::Warn);
        check("https://fleet.example", Some(999_999), Condition::Fail);
    }

    #[test]
    fn a_token_that_ends_is_said_as_early_as_its_kind_wants() {
        let me = |hours: i64| {
            json!({"mode": "required", "name": "ada", "by": "token", "until": at(hours * 3600).to_string(),
                "roles": [{"project": "er", "role": "operator"}]})
        };
        let check = |hours: i64, is_kept: bool, state: Condition| {
            let found = token(&me(hours), is_kept, at(0));
            assert!(found.state == state && found.says.contains("ada, operator of er"), "{found:?}");
        };
        check(12, true, Condition::Ok);
        check(0, true, Condition::Fail);
        check(12, false, Condition::Warn);
        check(24 * 8, false, Condition::Ok);
        assert_eq!(token(&json!({"mode": "open"}), false, at(0)).state, Condition::Ok);
    }

    #[test]
    fn why_this_server_is_said() {
        let chosen = |context: Option<&str>, is_kept| Chosen {
            server: "http://s".to_owned(),
            token: None,
            context: context.map(str::to_owned),
            is_kept,
            token_is_kept: false,
        };
        assert_eq!(meant(&chosen(Some("er"), true), "http://s"), "er: http://s");
        assert!(meant(&chosen(Some("er"), false), "http://s").contains("another server"));
        assert!(meant(&chosen(None, false), "http://s").contains("none is kept"));
    }
}
