//! What the shadows of one slot showed and no report has told yet.
//!
//! ```text
//!   add(pair, rows, differed) ──> sums of the pair ──take(now)──> blocks of k rows or more ──> report
//! ```
//!
//! Comparisons of few rows wait for more. Where few of many rows differ, `k` are said to, and what was said too many is
//! taken off those that differ later: nobody learns how few they were, and a shadow is never told to agree better than it
//! does. What is said too many stays below two times `k` rows, however long it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::drift::Floor;
use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::ShadowBlock;
use muster_protocol::time::Timestamp;

/// A world day.
const DAY: Duration = Duration::from_hours(24);
/// Pairs that wait for more rows. A slot has one shadow at a time; the others ended with few.
const PAIRS_MAX: usize = 16;

#[derive(Debug, Default)]
pub struct Compared(BTreeMap<Pair, Untold>);

/// Two bundles that were asked the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// In the shadow.
    pub bundle: Digest,
    /// What answered.
    pub against: Digest,
}

#[derive(Clone, Copy, Debug, Default)]
struct Untold {
    rows: u64,
    differed: u64,
    /// Rows said to differ beyond those that did.
    ahead: u64,
}

impl Compared {
    pub fn add(&mut self, pair: Pair, rows: u64, differed: u64) {
        if rows == 0 {
            return;
        }
        if self.0.len() == PAIRS_MAX && !self.0.contains_key(&pair) {
            let least = self.0.iter().min_by_key(|(_, untold)| untold.rows).map(|(&pair, _)| pair);
            least.map(|pair| self.0.remove(&pair));
        }
        let untold = self.0.entry(pair).or_default();
        untold.rows += rows;
        untold.differed += differed;
    }

    /// Whether there is anything that may be told.
    pub fn has_blocks(&self, floor: Floor) -> bool {
        self.0.values().any(|untold| untold.rows >= floor.rows())
    }

    /// Hands over at most `limit` pairs that may be told. `now` is world time.
    pub fn take(&mut self, slot: &SlotName, now: Timestamp, floor: Floor, limit: usize) -> Vec<ShadowBlock> {
        let told = self.0.iter_mut().filter(|(_, untold)| untold.rows >= floor.rows()).take(limit);
        told.map(|(&Pair { bundle, against }, untold)| {
            let (n, differed) = untold.take(floor);
            ShadowBlock { slot: slot.clone(), bundle, against, day: now.floor_to(DAY), n, differed }
        })
        .collect()
    }
}

impl Untold {
    /// Rows, and how many of them are said to differ: none, `k` or more, and not all but a few.
    fn take(&mut self, floor: Floor) -> (u64, u64) {
        let (rows, owed) = (self.rows, self.differed.saturating_sub(self.ahead));
        let told = if owed == 0 { 0 } else { owed.max(floor.rows()) };
        let told = if floor.is_few(rows - told) { rows } else { told };
        *self = Self { ahead: self.ahead + told - self.differed, ..Self::default() };
        (rows, told)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(n: u8) -> Pair {
        Pair { bundle: Digest::of(&[n]), against: Digest::of(b"live") }
    }

    fn take(compared: &mut Compared, hour: u32) -> Vec<(Digest, i64, u64, u64)> {
        let now =
            Timestamp::from_seconds(1_800_000_000).floor_to(DAY).plus(Duration::from_hours(hour.into()));
        let blocks = compared.take(&"m".parse().unwrap(), now, Floor::LEAST, 16);
        let day = |at: Timestamp| (at.as_millis() / 86_400_000) - 1_800_000_000 / 86_400;
        blocks.iter().map(|block| (block.bundle, day(block.day), block.n, block.differed)).collect()
    }

    #[test]
    fn each_row_is_told_once_on_the_day_it_is_told() {
        let mut compared = Compared::default();
        compared.add(pair(1), 4, 0);
        assert!(!compared.has_blocks(Floor::LEAST) && take(&mut compared, 1).is_empty());
        compared.add(pair(1), 96, 20);
        compared.add(pair(2), 5, 0);
        assert!(compared.has_blocks(Floor::LEAST));
        let mut told = take(&mut compared, 25);
        told.sort_by_key(|&(.., n, _)| n);
        assert_eq!(told, [(pair(2).bundle, 1, 5, 0), (pair(1).bundle, 1, 100, 20)]);
        assert!(take(&mut compared, 26).is_empty());
    }

    #[test]
    fn few_that_differ_are_told_as_k_and_taken_off_later() {
        let mut compared = Compared::default();
        let mut check = |rows, differed, expect| {
            compared.add(pair(1), rows, differed);
            let told = take(&mut compared, 0);
            assert_eq!(told.first().map(|&(.., n, differed)| (n, differed)), expect);
        };
        check(100, 1, Some((100, 5)));
        check(100, 3, Some((100, 0)));
        check(100, 8, Some((100, 7)));
        check(6, 5, Some((6, 6)));
        check(3, 3, None);
    }

    #[test]
    fn what_ended_with_few_is_bounded() {
        let mut compared = Compared::default();
        for n in 0..40 {
            compared.add(pair(n), 1 + u64::from(n == 3), 0);
        }
        assert_eq!(compared.0.len(), PAIRS_MAX);
        assert!(compared.0.contains_key(&pair(3)) && compared.0.contains_key(&pair(39)));
    }

    proptest! {
        #[test]
        fn no_count_is_of_few_and_no_shadow_is_told_better_than_it_is(
            told in prop::collection::vec((0..30_u64, 0.0..=1.0_f64), 1..60),
            k in 5..20_u64,
        ) {
            let floor = Floor::try_from(k).unwrap();
            let (mut compared, slot) = (Compared::default(), "m".parse().unwrap());
            let (mut rows, mut differed, mut said) = (0, 0, (0, 0));
            for (more, share) in told {
                #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 30")]
                let differ = (more as f64 * share) as u64;
                rows += more;
                differed += differ;
                compared.add(pair(1), more, differ);
                for block in compared.take(&slot, Timestamp::default(), floor, 16) {
                    let agreed = block.n - block.differed;
                    prop_assert!([block.n, block.differed, agreed].iter().all(|&count| !floor.is_few(count)));
                    said = (said.0 + block.n, said.1 + block.differed);
                }
                prop_assert!(rows - said.0 < k);
                prop_assert!(said.1 + (rows - said.0) >= differed, "{said:?} of {rows}, {differed}");
                prop_assert!(said.1 < differed + 2 * k, "{said:?} of {rows}, {differed}");
            }
        }
    }
}
