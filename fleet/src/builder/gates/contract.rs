//! Applications call the champion: the challenger must understand the same requests and answer in the same shape.

use muster_protocol::manifest::Manifest;

/// The first difference, in words.
pub(super) fn difference(challenger: &Manifest, champion: &Manifest) -> Option<String> {
    if challenger.task != champion.task {
        return Some(format!("the task is {:?}, the champion's {:?}", challenger.task, champion.task));
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
        return Some(match different {
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
        });
    }
    None
}
