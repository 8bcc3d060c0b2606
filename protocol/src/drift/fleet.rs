//! Many sites and many streams at once: which p-values stand out of all of them, and what is merged over a cohort.
//!
//! ```text
//!   p of every (site, stream) ──> Benjamini-Hochberg at q ──> hits, 2 of the last 3 rounds ──> a stream at >= 3 sites
//! ```
//!
//! Neither replaces the other: merged counts find a small change that all sites share, and miss the large one that one
//! site in twenty has. So boxes send counts, and the fleet looks at both.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Counts, CountsError, special::real};
use crate::ids::{SiteName, StreamName};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetRule {
    /// The share of false ones among what stands out, on average.
    pub q: f64,
    pub k: u32,
    pub of: u32,
    /// Sites that must see it before it is the fleet's matter.
    pub sites_min: usize,
}

impl Default for FleetRule {
    fn default() -> Self {
        Self { q: 0.10, k: 2, of: 3, sites_min: 3 }
    }
}

/// The memory of the last rounds. Only pairs with a hit in it are kept, so it is as large as the trouble is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetAlarm {
    hits: Vec<Hits>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hits {
    site: SiteName,
    stream: StreamName,
    /// The newest in the lowest bit.
    rounds: u32,
}

impl FleetAlarm {
    /// One round of closed windows: `p` is each site's and stream's `p_feature`. Returns the streams that stand out at
    /// enough sites, with those sites. A pair that is absent had too few rows; its memory does not move.
    pub fn step(
        &mut self,
        rule: &FleetRule,
        p: &BTreeMap<(SiteName, StreamName), f64>,
    ) -> BTreeMap<StreamName, BTreeSet<SiteName>> {
        let adjusted = benjamini_hochberg(&p.values().copied().collect::<Vec<_>>());
        let mut memory: BTreeMap<(SiteName, StreamName), u32> =
            self.hits.drain(..).map(|hits| ((hits.site, hits.stream), hits.rounds)).collect();
        let kept = u32::MAX >> (32 - rule.of.clamp(1, 32));
        for (pair, adjusted) in p.keys().zip(adjusted) {
            let rounds = memory.entry(pair.clone()).or_default();
            *rounds = ((*rounds << 1) | u32::from(adjusted <= rule.q)) & kept;
        }
        memory.retain(|_, rounds| *rounds > 0);

        let mut standing: BTreeMap<StreamName, BTreeSet<SiteName>> = BTreeMap::new();
        for ((site, stream), _) in memory.iter().filter(|(_, rounds)| rounds.count_ones() >= rule.k) {
            standing.entry(stream.clone()).or_default().insert(site.clone());
        }
        standing.retain(|_, sites| sites.len() >= rule.sites_min);
        let hits = memory.into_iter().map(|((site, stream), rounds)| Hits { site, stream, rounds });
        self.hits = hits.collect();
        standing
    }
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

/// Panes or windows merged by whatever they have in common: a site, a cohort, an hour of the week.
pub fn merge_by<'a, K: Ord>(
    counts: impl IntoIterator<Item = (K, &'a Counts)>,
) -> Result<BTreeMap<K, Counts>, CountsError> {
    let mut merged: BTreeMap<K, Counts> = BTreeMap::new();
    for (key, counts) in counts {
        match merged.get_mut(&key) {
            Some(total) => total.merge(counts)?,
            None => {
                merged.insert(key, counts.clone());
            }
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::drift::{NumericCounter, Reference};

    type Round = BTreeMap<(SiteName, StreamName), f64>;

    fn round(sites: &[(&str, f64)]) -> Result<Round, Box<dyn Error>> {
        let mut round = Round::new();
        for (i, (site, p)) in sites.iter().enumerate() {
            round.insert((site.parse()?, "age".parse()?), *p);
            round.insert((site.parse()?, "pulse".parse()?), 0.2 + 0.01 * f64::from(u32::try_from(i)?));
        }
        Ok(round)
    }

    #[test]
    fn three_sites_twice_in_three_rounds_are_the_fleets_matter() -> Result<(), Box<dyn Error>> {
        let (rule, mut alarm) = (FleetRule::default(), FleetAlarm::default());
        let calm = round(&[("a", 0.5), ("b", 0.6), ("c", 0.7), ("d", 0.8)])?;
        let loud = round(&[("a", 1e-5), ("b", 1e-5), ("c", 1e-5), ("d", 0.8)])?;
        let two = round(&[("a", 1e-5), ("b", 1e-5), ("c", 0.7), ("d", 0.8)])?;
        assert!(alarm.step(&rule, &loud).is_empty(), "once is chance");
        assert!(alarm.step(&rule, &calm).is_empty());
        alarm = serde_json::from_str(&serde_json::to_string(&alarm)?)?;
        let standing = alarm.step(&rule, &loud);
        let sites: BTreeSet<SiteName> =
            ["a", "b", "c"].iter().map(|s| s.parse()).collect::<Result<_, _>>()?;
        assert_eq!(standing, BTreeMap::from([("age".parse()?, sites)]));
        for _ in 0..3 {
            alarm.step(&rule, &calm);
        }
        assert_eq!(alarm, FleetAlarm::default(), "what is calm is forgotten");
        for _ in 0..3 {
            assert!(alarm.step(&rule, &two).is_empty(), "two sites are theirs");
        }
        Ok(())
    }

    #[test]
    fn a_site_without_rows_keeps_its_memory() -> Result<(), Box<dyn Error>> {
        let (rule, mut alarm) = (FleetRule::default(), FleetAlarm::default());
        let loud = round(&[("a", 1e-5), ("b", 1e-5), ("c", 1e-5)])?;
        alarm.step(&rule, &loud);
        alarm.step(&rule, &Round::new());
        alarm.step(&rule, &Round::new());
        assert_eq!(alarm.step(&rule, &loud).len(), 1);
        Ok(())
    }

    #[test]
    fn what_is_no_probability_stands_out_of_nothing() {
        assert_eq!(benjamini_hochberg(&[]), [] as [f64; 0]);
        assert_eq!(benjamini_hochberg(&[f64::NAN, -1.0, 2.0]), [1.0; 3]);
    }

    #[test]
    fn counts_merge_by_key() -> Result<(), Box<dyn Error>> {
        let reference = Reference::numeric(&[1.0, 2.0, 3.0])?;
        let Reference::Numeric(numeric) = &reference else { return Err("not numeric".into()) };
        let mut counter = NumericCounter::new(numeric);
        let panes: Vec<Counts> = (0..6u16)
            .map(|i| {
                counter.observe(f32::from(i));
                counter.take()
            })
            .collect();
        let merged = merge_by(panes.iter().enumerate().map(|(i, pane)| (i % 2, pane)))?;
        let sums: Vec<_> = merged.values().map(|counts| (counts.n(), counts.sum())).collect();
        assert_eq!(sums, [(3, Some(6.0)), (3, Some(9.0))]);
        Ok(())
    }
}
