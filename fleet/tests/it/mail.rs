//! What needs people is mailed to them: by a real relay, as the overview lists it, once, grouped, not at night.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use muster_fleet::config::{Config, MailConfig, ProjectMail};
use muster_fleet::enrolment::{Doubt, Suspicion};
use muster_fleet::mail::Mailer;
use muster_fleet::needs::book::{Book, Fate};
use muster_fleet::smtp::{Letter, Relay as Way, SmtpError};
use muster_fleet::store::log::Actor;
use muster_fleet::store::projects::{self, Of, Project};
use muster_fleet::store::{Page, devices, identities, log, mail};
use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::desk::Desk;
use crate::http::{Api, enrol};
use crate::interop;
use crate::server::{PATIENCE, Server, config};

const ADA: &str = "ada@hospital.example";
const BEN: &str = "ben@hospital.example";

/// A relay of aiosmtpd's, killed when dropped.
struct Relay {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Relay {
    async fn start(args: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/relay.py");
        let mut process = tokio::process::Command::new(interop::python())
            .arg(script)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut relay = Self { _process: process, lines, port: 0 };
        relay.port = relay.next().await.as_u64().unwrap().try_into().unwrap();
        relay
    }

    fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// The next mail, or whatever it says.
    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.expect("the relay hears nothing").unwrap();
        serde_json::from_str(&line.expect("the relay ended")).unwrap()
    }
}

/// An authority and a certificate of 127.0.0.1 that it signed, as files.
struct Papers {
    _dir: TempDir,
    ca: String,
    certificate: String,
    key: String,
}

impl Papers {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = own.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        Self {
            ca: write("ca.pem", ca_certificate.pem()),
            certificate: write("relay.pem", certificate.pem()),
            key: write("relay.key", key.serialize_pem()),
            _dir: dir,
        }
    }
}

/// `[mail]` as a file has it.
fn mail_config(relay: &str, more: &str) -> MailConfig {
    let text = format!("relay = '{relay}'\nfrom = 'Muster <muster@hospital.example>'\n{more}");
    toml::from_str(&text).unwrap()
}

fn header<'a>(mail: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = mail["headers"].as_array().unwrap().iter();
    headers.filter(|header| header[0] == name).map(|header| header[1].as_str().unwrap()).collect()
}

fn body(mail: &Value) -> &str {
    mail["body"].as_str().unwrap()
}

/// A member that has not been heard of since then.
async fn silent(server: &Server, n: u8, since: Timestamp) -> DeviceId {
    let device = enrol(&server.fleet, n, None).await;
    let mut tx = server.fleet.store.write().await.unwrap();
    devices::gone(&mut tx, &device, since).await.unwrap();
    tx.commit().await.unwrap();
    device
}

/// A member whose key somebody else seems to have. It is called whatever it calls itself.
async fn suspect(server: &Server, n: u8, name: &str) {
    let device = enrol(&server.fleet, n, None).await;
    let mut tx = server.fleet.store.write().await.unwrap();
    let mut identity = identities::get(&mut tx, &device).await.unwrap().unwrap();
    let since = server.fleet.clocks.trust.now();
    let sentence = format!("two machines use the key of {name}");
    identity.suspicion =
        Suspicion { clone: Some(Doubt { since, sentence, times: 1 }), ..Suspicion::default() };
    identity.name = name.to_owned();
    identities::save(&mut tx, &identity).await.unwrap();
    tx.commit().await.unwrap();
}

fn mailer(server: &Server, config: &MailConfig) -> Mailer {
    let way = Arc::new(Way::new(config, "fleet.example").unwrap());
    Mailer::new(config.clone(), way, server.fleet.clone())
}

async fn book(server: &Server) -> Book {
    mail::get(&mut server.read().await, "*").await.unwrap().unwrap_or_default()
}

fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

