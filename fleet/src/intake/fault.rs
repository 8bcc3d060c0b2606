//! What is wrong with an upload, all of it at once, up to a bound.

use super::IntakeError;

pub const FAULTS_MAX: usize = 50;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable name for machines.
    pub code: &'static str,
    pub sentence: String,
}

#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault. Beyond the bound the rest is not listed; the bound itself tells that there is more.
    pub(super) fn add(&mut self, code: &'static str, sentence: String) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(Fault { code, sentence });
        }
    }

    pub(super) fn none(self) -> Result<(), IntakeError> {
        if self.0.is_empty() { Ok(()) } else { Err(IntakeError::Refused { faults: self.0 }) }
    }
}

/// Refuses for one reason, with its causes.
pub(super) fn refuse(code: &'static str, error: &dyn std::error::Error) -> IntakeError {
    refuse_text(code, &chain(error))
}

pub(super) fn refuse_text(code: &'static str, sentence: &str) -> IntakeError {
    IntakeError::Refused { faults: vec![Fault { code, sentence: sentence.to_owned() }] }
}

/// An error and its causes in one sentence.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(super) fn all(faults: &[Fault]) -> String {
    let sentences: Vec<&str> = faults.iter().map(|fault| fault.sentence.as_str()).collect();
    format!("refused: {}", sentences.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_bounded() {
        let mut faults = Faults::default();
        for n in 0..FAULTS_MAX + 10 {
            faults.add("x", n.to_string());
        }
        let Err(IntakeError::Refused { faults }) = faults.none() else { unreachable!("there were faults") };
        assert_eq!(faults.len(), FAULTS_MAX);
    }
}
