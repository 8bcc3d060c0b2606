//! How a command can end other than well, and the exit code that says so.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | an error; what and what next is on stderr |
//! | 2 | the command line is wrong, or a confirmation is missing |
//! | 3 | the watched rollout was aborted, rolled back or superseded, the run failed, or evidence does not hold |
//! | 4 | no fleet server answers |
//! | 10, 11 | a doctor found something that wants attention, or is broken |
//! | 124 | the time that was given has passed |

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use crate::client::ClientError;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Stdout or stderr is gone.
    #[error("the output could not be written")]
    Output(#[from] std::io::Error),
    #[error("{0}")]
    Usage(String),
    #[error("{what}")]
    Failed { what: String, next: Option<String> },
    /// What was watched ended, and not as wished.
    #[error("{0}")]
    EndedBadly(String),
    #[error("{0}")]
    TimedOut(String),
    /// An error of the builder, the publisher or a file.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl CliError {
    pub fn other(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Other(Box::new(error))
    }

    pub fn failed(what: impl Into<String>, next: &str) -> Self {
        Self::Failed { what: what.into(), next: Some(next.to_owned()) }
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// The reader of our output went away: not an error for anybody.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The error, its causes, and what to do next.
    pub fn message(&self) -> String {
        let mut message = format!("error: {self}");
        let mut said = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                // Writing to a string cannot fail.
                write!(message, "\n  because: {text}").ok();
            }
            said = text;
            cause = error.source();
        }
        if let Some(next) = self.next() {
            write!(message, "\n  next: {next}").ok();
        }
        message
    }

    fn code(&self) -> u8 {
        match self {
            Self::Client(ClientError::Unreachable { .. } | ClientError::Silent { .. }) => 4,
            Self::Usage(_) => 2,
            Self::EndedBadly(_) => 3,
            Self::TimedOut(_) => 124,
            Self::Client(_) | Self::Output(_) | Self::Failed { .. } | Self::Other(_) => 1,
        }
    }

    pub(super) fn next(&self) -> Option<String> {
        match self {
            Self::Client(error) => error.next(),
            Self::Failed { next, .. } => next.clone(),
            Self::Output(_) | Self::Usage(_) | Self::EndedBadly(_) | Self::TimedOut(_) | Self::Other(_) => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let check = |error: CliError, code| assert_eq!(error.code(), code, "{error}");
        check(CliError::Usage("x".to_owned()), 2);
        check(CliError::EndedBadly("x".to_owned()), 3);
        check(CliError::TimedOut("x".to_owned()), 124);
        check(CliError::failed("x", "y"), 1);
    }

    #[test]
    fn causes_and_next_steps_are_told() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let error = CliError::other(Outer(std::io::Error::other("inner")));
        assert_eq!(error.message(), "error: outer\n  because: inner");
        assert_eq!(CliError::failed("x", "do y").message(), "error: x\n  next: do y");
    }
}
