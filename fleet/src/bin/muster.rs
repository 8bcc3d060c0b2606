//! `muster`: the command line of operators, publishers and builders.

fn main() -> std::process::ExitCode {
    muster_fleet::cli::main()
}
