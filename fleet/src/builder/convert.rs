//! Has a model converted: ONNX, `OpenVINO` IR and TensorFlow's `SavedModel` into full and half precision and INT8.
//!
//! ```text
//!   model ──▶ python convert.py (child, limits) ──▶ PRECISION/model.onnx …, golden.json, converted.json
//!             stdout: "progress 0.40 quantising"     stderr, last line: why not
//! ```
//!
//! The tool is a Python program because OpenVINO's and NNCF's converters are; it comes inside this one, and runs in an
//! environment that `make convert` makes. What it wrote is read strictly, and asked before it is believed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_protocol::limits::{GOLDEN_ANSWERS_BYTES_MAX, VARIANT_FILES_MAX};
use muster_protocol::manifest::{Format, Precision, Signature, is_plain_path};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::child::{self, ChildError, Ended, Limits, Spec, Stream};
use super::feed::{clean, parse_progress};

const SCHEMA: &str = "muster-converted/1";
const TOOL: &str = include_str!("../../tools/convert/convert.py");
const NICE: u8 = 10;
/// Longest `converted.json`.
const REPORT_BYTES_MAX: u64 = 1024 * 1024;

/// How to start the tool.
#[derive(Clone, Debug)]
pub struct Converter {
    /// The interpreter of an environment with OpenVINO, NNCF and ONNX.
    pub python: PathBuf,
    pub memory_mb: u64,
    pub wall: Duration,
    pub env: Vec<(OsString, OsString)>,
}

/// What is to be made of which model.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    pub source: &'a Path,
    pub variants: &'a [Precision],
    /// Rows that the model is usually asked.
    pub calibration: Option<&'a Path>,
}

/// A model in one precision, as files.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    pub precision: Precision,
    pub format: Format,
    pub file: PathBuf,
    pub beside: Vec<PathBuf>,
}

/// Everything that was made. The files go when this does.
#[derive(Debug)]
pub struct Converted {
    pub forms: Vec<Form>,
    pub signature: Signature,
    /// A request of the Open Inference Protocol.
    pub golden: serde_json::Value,
    pub tools: BTreeMap<String, String>,
    _folder: tempfile::TempDir,
}

#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error(
        "the conversion tools are not at {path}; install them with `make convert`, or name their Python with --python"
    )]
    NoTools { path: String },
    #[error("the conversion could not be started")]
    Child(#[from] ChildError),
    #[error("{0}")]
    Refused(String),
    #[error("the conversion did not finish within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("stopped while the model was converted")]
    Cancelled,
    #[error("the conversion ended early ({how}): {said}")]
    Ended { how: String, said: String },
    #[error("the conversion left something else than was asked for: {0}")]
    Garbage(String),
    #[error("a folder to convert in could not be made")]
    Folder(#[source] std::io::Error),
}

impl ConvertError {
    /// Stable, for programs: is it the model, or is it us?
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "model_invalid",
            Self::TimedOut(_) => "model_timeout",
            Self::Cancelled => "cancelled",
            Self::NoTools { .. }
            | Self::Child(_)
            | Self::Ended { .. }
            | Self::Garbage(_)
            | Self::Folder(_) => "convert_failed",
        }
    }
}

