//! Is the challenger good enough to be signed without a person? Every check with its figure and its limit, in order.
//!
//! ```text
//!   provenance ─▶ schema ─▶ offline (recent, frozen, slices) ─▶ golden (variants) ─▶ resources ─▶ signed
//! ```
//! On recent rows it must be at least as good as the champion; on frozen ones it may be worse by the tolerance that
//! the owner set: a model that follows a changed world pays a little in the old one. Its first bundle has nothing to be
//! compared with; the shadow, canaries and their gates come after this in any case. Pure.

mod contract;

use muster_protocol::ids::{Digest, RunId};
use muster_protocol::manifest::{Evaluation, EvaluationSet, Manifest};

use super::bundle::{Measured, VariantReport};
use super::eval::EvalReport;
use super::slices::SliceScore;
use crate::retrain::{Check, Gate, Limit, Verdict};

/// How much worse the metric may become on a part of the fleet, relative to the champion's.
const SLICE_WORSE_MAX: f64 = 0.02;
/// How often chance may make some part look worse, all parts together.
const SLICE_P: f64 = 0.05;
/// How much more a smaller variant may be off than the first: 1 point, or 1 %.
const VARIANT_DROP_MAX: f64 = 0.01;

/// What boxes can carry.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// All files of the bundle together, MiB.
    pub bundle_mb_max: f64,
    /// Peak memory of a process that answers with it, MiB.
    pub memory_mb_max: f64,
    /// 95th percentile of its answers to 16 rows, milliseconds, on the builder.
    pub p95_ms_max: f64,
}

impl Default for Resources {
    fn default() -> Self {
        Self { bundle_mb_max: 512.0, memory_mb_max: 2048.0, p95_ms_max: 100.0 }
    }
}

/// A candidate, and what it is held to.
#[derive(Debug)]
pub struct Candidate<'a> {
    pub manifest: &'a Manifest,
    pub measured: Option<&'a Measured>,
    pub variants: &'a [VariantReport],
    pub report: &'a EvalReport,
    pub run: &'a RunId,
    pub champion: Option<(&'a Manifest, Digest)>,
    /// In units of the metric.
    pub frozen_tolerance: f64,
    pub resources: Resources,
}

/// Holds a candidate to every gate; nothing is left out because something before it failed.
pub fn checks(candidate: &Candidate<'_>) -> Vec<Check> {
    let mut checks = provenance(candidate);
    checks.extend(against(candidate));
    checks.extend(candidate.measured.map(|measured| slices(&measured.slices)).unwrap_or_default());
    checks.extend(golden(candidate));
    checks.extend(resources(candidate));
    checks
}

fn provenance(candidate: &Candidate<'_>) -> Vec<Check> {
    let lineage = &candidate.manifest.lineage;
    let verdict = |holds| if holds { Verdict::Passed } else { Verdict::Failed };
    let champion = candidate.champion.map(|(_, sha256)| sha256);
    let rows: u64 = lineage.datasets.iter().map(|set| set.rows).sum();
    let (known, said) = if lineage.datasets.is_empty() {
        (Verdict::Unknown, "the trainer names no dataset".to_owned())
    } else {
        (Verdict::Passed, format!("trained on {} datasets of {rows} rows, by digest", lineage.datasets.len()))
    };
    let is_ours = lineage.run.as_ref() == Some(candidate.run);
    vec![
        Check::said(Gate::Provenance, "run_named", verdict(is_ours), format!("made by {}", candidate.run)),
        Check::said(
            Gate::Provenance,
            "champion_named",
            verdict(lineage.champion == champion),
            champion.map_or_else(
                || "compared with nothing: the first bundle of its model".to_owned(),
                |champion| format!("compared with {}", champion.short()),
            ),
        ),
        Check::said(Gate::Provenance, "datasets_named", known, said),
    ]
}

/// The contract and the figures, against the champion.
fn against(candidate: &Candidate<'_>) -> Vec<Check> {
    let Some((champion, _)) = candidate.champion else {
        let said = "the model has no champion yet: there is nothing to compare with";
        return vec![
            Check::said(Gate::Schema, "no_champion", Verdict::Unknown, said),
            Check::said(Gate::Offline, "no_champion", Verdict::Unknown, said),
        ];
    };
    let differs = contract::difference(candidate.manifest, champion);
    let verdict = if differs.is_none() { Verdict::Passed } else { Verdict::Failed };
    let said = differs.unwrap_or_else(|| "inputs, outputs and task are the champion's".to_owned());
    let schema = Check::said(Gate::Schema, "schema_differs", verdict, said);
    let evaluation = candidate.manifest.evaluation.as_ref();
    vec![
        schema,
        compare(evaluation, "recent", 0.0),
        compare(evaluation, "frozen", candidate.frozen_tolerance.max(0.0)),
    ]
}

