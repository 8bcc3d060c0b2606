//! The deliberate bugs of `make mutants`, which takes its time. That each still fits the source is asked every day.

use std::path::Path;

/// What a hunk of a patch finds in its file.
fn found_by(hunk: &str) -> String {
    let lines = hunk.lines().skip(1).filter(|line| !line.starts_with('+'));
    lines.map(|line| line.get(1..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

pub(crate) fn fit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let patches = std::fs::read_dir(root.join("tests/sim/mutants")).unwrap();
    let patches: Vec<_> = patches.map(|entry| entry.unwrap().path()).collect();
    assert!(patches.len() >= 3, "there are bugs to plant");
    for path in patches {
        let patch = std::fs::read_to_string(&path).unwrap();
        let files: Vec<&str> = patch.split("\n--- a/fleet/").skip(1).collect();
        assert!(!files.is_empty(), "{} changes nothing", path.display());
        for file in files {
            let source = std::fs::read_to_string(root.join(file.lines().next().unwrap())).unwrap();
            let mut hunks = file.split("\n@@ ").skip(1).peekable();
            assert!(hunks.peek().is_some(), "{} has no hunk", path.display());
            for hunk in hunks {
                let found = found_by(hunk);
                assert!(source.contains(&found), "{} does not fit any more:\n{found}", path.display());
            }
        }
    }
}
