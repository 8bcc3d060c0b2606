//! How wrong a model's answers are: log loss, Brier score, AUC and absolute error, from labels and predictions alone.

use muster_protocol::manifest::Task;
use serde::Serialize;

use super::output::Metric;
use super::rows::Rows;

/// Predictions are f32: nothing closer to 0 or 1 than its precision can be told from certainty.
const PROBABILITY_MIN: f64 = f32::EPSILON as f64;

/// The figures of one model on one set of rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    pub rows: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brier: Option<f64>,
    /// Absent where only one class is present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mae: Option<f64>,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ScoreError {
    #[error("row {row}: the label {label} is not {expect}")]
    Label { row: usize, label: f32, expect: String },
    #[error("row {row}: the answer {answer} is not a probability")]
    Probability { row: usize, answer: f32 },
    #[error("{labels} labels and {answers} answers do not pair up")]
    Length { labels: usize, answers: usize },
    #[error("the first output has {found} columns, which does not fit the task")]
    Columns { found: usize },
}

impl Scores {
    pub fn get(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::LogLoss => self.log_loss,
            Metric::Brier => self.brier,
            Metric::Mae => self.mae,
        }
    }
}

/// Scores the model's first output.
pub fn score(task: Task, labels: &[f32], answers: &Rows) -> Result<Scores, ScoreError> {
    let by = |metric| losses(task, metric, labels, answers).map(|losses| Some(mean(&losses)));
    let rows = labels.len();
    Ok(match task {
        Task::Regression => Scores { rows, mae: by(Metric::Mae)?, ..Scores::default() },
        Task::Binary | Task::Classification => Scores {
            rows,
            log_loss: by(Metric::LogLoss)?,
            brier: by(Metric::Brier)?,
            auc: (task == Task::Binary).then(|| auc(labels, answers)).flatten(),
            mae: None,
        },
    })
}

/// Of each row by itself how wrong the first output is; their mean is the score. A number is wrong by its distance.
pub fn losses(task: Task, metric: Metric, labels: &[f32], answers: &Rows) -> Result<Vec<f64>, ScoreError> {
    if labels.len() != answers.len() {
        return Err(ScoreError::Length { labels: labels.len(), answers: answers.len() });
    }
    let columns = answers.width();
    if (task == Task::Classification) != (columns > 1) || columns == 0 {
        return Err(ScoreError::Columns { found: columns });
    }
    let loss = |(row, (&label, answer)): (usize, (&f32, &[f32]))| match task {
        Task::Binary => binary(row, metric, label, answer[0]),
        Task::Classification => classification(row, metric, label, answer),
        Task::Regression => Ok((f64::from(label) - f64::from(answer[0])).abs()),
    };
    labels.iter().zip(answers.iter()).enumerate().map(loss).collect()
}

/// How far a variant's decisions are from the labels: the share of wrong ones, or the mean absolute error.
pub fn mistakes(task: Task, threshold: Option<f64>, labels: &[f32], answers: &Rows) -> f64 {
    let wrong = |decided: usize, label: f32| {
        if (real(decided) - f64::from(label)).abs() < 0.5 { 0.0 } else { 1.0 }
    };
    let mistake = |(answer, &label): (&[f32], &f32)| {
        let first = f64::from(answer.first().copied().unwrap_or(f32::NAN));
        match task {
            Task::Regression => (first - f64::from(label)).abs(),
            Task::Binary => wrong(usize::from(first >= threshold.unwrap_or(0.5)), label),
            Task::Classification => {
                let best = answer.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
                wrong(best.map_or(0, |(class, _)| class), label)
            }
        }
    };
    mean(&answers.iter().zip(labels).map(mistake).collect::<Vec<_>>())
}

fn binary(row: usize, metric: Metric, label: f32, answer: f32) -> Result<f64, ScoreError> {
    let Some(positive) = truth(label) else {
        return Err(ScoreError::Label { row, label, expect: "0 or 1".to_owned() });
    };
    let p = probability(row, answer)?;
    let of_truth = if positive { p } else { 1.0 - p };
    Ok(match metric {
        Metric::LogLoss => surprise(of_truth),
        Metric::Brier => (1.0 - of_truth).powi(2),
        Metric::Mae => 1.0 - of_truth,
    })
}

fn classification(row: usize, metric: Metric, label: f32, answer: &[f32]) -> Result<f64, ScoreError> {
    let truth = (0..answer.len()).find(|&class| real(class).total_cmp(&f64::from(label)).is_eq());
    let Some(truth) = truth else {
        let expect = format!("a class from 0 to {}", answer.len() - 1);
        return Err(ScoreError::Label { row, label, expect });
    };
    let mut loss = 0.0;
    for (class, &p) in answer.iter().enumerate() {
        let p = probability(row, p)?;
        let off = (p - f64::from(u8::from(class == truth))).abs();
        loss += match metric {
            Metric::LogLoss if class == truth => surprise(p),
            Metric::LogLoss => 0.0,
            Metric::Brier => off.powi(2),
            Metric::Mae => off,
        };
    }
    Ok(loss)
}

