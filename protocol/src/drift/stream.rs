//! What is expected of one monitored stream, and the judgement of its newest window against that.
//!
//! ```text
//!  bundle: rows in time order ──────────┐                      over_dispersion   of one window
//!                                       ├──> StreamReference { reference         bins, counts, moments }
//!  site: its own quiet windows ─────────┘    (a baseline)      merged            of 4 and 16 windows, where there
//!                                                                                were enough of them to replay
//! ```
//!
//! Larger windows see smaller changes, and they are also where what one week has in common begins to show. So a merged
//! size is only tested if that size was replayed itself: the over-dispersion of one window says nothing about sixteen.

use serde::{Deserialize, Serialize};

use super::{Counts, CountsError, OverDispersion, Reference, Rule, Verdict, test};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReference {
    pub reference: Reference,
    /// Learnt by replaying the reference in windows of the production length.
    pub over_dispersion: OverDispersion,
    /// The same for several windows at once. A bundle that was built before there was such a replay has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<MergedReplay>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergedReplay {
    /// How many windows in a row were merged.
    pub size: u32,
    pub over_dispersion: OverDispersion,
}

/// A closed window and the merged ones that end with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// None: there were no rows at all.
    pub window: Option<Verdict>,
    pub merged: Vec<Verdict>,
}

impl StreamReference {
    /// Learns from consecutive windows of the reference's own rows, one list for each box that saw them: windows of two
    /// boxes do not follow each other and are never merged.
    pub fn replay(reference: Reference, boxes: &[Vec<Counts>], rule: &Rule) -> Result<Self, CountsError> {
        let windows: Vec<Counts> = boxes.iter().flatten().cloned().collect();
        let over_dispersion = OverDispersion::replay(&reference, &windows)?;
        let mut merged = Vec::with_capacity(rule.merge_sizes().len());
        for &size in rule.merge_sizes() {
            let replayed = OverDispersion::replay(&reference, &consecutive(boxes, size)?)?;
            if replayed.windows().is_some() {
                merged.push(MergedReplay { size, over_dispersion: replayed });
            }
        }
        Ok(Self { reference, over_dispersion, merged })
    }

    /// Judges the newest of `windows` (oldest first; [`Rule::windows_kept`] of them are enough).
    ///
    /// A merged window above half the reference's size is left out. Its windows share the reference's own error, which
    /// would then pass for drift.
    pub fn judge(&self, rule: &Rule, windows: &[Counts], monitored: u32) -> Result<Judged, CountsError> {
        let Some(newest) = windows.last() else { return Ok(Judged { window: None, merged: Vec::new() }) };
        let window = test(&self.reference, newest, &self.over_dispersion, monitored)?;
        let mut merged = Vec::with_capacity(self.merged.len());
        for replay in self.merged.iter().filter(|replay| rule.merge_sizes().contains(&replay.size)) {
            let start = usize::try_from(replay.size).ok().and_then(|size| windows.len().checked_sub(size));
            let Some(last) = start.and_then(|start| windows.get(start..)) else { continue };
            let Some(counts) = Counts::merged(last)? else { continue };
            if counts.n() <= self.reference.m() / 2 {
                merged.extend(test(&self.reference, &counts, &replay.over_dispersion, monitored)?);
            }
        }
        Ok(Judged { window, merged })
    }
}

