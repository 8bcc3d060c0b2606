//! `muster-agent`: reads the command line, does what it says, turns the end into an exit code.

use std::io::{self, Write as _};

fn main() -> ! {
    let code = muster_agent::arguments::main();
    // Whoever reads it may be gone; there is nobody left to tell.
    drop(io::stdout().flush());
    // Not by exit(3), which takes the inference runtime's libraries apart under threads that may still compile or free a
    // model: that is a segmentation fault in place of this code. All that has to last is on disk.
    signal_hook::low_level::exit(code.into())
}
