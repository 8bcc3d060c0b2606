//! From verdicts to an alarm: one column at one site, one step per closed window.
//!
//! ```text
//!          b <= fast, or k hits in the last `of` windows, or a merged window <= merged
//!   Calm ─────────────────────────────────────────────────────────────────────────────> Raised { quiet: 0 }
//!     ^                                                                                    │
//!     └──────────────────────────── clear_n windows in a row with b > clear ───────────────┘
//! ```
//!
//! A hit is `b <= slow` with an effect above the floor. Persistence is what keeps false alarms rare: a single window in
//! fifty is below 0.02 by chance. The state serialises, so that a restart forgets nothing. What an alarm leads to
//! (an incident, retraining) is not decided here.

use serde::{Deserialize, Serialize};

use super::Verdict;

/// Windows remembered at most, whatever the rule says.
const MAX_WINDOWS: u32 = 64;

/// When a column is in drift. The default was calibrated on independent, seasonal and autocorrelated streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawRule")]
pub struct Rule {
    slow: f64,
    k: u32,
    of: u32,
    fast: f64,
    merged: f64,
    merge_sizes: Vec<u32>,
    psi_floor: f64,
    clear: f64,
    clear_n: u32,
    n_min: u64,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            slow: 0.02,
            k: 2,
            of: 3,
            fast: 1e-5,
            merged: 2e-4,
            merge_sizes: vec![4, 16],
            psi_floor: 0.02,
            clear: 0.10,
            clear_n: 3,
            n_min: 50,
        }
    }
}

impl Rule {
    /// The same persistence for another kind of p-value, with nothing merged.
    pub(super) fn of_chances(slow: f64, fast: f64) -> Self {
        Self { slow, fast, merge_sizes: Vec::new(), ..Self::default() }
    }

    /// How many windows in a row are also tested as one: they find what is too small for any one window.
    pub fn merge_sizes(&self) -> &[u32] {
        &self.merge_sizes
    }

    /// How many single windows to keep for [`StreamReference::judge`](super::StreamReference::judge).
    pub fn windows_kept(&self) -> u32 {
        self.merge_sizes.iter().copied().max().unwrap_or(1)
    }

    /// Above this `b` a window is quiet.
    pub fn clear(&self) -> f64 {
        self.clear
    }

    /// Rows below which a window is insufficient and goes on merging.
    pub fn n_min(&self) -> u64 {
        self.n_min
    }
}

/// What one column is at after a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmState {
    /// Too few rows to say anything: keep merging. Neither good nor bad, and the alarm has not moved.
    Insufficient,
    Ok,
    Warn,
    Drift,
}

/// Whether a difference is large enough to matter to anyone, certain or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Relevant,
    Negligible,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Alarm {
    /// Whether each of the last windows was a hit, the newest last.
    hits: Vec<bool>,
    phase: Phase,
    /// Their `b`, where the effect mattered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recent: Vec<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chance: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Calm,
    /// In drift; so many quiet windows have passed.
    Raised { quiet: u32 },
}

impl Alarm {
    /// Judges a closed window and the merged windows that end with it.
    ///
    /// A window with too few values is insufficient, unless enough rows came without one: a dead sensor must not be
    /// mistaken for a quiet ward, so then the missing and the unseen rows are judged alone.
    pub fn observe(&mut self, rule: &Rule, verdict: Option<&Verdict>, merged: &[Verdict]) -> AlarmState {
        let Some(verdict) = verdict else { return AlarmState::Insufficient };
        let Some(b) = rule.evidence(verdict) else { return AlarmState::Insufficient };
        let psi = verdict.effects.map_or(0.0, |effects| effects.psi_adj);
        // Missing and unseen rows have no psi; they are their own effect.
        let effect = if psi >= rule.psi_floor || verdict.b_presence <= rule.slow {
            Effect::Relevant
        } else {
            Effect::Negligible
        };
        let merged: Vec<f64> = merged.iter().filter_map(|verdict| rule.evidence(verdict)).collect();
        self.step(rule, b, effect, &merged)
    }

    /// One step of the state machine, from the verdicts' `b` alone.
    pub fn step(&mut self, rule: &Rule, b: f64, effect: Effect, merged: &[f64]) -> AlarmState {
        if !(0.0..=1.0).contains(&b) {
            return AlarmState::Insufficient;
        }
        let relevant = effect == Effect::Relevant;
        let hit = relevant && b <= rule.slow;
        self.remember(rule, hit);
        let hits = self.hits.iter().filter(|&&hit| hit).count();
        let persistent = u32::try_from(hits).is_ok_and(|hits| hits >= rule.k);
        let certain = relevant && b <= rule.fast;
        let slow_drift = merged.iter().any(|&b| b <= rule.merged);
        let stood = self.phase != Phase::Calm;
        let chance = self.chance_now(rule, if relevant { b } else { 1.0 }, merged);

        self.phase = match self.phase {
            Phase::Calm | Phase::Raised { .. } if persistent || certain || slow_drift => {
                Phase::Raised { quiet: 0 }
            }
            Phase::Calm => Phase::Calm,
            Phase::Raised { quiet } => match if b > rule.clear { quiet.saturating_add(1) } else { 0 } {
                quiet if quiet >= rule.clear_n => Phase::Calm,
                quiet => Phase::Raised { quiet },
            },
        };
        self.chance = match (self.phase, stood) {
            (Phase::Calm, _) => None,
            (Phase::Raised { .. }, false) => Some(chance),
            (Phase::Raised { .. }, true) => self.chance.map(|least| least.min(chance)),
        };
        match self.phase {
            Phase::Raised { .. } => AlarmState::Drift,
            Phase::Calm if hit => AlarmState::Warn,
            Phase::Calm => AlarmState::Ok,
        }
    }