/// `converted.json`.
#[derive(Debug, Deserialize)]
struct Report {
    schema: String,
    format: Format,
    signature: Signature,
    variants: Vec<Made>,
    #[serde(default)]
    tools: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Made {
    precision: Precision,
    file: String,
    beside: Vec<String>,
}

impl Converter {
    /// Runs the tool; `progress` hears a fraction and what is being done.
    pub async fn run(
        &self,
        task: Task<'_>,
        cancel: &CancellationToken,
        progress: &(impl Fn(f64, &str) + Sync),
    ) -> Result<Converted, ConvertError> {
        if !self.python.is_file() {
            return Err(ConvertError::NoTools { path: self.python.display().to_string() });
        }
        let folder = tempfile::tempdir().map_err(ConvertError::Folder)?;
        let out = folder.path().join("out");
        let tool = folder.path().join("convert.py");
        std::fs::create_dir(&out).and_then(|()| std::fs::write(&tool, TOOL)).map_err(ConvertError::Folder)?;
        let last = Mutex::new(String::new());
        let heard = |stream: Stream, line: &str| match (stream, parse_progress(line)) {
            (Stream::Out, Some((fraction, what))) => progress(fraction, what),
            (Stream::Out, None) => {}
            (Stream::Err, _) if line.trim().is_empty() => {}
            (Stream::Err, _) => {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = clean(line.trim(), 400);
            }
        };
        let ended = child::run(&self.spec(&task, &tool, &out, folder.path()), cancel, heard).await?;
        let said = last.into_inner().unwrap_or_else(PoisonError::into_inner);
        match ended {
            Ended::Exit(0) => {}
            Ended::Exit(2) => return Err(ConvertError::Refused(said)),
            Ended::Exit(code) => return Err(ConvertError::Ended { how: format!("exit code {code}"), said }),
            Ended::Signal(signal) => {
                return Err(ConvertError::Ended { how: format!("signal {signal}"), said });
            }
            Ended::TimedOut => return Err(ConvertError::TimedOut(self.wall)),
            Ended::Cancelled => return Err(ConvertError::Cancelled),
        }
        read(&out, task.variants, folder)
    }

