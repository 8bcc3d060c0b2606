//! The command line of operators, publishers and builders: noun and verb, with the words of the REST API.
//!
//! Owns what a person types and reads. It reaches the fleet only by [`crate::client`]; keys and roots are handled
//! offline by [`crate::publisher`], and no private key ever goes into a request.

mod act;
mod audit;
mod builder;
mod bundle;
mod capture;
mod cohort;
mod completing;
mod context;
mod dataset;
mod delegation;
mod device;
mod doctor;
mod drift;
mod duration;
mod enrol;
mod error;
mod journal;
mod keys;
mod label;
mod lineage;
mod mail;
mod manual;
mod model;
mod output;
mod policy;
mod release;
mod rollout;
mod root;
mod run;
mod signers;
mod site;
mod telemetry;
mod token;
mod webhook;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use muster_protocol::time::Timestamp;

use crate::client::Client;
use crate::clock::TrustClock;
pub use completing::completions;
pub use error::CliError;
pub use manual::{RELEASED, pages};
use output::{Format, Output};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    an error; what it is and what to do next is on stderr
  2    the command line is wrong, or a confirmation is missing
  3    the watched rollout was aborted, rolled back or superseded, the watched run failed, or evidence does not hold
  4    no fleet server answers
  10   doctor: something wants attention, or could not be looked at
  11   doctor: something is broken
  124  the time given with --timeout has passed

Examples:
  muster device list
  muster rollout create --model deterioration --bundle bundles/deterioration/1.json --reason 'first release'
  muster rollout plan examples/plans/winter-model.yaml
  muster rollout watch ro-… --timeout 10m
  muster -o json drift list | jq '.items[0].sentence'";

/// Edge-AI fleet operations: devices, bundles, rollouts, drift, retraining.
#[derive(Debug, Parser)]
#[command(name = "muster", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    whom: Whom,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Format,
    /// The publisher's folder, with its keys, drafts and signed files.
    #[arg(long, global = true, env = "MUSTER_WORKSPACE", default_value = ".muster/publisher")]
    workspace: PathBuf,
    #[command(subcommand)]
    word: Word,
}

/// Which fleet is meant, and who asks.
#[derive(Debug, clap::Args)]
struct Whom {
    /// Address of the fleet server; else that of the context, else port 8480 of this machine.
    #[arg(long, global = true, env = "MUSTER_SERVER")]
    server: Option<String>,
    /// Which of the kept fleets; else the one in use (`muster context list`).
    #[arg(long, global = true, env = "MUSTER_CONTEXT", value_name = "NAME",
        add = ArgValueCompleter::new(completing::contexts))]
    context: Option<String>,
    /// Where contexts and their tokens are kept, for you alone [default: ~/.config/muster/contexts.toml].
    #[arg(long, global = true, env = "MUSTER_CONTEXTS", value_name = "FILE")]
    contexts: Option<PathBuf>,
    /// From the environment only: arguments are for everybody on the machine to see.
    #[arg(long, global = true, env = "MUSTER_TOKEN", hide = true, hide_env_values = true)]
    token: Option<String>,
    /// Who you are, for the log of a server in the open mode.
    #[arg(long = "as", global = true, env = "USER", default_value = "operator", value_name = "NAME")]
    actor: String,
}

