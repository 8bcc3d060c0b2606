//! Our rule on one device, as box and fleet run it: count, merge, judge, remember.

use std::collections::VecDeque;

use muster_protocol::drift::{Alarm, Counter, Counts, Floor, Phase, Rule, StreamReference};

use crate::learn::{count, reference_of};
use crate::store::Window;

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
            let learnt = reference_of(categorical, &[reference], at, &rule);
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
