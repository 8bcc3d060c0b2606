//! Acts that change what runs: they want a reason, say what they will do in numbers, and ask a person first.

use super::{CliError, Context};

/// Why, and whether a person was asked already.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Reason {
    /// Why; recorded in the log under your act.
    #[arg(long)]
    pub(super) reason: String,
    /// Do not ask.
    #[arg(short, long)]
    pub(super) yes: bool,
}

/// Says what will happen; goes on only with consent. Without a terminal there is nobody to ask, so `--yes` must say it.
pub(super) fn confirm(context: &mut Context, yes: bool, what: &str) -> Result<(), CliError> {
    context.output.say(what)?;
    if yes {
        return Ok(());
    }
    if !context.output.is_interactive() {
        return Err(CliError::Usage("error: this is not a terminal; add --yes to confirm".to_owned()));
    }
    context.output.ask("Go on? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(CliError::failed("not confirmed; nothing was changed", "repeat and answer y, or add --yes"))
    }
}

/// A reason that says something.
pub(super) fn reason(reason: &str) -> Result<&str, CliError> {
    match reason.trim() {
        "" => Err(CliError::Usage(
            "--reason must not be empty: it is what others will read in the log".to_owned(),
        )),
        text => Ok(text),
    }
}