/// The first word.
#[derive(Debug, Subcommand)]
enum Word {
    #[command(flatten)]
    Noun(Noun),
    #[command(flatten)]
    Own(Own),
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Boxes: what runs where.
    #[command(subcommand, visible_alias = "d")]
    Device(device::Verb),
    /// Files that let boxes join.
    #[command(subcommand)]
    Enrol(enrol::Verb),
    /// Model packages: build, list, add to the catalogue.
    #[command(subcommand, visible_alias = "b")]
    Bundle(bundle::Verb),
    /// The registry: models, their versions, what those are called and where they come from.
    #[command(subcommand, visible_alias = "m")]
    Model(model::Verb),
    /// What was made out of what.
    #[command(subcommand)]
    Lineage(lineage::Verb),
    /// The signed catalogue.
    #[command(subcommand)]
    Release(release::Verb),
    /// Signing keys, made and kept here.
    #[command(subcommand)]
    Key(keys::KeyVerb),
    /// The root: whom every box trusts.
    #[command(subcommand)]
    Root(root::Verb),
    /// Who else may list bundles: other vendors, builders.
    #[command(subcommand)]
    Delegation(delegation::Verb),
    /// Moving boxes from one bundle to another, in stages.
    #[command(subcommand, visible_alias = "ro")]
    Rollout(rollout::Verb),
    /// Sites: when their boxes may be touched, and how many at once.
    #[command(subcommand)]
    Site(site::Verb),
    /// "Not now", for a box or a site, for a while.
    #[command(subcommand)]
    Lease(site::LeaseVerb),
    Freeze(site::Freeze),
    Thaw(site::Thaw),
    /// Rows that sites are asked to keep for themselves.
    #[command(subcommand)]
    Capture(capture::Verb),
    /// Captured rows to Label Studio, and what people answered back.
    #[command(subcommand)]
    Label(label::Verb),
    /// Who is told what happens, and what they would not take.
    #[command(subcommand)]
    Webhook(webhook::Verb),
    /// Who is told by mail what needs a person, and whether it arrives.
    #[command(subcommand)]
    Mail(mail::Verb),
    /// Saved questions about boxes, such as all of a ward.
    #[command(subcommand)]
    Cohort(cohort::Verb),
    /// What models learn from: versions of files, what is in them, what changed.
    #[command(subcommand, visible_alias = "ds")]
    Dataset(dataset::Verb),
    /// What is kept of what boxes report.
    #[command(subcommand)]
    Telemetry(telemetry::Verb),
    /// Drift incidents.
    #[command(subcommand)]
    Drift(drift::Verb),
    /// Retraining runs.
    #[command(subcommand)]
    Run(run::Verb),
    /// When a model is retrained by itself.
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Trust files on the server.
    #[command(subcommand)]
    Trust(journal::TrustVerb),
    /// What happened, the newest first.
    Log(journal::LogArgs),
    /// Which fleet, and as whom.
    #[command(subcommand)]
    Context(context::Verb),
    Login(context::Login),
    /// Secrets for programs.
    #[command(subcommand)]
    Token(token::Verb),
    /// The log as evidence: exported, and checked link by link.
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Takes retraining runs and works on them.
    #[command(subcommand)]
    Builder(builder::Verb),
}

/// What is about this program and this desk.
#[derive(Debug, Subcommand)]
enum Own {
    /// Looks from this desk at the server and into it: what is not well, and what to do about it.
    #[command(after_help = doctor::HELP)]
    Doctor,
    /// Prints what makes a shell complete this program's words, and the ids that the server knows.
    #[command(after_help = completing::HELP)]
    Completions {
        /// Which shell completes.
        shell: completing::Shell,
    },
    /// Writes the manual pages of all commands into a folder, or prints the first of them.
    #[command(after_help = manual::HELP)]
    Man {
        /// The folder, made if absent; without one the first page is printed.
        dir: Option<PathBuf>,
    },
}

/// What every command gets.
#[derive(Debug)]
struct Context {
    server: String,
    token: Option<String>,
    /// The file of contexts.
    contexts: Option<PathBuf>,
    actor: String,
    workspace: PathBuf,
    output: Output,
}

impl Context {
    fn client(&self) -> Result<Client, CliError> {
        client(&self.server, self.token.as_deref(), &self.actor)
    }
}

impl Whom {
    /// The address and the token that the words, the environment and the contexts come to.
    fn choose(&self) -> Result<context::Chosen, CliError> {
        let kept = self.contexts();
        context::choose(kept.as_deref(), self.context.as_deref(), self.server.clone(), self.token.clone())
    }

    /// The file of contexts.
    fn contexts(&self) -> Option<PathBuf> {
        self.contexts.clone().or_else(context::default_file)
    }

    fn client(&self, chosen: &context::Chosen) -> Result<Client, CliError> {
        client(&chosen.server, chosen.token.as_deref(), &self.actor)
    }
}

fn client(server: &str, token: Option<&str>, actor: &str) -> Result<Client, CliError> {
    let client = Client::new(server)?.acting_as(actor);
    Ok(match token {
        Some(token) => client.with_token(token)?,
        None => client,
    })
}

/// The whole program.
pub fn main() -> ExitCode {
    if let Some(answered) = completing::answered() {
        return answered;
    }
    // clap prints its own help and errors, and ends with 2 where they are errors.
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&CliError::other(error)),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

async fn run(cli: Cli) -> Result<ExitCode, CliError> {
    let Cli { whom, output, workspace, word } = cli;
    let mut output = Output::standard(output);
    let done = match word {
        Word::Noun(noun) => act(whom, output, workspace, noun).await,
        // What is kept must not stand in the way of finding out that it is what is wrong.
        Word::Own(Own::Doctor) => return doctor::run(&whom, &mut output).await,
        Word::Own(Own::Completions { shell }) => completing::print(&mut output, shell),
        Word::Own(Own::Man { dir }) => manual::run(&mut output, dir.as_deref()),
    };
    done.map(|()| ExitCode::SUCCESS)
}

