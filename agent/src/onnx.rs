//! Which files an ONNX model makes the runtime open besides itself: found before the runtime sees the model, because a
//! model is somebody else's program and the runtime would follow its paths.
//!
//! ```text
//!   external_data: location = "weights.bin"          a tensor kept in another file
//!   EPContext:     ep_cache_context = "model.xml"    a model in OpenVINO's own format, with its .bin
//! ```
//!
//! Allowed are regular files beside the model, by a plain name; its folder holds the variant's own files and nothing
//! else. Compiled models are refused: what is damaged in them loads without an error and answers wrongly. Reads names
//! and skips weights; what cannot be walked to its end is refused, so that nothing hides from this reader in what the
//! runtime might still understand.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

/// Graphs in graphs, more than any exporter nests.
const DEPTH_MAX: usize = 64;
/// Longest name or path that is looked at.
const NAME_BYTES_MAX: u64 = 4096;

/// What a model file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Onnx,
    /// A pointer to a model in OpenVINO's own format, which nothing but OpenVINO runs.
    OpenvinoIr,
}

#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    #[error("it is no ONNX file")]
    Garbled,
    #[error("it wants to read '{0}', which is not a file of the bundle beside it")]
    Foreign(String),
    #[error("it carries a compiled model; build the bundle from the model itself")]
    Compiled,
    #[error("it cannot be read")]
    Io(#[source] io::Error),
}

/// Walks the file and checks every file that it names.
pub fn check(path: &Path) -> Result<Kind, OnnxError> {
    // By this ending the runtime takes a file for a compiled model, whatever is in it.
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("ort")) {
        return Err(OnnxError::Compiled);
    }
    let file = File::open(path).map_err(OnnxError::Io)?;
    let length = file.metadata().map_err(OnnxError::Io)?.len();
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut walk = Walk { file: BufReader::new(file), at: 0, folder, kind: Kind::Onnx };
    walk.message(Message::Model, length, 0)?;
    Ok(walk.kind)
}

/// The messages of onnx.proto through which a file name can be reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Entry,
}

impl Message {
    fn field(self, number: u64) -> Field {
        let inner = match (self, number) {
            (Self::Model, 7) | (Self::Training, 1 | 2) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Self::Tensor,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::Sparse,
            (Self::Tensor, 13) => Self::Entry,
            (Self::Entry | Self::Attribute, 1) => return Field::Name,
            (Self::Entry, 2) | (Self::Attribute, 4) => return Field::Value,
            _ => return Field::Other,
        };
        Field::Message(inner)
    }
}

enum Field {
    Message(Message),
    Name,
    Value,
    Other,
}

/// A text, or that there is one too long to be a name.
enum Text {
    Short(Vec<u8>),
    Long,
}

struct Walk<'a> {
    file: BufReader<File>,
    at: u64,
    folder: &'a Path,
    kind: Kind,
}

