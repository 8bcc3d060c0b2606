//! What a gate can see at all, before anybody is exposed: whether it can be answered at this size, and how likely it
//! stops a bundle of a given harm. All of it exact, so the same question has the same answer.

use super::distributions::{binomial_at_most, bisect, normal_above, normal_below};
use super::{GateLimits, Layer, as_f64, eprocess};

/// How a bad bundle hurts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Harm {
    /// Share of installs that fail, all in their own way: repeated codes would stop it sooner.
    InstallFailures(f64),
    /// Share of devices that leave it by themselves within the hours, all in their own way.
    Reverts(f64),
    /// Failed hours per device-hour.
    FailuresPerHour(f64),
    /// The loss rises by this share of the loss before; `spread` is the standard deviation of one patient's difference,
    /// in the same share, and `labels` the labelled answers of each device.
    Worse { rise: f64, spread: f64, labels: u64 },
}

/// With this many failures of `n`, the true share is below the answer, at 95 % (Clopper and Pearson, 1934).
pub fn upper_bound_95(failures: u64, n: u64) -> f64 {
    if failures >= n { 1.0 } else { bisect(0.0, 1.0, |p| binomial_at_most(failures, n, p) > 0.05) }
}

/// Whether a stage of so many devices can ever pass this gate; if not, why, and what to change.
pub fn decidable(limits: &GateLimits, devices_in_stage: usize) -> Result<(), String> {
    let n = super::devices(devices_in_stage);
    if devices_in_stage == 0 {
        return Err("the stage has no device, so its gate can never be answered".to_owned());
    }
    if let Some(min) = limits.labelled_devices_min
        && limits.labels_min > 0
        && min as usize > devices_in_stage
    {
        return Err(format!(
            "labels are asked of {min} devices and the stage has {n}; ask fewer or widen the stage"
        ));
    }
    if let Some(margin) = limits.shadow_disagreement_max {
        if !(margin > 0.0 && margin <= 1.0) {
            return Err(
                "no share of answers is at most 0: write a shadow margin above 0 and up to 1".to_owned()
            );
        }
        if devices_in_stage < 2 {
            return Err("the shadow's interval is over devices and needs two; widen the stage".to_owned());
        }
    }
    for (name, limit) in [
        ("answer time", limits.latency_rise_ms_max),
        ("memory", limits.memory_rise_mib_max),
        ("temperature", limits.temperature_rise_c_max),
    ] {
        if limit.is_some_and(|limit| !limit.is_finite()) {
            return Err(format!("the tolerated rise of the {name} is no number"));
        }
    }
    Ok(())
}

/// Chance that the gate stops a bundle of this harm while `devices` devices live with it for `hours` hours, looking after
/// every device and every hour.
pub fn power(limits: &GateLimits, devices: usize, hours: f64, harm: Harm) -> f64 {
    match harm {
        Harm::InstallFailures(share) => {
            let (alpha, base) = (limits.alpha_of(Layer::Install), limits.install_failure_baseline);
            share_power((alpha, base), devices as u64, share.clamp(0.0, 1.0))
        }
        Harm::Reverts(share) => {
            let (alpha, base) = (limits.alpha_of(Layer::Reverts), limits.revert_baseline);
            share_power((alpha, base), devices as u64, share.clamp(0.0, 1.0))
        }
        Harm::FailuresPerHour(hazard) => runtime_power(limits, devices as u64, hours, hazard.max(0.0)),
        Harm::Worse { rise, spread, labels } => {
            if labels < limits.labels_min.max(2) || devices == 0 {
                return 0.0;
            }
            let share = limits.alpha_of(Layer::PairedError).unwrap_or(0.0) / as_f64(devices as u64);
            let at = normal_above(share).max(4.0);
            let standard_error = spread.max(1e-12) / as_f64(labels).sqrt();
            let one = normal_below((rise - limits.error_margin) / standard_error - at);
            1.0 - (1.0 - one).powf(as_f64(devices as u64))
        }
    }
}

