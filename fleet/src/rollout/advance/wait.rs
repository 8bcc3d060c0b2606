//! Why not more: every hindrance that is left, counted, so that a rollout is never silent.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::hindrance::Hindrance;
use super::look::{Look, Part, Row, needed};
use super::span;
use crate::gate::{self, GateReport, Verdict};
use crate::rollout::Phase;
use crate::rollout::reason::Code;

impl<'a> Look<'a> {
    pub(super) fn say(
        &mut self,
        open: usize,
        facts: &Facts<'a>,
        reach: &[Option<Hindrance<'a>>],
        report: &GateReport,
    ) {
        let tally = self.tally(open);
        if let Some(hindrance) = facts.rollout_stands() {
            let is_paused = matches!(self.rollout.phase, Phase::Paused { .. });
            let next = if is_paused { "resume, promote, abort or roll back" } else { hindrance.next() };
            let sentence = format!("{}; {next}", hindrance.sentence(self.now));
            self.wait(hindrance.code(), sentence, tally.waiting + tally.ready);
        } else {
            self.say_hindrances(open, facts, reach);
        }
        if self.rows.iter().all(|row| row.member().is_none()) {
            self.wait(Code::EmptyCohort, "no device matches the selector; enrol one or abort".to_owned(), 0);
        }
        if tally.in_flight > 0 {
            let sentence = format!("{} to download, test and activate it", gate::devices(tally.in_flight));
            self.wait(Code::Installing, sentence, tally.in_flight);
        }
        let plan = self.rollout.plan.stages.get(open);
        if tally.baking > 0 {
            self.say_baking(open, tally.baking, plan.map_or(0, |plan| plan.bake_s));
        }
        let quorum = needed(tally.asked, plan.map_or(100.0, |plan| plan.quorum_percent));
        let is_done = matches!(self.rollout.phase, Phase::Completed { .. });
        if tally.baked >= quorum && !is_done {
            for layer in report.layers.iter().filter(|layer| layer.verdict == Verdict::Insufficient) {
                self.wait(Code::Evidence, format!("more evidence: {}", layer.sentence), layer.missing.len());
            }
        }
        if self.out.waiting_on.is_empty() && self.rollout.phase.is_open() {
            self.wait(
                Code::Excluded,
                "nobody of the open stages can be asked; abort, or change what leaves them out".to_owned(),
                tally.members,
            );
        }
    }

    /// Who lives with it, and who has it and is not heard: those are waited for in vain, or are its victims.
    fn say_baking(&mut self, open: usize, baking: usize, bake_s: u64) {
        let is_silent = |row: &&Row<'_>| row.within(open) == Some(Part::Baking) && !row.is_online();
        let silent: Vec<_> = self.rows.iter().filter(is_silent).collect();
        let since = silent.iter().filter_map(|row| row.device.map(|device| device.presence_since)).min();
        let count = silent.len();
        if baking > count {
            let sentence = format!("{} to live with it for {}", gate::devices(baking - count), span(bake_s));
            self.wait(Code::Baking, sentence, baking - count);
        }
        if count > 0 {
            let long = span(since.map_or(0, |since| self.now.since(since).as_secs()));
            let who = gate::devices(count);
            let sentence = format!(
                "{who} with the bundle to be heard again, silent for up to {long}; roll back if that stays so"
            );
            self.wait(Code::Silent, sentence, count);
        }
    }

    fn say_hindrances(&mut self, open: usize, facts: &Facts<'a>, reach: &[Option<Hindrance<'a>>]) {
        let mut found: BTreeMap<Code, (usize, Hindrance<'a>)> = BTreeMap::new();
        let mut queued = 0;
        let mut until = None;
        for (row, reached) in self.rows.iter().zip(reach) {
            let hindrance = match row.within(open) {
                Some(Part::Waiting) => reached.or_else(|| facts.limits(row, true)),
                Some(Part::Ready) => facts.permitting(row),
                Some(
                    Part::Excluded | Part::InFlight | Part::Baking | Part::Baked | Part::Lost | Part::Back,
                )
                | None => continue,
            };
            let Some(hindrance) = hindrance else {
                queued += 1;
                continue;
            };
            until = until.into_iter().chain(hindrance.until()).min();
            found.entry(hindrance.code()).or_insert((0, hindrance)).0 += 1;
        }
        for (code, (count, hindrance)) in found {
            let devices = gate::devices(count);
            let sentence = if hindrance == Hindrance::Offline {
                format!("{devices} to come online")
            } else {
                format!("{devices}: {}", hindrance.sentence(self.now))
            };
            self.wait(code, sentence, count);
        }
        if let Some(time) = until {
            self.look_at(time);
        }
        if queued > 0 {
            self.wait(Code::Queued, format!("{} asked next", gate::devices(queued)), queued);
            self.look_at(self.now);
        }
    }
}
