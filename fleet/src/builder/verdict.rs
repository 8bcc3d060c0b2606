//! Is the challenger good enough to be signed without a person? A pure question of figures and signatures.
//!
//! On recent rows it must be at least as good as the champion; on frozen ones it may be worse by the tolerance that
//! the owner set: a model that follows a changed world pays a little in the old one. Its first bundle has nothing to be
//! compared with; canaries and their gates come after this in any case.

use muster_protocol::manifest::{Evaluation, EvaluationSet, Manifest};

/// Why a challenger is not signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Stable, for programs.
    pub code: &'static str,
    pub sentence: String,
}

/// `frozen_tolerance` is in units of the metric.
pub fn judge(
    challenger: &Manifest,
    champion: Option<&Manifest>,
    frozen_tolerance: f64,
) -> Result<(), Rejection> {
    let Some(champion) = champion else { return Ok(()) };
    same_contract(challenger, champion)?;
    let Some(evaluation) = &challenger.evaluation else {
        return Err(rejection("not_evaluated", "the challenger carries no figures"));
    };
    compare(evaluation, "recent", 0.0)?;
    compare(evaluation, "frozen", frozen_tolerance.max(0.0))
}

/// Applications call the champion: the challenger must understand the same requests and answer in the same shape.
fn same_contract(challenger: &Manifest, champion: &Manifest) -> Result<(), Rejection> {
    if challenger.task != champion.task {
        let sentence = format!("the task is {:?}, the champion's {:?}", challenger.task, champion.task);
        return Err(rejection("schema_differs", &sentence));
    }
    let sides = [
        ("inputs", &challenger.signature.inputs, &champion.signature.inputs),
        ("outputs", &challenger.signature.outputs, &champion.signature.outputs),
    ];
    for (side, new, old) in sides {
        if new == old {
            continue;
        }
        let different = new.iter().zip(old).find(|(new, old)| new != old);
        let sentence = match different {
            None => format!("the challenger has {} {side}, the champion {}", new.len(), old.len()),
            Some((new, old)) if new.features != old.features => {
                let at = new
                    .features
                    .iter()
                    .zip(&old.features)
                    .position(|(a, b)| a != b)
                    .unwrap_or(old.features.len());
                let name =
                    |features: &[String]| features.get(at).cloned().unwrap_or_else(|| "nothing".to_owned());
                format!(
                    "column {at} of '{}' is '{}'; the champion reads '{}' there",
                    new.name,
                    name(&new.features),
                    name(&old.features)
                )
            }
            Some((new, old)) => format!(
                "'{}' is {:?} {:?}; the champion has '{}' as {:?} {:?}",
                new.name, new.datatype, new.shape, old.name, old.datatype, old.shape
            ),
        };
        return Err(rejection("schema_differs", &sentence));
    }
    Ok(())
}

fn compare(evaluation: &Evaluation, name: &str, tolerance: f64) -> Result<(), Rejection> {
    let Some(EvaluationSet { rows, challenger, champion: Some(champion), .. }) =
        evaluation.sets.iter().find(|set| set.name == name)
    else {
        return Err(rejection("not_evaluated", &format!("the two models were not compared on {name} rows")));
    };
    // Written so that a figure that is no number rejects.
    if *challenger <= champion + tolerance {
        return Ok(());
    }
    let code = if name == "recent" { "worse_on_recent" } else { "worse_on_frozen" };
    let metric = &evaluation.metric;
    let allowed = if tolerance > 0.0 { format!(" and {tolerance} more is allowed") } else { String::new() };
    let sentence = format!(
        "on {rows} {name} rows the challenger's {metric} is {challenger:.4}; the champion's is {champion:.4}{allowed}"
    );
    Err(rejection(code, &sentence))
}

fn rejection(code: &'static str, sentence: &str) -> Rejection {
    Rejection { code, sentence: sentence.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn figures_decide() {
        let check = |recent, frozen, tolerance, expect: Option<&str>| {
            let challenger = manifest(recent, frozen);
            let rejected =
                judge(&challenger, Some(&challenger), tolerance).err().map(|rejection| rejection.code);
            assert_eq!(rejected, expect);
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
}