/// Of a test of shares against its baseline.
fn share_power((alpha, base): (Option<f64>, f64), devices: u64, share: f64) -> f64 {
    let threshold = eprocess::threshold(alpha);
    // The chance of each count of failures among rollouts that have not been stopped; the count that stops only grows.
    let mut alive = vec![1.0];
    let mut stops_at = 1;
    for n in 1..=devices {
        let mut next = vec![0.0; alive.len() + 1];
        for (k, chance) in alive.iter().enumerate() {
            next[k] += chance * (1.0 - share);
            next[k + 1] += chance * share;
        }
        while stops_at <= n && eprocess::bernoulli(stops_at, n, base) < threshold {
            stops_at += 1;
        }
        next.truncate(usize::try_from(stops_at).unwrap_or(usize::MAX));
        alive = next;
    }
    (1.0 - alive.iter().sum::<f64>()).clamp(0.0, 1.0)
}

fn runtime_power(limits: &GateLimits, devices: u64, hours: f64, hazard: f64) -> f64 {
    let threshold = eprocess::threshold(limits.alpha_of(Layer::Runtime));
    let each = as_f64(devices);
    let (mut alive, mut stops_at) = (vec![1.0], 1_u64);
    let mut hour = 0.0;
    while hour + 1.0 <= hours && hour < 8760.0 {
        hour += 1.0;
        while eprocess::poisson(as_f64(stops_at), each * hour, limits.runtime_failures_per_hour_baseline)
            < threshold
        {
            stops_at += 1;
        }
        let kept = usize::try_from(stops_at).unwrap_or(usize::MAX);
        let mut next = vec![0.0; kept];
        for (k, chance) in alive.iter().enumerate() {
            let mut events = chance * (-hazard * each).exp();
            let mut i = 0.0;
            for slot in next.iter_mut().skip(k) {
                *slot += events;
                i += 1.0;
                events *= hazard * each / i;
            }
        }
        alive = next;
    }
    (1.0 - alive.iter().sum::<f64>()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_failure_proves() {
        let check = |failures, n, expect: f64| {
            assert!((upper_bound_95(failures, n) - expect).abs() < 1e-3, "{failures} of {n}");
        };
        check(0, 5, 0.451);
        check(0, 29, 0.098);
        check(1, 10, 0.394);
        check(0, 0, 1.0);
        check(3, 3, 1.0);
    }

    #[test]
    fn what_can_never_be_answered_is_refused() {
        let default = GateLimits::default;
        let check = |limits: GateLimits, n, can: bool| assert_eq!(decidable(&limits, n).is_ok(), can, "{n}");
        check(default(), 1, true);
        check(default(), 0, false);
        check(GateLimits { labelled_devices_min: Some(5), ..default() }, 4, false);
        check(GateLimits { labelled_devices_min: Some(5), ..default() }, 5, true);
        check(GateLimits { shadow_disagreement_max: Some(0.05), ..default() }, 1, false);
        check(GateLimits { shadow_disagreement_max: Some(0.0), ..default() }, 9, false);
        check(GateLimits { shadow_disagreement_max: Some(0.05), ..default() }, 2, true);
        check(GateLimits { memory_rise_mib_max: Some(f64::NAN), ..default() }, 9, false);
    }

    #[test]
    fn power_grows_with_the_harm_and_the_fleet() {
        let limits = GateLimits::default();
        let install = |share, n| power(&limits, n, 6.0, Harm::InstallFailures(share));
        assert!(install(0.02, 50) <= 0.02, "a healthy bundle is stopped too often");
        assert!(install(0.5, 10) > 0.95 && install(0.2, 50) > 0.9);
        assert!(install(0.2, 10) < install(0.2, 50) && install(0.05, 50) < install(0.2, 50));
        let late = |hazard, n| power(&limits, n, 6.0, Harm::FailuresPerHour(hazard));
        assert!(late(0.005, 50) <= 0.015);
        assert!(late(0.05, 10) < late(0.05, 50) && late(0.05, 50) > 0.95);
        let worse = |rise, n| power(&limits, n, 6.0, Harm::Worse { rise, spread: 1.0, labels: 500 });
        assert!(worse(0.05, 5) < 0.01 && worse(0.5, 5) > 0.95);
        assert!(power(&limits, 5, 6.0, Harm::Worse { rise: 9.0, spread: 1.0, labels: 10 }) <= 0.0);
    }
}