#[tokio::test]
async fn mail_says_what_the_overview_lists_over_starttls_and_nothing_that_a_name_asks_for() {
    let papers = Papers::new();
    let tls = ["--tls", &papers.certificate, &papers.key, "--user", "muster@hospital.example", "pass word"];
    let mut relay = Relay::start(&tls).await;
    let data = tempfile::tempdir().unwrap();
    let password = data.path().join("password");
    std::fs::write(&password, "pass word\n").unwrap();
    let url = format!("smtp://muster@hospital.example@127.0.0.1:{}", relay.port);
    let more = format!(
        "to = ['Ada L. <{ADA}>', '{BEN}']\ngroup_s = 0\nca = '{}'\npassword_file = '{}'\nzone = 'Europe/Berlin'",
        papers.ca,
        password.display()
    );
    let config = Config { mail: Some(mail_config(&url, &more)), ..config(data.path()) };
    let api = Api::start_with(data, config.clone()).await;
    let evil = "er-1\r\nBcc: everybody@evil.example\r\n\r\n.\r\nRSET\r\n<b>\u{202e}Köln";
    suspect(&api.server, 1, evil).await;

    let told = relay.next().await;
    assert_eq!((&told["encrypted"], &told["user"]), (&json!(true), &json!("muster@hospital.example")));
    assert_eq!((&told["from"], &told["to"]), (&json!("muster@hospital.example"), &json!([ADA, BEN])));
    assert_eq!((&told["defects"], &told["parts"]), (&json!([]), &json!(["text/plain"])));
    let mut names: Vec<&str> =
        told["headers"].as_array().unwrap().iter().map(|header| header[0].as_str().unwrap()).collect();
    names.sort_unstable();
    let expect = [
        "Auto-Submitted",
        "Content-Transfer-Encoding",
        "Content-Type",
        "Date",
        "From",
        "MIME-Version",
        "Message-ID",
        "Subject",
        "To",
    ];
    assert_eq!(names, expect, "{told}");
    assert!(told["raw"].as_str().unwrap().is_ascii(), "{told}");
    assert_eq!(header(&told, "To"), [format!("\"Ada L.\" <{ADA}>, {BEN}")]);
    let subject = header(&told, "Subject")[0];
    assert!(subject.starts_with("[Muster] 1 thing needs you, urgently: er-1"), "{subject}");
    let id = header(&told, "Message-ID")[0];
    assert!(id.starts_with("<muster.") && id.ends_with(".1@hospital.example>"), "{id}");

    // One source: whatever the overview lists stands in it, and the link leads here.
    let needs = api.see("/api/v1/overview").await["needs_you"].clone();
    let [need] = needs.as_array().unwrap().as_slice() else { panic!("{needs}") };
    assert_eq!((&need["kind"], &need["urgent"]), (&json!("device_suspect"), &json!(true)));
    let line = |text: &Value| -> String {
        let steers = |c: char| c.is_control() || c == '\u{202e}';
        text.as_str().unwrap().chars().map(|c| if steers(c) { ' ' } else { c }).collect()
    };
    for said in ["title", "detail", "link"] {
        assert!(body(&told).contains(&line(&need[said])), "{said}: {told}");
    }
    assert!(body(&told).contains(&format!("{}/devices/", api.fleet().addresses.http)), "{told}");
    assert!(body(&told).contains("  muster device show d-"), "{told}");

    api.server
        .until("the log has it", async |fleet| {
            let mut db = fleet.store.read().await.unwrap();
            let told = log::after(&mut db, Some("*"), &Page::first(9)).await.unwrap();
            let [told] = told.as_slice() else { return None };
            assert_eq!((told.kind.as_str(), &told.actor), ("mail.sent", &Actor::Fleet));
            assert!(told.sentence.starts_with("mailed to 2 of 2: [Muster] 1 thing"), "{}", told.sentence);
            Some(())
        })
        .await;
    asked_by_people(&api, &mut relay).await;

    // Killed and started again, it says nothing twice, and what happens then.
    let data = api.kill().await;
    let again = Config { data: data.path().to_owned(), ..config };
    let mut again = again;
    let mail = again.mail.as_mut().unwrap();
    mail.password_file = Some(data.path().join("password"));
    let api = Api::start_with(data, again).await;
    suspect(&api.server, 2, "er-2").await;
    let told = relay.next().await;
    assert!(header(&told, "Subject")[0].ends_with("er-2 may not be the only one with its key"), "{told}");
    assert!(body(&told).contains("1 more: told before, and still so."), "{told}");
    assert_eq!(header(&told, "Message-ID")[0], id.replace(".1@", ".2@"));
    api.stop().await;
}