fn compare(evaluation: Option<&Evaluation>, name: &str, tolerance: f64) -> Check {
    let found = evaluation.and_then(|all| Some((&all.metric, all.sets.iter().find(|set| set.name == name)?)));
    let Some((metric, EvaluationSet { rows, challenger, champion: Some(champion), .. })) = found else {
        let said = format!("the two models were not compared on {name} rows");
        return Check::said(Gate::Offline, "not_evaluated", Verdict::Failed, said);
    };
    let code = if name == "recent" { "worse_on_recent" } else { "worse_on_frozen" };
    let allowed = if tolerance > 0.0 { format!(" and {tolerance} more is allowed") } else { String::new() };
    let said = format!(
        "on {rows} {name} rows the challenger's {metric} is {challenger:.4}; the champion's is {champion:.4}{allowed}"
    );
    Check::measured(Gate::Offline, code, *challenger, Limit::AtMost(champion + tolerance), said)
}

fn slices(slices: &[SliceScore]) -> Vec<Check> {
    #[expect(clippy::cast_precision_loss, reason = "at most 64")]
    let judged = slices.iter().filter(|slice| slice.p.is_some()).count().max(1) as f64;
    let check = |slice: &SliceScore| {
        let SliceScore { by, value, rows, worse, p } = slice;
        let (Some(worse), Some(p)) = (*worse, *p) else {
            let said = format!("{by} {value}: {rows} rows are too few to judge");
            return Check::said(Gate::Offline, "slice_small", Verdict::Unknown, said);
        };
        let said = format!("{by} {value}: worse by {:.2} % on {rows} rows (p {p:.2e})", worse * 100.0);
        let check =
            Check::measured(Gate::Offline, "slice_worse", worse, Limit::AtMost(SLICE_WORSE_MAX), said);
        // Worse than the limit by chance is not worse.
        let verdict = if p < SLICE_P / judged { check.verdict } else { Verdict::Passed };
        Check { verdict, ..check }
    };
    slices.iter().map(check).collect()
}

fn golden(candidate: &Candidate<'_>) -> Vec<Check> {
    let drops = candidate.measured.map(|measured| &measured.drops);
    let check = |variant: &muster_protocol::manifest::Variant| {
        let id = &variant.id;
        if variant.golden.is_none() {
            return Check::said(
                Gate::Golden,
                "golden_missing",
                Verdict::Failed,
                format!("{id}: no golden outputs"),
            );
        }
        match drops.and_then(|drops| drops.get(id)) {
            Some(drop) => {
                let said =
                    format!("{id}: worse than the first variant by {:.2} % on frozen rows", drop * 100.0);
                Check::measured(Gate::Golden, "variant_worse", *drop, Limit::AtMost(VARIANT_DROP_MAX), said)
            }
            None => Check::said(
                Gate::Golden,
                "golden_outputs",
                Verdict::Passed,
                format!("{id}: golden outputs made"),
            ),
        }
    };
    candidate.manifest.variants.iter().map(check).collect()
}

