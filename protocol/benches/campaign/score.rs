//! What a rule's alarms are worth: false onsets with an upper bound, and how soon a change is seen.

use muster_protocol::drift::special::chi2_sf;

/// Windows watched, how many of them were in alarm, and how often one began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Alarms {
    pub(crate) windows: usize,
    pub(crate) alarmed: usize,
    pub(crate) onsets: usize,
}

impl Alarms {
    pub(crate) fn of(alarmed: &[bool]) -> Self {
        let before = std::iter::once(&false).chain(alarmed);
        Self {
            windows: alarmed.len(),
            alarmed: alarmed.iter().filter(|&&alarmed| alarmed).count(),
            onsets: before.zip(alarmed).filter(|(before, now)| !**before && **now).count(),
        }
    }

    pub(crate) fn plus(self, more: Self) -> Self {
        Self {
            windows: self.windows + more.windows,
            alarmed: self.alarmed + more.alarmed,
            onsets: self.onsets + more.onsets,
        }
    }

    /// False onsets in a thousand device-windows.
    pub(crate) fn rate(self) -> f64 {
        per_thousand(self.onsets as f64, self.windows)
    }

    pub(crate) fn alarmed_rate(self) -> f64 {
        per_thousand(self.alarmed as f64, self.windows)
    }

    /// What the true rate is below, with 95 % confidence (Poisson).
    pub(crate) fn upper(self) -> f64 {
        let df = 2.0 * (self.onsets as f64 + 1.0);
        let (mut low, mut high) = (0.0, 10.0 * df + 100.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if chi2_sf(middle, df) > 0.05 { low = middle } else { high = middle }
        }
        per_thousand(low / 2.0, self.windows)
    }
}

/// Seen in the first two windows of a change: in how many of the runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) runs: usize,
    pub(crate) first: usize,
    pub(crate) within_two: usize,
}

impl Seen {
    pub(crate) fn add(&mut self, alarmed: &[bool]) {
        self.runs += 1;
        self.first += usize::from(alarmed.first().is_some_and(|&alarmed| alarmed));
        self.within_two += usize::from(alarmed.iter().take(2).any(|&alarmed| alarmed));
    }

    pub(crate) fn share(self) -> f64 {
        self.within_two as f64 / self.runs.max(1) as f64
    }
}

fn per_thousand(count: f64, windows: usize) -> f64 {
    1000.0 * count / windows.max(1) as f64
}