/// `muster mail` and its route.
async fn asked_by_people(api: &Api, relay: &mut Relay) {
    let desk = Desk::new(&api.fleet().addresses.http);
    let shown = desk.ok(&["mail", "status"]).await;
    assert!(shown.contains(ADA) && shown.contains("STANDING"), "{shown}");
    let status = api.see("/api/v1/mail").await;
    assert_eq!(status["relay"], relay.url());
    assert!(!status.to_string().contains("pass word"), "{status}");
    let list = &status["items"][0];
    assert_eq!((&list["standing"], &list["waiting"], &list["failing"]), (&json!(1), &json!(0), &Value::Null));
    assert_eq!(list["to"], json!([format!("\"Ada L.\" <{ADA}>"), BEN]));
    assert!(list["sent"].is_string() && list["next"].is_string(), "{list}");

    let said = desk.ok(&["mail", "test"]).await;
    assert!(said.contains(BEN) && said.contains("250 2.0.0 kept"), "{said}");
    let told = relay.next().await;
    assert_eq!(header(&told, "Subject"), ["[Muster] A test"]);
    api.post("/api/v1/mail/test", &json!({"project": "er"})).await.is_problem(422, "invalid");
    desk.refused(&["mail", "test", "--project", "er"], "no such list").await;
}

