//! Many boxes at once: which alarms are the fleet's business, and which are what chance gives so many.
//!
//! A box is falsely in alarm about once in a thousand windows. That is rare for a box, and ten a day for ten thousand. So
//! of all boxes those stand out whose reason is rarer than the number of boxes explains: among them, on average, no more
//! than one in ten is false (Benjamini and Hochberg). The more boxes see a change, the less each of them has to prove, so
//! that a small change which many share is told no later.

use super::special::real;

/// The share of false alarms among those that stand out, on average.
const FALSE_SHARE: f64 = 0.10;

/// Which of these stand out of all of them: the chance that each box, were it calm, would give as much reason
/// ([`Alarm::chance`](super::Alarm::chance)), and 1 for one that is not in alarm.
pub fn stand_out(chances: &[f64]) -> Vec<bool> {
    benjamini_hochberg(chances).into_iter().map(|adjusted| adjusted <= FALSE_SHARE).collect()
}

/// Adjusted p-values (Benjamini and Hochberg's): those at or below q are the ones that stand out at rate q. What is no
/// probability counts as 1.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let chance = |p: f64| if (0.0..=1.0).contains(&p) { p } else { 1.0 };
    let mut ranked: Vec<(usize, f64)> = p.iter().map(|&p| chance(p)).enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let tests = real(p.len() as u64);
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (above, &(at, p)) in ranked.iter().enumerate() {
        let rank = tests - real(above as u64);
        least = least.min(p * tests / rank);
        adjusted[at] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::{Alarm, Effect, Phase, Rule};

    #[test]
    fn what_is_no_probability_stands_out_of_nothing() {
        assert_eq!(benjamini_hochberg(&[]), [] as [f64; 0]);
        assert_eq!(benjamini_hochberg(&[f64::NAN, -1.0, 2.0]), [1.0; 3]);
    }

    #[test]
    fn the_more_see_it_the_less_each_has_to_prove() {
        let with = |seeing: usize, chance: f64| {
            let mut chances = vec![1.0; 1000];
            chances[..seeing].fill(chance);
            stand_out(&chances).into_iter().filter(|&stands| stands).count()
        };
        assert_eq!((with(1, 5e-3), with(1, 5e-5)), (0, 1));
        assert_eq!((with(40, 5e-3), with(50, 5e-3)), (0, 50));
        assert_eq!(stand_out(&[5e-3, 1.0, 1.0]), [true, false, false], "a small fleet is told everything");
    }

    /// Even between 0 and 1: the `b` of a box without drift, were it exact. In truth it is larger.
    fn calm(box_: u64, window: u64) -> f64 {
        let mut x = (window << 32 | box_).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        real((x ^ (x >> 31)) >> 11) / 9_007_199_254_740_992.0
    }

    #[test]
    fn chance_blames_no_box_of_thousands_and_a_fault_is_seen() {
        let rule = Rule::default();
        let mut boxes = vec![Alarm::default(); 2000];
        let (mut alarms, mut told, mut seen) = (0, 0, None);
        for window in 0..60 {
            for (number, alarm) in (0..).zip(&mut boxes) {
                let broken = number == 7 && window >= 30;
                let b = if broken { 1e-3 } else { calm(number, window) };
                alarm.step(&rule, b, Effect::Relevant, &[]);
            }
            let chances: Vec<f64> = boxes.iter().map(|alarm| alarm.chance().unwrap_or(1.0)).collect();
            for (number, stands) in stand_out(&chances).into_iter().enumerate() {
                match (number, stands) {
                    (7, true) if window >= 30 => seen = seen.or(Some(window - 30)),
                    (7, _) => {}
                    (_, stands) => {
                        alarms += usize::from(boxes[number].phase() != Phase::Calm);
                        told += usize::from(stands);
                    }
                }
            }
        }
        assert!(alarms > 300, "box-windows falsely in alarm: {alarms}");
        assert!(told * 10 < alarms, "{told} of {alarms} would be told");
        assert_eq!(seen, Some(1), "two windows are enough for a box that is as sure as that");
    }
}
