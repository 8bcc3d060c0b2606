//! What tells this machine from another without saying what it is called: hashes, so that nobody who reads them learns a
//! serial number. Read once, at start. A box inside a container may have none of it.

use std::fs;
use std::path::Path;

use muster_protocol::enrol::Facts;
use muster_protocol::ids::Digest;

use crate::capabilities;

/// Hashed before each value, so that these digests match nobody else's of the same value.
const CONTEXT: &str = "muster facts 1";
const MACHINE: &str = "etc/machine-id";
/// Root alone may read the serial numbers; a service user gets the first that it may.
const BOARD: [&str; 2] = ["sys/class/dmi/id/board_serial", "sys/class/dmi/id/product_serial"];
/// What makers leave there when they write nothing.
const BLANKS: [&str; 6] =
    ["none", "default string", "to be filled by o.e.m.", "not specified", "system serial number", "0"];
const VALUE_BYTES_MAX: usize = 256;

pub fn look() -> Facts {
    look_in(Path::new("/"))
}

fn look_in(root: &Path) -> Facts {
    let (arch, cpu_model) = capabilities::processor();
    let machine = value(&root.join(MACHINE)).map(|id| digest("machine", &id));
    let board = BOARD.iter().find_map(|path| value(&root.join(path))).map(|serial| digest("board", &serial));
    Facts { machine, board, arch, cpu_model }
}

fn value(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    let blank =
        text.is_empty() || text.len() > VALUE_BYTES_MAX || BLANKS.contains(&text.to_lowercase().as_str());
    (!blank).then(|| text.to_owned())
}

fn digest(what: &str, value: &str) -> Digest {
    Digest::of(format!("{CONTEXT}\0{what}\0{value}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hashed_and_blanks_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let facts = look_in(dir.path());
        assert_eq!((facts.machine, facts.board), (None, None));
        write(MACHINE, "fedcba9876543210\n");
        write(BOARD[0], "To Be Filled By O.E.M.\n");
        write(BOARD[1], "PF3XYZ\n");
        let facts = look_in(dir.path());
        assert_eq!(facts.machine, Some(Digest::of(b"muster facts 1\0machine\0fedcba9876543210")));
        assert_eq!(facts.board, Some(Digest::of(b"muster facts 1\0board\0PF3XYZ")));
        assert!(!facts.arch.is_empty() && !facts.cpu_model.is_empty());
        write(BOARD[0], "B1");
        assert_ne!(look_in(dir.path()).board, facts.board);
    }
}