fn resources(candidate: &Candidate<'_>) -> Vec<Check> {
    const MIB: f64 = 1024.0 * 1024.0;
    #[expect(clippy::cast_precision_loss, reason = "bytes of a bundle, as a figure")]
    let mib = |bytes: u64| bytes as f64 / MIB;
    let Resources { bundle_mb_max, memory_mb_max, p95_ms_max } = candidate.resources;
    let held = |code: &str, measured: f64, limit: f64, said: String| {
        Check::measured(Gate::Resources, code, measured, Limit::AtMost(limit), said)
    };
    let size = mib(candidate.manifest.files.iter().map(|file| file.length).sum());
    let memory = mib(candidate.report.rss_bytes);
    let mut checks = vec![
        held("bundle_size", size, bundle_mb_max, format!("the bundle has {size:.2} MiB")),
        held("memory", memory, memory_mb_max, format!("answering took {memory:.0} MiB of memory at most")),
    ];
    checks.extend(candidate.variants.iter().map(|variant| {
        let p95 = variant.p95_us / 1000.0;
        held("latency", p95, p95_ms_max, format!("{}: p95 {p95:.2} ms for the golden rows", variant.id))
    }));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrain::first_failure;

    fn manifest(recent: (f64, f64), frozen: (f64, f64)) -> Manifest {
        let json = include_str!("../../../protocol/tests/wire/manifest.json");
        let mut manifest: Manifest = serde_json::from_str(json).unwrap();
        let set = |name: &str, (challenger, champion)| EvaluationSet {
            name: name.to_owned(),
            rows: 100,
            challenger,
            champion: Some(champion),
        };
        manifest.evaluation = Some(Evaluation {
            metric: "log_loss".to_owned(),
            threshold: None,
            sets: vec![set("recent", recent), set("frozen", frozen)],
        });
        manifest
    }

    fn judge(challenger: &Manifest, champion: Option<&Manifest>, tolerance: f64) -> Result<(), Check> {
        let run = RunId::mint([7; 16]);
        let mut manifest = challenger.clone();
        let sha256 = Digest::of(b"champion");
        manifest.lineage.run = Some(run.clone());
        manifest.lineage.champion = champion.map(|_| sha256);
        let candidate = Candidate {
            manifest: &manifest,
            measured: None,
            variants: &[],
            report: &EvalReport::default(),
            run: &run,
            champion: champion.map(|champion| (champion, sha256)),
            frozen_tolerance: tolerance,
            resources: Resources::default(),
        };
        first_failure(&checks(&candidate)).map_or(Ok(()), |failed| Err(failed.clone()))
    }

    #[test]
    fn figures_decide() {
        let check = |recent, frozen, tolerance, expect: Option<&str>| {
            let challenger = manifest(recent, frozen);
            let rejected =
                judge(&challenger, Some(&challenger), tolerance).err().map(|rejection| rejection.code);
            assert_eq!(rejected.as_deref(), expect);
        };
        check((0.2, 0.3), (0.2, 0.2), 0.0, None);
        check((0.3, 0.3), (0.2, 0.2), 0.0, None);
        check((0.31, 0.3), (0.1, 0.2), 0.5, Some("worse_on_recent"));
        check((0.2, 0.3), (0.21, 0.2), 0.0, Some("worse_on_frozen"));
        check((0.2, 0.3), (0.21, 0.2), 0.02, None);
        check((f64::NAN, 0.3), (0.2, 0.2), 0.0, Some("worse_on_recent"));
    }

    #[test]
    fn the_first_bundle_of_a_model_has_nothing_to_beat() {
        assert_eq!(judge(&manifest((9.0, 0.0), (9.0, 0.0)), None, 0.0), Ok(()));
    }

    #[test]
    fn another_contract_is_refused_by_name() {
        let champion = manifest((0.2, 0.3), (0.2, 0.2));
        let mut challenger = champion.clone();
        challenger.signature.inputs[0].features.swap(0, 1);
        let rejection = judge(&challenger, Some(&champion), 0.0).unwrap_err();
        assert_eq!(rejection.code, "schema_differs");
        assert_eq!(rejection.sentence, "column 0 of 'x' is 'spo2'; the champion reads 'age' there");
        challenger.signature.inputs.push(champion.signature.inputs[0].clone());
        challenger.signature.inputs[0] = champion.signature.inputs[0].clone();
        let rejection = judge(&challenger, Some(&champion), 0.0).unwrap_err();
        assert_eq!(rejection.sentence, "the challenger has 2 inputs, the champion 1");
    }

    #[test]
    fn a_missing_comparison_is_no_pass() {
        let mut challenger = manifest((0.2, 0.3), (0.2, 0.2));
        challenger.evaluation.as_mut().unwrap().sets.pop();
        assert_eq!(judge(&challenger, Some(&challenger), 0.0).unwrap_err().code, "not_evaluated");
    }

    #[test]
    fn a_part_of_the_fleet_that_gets_worse_fails_and_chance_does_not() {
        let slice = |worse, p| SliceScore {
            by: "device_class".to_owned(),
            value: "old".to_owned(),
            rows: 100,
            worse,
            p,
        };
        let check = |worse, p, expect| assert_eq!(slices(&[slice(worse, p)])[0].verdict, expect);
        check(Some(0.3), Some(1e-9), Verdict::Failed);
        check(Some(0.3), Some(0.2), Verdict::Passed);
        check(Some(0.01), Some(1e-9), Verdict::Passed);
        check(None, None, Verdict::Unknown);
        // Of twenty parts, one may look bad at 0.01 by chance.
        let many: Vec<SliceScore> = (0..20).map(|_| slice(Some(0.3), Some(0.01))).collect();
        assert_eq!(first_failure(&slices(&many)), None);
    }

    #[test]
    fn where_it_comes_from_and_what_it_needs_are_held_too() {
        let manifest = manifest((0.2, 0.3), (0.2, 0.2));
        let run = RunId::mint([7; 16]);
        let report = EvalReport { rss_bytes: 4 << 30, ..EvalReport::default() };
        let variant = VariantReport {
            id: "cpu-fp32".to_owned(),
            bytes: 1,
            provider: "openvino".to_owned(),
            load_ms: 1.0,
            p95_us: 200_000.0,
            differs_max: 0.0,
            differs_mean: 0.0,
        };
        let candidate = Candidate {
            manifest: &manifest,
            measured: None,
            variants: std::slice::from_ref(&variant),
            report: &report,
            run: &run,
            champion: Some((&manifest, Digest::of(b"champion"))),
            frozen_tolerance: 0.0,
            resources: Resources::default(),
        };
        let failed: Vec<String> = checks(&candidate)
            .into_iter()
            .filter(|check| check.verdict == Verdict::Failed)
            .map(|check| check.code)
            .collect();
        assert_eq!(failed, ["run_named", "champion_named", "memory", "latency"]);
        let mut bare = manifest.clone();
        bare.variants[0].golden = None;
        let without = Candidate { manifest: &bare, ..candidate };
        assert!(checks(&without).iter().any(|check| check.code == "golden_missing"));
    }
}
