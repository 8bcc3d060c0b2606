//! Bodies of the Open Inference Protocol, as far as the builder writes and reads them.

use muster_protocol::manifest::{Datatype, Signature, Tensor};
use serde::{Deserialize, Serialize};

use super::output::width;
use super::rows::Rows;

#[derive(Debug, Serialize)]
pub struct InferRequest<'a> {
    pub id: String,
    pub inputs: Vec<Input<'a>>,
}

#[derive(Debug, Serialize)]
pub struct Input<'a> {
    name: &'a str,
    shape: Vec<usize>,
    datatype: Datatype,
    data: Vec<f32>,
}

#[derive(Debug, Deserialize)]
pub struct InferResponse {
    #[serde(default)]
    outputs: Vec<Output>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Output {
    name: String,
    shape: Vec<i64>,
    /// JSON has no NaN: writers put null there.
    data: Vec<Option<f64>>,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum AnswerError {
    #[error("the model refused a request: {0}")]
    Refused(String),
    #[error("the answer has no output '{0}', which trainer.json names")]
    NoOutput(String),
    #[error("the output '{name}' has the shape {found:?} for {rows} rows; trainer.json says {expect:?}")]
    Shape { name: String, found: Vec<i64>, rows: usize, expect: Vec<i64> },
    #[error("the output '{name}' is not a finite number in row {row}")]
    NotFinite { name: String, row: usize },
}

impl<'a> InferRequest<'a> {
    /// Splits rows over the inputs, whose columns follow each other.
    pub fn of(id: usize, inputs: &'a [Tensor], rows: &[f32]) -> Self {
        let widths: Vec<usize> = inputs.iter().map(|tensor| width(tensor).unwrap_or(0)).collect();
        let row_width: usize = widths.iter().sum::<usize>().max(1);
        let mut from = 0;
        let mut split = Vec::with_capacity(inputs.len());
        for (tensor, width) in inputs.iter().zip(widths) {
            let cut = rows.chunks_exact(row_width).filter_map(|row| row.get(from..from + width));
            split.push(Input {
                name: &tensor.name,
                shape: vec![rows.len() / row_width, width],
                datatype: tensor.datatype,
                data: cut.flatten().copied().collect(),
            });
            from += width;
        }
        Self { id: id.to_string(), inputs: split }
    }
}

impl InferResponse {
    /// Appends the answers to one table per output of the signature; `rows` were asked.
    pub fn collect(self, outputs: &[Tensor], rows: usize, into: &mut [Rows]) -> Result<(), AnswerError> {
        if let Some(error) = self.error {
            return Err(AnswerError::Refused(error));
        }
        for (tensor, into) in outputs.iter().zip(into) {
            let found = self.outputs.iter().find(|output| output.name == tensor.name);
            let Some(output) = found else { return Err(AnswerError::NoOutput(tensor.name.clone())) };
            let columns = width(tensor).unwrap_or(0);
            let shape_fits = match output.shape.as_slice() {
                [n] => columns == 1 && is(*n, rows),
                [n, c] => is(*n, rows) && is(*c, columns),
                _ => false,
            };
            if !shape_fits || output.data.len() != rows * columns {
                let (found, expect) = (output.shape.clone(), tensor.shape.clone());
                return Err(AnswerError::Shape { name: tensor.name.clone(), found, rows, expect });
            }
            let before = into.len();
            for (at, value) in output.data.iter().enumerate() {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "answers are f32; overflow is caught below"
                )]
                let value = value.map(|value| value as f32).filter(|value| value.is_finite());
                let Some(value) = value else {
                    let row = before + at.checked_div(columns).unwrap_or(0);
                    return Err(AnswerError::NotFinite { name: tensor.name.clone(), row });
                };
                into.extend([value]);
            }
        }
        Ok(())
    }
}

/// One empty table per output.
pub fn tables(signature: &Signature) -> Vec<Rows> {
    signature.outputs.iter().map(|tensor| Rows::new(width(tensor).unwrap_or(1))).collect()
}

fn is(found: i64, expect: usize) -> bool {
    usize::try_from(found) == Ok(expect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[i64]) -> Tensor {
        Tensor {
            name: name.to_owned(),
            datatype: Datatype::Fp32,
            shape: shape.to_vec(),
            features: Vec::new(),
        }
    }

    #[test]
    fn rows_are_split_over_the_inputs() {
        let inputs = [tensor("a", &[-1, 1]), tensor("b", &[-1, 2])];
        let request = InferRequest::of(7, &inputs, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.5]);
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"id":"7","inputs":[{"name":"a","shape":[2,1],"datatype":"FP32","data":[1.0,4.0]},{"name":"b","shape":[2,2],"datatype":"FP32","data":[2.0,3.0,5.0,6.5]}]}"#
        );
    }

    #[test]
    fn answers_are_checked() {
        let check = |answer: &str, expect: &str| {
            let response: InferResponse = serde_json::from_str(answer).unwrap();
            let mut tables = [Rows::new(1)];
            let error = response.collect(&[tensor("y", &[-1, 1])], 2, &mut tables).unwrap_err();
            assert_eq!(error.to_string(), expect);
        };
        check(r#"{"error":"no"}"#, "the model refused a request: no");
        check(r#"{"outputs":[]}"#, "the answer has no output 'y', which trainer.json names");
        check(
            r#"{"outputs":[{"name":"y","shape":[2,2],"data":[1,2,3,4]}]}"#,
            "the output 'y' has the shape [2, 2] for 2 rows; trainer.json says [-1, 1]",
        );
        check(
            r#"{"outputs":[{"name":"y","shape":[2,1],"data":[1,null]}]}"#,
            "the output 'y' is not a finite number in row 1",
        );
        let good: InferResponse =
            serde_json::from_str(r#"{"outputs":[{"name":"y","shape":[2],"data":[0.25,1]}]}"#).unwrap();
        let mut tables = [Rows::new(1)];
        good.collect(&[tensor("y", &[-1, 1])], 2, &mut tables).unwrap();
        assert_eq!(tables[0].column(0).collect::<Vec<_>>(), [0.25, 1.0]);
    }
}