    /// Where the alarm stands between windows, and while they are insufficient.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// While it is raised: the least chance, in any of its windows, that a calm device gives as much reason. One device
    /// need not ask; who looks at thousands must, or chance alone raises some every day. None: not known.
    pub fn chance(&self) -> Option<f64> {
        self.chance
    }

    fn remember(&mut self, rule: &Rule, hit: bool) {
        self.hits.push(hit);
        let kept = usize::try_from(rule.of).unwrap_or(usize::MAX);
        self.hits.drain(..self.hits.len().saturating_sub(kept));
    }

    /// Each way into alarm by its own chance, and Bonferroni over the ways. `k` of `of` windows at or below `x` have at
    /// most the chance `C(of, k) x^k`.
    fn chance_now(&mut self, rule: &Rule, b: f64, merged: &[f64]) -> f64 {
        self.recent.push(b);
        let kept = usize::try_from(rule.of).unwrap_or(usize::MAX);
        self.recent.drain(..self.recent.len().saturating_sub(kept));
        let mut ranked = self.recent.clone();
        ranked.sort_by(f64::total_cmp);
        let (k, of) = (f64::from(rule.k), f64::from(rule.of));
        let choices: f64 = (1..=rule.k).map(f64::from).map(|i| (of - k + i) / i).product();
        let kth = usize::try_from(rule.k).ok().and_then(|k| ranked.get(k.saturating_sub(1)).copied());
        let persistent = kth.map_or(1.0, |x| choices * x.powf(k));
        let least = merged.iter().copied().fold(b.min(persistent), f64::min);
        let ways = 2.0 + f64::from(u32::try_from(rule.merge_sizes.len()).unwrap_or(u32::MAX));
        (ways * least).min(1.0)
    }
}

