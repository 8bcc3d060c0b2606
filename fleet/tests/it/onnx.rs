//! A trainer's output made here: a logistic model as an ONNX file written byte by byte, and the rows around it.
//!
//! ONNX is a protocol buffer; a logistic model needs so few fields that writing them out is shorter than a dependency.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

const ROWS: u32 = 600;

/// `score = sigmoid(x · weights + bias)` for rows of two numbers.
pub(crate) fn logistic(weights: [f32; 2], bias: f32) -> Vec<u8> {
    let graph = [
        node(&["x", "w"], "xw", "MatMul"),
        node(&["xw", "b"], "z", "Add"),
        node(&["z"], "score", "Sigmoid"),
        text(2, "logistic"),
        bytes(5, &tensor("w", &[2, 1], &weights)),
        bytes(5, &tensor("b", &[1], &[bias])),
        bytes(11, &value("x", 2)),
        bytes(12, &value("score", 1)),
    ]
    .concat();
    let opset = [text(1, ""), number(2, 17)].concat();
    [number(1, 8), bytes(8, &opset), bytes(7, &graph)].concat()
}

/// Writes everything a trainer has to write.
pub(crate) fn trainer_output(folder: &Path, model: &[u8]) {
    std::fs::create_dir_all(folder).unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(folder.join(name), content).unwrap();
    write("model.onnx", model);
    let description = json!({
        "schema": "muster-trainer/1", "model": "er", "task": "binary", "description": "test", "licences": ["Apache-2.0"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "features": ["a", "b"]}],
        "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1, 1]}],
        "label": "y", "primary_metric": "log_loss", "threshold": 0.5, "window_h": 24,
        "streams": [
            {"name": "a", "kind": "numeric", "tensor": "x", "column": 0},
            {"name": "score", "kind": "numeric", "tensor": "score", "column": 0}],
        "lineage": {"datasets": [], "trainer": "test", "packages": {}},
    });
    write("trainer.json", description.to_string().as_bytes());
    write("metrics.json", br#"{"claimed": "perfect"}"#);
    let (mut reference, mut frozen, mut recent) =
        ("group,time_h,a,b\n".to_owned(), "a,b,label\n".to_owned(), "a,b,label\n".to_owned());
    for i in 0..ROWS {
        let (a, b, noise) = (wave(i, 7), wave(i, 13), wave(i, 29));
        let label = u8::from(2.0 * a - b > noise);
        writeln!(reference, "ward-{},{},{a},{b}", i % 2, f64::from(i) / 2.0).unwrap();
        let holdout = if i < ROWS / 2 { &mut frozen } else { &mut recent };
        writeln!(holdout, "{a},{b},{label}").unwrap();
    }
    write("reference.csv", reference.as_bytes());
    write("holdout_frozen.csv", frozen.as_bytes());
    write("holdout_recent.csv", recent.as_bytes());
}

/// Evenly spread from -1 to 1, in a scattered order.
fn wave(i: u32, step: u32) -> f64 {
    f64::from(i * step % 101) / 50.0 - 1.0
}

fn node(inputs: &[&str], output: &str, operator: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| text(1, input)).collect();
    bytes(1, &[inputs, text(2, output), text(4, operator)].concat())
}

fn tensor(name: &str, shape: &[u64], values: &[f32]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|&n| number(1, n)).collect();
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [dims, number(2, 1), text(8, name), bytes(9, &raw)].concat()
}

/// A float matrix of any number of rows.
fn value(name: &str, columns: u64) -> Vec<u8> {
    let shape = [bytes(1, &text(2, "n")), bytes(1, &number(1, columns))].concat();
    let tensor = [number(1, 1), bytes(2, &shape)].concat();
    [text(1, name), bytes(2, &bytes(1, &tensor))].concat()
}

fn text(field: u64, text: &str) -> Vec<u8> {
    bytes(field, text.as_bytes())
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    let mut all = varint(field << 3 | 2);
    all.extend(varint(content.len() as u64));
    all.extend(content);
    all
}

fn number(field: u64, value: u64) -> Vec<u8> {
    let mut all = varint(field << 3);
    all.extend(varint(value));
    all
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while value >= 0x80 {
        all.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    all.push(u8::try_from(value).unwrap());
    all
}
