//! Our rule on one device, as box and fleet run it: count, merge, judge, remember.

use std::collections::VecDeque;

use muster_protocol::drift::{Alarm, Counter, Counts, Floor, Phase, Reference, Rule, StreamReference};

use crate::world::Window;

#[derive(Debug)]
pub(crate) struct Device {
    streams: Vec<Stream>,
    rule: Rule,
}

#[derive(Debug)]
struct Stream {
    reference: StreamReference,
    counter: Counter,
    last: VecDeque<Counts>,
    alarm: Alarm,
}

impl Device {
    pub(crate) fn learn(categorical: &[bool], reference: &[Window]) -> Self {
        let rule = Rule::default();
        let streams = categorical.iter().enumerate().map(|(at, &categorical)| {
            let columns: Vec<&[f32]> = reference.iter().map(|window| window[at].as_slice()).collect();
            let learnt = reference_of(categorical, &columns, &rule);
            let counter = Counter::new(&learnt.reference);
            Stream { reference: learnt, counter, last: VecDeque::new(), alarm: Alarm::default() }
        });
        Self { streams: streams.collect(), rule }
    }

    /// Whether the device is in alarm after this window.
    pub(crate) fn observe(&mut self, window: &Window) -> bool {
        let monitored = u32::try_from(self.streams.len()).unwrap();
        let mut alarmed = false;
        for (stream, values) in self.streams.iter_mut().zip(window) {
            stream.observe(values, &self.rule, monitored);
            alarmed |= matches!(stream.alarm.phase(), Phase::Raised { .. });
        }
        alarmed
    }
}

impl Stream {
    fn observe(&mut self, values: &[f32], rule: &Rule, monitored: u32) {
        count(&mut self.counter, values);
        // As the box tells it: that is what the fleet judges.
        self.last.push_back(self.counter.take().disclosed(&self.reference.reference, Floor::LEAST));
        if self.last.len() > rule.windows_kept() as usize {
            self.last.pop_front();
        }
        let judged = self.reference.judge(rule, self.last.make_contiguous(), monitored).unwrap();
        self.alarm.observe(rule, judged.window.as_ref(), &judged.merged);
    }
}

/// Learns one column from its windows in time order.
pub(crate) fn reference_of(categorical: bool, windows: &[&[f32]], rule: &Rule) -> StreamReference {
    let all = windows.concat();
    let reference = if categorical {
        let names: Vec<String> = all.iter().map(|&code| name(code)).collect();
        Reference::categorical(names.iter().map(|name| Some(name.as_str()))).unwrap()
    } else {
        Reference::numeric(&all).unwrap()
    };
    let mut counter = Counter::new(&reference);
    let counted: Vec<Counts> = windows
        .iter()
        .map(|window| {
            count(&mut counter, window);
            counter.take()
        })
        .collect();
    StreamReference::replay(reference, &[counted], rule).unwrap()
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