impl Rule {
    /// The `b` that this many rows support; None if they are too few.
    fn evidence(&self, verdict: &Verdict) -> Option<f64> {
        if verdict.n >= self.n_min {
            Some(verdict.b)
        } else if verdict.rows >= self.n_min {
            Some(verdict.b_presence)
        } else {
            None
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the alarm rule is not usable: {0}; correct the policy")]
pub struct RuleError(&'static str);

/// A rule as a policy writes it; what it leaves out is the default.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRule {
    slow: f64,
    k: u32,
    of: u32,
    fast: f64,
    merged: f64,
    merge_sizes: Vec<u32>,
    psi_floor: f64,
    clear: f64,
    clear_n: u32,
    n_min: u64,
}

impl Default for RawRule {
    fn default() -> Self {
        let Rule { slow, k, of, fast, merged, merge_sizes, psi_floor, clear, clear_n, n_min } =
            Rule::default();
        Self { slow, k, of, fast, merged, merge_sizes, psi_floor, clear, clear_n, n_min }
    }
}

impl TryFrom<RawRule> for Rule {
    type Error = RuleError;

    fn try_from(raw: RawRule) -> Result<Self, Self::Error> {
        let RawRule { slow, k, of, fast, merged, merge_sizes, psi_floor, clear, clear_n, n_min } = raw;
        let chance = |p: f64| p > 0.0 && p < 1.0;
        require([slow, fast, merged, clear].into_iter().all(chance), "a threshold is not between 0 and 1")?;
        require(fast <= slow && slow <= clear, "the thresholds are not in order: fast <= slow <= clear")?;
        require(1 <= k && k <= of && of <= MAX_WINDOWS, "not 1 <= k <= of <= 64")?;
        require((1..=MAX_WINDOWS).contains(&clear_n), "clear_n is not between 1 and 64")?;
        require(merge_sizes.len() <= 4, "there are more than 4 merge sizes")?;
        require(
            merge_sizes.iter().all(|size| (2..=MAX_WINDOWS).contains(size)),
            "a merge size is not 2 to 64",
        )?;
        require(psi_floor.is_finite() && psi_floor >= 0.0, "psi_floor is not a finite, positive number")?;
        require(n_min > 0, "n_min is zero")?;
        Ok(Self { slow, k, of, fast, merged, merge_sizes, psi_floor, clear, clear_n, n_min })
    }
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), RuleError> {
    if holds { Ok(()) } else { Err(RuleError(otherwise)) }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::drift::{NumericCounter, OverDispersion, Reference, test};

    fn verdict(values: &[f32]) -> Result<Option<Verdict>, Box<dyn Error>> {
        let rows: Vec<f32> = (0..1000u16).map(f32::from).collect();
        let reference = Reference::numeric(&rows)?;
        let Reference::Numeric(numeric) = &reference else { return Err("not numeric".into()) };
        let mut counter = NumericCounter::new(numeric);
        counter.observe_all(values);
        Ok(test(&reference, &counter.counts(), &OverDispersion::default(), 2)?)
    }

    #[test]
    fn too_few_rows_leave_the_alarm_where_it_was() -> Result<(), Box<dyn Error>> {
        let rule = Rule::default();
        let mut alarm = Alarm::default();
        assert_eq!(alarm.observe(&rule, verdict(&[])?.as_ref(), &[]), AlarmState::Insufficient);
        assert_eq!(alarm.observe(&rule, verdict(&[5000.0; 49])?.as_ref(), &[]), AlarmState::Insufficient);
        assert_eq!(alarm, Alarm::default());
        assert_eq!(alarm.observe(&rule, verdict(&[5000.0; 50])?.as_ref(), &[]), AlarmState::Drift);
        let raised = alarm.clone();
        assert_eq!(alarm.observe(&rule, verdict(&[1.0])?.as_ref(), &[]), AlarmState::Insufficient);
        assert_eq!(alarm, raised);
        Ok(())
    }

    #[test]
    fn a_dead_sensor_raises_the_alarm() -> Result<(), Box<dyn Error>> {
        let mut values = vec![f32::NAN; 60];
        values.push(500.0);
        let dead = verdict(&values)?;
        assert_eq!(Alarm::default().observe(&Rule::default(), dead.as_ref(), &[]), AlarmState::Drift);
        Ok(())
    }

    #[test]
    fn a_value_that_is_no_probability_moves_nothing() {
        for b in [f64::NAN, -0.1, 1.5] {
            let mut alarm = Alarm::default();
            assert_eq!(alarm.step(&Rule::default(), b, Effect::Relevant, &[]), AlarmState::Insufficient);
            assert_eq!(alarm, Alarm::default());
        }
    }

    #[test]
    fn state_and_rule_read_back() -> Result<(), Box<dyn Error>> {
        let mut alarm = Alarm::default();
        alarm.step(&Rule::default(), 1e-9, Effect::Relevant, &[]);
        let text = serde_json::to_string(&alarm)?;
        let expect = r#"{"hits":[true],"phase":{"raised":{"quiet":0}},"recent":[1e-9],"chance":4e-9}"#;
        assert_eq!(text, expect);
        assert_eq!(serde_json::from_str::<Alarm>(&text)?, alarm);
        assert_eq!(serde_json::from_str::<Rule>("{}")?, Rule::default());
        let text = serde_json::to_string(&Rule::default())?;
        assert_eq!(serde_json::from_str::<Rule>(&text)?, Rule::default());
        Ok(())
    }

    #[test]
    fn the_chance_of_an_alarm_is_the_least_of_its_windows() {
        let rule = Rule::default();
        let mut alarm = Alarm::default();
        let step = |alarm: &mut Alarm, b: f64, merged: &[f64]| {
            alarm.step(&rule, b, Effect::Relevant, merged);
            alarm.chance()
        };
        assert_eq!(step(&mut alarm, 0.01, &[]), None, "suspicious is not raised");
        let twice = step(&mut alarm, 0.02, &[]);
        assert!(twice.is_some_and(|chance| (chance - 4.0 * 3.0 * 0.02 * 0.02).abs() < 1e-12), "{twice:?}");
        assert_eq!(step(&mut alarm, 0.5, &[1e-4]), Some(4e-4));
        assert_eq!(step(&mut alarm, 0.5, &[]), Some(4e-4));
        for _ in 0..2 {
            step(&mut alarm, 0.5, &[]);
        }
        assert_eq!((alarm.phase(), alarm.chance()), (Phase::Calm, None));
        // What an older program raised keeps what it is: unknown.
        let old = serde_json::from_str::<Alarm>(r#"{"hits":[true],"phase":{"raised":{"quiet":0}}}"#);
        assert!(old.is_ok_and(|mut old| step(&mut old, 1e-9, &[]).is_none()));
    }

    #[test]
    fn an_unusable_rule_is_refused() {
        let check = |text: &str, complaint: &str| {
            let refusal = serde_json::from_str::<Rule>(text).map_err(|error| error.to_string());
            assert!(refusal.as_ref().is_err_and(|text| text.contains(complaint)), "{refusal:?}");
        };
        check(r#"{"slow":0}"#, "between 0 and 1");
        check(r#"{"fast":0.05}"#, "in order");
        check(r#"{"k":4}"#, "k <= of");
        check(r#"{"merge_sizes":[1]}"#, "merge size");
        check(r#"{"n_min":0}"#, "n_min");
        check(r#"{"slov":0.01}"#, "unknown field");
    }
}
