//! A site's own baseline: what is normal *there*, learnt after deployment from quiet windows on the bundle's edges.
//!
//! Sites differ. With only a tenth of a standard deviation between them, one reference for all of them alarms in most
//! windows of most sites. So every site is compared with itself as well, and once with the bundle's reference, which is
//! a notice and no alarm. A baseline learnt while something drifts would hide that drift: the caller leaves out windows
//! of an open incident, and no over-dispersion above [`V_MAX`] is believed.

use super::{
    CategoricalReference, Counts, CountsError, NumericReference, Reference, Rule, StreamReference,
    special::real,
};

/// Windows without which there is no baseline.
pub const BASELINE_WINDOWS_MIN: usize = 10;
/// Windows a baseline should have; with fewer the tails stay heavy and small changes are found late.
pub const BASELINE_WINDOWS_WANTED: usize = 30;
/// A baseline's variance is capped here: more than this is not the column's nature but something that happened.
pub const V_MAX: f64 = 30.0;
/// Above this variance a stream is only weakly monitored.
const V_WEAK: f64 = 5.0;

/// Why changes of a stream will be found late, or only when they are large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weakness {
    /// Neighbouring rows resemble each other so much that a window holds few independent ones.
    OverDispersed,
    /// Windows are too short for the stream's memory: only its location and spread are tested.
    RestUnused,
    /// There was nothing to replay, so independent rows are assumed.
    NotReplayed,
}

impl StreamReference {
    /// The baseline of one site (or box) from its quiet windows, oldest first, that were counted into this reference's
    /// bins. None if there are fewer than [`BASELINE_WINDOWS_MIN`] windows with enough rows.
    pub fn baseline(&self, windows: &[Counts], rule: &Rule) -> Result<Option<Self>, CountsError> {
        let enough: Vec<Counts> =
            windows.iter().filter(|window| window.n() >= rule.n_min()).cloned().collect();
        if enough.len() < BASELINE_WINDOWS_MIN {
            return Ok(None);
        }
        let Some(total) = Counts::merged(&enough)? else { return Ok(None) };
        let reference = self.reference.counted_again(&total)?;
        let mut learnt = Self::replay(reference, &[enough], rule)?;
        learnt.over_dispersion = learnt.over_dispersion.capped(V_MAX);
        for merged in &mut learnt.merged {
            merged.over_dispersion = merged.over_dispersion.capped(V_MAX);
        }
        Ok(Some(learnt))
    }

    /// What the stream was like in these few windows alone. They are too few to replay, so they are taken to vary as this
    /// reference does. None below [`Rule::n_min`] rows.
    pub fn counted_in(&self, windows: &[Counts], rule: &Rule) -> Result<Option<Self>, CountsError> {
        let Some(total) = Counts::merged(windows)?.filter(|total| total.n() >= rule.n_min()) else {
            return Ok(None);
        };
        let reference = self.reference.counted_again(&total)?;
        Ok(Some(Self { reference, over_dispersion: self.over_dispersion.clone(), merged: Vec::new() }))
    }

    /// What makes this stream's monitoring weak; empty if nothing does.
    pub fn weaknesses(&self) -> Vec<Weakness> {
        let learnt = &self.over_dispersion;
        let found = [
            (learnt.v().into_iter().any(|v| v > V_WEAK), Weakness::OverDispersed),
            (!learnt.uses_rest(), Weakness::RestUnused),
            (learnt.windows().is_none(), Weakness::NotReplayed),
        ];
        found.into_iter().filter_map(|(weak, why)| weak.then_some(why)).collect()
    }
}

impl Reference {
    /// The same bins with other rows in them. Edges and range stay, so the same panes are judged by both.
    fn counted_again(&self, counts: &Counts) -> Result<Self, CountsError> {
        counts.check_shape(self)?;
        Ok(match self {
            Self::Numeric(numeric) => Self::Numeric(numeric.counted_again(counts)),
            Self::Categorical(categorical) => Self::Categorical(categorical.counted_again(counts)),
        })
    }
}

impl NumericReference {
    fn counted_again(&self, counts: &Counts) -> Self {
        let mean = counts.sum().map_or(self.mean, |sum| sum / real(counts.n()));
        let bin_means = self.own_bin_means(counts);
        let shares: Vec<f64> = counts.bins().iter().map(|&rows| real(rows) / real(counts.n())).collect();
        let between = spread(&shares, &bin_means, mean);
        Self {
            edges: self.edges.clone(),
            counts: counts.bins().to_vec(),
            m: counts.n(),
            nulls: counts.nulls(),
            min: self.min,
            max: self.max,
            mean,
            sd: (between + self.within()).sqrt(),
            bin_means,
            novel: counts.novel(),
        }
    }