#[tokio::test]
async fn at_night_only_what_is_urgent_is_mailed_and_the_rest_in_one_mail_in_the_morning() {
    let mut relay = Relay::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let more = format!("to = ['{ADA}']\nquiet = ['daily 21:00-06:00']\nzone = 'Europe/Berlin'");
    let mailer = mailer(&server, &mail_config(&relay.url(), &more));
    // Winter time: an hour ahead of UTC.
    let night: Timestamp = "2027-01-18T20:00:00Z".parse().unwrap();
    silent(&server, 1, night.minus(minutes(10))).await;
    silent(&server, 2, night.minus(minutes(10))).await;
    for at in [0, 10, 20] {
        mailer.look(night.plus(minutes(at))).await.unwrap();
    }
    suspect(&server, 3, "er-3").await;
    mailer.look(night.plus(minutes(30))).await.unwrap();
    mailer.look(night.plus(minutes(35))).await.unwrap();
    let told = relay.next().await;
    assert_eq!(
        header(&told, "Subject"),
        ["[Muster] 1 thing needs you, urgently: er-3 may not be the only one with its key"]
    );
    assert!(body(&told).contains("2 more: less urgent, told after Tue 06:00 Berlin."), "{told}");
    // The second comes back by itself.
    crate::http::enrol(&server.fleet, 2, None).await;
    mailer.look(night.plus(minutes(60))).await.unwrap();
    mailer.look(night.plus(minutes(9 * 60 - 1))).await.unwrap();
    mailer.look(night.plus(minutes(9 * 60))).await.unwrap();
    let told = relay.next().await;
    assert_eq!(header(&told, "Subject"), ["[Muster] 1 thing needs you: box-1 is offline"]);
    assert!(body(&told).contains("Since 18 January 2027, 20:50 (Europe/Berlin)"), "{told}");
    for said in ["1 more: came and went in quiet hours.", "1 more: told before, and still so."] {
        assert!(body(&told).contains(said), "{told}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_relay_that_is_away_is_asked_again_and_stands_in_the_list_after_an_hour() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let data = tempfile::tempdir().unwrap();
    let own = config(data.path());
    let api = Api::start_with(data, own).await;
    let server = &api.server;
    let config = mail_config(&format!("smtp://127.0.0.1:{port}"), &format!("to = ['{ADA}']"));
    let mailer = mailer(server, &config);
    // Three hours ago, so that the overview of now has seen it all.
    let began = server.fleet.clocks.trust.now().minus(minutes(180));
    silent(server, 1, began.minus(minutes(10))).await;
    let kinds = async || {
        let needs = api.see("/api/v1/overview").await["needs_you"].clone();
        let kinds = needs.as_array().unwrap().iter().map(|need| need["kind"].as_str().unwrap().to_owned());
        kinds.collect::<Vec<_>>()
    };
    mailer.look(began).await.unwrap();
    mailer.look(began.plus(minutes(5))).await.unwrap();
    let trouble = book(server).await.trouble().unwrap().clone();
    assert_eq!((trouble.since, trouble.tries), (began.plus(minutes(5)), 1));
    assert!(trouble.why.contains("cannot be reached"), "{trouble:?}");
    for at in 6..100 {
        mailer.look(began.plus(minutes(at))).await.unwrap();
    }
    let trouble = book(server).await.trouble().unwrap().clone();
    assert!((8..=14).contains(&trouble.tries), "{trouble:?}");
    assert_eq!(kinds().await, ["mail_undelivered", "device_silent"]);

    let port = port.to_string();
    let mut relay = Relay::start(&["--port", &port]).await;
    mailer.look(began.plus(minutes(120))).await.unwrap();
    let told = relay.next().await;
    assert_eq!(header(&told, "Subject"), ["[Muster] 1 thing needs you: box-1 is offline"]);
    assert_eq!(kinds().await, ["device_silent"]);
    assert_eq!(book(server).await.sent(), Some(began.plus(minutes(120))));
    api.stop().await;
}

#[tokio::test]
async fn a_mail_that_was_cut_off_is_sent_again_as_it_was_by_the_next_server() {
    let mut relay = Relay::start(&["--cut", "1"]).await;
    let data = tempfile::tempdir().unwrap();
    let mail = mail_config(&relay.url(), &format!("to = ['{ADA}']\ngroup_s = 0"));
    let config = Config { mail: Some(mail), ..config(data.path()) };
    let server = Server::start_with(config.clone()).await;
    suspect(&server, 1, "er-1").await;
    let first = relay.next().await;
    // Whether it has noticed by now that the line broke makes no difference.
    server.kill().await;

    let server = Server::start_with(config).await;
    // That is another mail, for the one that somebody may have stays as it is, word for word.
    suspect(&server, 2, "er-2").await;
    let again = relay.next().await;
    assert_eq!((&again["headers"], &again["body"]), (&first["headers"], &first["body"]));
    let told = relay.next().await;
    let subject = "[Muster] 1 thing needs you, urgently: er-2 may not be the only one with its key";
    assert_eq!(header(&told, "Subject"), [subject]);
    assert_ne!(header(&told, "Message-ID"), header(&first, "Message-ID"));
    server.stop().await;
}

#[tokio::test]
async fn a_projects_list_is_told_of_the_project_and_one_bad_address_holds_up_nobody() {
    let mut relay = Relay::start(&["--refuse", BEN, "--later", "carl@hospital.example"]).await;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let at: Timestamp = "2027-01-18T10:00:00Z".parse().unwrap();
    let project = Project { name: "er".parse().unwrap(), made: at, made_by: "test".to_owned() };
    let mut tx = server.fleet.store.write().await.unwrap();
    assert!(projects::add(&mut tx, &project).await.unwrap());
    projects::assign(&mut tx, &Of::Site("er".parse().unwrap()), &project.name).await.unwrap();
    tx.commit().await.unwrap();
    let mut config = mail_config(&relay.url(), &format!("to = ['{ADA}', '{BEN}', 'carl@hospital.example']"));
    config.projects = vec![ProjectMail {
        project: project.name.clone(),
        to: vec!["dora@hospital.example".parse().unwrap()],
    }];
    let mailer = mailer(&server, &config);
    // Odd boxes are at the site `er`.
    silent(&server, 1, at.minus(minutes(10))).await;
    silent(&server, 2, at.minus(minutes(10))).await;
    for minute in [0, 5, 10] {
        mailer.look(at.plus(minutes(minute))).await.unwrap();
    }
    let mut told = BTreeMap::new();
    for _ in 0..3 {
        let mail = relay.next().await;
        told.insert(mail["to"][0].as_str().unwrap().to_owned(), mail);
    }
    assert_eq!(told.keys().collect::<Vec<_>>(), [ADA, "carl@hospital.example", "dora@hospital.example"]);
    assert!(body(&told[ADA]).contains("box-1") && body(&told[ADA]).contains("box-2"));
    assert_eq!(header(&told[ADA], "Message-ID"), header(&told["carl@hospital.example"], "Message-ID"));
    let of_er = &told["dora@hospital.example"];
    assert_eq!(header(of_er, "Subject"), ["[Muster (er)] 1 thing needs you: box-1 is offline"]);
    assert!(!of_er["raw"].as_str().unwrap().contains("box-2"), "{of_er}");
    let book = book(&server).await;
    let [refused] = book.refused() else { panic!("{book:?}") };
    assert_eq!(refused.to, BEN);
    assert!(refused.why.contains("nobody of that name"), "{refused:?}");
    assert_eq!(book.trouble(), None);
    server.stop().await;
}

async fn sent(config: &MailConfig) -> Result<Vec<Fate>, SmtpError> {
    let letter = Letter {
        id: "muster.test".to_owned(),
        at: Timestamp::from_seconds(1_795_651_200),
        subject: "[Muster] A test",
        body: ".\n..\nA dot begins a line.\n",
        to: &config.to,
    };
    let answers = Way::new(config, "fleet.example")?.send(&letter, &config.to, PATIENCE).await?;
    Ok(answers.into_iter().map(|answer| answer.fate).collect())
}

#[tokio::test]
async fn nothing_goes_over_a_line_that_is_not_what_was_configured() {
    let papers = Papers::new();
    let (tls, to) = (["--tls", &papers.certificate, &papers.key], format!("to = ['{ADA}']\n"));
    let trusted = format!("{to}ca = '{}'", papers.ca);
    let mut at_once = Relay::start(&[&tls[..], &["--at-once"]].concat()).await;
    let at_once_url = at_once.url().replace("smtp:", "smtps:");
    assert_eq!(sent(&mail_config(&at_once_url, &trusted)).await.unwrap(), [Fate::Taken]);
    let told = at_once.next().await;
    assert_eq!(told["encrypted"], true);
    assert_eq!(body(&told).trim_end(), ".\n..\nA dot begins a line.");
    // An authority that nobody named.
    let error = sent(&mail_config(&at_once_url, &to)).await.unwrap_err();
    assert!(matches!(error, SmtpError::Unreachable { .. }), "{error}");

    let plain = Relay::start(&[]).await;
    let error = sent(&mail_config(&plain.url(), &trusted)).await.unwrap_err();
    assert!(matches!(error, SmtpError::NoTls { .. }), "{error}");

    let asked = Relay::start(&[&tls[..], &["--user", "muster", "right"]].concat()).await;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "wrong").unwrap();
    let with = format!("{trusted}\npassword_file = '{}'", password.path().display());
    let url = format!("smtp://muster@127.0.0.1:{}", asked.port);
    let error = sent(&mail_config(&url, &with)).await.unwrap_err();
    assert!(matches!(error, SmtpError::LogIn { .. }) && !error.to_string().contains("wrong"), "{error}");
    std::fs::write(password.path(), "right\n").unwrap();
    assert_eq!(sent(&mail_config(&url, &with)).await.unwrap(), [Fate::Taken]);
    std::fs::write(password.path(), "").unwrap();
    let error = sent(&mail_config(&url, &with)).await.unwrap_err();
    assert!(matches!(error, SmtpError::NoPassword { .. }), "{error}");

    // A server does not start with it.
    let data = tempfile::tempdir().unwrap();
    let config = Config { mail: Some(mail_config(&url, &with)), ..config(data.path()) };
    let stop = tokio_util::sync::CancellationToken::new();
    let (ready, _is_ready) = tokio::sync::oneshot::channel();
    let error = muster_fleet::serve::run(config, stop, ready).await.unwrap_err();
    assert!(error.to_string().contains("[mail]"), "{error}");
}

#[tokio::test]
async fn without_mail_nobody_is_mailed_and_what_was_undelivered_is_nobodys_concern() {
    let api = Api::start().await;
    let shown = api.see("/api/v1/mail").await;
    assert_eq!((&shown["relay"], &shown["items"]), (&Value::Null, &json!([])));
    api.post("/api/v1/mail/test", &json!({})).await.is_problem(409, "state");
    let config = mail_config("smtp://127.0.0.1:9", &format!("to = ['{ADA}']"));
    let long_ago: Timestamp = "2026-01-18T10:00:00Z".parse().unwrap();
    silent(&api.server, 1, long_ago.minus(minutes(10))).await;
    let mailer = mailer(&api.server, &config);
    mailer.look(long_ago).await.unwrap();
    mailer.look(long_ago.plus(minutes(5))).await.unwrap();
    let kinds = async |api: &Api| {
        let needs = api.see("/api/v1/overview").await["needs_you"].clone();
        let kinds = needs.as_array().unwrap().iter().map(|need| need["kind"].as_str().unwrap().to_owned());
        kinds.collect::<Vec<_>>()
    };
    assert!(kinds(&api).await.contains(&"mail_undelivered".to_owned()));
    drop(mailer);
    let data = api.kill().await;
    let own = crate::server::config(data.path());
    let api = Api::start_with(data, own).await;
    assert!(!kinds(&api).await.contains(&"mail_undelivered".to_owned()));
    api.stop().await;
}