impl Walk<'_> {
    fn message(&mut self, message: Message, end: u64, depth: usize) -> Result<(), OnnxError> {
        if depth > DEPTH_MAX {
            return Err(OnnxError::Garbled);
        }
        let (mut name, mut value) = (None, None);
        while self.at < end {
            let key = self.varint(end)?;
            // Readers of the format cut longer keys off, and find another field in what is left.
            if key > u64::from(u32::MAX) || key >> 3 == 0 {
                return Err(OnnxError::Garbled);
            }
            let length = match key & 7 {
                0 => {
                    self.varint(end)?;
                    continue;
                }
                1 => 8,
                2 => self.varint(end)?,
                5 => 4,
                // Groups, which this format never had, and what is no wire type.
                _ => return Err(OnnxError::Garbled),
            };
            let inner_end = self.at.checked_add(length).filter(|&at| at <= end).ok_or(OnnxError::Garbled)?;
            match message.field(key >> 3) {
                _ if key & 7 != 2 => self.skip(length)?,
                Field::Message(inner) => self.message(inner, inner_end, depth + 1)?,
                Field::Name => name = Some(self.text(length)?),
                Field::Value => value = Some(self.text(length)?),
                Field::Other => self.skip(length)?,
            }
        }
        match (message, name) {
            (Message::Entry, Some(Text::Short(key))) if key == b"location" => self.beside(value).map(drop),
            (Message::Attribute, Some(Text::Short(key))) if key == b"ep_cache_context" => {
                let named = self.beside(value)?;
                if Path::new(&named).extension().is_none_or(|extension| extension != "xml") {
                    return Err(OnnxError::Compiled);
                }
                self.kind = Kind::OpenvinoIr;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The name of a regular file in the model's folder.
    fn beside(&self, named: Option<Text>) -> Result<String, OnnxError> {
        let named = match named {
            Some(Text::Short(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            Some(Text::Long) => return Err(OnnxError::Compiled),
            None => String::new(),
        };
        let plain = named.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        // A link would lead out of the folder by another way.
        let is_file =
            || std::fs::symlink_metadata(self.folder.join(&named)).is_ok_and(|found| found.is_file());
        if plain && is_file() {
            Ok(named)
        } else {
            let shown = named.chars().filter(|letter| !letter.is_control()).take(100).collect();
            Err(OnnxError::Foreign(shown))
        }
    }

    fn varint(&mut self, end: u64) -> Result<u64, OnnxError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            if self.at >= end {
                return Err(OnnxError::Garbled);
            }
            let mut byte = [0];
            self.file.read_exact(&mut byte).map_err(OnnxError::Io)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(OnnxError::Garbled)
    }

    fn skip(&mut self, length: u64) -> Result<(), OnnxError> {
        let by = i64::try_from(length).map_err(|_| OnnxError::Garbled)?;
        self.file.seek_relative(by).map_err(OnnxError::Io)?;
        self.at += length;
        Ok(())
    }

    fn text(&mut self, length: u64) -> Result<Text, OnnxError> {
        if length > NAME_BYTES_MAX {
            self.skip(length)?;
            return Ok(Text::Long);
        }
        let mut bytes = Vec::new();
        (&mut self.file).take(length).read_to_end(&mut bytes).map_err(OnnxError::Io)?;
        self.at += length;
        Ok(Text::Short(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut value: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while value > 127 {
            out.push(u8::try_from(value & 127).unwrap() | 128);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
        out
    }

    fn field(number: usize, bytes: &[u8]) -> Vec<u8> {
        [varint(number << 3 | 2), varint(bytes.len()), bytes.to_vec()].concat()
    }

    fn external(location: &str) -> Vec<u8> {
        let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
        field(7, &field(5, &field(13, &entry)))
    }

    fn context(target: &[u8]) -> Vec<u8> {
        let attribute = [field(1, b"ep_cache_context"), field(4, target)].concat();
        field(7, &field(1, &field(5, &attribute)))
    }

    fn checked(model: &[u8]) -> Result<Kind, OnnxError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("weights.bin"), "w").unwrap();
        std::fs::write(dir.path().join("model.xml"), "<net/>").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        let path = dir.path().join("model.onnx");
        std::fs::write(&path, model).unwrap();
        check(&path)
    }

    #[test]
    fn what_other_readers_see_in_it_is_not_hidden_here() {
        // A key that is cut to 32 bits is `graph` (field 7); as a number of 64 bits it is nothing that is known.
        let graph = external("../x").split_off(1);
        let long = [&[0xba, 0x80, 0x80, 0x80, 0x10][..], &graph].concat();
        assert!(matches!(checked(&long), Err(OnnxError::Garbled)));
        let dir = tempfile::tempdir().unwrap();
        for name in ["model.ort", "model.ORT"] {
            let path = dir.path().join(name);
            std::fs::write(&path, external("weights.bin")).unwrap();
            assert!(matches!(check(&path), Err(OnnxError::Compiled)), "{name}");
        }
    }

    #[test]
    fn files_beside_are_allowed_and_no_others() {
        assert!(matches!(checked(&external("weights.bin")), Ok(Kind::Onnx)));
        assert!(matches!(checked(&context(b"model.xml")), Ok(Kind::OpenvinoIr)));
        for foreign in
            ["/etc/hostname", "../x", "absent", "link", "", "*/_ORT_MEM_ADDR_/*", "a\\b", ".", "a\0b"]
        {
            let error = checked(&external(foreign)).unwrap_err();
            assert!(matches!(error, OnnxError::Foreign(_)), "{foreign}: {error}");
        }
        assert!(matches!(checked(&context(b"../model.xml")), Err(OnnxError::Foreign(_))));
        assert!(matches!(checked(&context(b"weights.bin")), Err(OnnxError::Compiled)));
        assert!(matches!(checked(&context(&[b'x'; 5000])), Err(OnnxError::Compiled)));
    }

    #[test]
    fn names_are_found_wherever_they_hide() {
        let graph = |inner: &[u8]| field(7, inner);
        let tensor = field(13, &[field(1, b"location"), field(2, b"/x")].concat());
        let attribute = |number, inner: &[u8]| graph(&field(1, &field(5, &field(number, inner))));
        for model in [
            attribute(5, &tensor),
            attribute(10, &tensor),
            attribute(6, &field(5, &tensor)),
            attribute(22, &field(1, &tensor)),
            graph(&field(15, &field(2, &tensor))),
            field(25, &field(7, &field(5, &field(5, &tensor)))),
            field(25, &field(11, &field(5, &tensor))),
            field(20, &field(2, &field(5, &tensor))),
        ] {
            assert!(matches!(checked(&model), Err(OnnxError::Foreign(_))), "{model:?}");
        }
    }

    #[test]
    fn what_cannot_be_walked_is_refused() {
        for garbled in ["<html>404</html>".as_bytes(), &[0x3a, 0xff], &[0x3a, 5, 1], &[0xff; 11], &[0x0b]] {
            assert!(matches!(checked(garbled), Err(OnnxError::Garbled)), "{garbled:?}");
        }
        let mut deep = Vec::new();
        for _ in 0..DEPTH_MAX {
            deep = field(1, &field(5, &field(6, &deep)));
        }
        assert!(matches!(checked(&field(7, &deep)), Err(OnnxError::Garbled)));
    }
}