    /// Inner bins are narrow, so their rows' mean hardly moves; the two open ones have their own sums.
    fn own_bin_means(&self, counts: &Counts) -> Vec<f64> {
        let mut means = self.bin_means.clone();
        let own = |sum: Option<f64>, rows: Option<&u64>| Some(sum? / real(*rows.filter(|&&rows| rows > 0)?));
        let (first, last) = (counts.bins().first(), counts.bins().last());
        if let (Some(mean), Some(own)) = (means.first_mut(), own(counts.sum_first(), first)) {
            *mean = own;
        }
        if let (2.., Some(mean), Some(own)) =
            (counts.bins().len(), means.last_mut(), own(counts.sum_last(), last))
        {
            *mean = own;
        }
        means
    }

    /// The variance inside the bins, which counts do not tell.
    fn within(&self) -> f64 {
        let shares: Vec<f64> = self.counts.iter().map(|&rows| real(rows) / real(self.m)).collect();
        (self.sd * self.sd - spread(&shares, &self.bin_means, self.mean)).max(0.0)
    }
}

impl CategoricalReference {
    fn counted_again(&self, counts: &Counts) -> Self {
        let once = counts.bins().iter().filter(|&&rows| rows == 1).count() as u64;
        Self {
            categories: self.categories.clone(),
            other: self.other,
            counts: counts.bins().to_vec(),
            m: counts.n(),
            nulls: counts.nulls(),
            // Rows of categories that the bundle has no bin for come here as often as singletons would.
            singletons: (once + counts.novel()).min(counts.n()),
        }
    }
}