async fn act(whom: Whom, output: Output, workspace: PathBuf, noun: Noun) -> Result<(), CliError> {
    // What is kept must not stand in the way of mending it.
    let mends = matches!(noun, Noun::Context(_) | Noun::Login(_));
    let contexts = whom.contexts();
    let context::Chosen { server, token, .. } =
        if mends { context::choose(None, None, whom.server, whom.token)? } else { whom.choose()? };
    let context = &mut Context { server, token, contexts, actor: whom.actor, workspace, output };
    match noun {
        Noun::Device(verb) => device::run(context, verb).await,
        Noun::Enrol(verb) => enrol::run(context, verb).await,
        Noun::Bundle(verb) => bundle::run(context, verb).await,
        Noun::Model(verb) => model::run(context, verb).await,
        Noun::Lineage(verb) => lineage::run(context, verb).await,
        Noun::Release(verb) => release::run(context, verb).await,
        Noun::Key(verb) => keys::run(context, verb),
        Noun::Root(verb) => root::run(context, verb),
        Noun::Delegation(verb) => delegation::run(context, verb),
        Noun::Rollout(verb) => rollout::run(context, verb).await,
        Noun::Site(verb) => site::run(context, verb).await,
        Noun::Lease(verb) => site::lease(context, verb).await,
        Noun::Freeze(args) => site::freeze(context, args).await,
        Noun::Thaw(args) => site::thaw(context, args).await,
        Noun::Capture(verb) => capture::run(context, verb).await,
        Noun::Label(verb) => label::run(context, verb).await,
        Noun::Webhook(verb) => webhook::run(context, verb).await,
        Noun::Mail(verb) => mail::run(context, verb).await,
        Noun::Cohort(verb) => cohort::run(context, verb).await,
        Noun::Dataset(verb) => dataset::run(context, verb).await,
        Noun::Telemetry(verb) => telemetry::run(context, verb).await,
        Noun::Drift(verb) => drift::run(context, verb).await,
        Noun::Run(verb) => run::run(context, verb).await,
        Noun::Policy(verb) => policy::run(context, verb).await,
        Noun::Trust(verb) => journal::trust(context, verb).await,
        Noun::Log(args) => journal::log(context, args).await,
        Noun::Context(verb) => context::run(context, verb),
        Noun::Login(args) => context::login(context, args).await,
        Noun::Token(verb) => token::run(context, verb).await,
        Noun::Audit(verb) => audit::run(context, verb).await,
        Noun::Builder(verb) => builder::run(context, verb).await,
    }
}

fn report(error: &CliError) -> ExitCode {
    // Stderr may be gone too; the exit code says it all the same.
    Output::standard(Format::Table).say(&error.message()).ok();
    error.exit_code()
}