/// What it costs to have given the truth this probability.
fn surprise(p: f64) -> f64 {
    -p.clamp(PROBABILITY_MIN, 1.0 - PROBABILITY_MIN).ln()
}

/// A binary label, if it is exactly one.
fn truth(label: f32) -> Option<bool> {
    if label.total_cmp(&1.0).is_eq() {
        Some(true)
    } else if label.abs().total_cmp(&0.0).is_eq() {
        Some(false)
    } else {
        None
    }
}

/// The probability that a positive is ranked above a negative; ties count half.
fn auc(labels: &[f32], answers: &Rows) -> Option<f64> {
    let mut ranked: Vec<(f32, bool)> =
        answers.column(0).zip(labels.iter().map(|&y| truth(y) == Some(true))).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0.0, 0.0);
    for ties in ranked.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let positives = real(ties.iter().filter(|(_, positive)| *positive).count());
        let negatives = real(ties.len()) - positives;
        wins += positives * (below + negatives / 2.0);
        below += negatives;
    }
    let positives = real(ranked.len()) - below;
    (positives > 0.0 && below > 0.0).then(|| wins / (positives * below))
}

fn probability(row: usize, answer: f32) -> Result<f64, ScoreError> {
    // A little beyond the ends is rounding.
    if (-1e-5..=1.0 + 1e-5).contains(&answer) {
        Ok(f64::from(answer).clamp(0.0, 1.0))
    } else {
        Err(ScoreError::Probability { row, answer })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / real(values.len())
}

#[expect(clippy::cast_precision_loss, reason = "rows are bounded far below 2^52")]
fn real(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(width: usize, values: &[f32]) -> Rows {
        let mut rows = Rows::new(width);
        rows.extend(values.iter().copied());
        rows
    }

    fn near(value: Option<f64>, expect: f64) {
        assert!((value.unwrap() - expect).abs() < 1e-6, "{value:?} is not {expect}");
    }

    #[test]
    fn binary_scores_are_those_of_scikit_learn() {
        // sklearn.metrics: log_loss 0.4338645, brier 0.1375, auc 0.75
        let scores = score(Task::Binary, &[0.0, 0.0, 1.0, 1.0], &rows(1, &[0.1, 0.4, 0.35, 0.8])).unwrap();
        near(scores.auc, 0.75);
        near(scores.brier, (0.01 + 0.16 + 0.4225 + 0.04) / 4.0);
        near(scores.log_loss, -(0.9_f64.ln() + 0.6_f64.ln() + 0.35_f64.ln() + 0.8_f64.ln()) / 4.0);
    }

    #[test]
    fn ties_count_half_and_one_class_has_no_auc() {
        near(score(Task::Binary, &[0.0, 1.0], &rows(1, &[0.5, 0.5])).unwrap().auc, 0.5);
        assert_eq!(score(Task::Binary, &[1.0, 1.0], &rows(1, &[0.5, 0.6])).unwrap().auc, None);
    }

    #[test]
    fn certainty_that_is_wrong_costs_much_but_not_everything() {
        let scores = score(Task::Binary, &[0.0], &rows(1, &[1.0])).unwrap();
        assert!(scores.log_loss.unwrap() > 10.0 && scores.log_loss.unwrap().is_finite());
    }

    #[test]
    fn other_tasks() {
        let scores = score(Task::Regression, &[1.0, 2.0], &rows(1, &[2.0, 0.0])).unwrap();
        near(scores.mae, 1.5);
        let scores =
            score(Task::Classification, &[2.0, 0.0], &rows(3, &[0.1, 0.1, 0.8, 1.0, 0.0, 0.0])).unwrap();
        near(scores.log_loss, -f64::from(0.8_f32).ln() / 2.0);
    }

    #[test]
    fn nonsense_is_refused() {
        let check = |task, labels: &[f32], width, answers: &[f32], expect: &str| {
            assert_eq!(score(task, labels, &rows(width, answers)).unwrap_err().to_string(), expect);
        };
        check(Task::Binary, &[2.0], 1, &[0.5], "row 0: the label 2 is not 0 or 1");
        check(Task::Binary, &[1.0], 1, &[1.5], "row 0: the answer 1.5 is not a probability");
        check(Task::Binary, &[1.0, 0.0], 1, &[0.5], "2 labels and 1 answers do not pair up");
        check(
            Task::Binary,
            &[1.0],
            2,
            &[0.5, 0.5],
            "the first output has 2 columns, which does not fit the task",
        );
        check(Task::Classification, &[3.0], 2, &[0.5, 0.5], "row 0: the label 3 is not a class from 0 to 1");
    }
}