/// The variance between bins.
fn spread(shares: &[f64], means: &[f64], mean: f64) -> f64 {
    shares.iter().zip(means).map(|(share, bin)| share * (bin - mean).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::drift::{CategoricalCounter, NumericCounter, OverDispersion, test};

    #[expect(clippy::cast_possible_truncation, reason = "as models see their inputs")]
    /// Deterministic values that fill 0..1 evenly, whatever the number (Weyl's sequence).
    fn even(i: u32) -> f32 {
        (f64::from(i) * 0.618_033_988_749_895).fract() as f32
    }

    fn bundle() -> Result<StreamReference, Box<dyn Error>> {
        let rows: Vec<f32> = (0..4000).map(even).collect();
        Ok(StreamReference {
            reference: Reference::numeric(&rows)?,
            over_dispersion: OverDispersion::default(),
            merged: Vec::new(),
        })
    }

    fn windows(of: &StreamReference, count: u32, rows: u32, value: impl Fn(u32) -> f32) -> Vec<Counts> {
        let Reference::Numeric(numeric) = &of.reference else { return Vec::new() };
        let mut counter = NumericCounter::new(numeric);
        (0..count)
            .map(|window| {
                (0..rows).for_each(|row| counter.observe(value(window * rows + row)));
                counter.take()
            })
            .collect()
    }

    #[test]
    fn a_site_that_always_differed_is_calm_against_itself() -> Result<(), Box<dyn Error>> {
        let bundle = bundle()?;
        let quiet = windows(&bundle, 30, 200, |i| even(i) * 0.8 + 0.3);
        let own = bundle.baseline(&quiet, &Rule::default())?.ok_or("no baseline")?;
        let next = windows(&bundle, 31, 200, |i| even(i) * 0.8 + 0.3).pop().ok_or("no window")?;
        let against = |reference: &StreamReference| -> Result<f64, Box<dyn Error>> {
            let verdict = test(&reference.reference, &next, &reference.over_dispersion, 1)?;
            Ok(verdict.ok_or("no verdict")?.b)
        };
        assert!(against(&bundle)? < 1e-5 && against(&own)? > 0.1, "{} {}", against(&bundle)?, against(&own)?);
        let Reference::Numeric(numeric) = &own.reference else { return Err("not numeric".into()) };
        let sd = 0.8 / 12f64.sqrt();
        assert!((numeric.mean() - 0.7).abs() < 1e-3 && (numeric.sd() - sd).abs() < 0.01, "{numeric:?}");
        // What is learnt is what is read again.
        let text = serde_json::to_string(&own)?;
        assert_eq!(serde_json::from_str::<StreamReference>(&text)?, own);
        Ok(())
    }

    #[test]
    fn a_few_windows_are_a_reference_that_varies_as_the_whole_does() -> Result<(), Box<dyn Error>> {
        let bundle = bundle()?;
        let saturdays = windows(&bundle, 4, 120, |i| even(i) * 0.5);
        let few = bundle.counted_in(&saturdays, &Rule::default())?.ok_or("too few")?;
        assert_eq!((few.reference.m(), &few.over_dispersion), (480, &bundle.over_dispersion));
        let next = windows(&bundle, 5, 120, |i| even(i) * 0.5).pop().ok_or("no window")?;
        let b = |of: &StreamReference| -> Result<f64, Box<dyn Error>> {
            Ok(test(&of.reference, &next, &of.over_dispersion, 1)?.ok_or("no verdict")?.b)
        };
        assert!(b(&bundle)? < 1e-5 && b(&few)? > 0.1, "{} {}", b(&bundle)?, b(&few)?);
        assert_eq!(bundle.counted_in(&windows(&bundle, 1, 49, even), &Rule::default())?, None);
        Ok(())
    }

    #[test]
    fn a_baseline_needs_ten_windows_with_enough_rows() -> Result<(), Box<dyn Error>> {
        let bundle = bundle()?;
        let rule = Rule::default();
        assert_eq!(bundle.baseline(&windows(&bundle, 9, 200, even), &rule)?, None);
        assert_eq!(bundle.baseline(&windows(&bundle, 40, 49, even), &rule)?, None);
        let own = bundle.baseline(&windows(&bundle, 10, 50, even), &rule)?.ok_or("no baseline")?;
        assert_eq!((own.reference.m(), own.over_dispersion.windows()), (500, Some(10)));
        Ok(())
    }

    #[test]
    fn what_a_site_never_had_is_news_there() -> Result<(), Box<dyn Error>> {
        let reference = Reference::categorical((0..600).map(|i| Some(["a", "b", "c"][i % 3])))?;
        let Reference::Categorical(named) = &reference else { return Err("not categorical".into()) };
        let mut counter = CategoricalCounter::new(named);
        let mut window = |names: &[&str]| {
            names.iter().cycle().take(120).for_each(|name| counter.observe(Some(name)));
            counter.take()
        };
        let quiet: Vec<Counts> = (0..10).map(|_| window(&["a", "b"])).collect();
        let changed = window(&["a", "b", "c"]);
        let over_dispersion = OverDispersion::default();
        let bundle = StreamReference { reference, over_dispersion, merged: Vec::new() };
        let own = bundle.baseline(&quiet, &Rule::default())?.ok_or("no baseline")?;
        let p = |of: &StreamReference, window| -> Result<f64, Box<dyn Error>> {
            Ok(test(&of.reference, window, &of.over_dispersion, 1)?.ok_or("no verdict")?.p_novel)
        };
        assert!(p(&own, &changed)? < 1e-9 && p(&bundle, &changed)? > 0.9);
        assert!(p(&own, &quiet[0])? > 0.9);
        Ok(())
    }

    #[test]
    fn values_outside_the_bundles_range_can_be_normal_at_a_site() -> Result<(), Box<dyn Error>> {
        let bundle = bundle()?;
        let beyond = |i: u32| if i.is_multiple_of(20) { 1.5 } else { even(i) };
        let quiet = windows(&bundle, 30, 200, beyond);
        let own = bundle.baseline(&quiet, &Rule::default())?.ok_or("no baseline")?;
        let p = |of: &StreamReference| -> Result<f64, Box<dyn Error>> {
            Ok(test(&of.reference, &quiet[3], &of.over_dispersion, 1)?.ok_or("no verdict")?.p_novel)
        };
        assert!(p(&bundle)? < 1e-9 && p(&own)? > 0.1, "{} {}", p(&bundle)?, p(&own)?);
        Ok(())
    }

    #[test]
    fn a_drift_while_learning_does_not_hide_for_ever() -> Result<(), Box<dyn Error>> {
        let bundle = bundle()?;
        let drifting = windows(&bundle, 30, 2000, |i| even(i) * 0.2 + if i < 30_000 { 0.0 } else { 0.8 });
        let own = bundle.baseline(&drifting, &Rule::default())?.ok_or("no baseline")?;
        assert!((own.over_dispersion.v()[0] - V_MAX).abs() < 1e-9, "{:?}", own.over_dispersion);
        assert_eq!(own.weaknesses(), [Weakness::OverDispersed, Weakness::RestUnused]);
        assert_eq!(bundle.weaknesses(), [Weakness::NotReplayed]);
        Ok(())
    }

    #[test]
    fn windows_of_another_bundle_are_refused() -> Result<(), Box<dyn Error>> {
        let other = Counts::empty(&Reference::numeric(&[1.0, 2.0])?);
        let mut full = other;
        full.bins[0] = 60;
        full.n = 60;
        assert!(bundle()?.baseline(&vec![full; 10], &Rule::default()).is_err());
        Ok(())
    }
}
