//! How a TUF repository with consistent snapshots names its files: on the fleet's address and in an export alike.

use std::path::Path;

use muster_protocol::ids::{BundlePath, Digest};

use super::error::PublisherError;
use super::workspace;

/// `bundles/er/1.0.0.json` becomes `bundles/er/<sha256>.1.0.0.json`.
pub fn target_name(path: &BundlePath, sha256: &Digest) -> String {
    let path = path.to_string();
    match path.rsplit_once('/') {
        Some((dir, file)) => format!("{dir}/{sha256}.{file}"),
        None => format!("{sha256}.{path}"),
    }
}

/// The way back.
pub fn parse_target(name: &str) -> Option<(BundlePath, Digest)> {
    let (dir, file) = name.rsplit_once('/')?;
    let (sha256, file) = file.split_once('.')?;
    Some((format!("{dir}/{file}").parse().ok()?, sha256.parse().ok()?))
}

/// Whole or not at all, for everybody to read.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), PublisherError> {
    workspace::write(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        let sha256 = Digest::of(b"x");
        for text in ["bundles/er/1.0.0.json", "bundles/er/auto/7.json"] {
            let path: BundlePath = text.parse().unwrap();
            assert_eq!(parse_target(&target_name(&path, &sha256)), Some((path, sha256)));
        }
        let check = |name: &str| assert_eq!(parse_target(name), None, "{name}");
        check("bundles/er/1.0.0.json");
        check("bundles/er/0123.1.0.0.json");
        check(&format!("../{sha256}.1.json"));
        check(&format!("{sha256}.1.json"));
        check("");
    }
}
