//! One column's reference, and its counts, from windows of rows.

use muster_protocol::drift::{Counter, Counts, Reference, Rule, StreamReference};

use crate::store::Window;

/// Learns one column from the windows of each device, in time order.
pub(crate) fn reference_of(
    categorical: bool,
    devices: &[&[Window]],
    column: usize,
    rule: &Rule,
) -> StreamReference {
    let values = || devices.iter().flat_map(|windows| windows.iter().flat_map(|window| &window[column]));
    let reference = if categorical {
        let names: Vec<String> = values().map(|&code| name(code)).collect();
        Reference::categorical(names.iter().map(|name| Some(name.as_str()))).unwrap()
    } else {
        Reference::numeric(&values().copied().collect::<Vec<f32>>()).unwrap()
    };
    let mut counter = Counter::new(&reference);
    let counted: Vec<Vec<Counts>> = devices
        .iter()
        .map(|windows| {
            let counted = windows.iter().map(|window| {
                count(&mut counter, &window[column]);
                counter.take()
            });
            counted.collect()
        })
        .collect();
    StreamReference::replay(reference, &counted, rule).unwrap()
}

pub(crate) fn count(counter: &mut Counter, values: &[f32]) {
    match counter {
        Counter::Numeric(numeric) => numeric.observe_all(values),
        Counter::Categorical(categorical) => values.iter().for_each(|&code| {
            let category = (!code.is_nan()).then(|| name(code));
            categorical.observe(category.as_deref());
        }),
    }
}

fn name(code: f32) -> String {
    format!("c{code}")
}