/// Every whole block of `size` windows in a row, merged.
fn consecutive(boxes: &[Vec<Counts>], size: u32) -> Result<Vec<Counts>, CountsError> {
    let size = usize::try_from(size).unwrap_or(usize::MAX).max(1);
    let blocks = boxes.iter().flat_map(|windows| windows.chunks_exact(size));
    blocks.map(Counts::merged).filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::drift::NumericCounter;

    /// Windows of `rows` values that walk slowly up and down, so that neighbours resemble each other.
    fn walked(reference: &Reference, windows: u16, rows: u16) -> Result<Vec<Counts>, Box<dyn Error>> {
        let Reference::Numeric(numeric) = reference else { return Err("not numeric".into()) };
        let mut counter = NumericCounter::new(numeric);
        Ok((0..windows)
            .map(|window| {
                (0..rows).for_each(|row| {
                    let step = u32::from(window) * 7 + u32::from(row) * 37;
                    counter.observe(f32::from(u16::try_from(step % 1000).unwrap_or(0)));
                });
                counter.take()
            })
            .collect())
    }

    fn thousand() -> Result<Reference, Box<dyn Error>> {
        let rows: Vec<f32> = (0..10_000u16).map(|row| f32::from(row % 1000)).collect();
        Ok(Reference::numeric(&rows)?)
    }

    #[test]
    fn a_merged_size_is_replayed_from_ten_blocks_of_one_box_on() -> Result<(), Box<dyn Error>> {
        let reference = thousand()?;
        let sizes = |boxes: &[Vec<Counts>]| -> Result<Vec<(u32, Option<u32>)>, CountsError> {
            let learnt = StreamReference::replay(reference.clone(), boxes, &Rule::default())?;
            Ok(learnt.merged.iter().map(|merged| (merged.size, merged.over_dispersion.windows())).collect())
        };
        let windows = walked(&reference, 160, 25)?;
        assert_eq!(sizes(&[windows.clone()])?, [(4, Some(40)), (16, Some(10))]);
        assert_eq!(sizes(&[windows[..159].to_vec()])?, [(4, Some(39))]);
        assert_eq!(sizes(&[windows[..39].to_vec()])?, []);
        let halves = [windows[..30].to_vec(), windows[80..110].to_vec()];
        assert_eq!(sizes(&halves)?, [(4, Some(14))], "seven whole blocks of each box, none across both");
        Ok(())
    }

    #[test]
    fn merged_windows_are_judged_where_they_were_replayed() -> Result<(), Box<dyn Error>> {
        let reference = thousand()?;
        let windows = walked(&reference, 160, 25)?;
        let learnt = StreamReference::replay(reference, &[windows.clone()], &Rule::default())?;
        let rows = |learnt: &StreamReference, windows: &[Counts]| -> Result<Vec<u64>, CountsError> {
            let judged = learnt.judge(&Rule::default(), windows, 1)?;
            Ok(judged.window.iter().chain(&judged.merged).map(|verdict| verdict.rows).collect())
        };
        assert_eq!(rows(&learnt, &[])?, [] as [u64; 0]);
        assert_eq!(rows(&learnt, &windows[..3])?, [25]);
        assert_eq!(rows(&learnt, &windows[..4])?, [25, 100]);
        assert_eq!(rows(&learnt, &windows[..20])?, [25, 100, 400]);
        let text = serde_json::to_string(&learnt)?;
        assert_eq!(serde_json::from_str::<StreamReference>(&text)?, learnt);

        let mut old = serde_json::to_value(&learnt)?;
        old.as_object_mut().ok_or("not an object")?.remove("merged");
        let old: StreamReference = serde_json::from_value(old)?;
        assert_eq!(rows(&old, &windows[..20])?, [25], "a bundle without the replay judges single windows");
        assert!(!serde_json::to_string(&old)?.contains("merged"));
        Ok(())
    }

    #[test]
    fn a_merged_window_stays_below_half_the_reference() -> Result<(), Box<dyn Error>> {
        let reference = Reference::numeric(&(0..999u16).map(f32::from).collect::<Vec<_>>())?;
        let windows = walked(&reference, 160, 40)?;
        let learnt = StreamReference::replay(reference, &[windows.clone()], &Rule::default())?;
        assert_eq!(learnt.merged.len(), 2);
        let judged = learnt.judge(&Rule::default(), &windows[..20], 1)?;
        assert_eq!(judged.merged.iter().map(|verdict| verdict.n).collect::<Vec<_>>(), [160]);
        Ok(())
    }
}
