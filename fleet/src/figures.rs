//! Figures of the whole fleet for other people's monitoring: Prometheus asks for them, OTLP is sent them.
//!
//! Never a label whose values grow with the fleet: no device, and of sites and models only the largest, the rest together.
//! Reads and counts; decides nothing.

mod collect;

use std::collections::BTreeMap;

pub use collect::collect;

/// What is said of sites, and of models, beyond so many of them is said of `other` together.
pub const LABELLED_MAX: usize = 50;
const OTHER: &str = "other";

/// Figures of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    pub points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    /// Since this process began, or since the database did; it only rises, but for that.
    Counter,
    Histogram,
}

/// Names of labels with their values.
pub type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub labels: Labels,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(u64),
    /// Counts by upper bounds in seconds, and one more for what is beyond the last.
    Counts {
        bounds: Vec<f64>,
        counts: Vec<u64>,
    },
}

impl Family {
    pub fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, help, kind, points: Vec::new() }
    }

    /// The only figure of its family.
    #[must_use]
    pub fn of(mut self, value: u64) -> Self {
        self.points.push(Point { labels: Vec::new(), value: Value::Number(value) });
        self
    }

    #[must_use]
    pub fn by(mut self, label: &'static str, values: impl IntoIterator<Item = (String, u64)>) -> Self {
        for (of, value) in values {
            self.points.push(Point { labels: vec![(label, of)], value: Value::Number(value) });
        }
        self
    }
}

/// Keeps the largest groups apart and adds the rest up as `other`. `size`: what a group is measured by.
fn bounded<T>(
    groups: BTreeMap<String, T>,
    size: impl Fn(&T) -> u64,
    add: impl Fn(&mut T, T),
) -> BTreeMap<String, T> {
    let mut largest: Vec<(String, T)> = groups.into_iter().collect();
    // Sorting keeps the order of equals, so that the same groups are named at every look.
    largest.sort_by_key(|(_, group)| std::cmp::Reverse(size(group)));
    let mut kept: BTreeMap<String, T> = BTreeMap::new();
    for (place, (name, group)) in largest.into_iter().enumerate() {
        let name = if place < LABELLED_MAX { name } else { OTHER.to_owned() };
        match kept.get_mut(&name) {
            Some(sum) => add(sum, group),
            None => {
                kept.insert(name, group);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_groups_are_told_together() {
        let count = LABELLED_MAX as u64 + 10;
        let mut groups: BTreeMap<String, u64> = (1..=count).map(|n| (format!("site-{n:03}"), n)).collect();
        // Somebody may call a site that.
        groups.insert(OTHER.to_owned(), 1000);
        let kept = bounded(groups.clone(), |n| *n, |sum, n| *sum += n);
        assert_eq!(kept.len(), LABELLED_MAX);
        assert_eq!(kept.values().sum::<u64>(), groups.values().sum::<u64>());
        assert_eq!(kept[OTHER], 1000 + (1..=11).sum::<u64>());
        assert!(kept.contains_key(&format!("site-{count:03}")) && !kept.contains_key("site-001"));
    }
}
