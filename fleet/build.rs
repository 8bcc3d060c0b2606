//! Tells Cargo what is built into the binary besides Rust: the dashboard and the database's migrations.

fn main() -> std::io::Result<()> {
    // Cargo takes a missing path for a changed one and would build again every time.
    std::fs::create_dir_all("dashboard/dist")?;
    for path in ["dashboard/dist", "migrations"] {
        println!("cargo::rerun-if-changed={path}");
    }
    Ok(())
}
