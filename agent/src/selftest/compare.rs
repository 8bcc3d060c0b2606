//! Golden against found: the same outputs, the same shapes, every element within the tolerance. Pure.

use crate::oip::NamedTensor;

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Mismatch {
    #[error("the output '{0}' is missing")]
    Missing(String),
    #[error("the output '{name}' has shape {found:?} instead of {expected:?}")]
    Shape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("the golden response holds no element")]
    Nothing,
    #[error(
        "element {index} of '{name}' is {found} instead of {expected}, which differs by {difference:e}; {tolerance:e} is allowed ({beyond} of {elements} elements differ too much)"
    )]
    Element {
        name: String,
        index: usize,
        found: f64,
        expected: f64,
        difference: f64,
        tolerance: f64,
        beyond: usize,
        elements: usize,
    },
    #[error("element {index} of '{name}' is {found} instead of {expected}")]
    Text { name: String, index: usize, found: String, expected: String },
}

/// The largest difference, or the worst offender by name. Outputs that the golden response does not have are ignored.
pub(super) fn compare(
    expected: &[NamedTensor],
    found: &[NamedTensor],
    tolerance: f64,
) -> Result<f64, Mismatch> {
    let mut worst: Option<(f64, &str, usize, f64, f64)> = None;
    let (mut beyond, mut elements) = (0, 0);
    for NamedTensor { name, tensor: golden } in expected {
        let Some(NamedTensor { tensor: answer, .. }) = found.iter().find(|output| output.name == *name)
        else {
            return Err(Mismatch::Missing(name.clone()));
        };
        if answer.shape != golden.shape || answer.values.len() != golden.values.len() {
            let (found, expected) = (answer.shape.clone(), golden.shape.clone());
            return Err(Mismatch::Shape { name: name.clone(), found, expected });
        }
        for index in 0..golden.values.len() {
            let (Some(want), Some(have)) = (golden.values.get(index), answer.values.get(index)) else {
                let (found, expected) = (answer.values.json(index), golden.values.json(index));
                if found == expected {
                    elements += 1;
                    worst = worst.or(Some((0.0, name, index, 0.0, 0.0)));
                    continue;
                }
                let [found, expected] =
                    [found, expected].map(|text| text.to_string().chars().take(80).collect());
                return Err(Mismatch::Text { name: name.clone(), index, found, expected });
            };
            let difference = (have - want).abs();
            // NaN is never within a tolerance, and always the worst.
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            elements += 1;
            beyond += usize::from(difference > tolerance);
            if worst.is_none_or(|(largest, ..)| difference > largest) {
                worst = Some((difference, name, index, have, want));
            }
        }
    }
    match worst {
        None => Err(Mismatch::Nothing),
        Some((difference, ..)) if difference <= tolerance => Ok(difference),
        Some((difference, name, index, found, expected)) => {
            let name = name.to_owned();
            Err(Mismatch::Element { name, index, found, expected, difference, tolerance, beyond, elements })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oip::{Tensor, Values};

    fn output(name: &str, values: &[f32]) -> NamedTensor {
        let tensor = Tensor { shape: vec![values.len(), 1], values: Values::Fp32(values.to_vec()) };
        NamedTensor { name: name.to_owned(), tensor }
    }

    #[test]
    fn within_the_tolerance_the_worst_difference_is_told() {
        let golden = [output("y", &[1.0, 2.0])];
        assert_eq!(compare(&golden, &[output("y", &[1.0, 2.25])], 0.25), Ok(0.25));
        assert_eq!(compare(&golden, &[output("z", &[9.0]), output("y", &[1.0, 2.0])], 0.0), Ok(0.0));
    }

    #[test]
    fn the_worst_element_is_named() {
        let golden = [output("x", &[0.0]), output("y", &[1.0, 2.0, 3.0])];
        let found = [output("x", &[0.5]), output("y", &[1.5, 2.0, 1.0])];
        let Err(Mismatch::Element { name, index, difference, beyond, elements, .. }) =
            compare(&golden, &found, 0.1)
        else {
            panic!("accepted");
        };
        assert_eq!((name.as_str(), index, difference, beyond, elements), ("y", 2, 2.0, 3, 4));
        let nan = [output("x", &[0.0]), output("y", &[1.0, f32::NAN, 3.0])];
        assert!(matches!(compare(&golden, &nan, 1e9), Err(Mismatch::Element { index: 1, .. })));
    }

    #[test]
    fn texts_are_the_same_or_not() {
        let text = |text: &str| {
            let tensor = Tensor { shape: vec![1], values: Values::Bytes(vec![text.to_owned()]) };
            [NamedTensor { name: "t".to_owned(), tensor }]
        };
        assert_eq!(compare(&text("a"), &text("a"), 0.0), Ok(0.0));
        assert!(matches!(compare(&text("a"), &text("b"), 1e9), Err(Mismatch::Text { .. })));
    }

    #[test]
    fn another_shape_or_nothing_is_no_match() {
        let golden = [output("y", &[1.0, 2.0])];
        assert_eq!(compare(&golden, &[], 1.0), Err(Mismatch::Missing("y".to_owned())));
        assert!(matches!(compare(&golden, &[output("y", &[1.0])], 1.0), Err(Mismatch::Shape { .. })));
        assert_eq!(compare(&[], &[output("y", &[1.0])], 1.0), Err(Mismatch::Nothing));
    }
}
