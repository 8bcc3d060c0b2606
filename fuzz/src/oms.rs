//! What must hold of a model signature that comes from outside. The file itself is compiled in: it reads bytes and nothing
//! else.

#[path = "../../fleet/src/oms/statement.rs"]
mod statement;

use statement::{SignatureFile, Statement, is_plain, signed_bytes};

/// The first byte says whether the rest is a signature file or the payload of one that is signed as it should be.
pub fn oms(data: &[u8]) -> bool {
    let Some((&mode, rest)) = data.split_first() else { return false };
    let file = if mode % 2 == 0 {
        let Ok(file) = SignatureFile::parse(rest) else { return false };
        file
    } else {
        SignatureFile::new(rest.to_vec(), b"signature".to_vec(), None)
    };
    let bytes = file.to_bytes();
    assert_eq!(SignatureFile::parse(&bytes).expect("what we wrote is read"), file);
    assert!(file.clone().open("hint", |_, _| false).is_err(), "an unsigned statement was believed");
    let mut over = Vec::new();
    let Ok(opened) = file.open("hint", |message, signature| {
        over = message.to_vec();
        assert!(mode % 2 == 0 || signature == b"signature");
        true
    }) else {
        return false;
    };
    assert!(mode % 2 == 0 || over == signed_bytes(rest), "other bytes were verified than were read");
    assert!(!opened.files.is_empty());
    for name in opened.files.keys() {
        assert!(
            is_plain(name) && !name.starts_with('/') && !name.split('/').any(|part| part == ".."),
            "{name:?}"
        );
    }
    let made =
        Statement { name: opened.name.clone(), files: opened.files.clone(), ignored: opened.ignored.clone() };
    let again = SignatureFile::new(made.to_payload(), Vec::new(), None).open("hint", |_, _| true);
    assert_eq!(again.expect("what we signed is read"), opened);
    assert!(
        !opened.ignores("a name that nobody ignores")
            || opened.ignored.iter().any(|path| path.starts_with('a'))
    );
    true
}