/// Real time.
fn now() -> Timestamp {
    TrustClock.now()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a list of lines")]
    fn lines_people_type() {
        let check = |line: &str, valid: bool| {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), valid, "{line}: {:?}", parsed.err().map(|error| error.to_string()));
        };
        check("muster device list", true);
        check("muster d ls -o name", true);
        check("muster rollout create --model er --bundle bundles/er/1.json --reason x", true);
        check(
            "muster rollout create --model er --bundle b --stage canary=1,bake=1h --stage all=100% --reason x",
            true,
        );
        check("muster rollout create --model er --bundle b --stage canary=none --reason x", false);
        check("muster rollout plan winter.yaml", true);
        check("muster rollout apply winter.yaml --yes", true);
        check("muster rollout approve ro-1 --reason fine", true);
        check("muster rollout approve ro-1", false);
        check("muster rollout retry ro-1 --reason again -y", true);
        check("muster rollout devices ro-1 --reason offline --state waiting", true);
        check("muster rollout why er-1", true);
        check("muster rollout evidence ro-1 --out pack.json", true);
        check("muster rollout verify-evidence pack.json", false);
        check("muster rollout verify-evidence pack.json --root root.json", true);
        check("muster rollout abort ro-1 --reason bad --yes", true);
        check("muster rollout abort ro-1", false);
        check("muster rollout watch ro-1 --timeout 10m", true);
        check("muster rollout watch ro-1 --timeout ten", false);
        check("muster bundle build --from out --model er --version 1 --out b --agent a --runtime r", true);
        check("muster bundle build --from out --model ER --version 1 --out b", false);
        check("muster builder run --config builder.toml --once", true);
        check("muster root sign", false);
        check("muster root sign --key ada", true);
        check("muster root sign --sign-with cmd", false);
        check("muster root sign --sign-with cmd --public ada.pub", true);
        check("muster root edit --expires 0s", false);
        check("muster release publish --key release --expires 0s", false);
        check("muster release revoke bundles/er/1.json --reason x", false);
        check("muster release revoke bundles/er/1.json --reason x --action stop", true);
        check("muster release prune --keep 0", false);
        check("muster bundle add b --hardware x86_64-cpu --min-agent 0.3.0", true);
        check("muster bundle add b --min-agent 0.3", false);
        check("muster delegation add vendor --key k", false);
        check("muster enrol new --site er-2 --count 40 --ttl 7d --approve manual --out er-2.enrol", true);
        check("muster enrol new", false);
        check("muster enrol new --site ER", false);
        check("muster enrol new --site er-2 --count 0", false);
        check("muster enrol new --site er-2 --approve maybe", false);
        check("muster device pending", true);
        check("muster device accept d-1 --fingerprint 0a1b-", true);
        check("muster device revoke d-1 --reason stolen --yes", true);
        check("muster device revoke d-1", false);
        check("muster device", false);
        check("muster site set er-2 --zone Europe/Berlin --in-flight 5 --consent ask", true);
        check("muster site set er-2 --consent maybe", false);
        check("muster lease take --site er-2 --reason MRI --for 2h", true);
        check("muster lease take --reason MRI --for 2h", false);
        check("muster lease take --site a --device b --reason MRI --for 2h", false);
        check("muster lease take --site er-2 --reason MRI --for 0s", false);
        let ask = "muster capture request --slot m --bundle b --rows 50 --for 7d --reason x";
        check(&format!("{ask} --site er-2 --why review"), true);
        check(&format!("{ask} --device d-1 --device d-2 --why low-confidence --score 0.4..0.6"), true);
        check(&format!("{ask} --site er-2 --incident inc-1 --every 10"), true);
        check(&format!("{ask} --site er-2"), false);
        check(&format!("{ask} --why review"), false);
        check(&format!("{ask} --site er-2 --why review --score 0.4"), false);
        check(&format!("{ask} --site er-2 --why review --score 0.4..0.6 --every 2"), false);
        check("muster capture cancel cap-1 --reason done --yes", true);
        check("muster capture cancel cap-1", false);
        check("muster capture export a.jsonl b.jsonl --labels l.csv --out o.parquet --add er-beds -y", true);
        check("muster capture export - --labels l.csv --out o.parquet", true);
        check("muster capture export - --labels l.csv --out o.parquet --yes", false);
        let studio = "--studio http://127.0.0.1:8080 --project 3 --token-file t";
        check(&format!("muster label push a.jsonl {studio} --score 0.4..0.6"), true);
        check(&format!("muster label push {studio}"), false);
        check(&format!("muster label pull {studio} --out l.csv --control risk"), true);
        check("muster dataset add er-beds a.parquet b/ --time-column at --rules r.toml --dry-run", true);
        check("muster dataset add er-beds", false);
        check("muster dataset add er-beds a.parquet --external git:x", false);
        check("muster ds ls er-beds", true);
        check("muster dataset show er-beds@3", true);
        check("muster dataset show er-beds@x", false);
        check("muster dataset compare er-beds@1 ./june.parquet --fail-on moderate --html out.html", true);
        check("muster dataset pull er-beds --out d", true);
        check("muster dataset import er-beds --artivc repo --ref v1", true);
        check("muster dataset import er-beds --dvc x.dvc", true);
        check("muster dataset import er-beds --dvc x.dvc --ref v1", false);
        check("muster dataset import er-beds", false);
        check("muster mail status", true);
        check("muster mail test --project er", true);
        check("muster mail test er", false);
        check("muster freeze --reason flu", true);
        check("muster freeze", false);
        check("muster freeze --list", true);
        check("muster thaw --site er-2", true);
        check("muster cohort set icu ward=icu", true);
        check("muster device tag d-1 ward=icu", true);
        check("muster device tag --where site=er-2 ward=er --yes", true);
        check("muster device tag", false);
        check("muster context add er", true);
        check("muster context use", false);
        check("muster login ada", true);
        check("muster token new ci --role viewer --for 30d", true);
        check("muster token new ci --role root", false);
        check("muster token new b --role builder --model er --model icu", true);
        check("muster audit verify", true);
        check("muster audit verify --seen 7:aa", false);
        check("muster audit export", false);
        check("muster bundle export b --oci b.oci", true);
        check("muster bundle export b", false);
        check("muster bundle export b --oci b.oci --tar b.tar", false);
        check("muster bundle import --tar b.tar --out b", true);
        check("muster model show er-beds @champion", true);
        check("muster model alias er-beds winter 7 --reason flu --if-revision 2", true);
        check("muster model alias er-beds winter --remove", true);
        check("muster model alias er-beds winter", false);
        check("muster model alias er-beds winter 7 --remove", false);
        check("muster model lineage er-beds", true);
        check("muster device why er-2-ward-1 --slot er-beds", true);
        check("muster lineage export --out l.ndjson", true);
        check("muster doctor", true);
        check("muster doctor -o json --context er", true);
        check("muster completions bash", true);
        check("muster completions tcsh", false);
        check("muster man", true);
        check("muster man share/man/man1", true);
        check("muster devise list", false);
    }
}