    fn spec(&self, task: &Task<'_>, tool: &Path, out: &Path, tmp: &Path) -> Spec {
        let absolute =
            |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
        let wanted: Vec<&str> = task.variants.iter().map(|precision| precision.as_str()).collect();
        let mut command = vec![absolute(&self.python), absolute(tool)];
        command.extend(["--from".to_owned(), absolute(task.source), "--out".to_owned(), absolute(out)]);
        command.extend(["--variants".to_owned(), wanted.join(",")]);
        if let Some(rows) = task.calibration {
            command.extend(["--calibration".to_owned(), absolute(rows)]);
        }
        let mut env = self.env.clone();
        env.retain(|(name, _)| name != "TMPDIR");
        env.push(("TMPDIR".into(), tmp.as_os_str().to_owned()));
        env.retain(|(name, _)| name != "HOME");
        env.push(("HOME".into(), tmp.as_os_str().to_owned()));
        Spec {
            command,
            cwd: "/".into(),
            env,
            limits: Limits {
                wall: self.wall,
                memory_bytes: Some(self.memory_mb.saturating_mul(1024 * 1024)),
                nice: NICE,
            },
        }
    }
}

fn read(out: &Path, wanted: &[Precision], folder: tempfile::TempDir) -> Result<Converted, ConvertError> {
    let garbage = |what: String| ConvertError::Garbage(what);
    let report: Report = json(out, "converted.json", REPORT_BYTES_MAX)?;
    if report.schema != SCHEMA {
        return Err(garbage(format!("its schema is '{}'", report.schema)));
    }
    if report.variants.iter().map(|made| made.precision).ne(wanted.iter().copied()) {
        return Err(garbage("it made other variants".to_owned()));
    }
    let golden = json(out, "golden.json", GOLDEN_ANSWERS_BYTES_MAX)?;
    let mut forms = Vec::with_capacity(report.variants.len());
    for Made { precision, file, beside } in report.variants {
        if beside.len() > VARIANT_FILES_MAX {
            return Err(garbage(format!("{} files beside one", beside.len())));
        }
        let beside = beside.iter().map(|path| file_in(out, path)).collect::<Result<_, _>>()?;
        forms.push(Form { precision, format: report.format, file: file_in(out, &file)?, beside });
    }
    Ok(Converted { forms, signature: report.signature, golden, tools: report.tools, _folder: folder })
}

fn json<T: DeserializeOwned>(out: &Path, name: &str, bytes_max: u64) -> Result<T, ConvertError> {
    let garbage = |why: String| ConvertError::Garbage(format!("{name}: {why}"));
    let file = std::fs::File::open(file_in(out, name)?).map_err(|error| garbage(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| garbage(error.to_string()))?;
    if bytes.len() as u64 > bytes_max {
        return Err(garbage(format!("it is longer than {bytes_max} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| garbage(error.to_string()))
}

/// A file that the tool made in its folder. It ran on a model of somebody else's: a link, or a path that leads out, would
/// have a file of this machine signed and sent to every box.
fn file_in(out: &Path, name: &str) -> Result<PathBuf, ConvertError> {
    let garbage = |why: String| {
        ConvertError::Garbage(format!("'{}': {why}", name.chars().take(80).collect::<String>()))
    };
    if !is_plain_path(name) {
        return Err(garbage("no path inside its folder".to_owned()));
    }
    let mut path = out.to_owned();
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let found = path.symlink_metadata().map_err(|error| garbage(error.to_string()))?;
        let is_right = if parts.peek().is_some() { found.is_dir() } else { found.is_file() };
        if !is_right {
            return Err(garbage("neither a file of its own nor a folder".to_owned()));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program in place of Python, to see what becomes of a tool that misbehaves.
    async fn ran(script: &str, wall: Duration) -> Result<Converted, ConvertError> {
        let folder = tempfile::tempdir().unwrap();
        let python = folder.path().join("python");
        std::fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        let env = vec![("PATH".into(), "/usr/bin:/bin".into())];
        let converter = Converter { python, memory_mb: 512, wall, env };
        let task = Task { source: Path::new("/m.onnx"), variants: &[Precision::Fp16], calibration: None };
        converter.run(task, &CancellationToken::new(), &|_, _| ()).await
    }

    #[tokio::test]
    async fn each_way_to_fail_has_its_code() {
        let long = Duration::from_secs(30);
        for (script, code, says) in [
            ("echo 'no rows' >&2; exit 2", "model_invalid", "no rows"),
            ("echo boom >&2; exit 1", "convert_failed", "exit code 1): boom"),
            ("kill -9 $$", "convert_failed", "signal 9"),
            ("exit 0", "convert_failed", "converted.json"),
            (r#"echo '{"schema":"x"}' > "$5/converted.json""#, "convert_failed", "converted.json"),
        ] {
            let error = ran(script, long).await.unwrap_err();
            assert_eq!(error.code(), code, "{script}: {error}");
            assert!(error.to_string().contains(says), "{script}: {error}");
        }
        // What it leaves is read in its own folder only.
        let (secret, made) =
            (tempfile::NamedTempFile::new().unwrap(), "printf '%s' \"$report\" > \"$5/converted.json\"");
        let secret = secret.path().display();
        let leaves = |file: &str, before: &str| {
            let report = serde_json::json!({
                "schema": SCHEMA, "format": "onnx", "signature": { "inputs": [], "outputs": [] },
                "variants": [{ "precision": "fp16", "file": file, "beside": [] }],
            });
            format!(
                "mkdir \"$5/fp16\"; echo '{{}}' > \"$5/golden.json\"; {before}; report='{report}'; {made}"
            )
        };
        let right = leaves("fp16/model.onnx", "echo x > \"$5/fp16/model.onnx\"");
        assert_eq!(std::fs::read(&ran(&right, long).await.unwrap().forms[0].file).unwrap(), b"x\n");
        for (script, says) in [
            (leaves(&secret.to_string(), ":"), "no path inside"),
            (leaves("../../../etc/hostname", ":"), "no path inside"),
            (leaves("fp16/model.onnx", &format!("ln -s {secret} \"$5/fp16/model.onnx\"")), "neither a file"),
            (leaves("fp16/model.onnx", "rmdir \"$5/fp16\"; ln -s /etc \"$5/fp16\""), "neither a file"),
            (leaves("fp16", ":"), "neither a file"),
            (
                leaves("fp16/model.onnx", "ln -sf /dev/zero \"$5/golden.json\""),
                "'golden.json': neither a file",
            ),
            (
                leaves("fp16/model.onnx", ":") + "; head -c 2000000 /dev/zero > \"$5/converted.json\"",
                "longer than",
            ),
        ] {
            let error = ran(&script, long).await.unwrap_err();
            assert!(error.to_string().contains(says), "{script}: {error}");
        }
        assert_eq!(
            ran("exec sleep 300", Duration::from_millis(200)).await.unwrap_err().code(),
            "model_timeout"
        );
    }
}
