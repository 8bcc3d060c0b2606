//! `muster-agent`: reads the command line, does what it says, turns the end into an exit code.

fn main() -> std::process::ExitCode {
    muster_agent::arguments::main()
}
