//! Nothing of this box is told to the maker of its inference runtime.
//!
//! ONNX Runtime, from 1.29 on, reports over the network what runs where (program, machine, models' names and hashes, errors),
//! and keeps in the user's cache what it could not send. Only an environment variable keeps it from beginning; its own switch
//! comes too late for the first report. It is read as soon as the library is loaded, so a program that lacks it starts itself
//! anew: to set a variable of the process that one is in is not safe once there are threads.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What every process has to have that loads the runtime.
pub(crate) const NO_REPORTS: (&str, &str) = ("ORT_DISABLE_TELEMETRY", "1");

#[expect(clippy::disallowed_methods, reason = "no setting of ours: it is the runtime that reads it")]
pub(crate) fn is_quiet() -> bool {
    let (name, value) = NO_REPORTS;
    std::env::var_os(name).is_some_and(|found| found == value)
}

/// To be called before there are threads. Comes back if nothing had to be done, or with the reason why it could not be.
pub(crate) fn ensure() -> io::Result<()> {
    if is_quiet() {
        return Ok(());
    }
    let (name, value) = NO_REPORTS;
    let mut arguments = std::env::args_os();
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(called) = arguments.next() {
        command.arg0(called);
    }
    Err(command.args(arguments).env(name, value).exec())
}
