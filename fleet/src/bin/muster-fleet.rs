//! The fleet server's process.

/// Reports come as millions of small things (docs/decisions/0015).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    muster_fleet::arguments::main()
}
