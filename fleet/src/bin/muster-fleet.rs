//! The fleet server's process.

fn main() -> anyhow::Result<()> {
    muster_fleet::arguments::main()
}
