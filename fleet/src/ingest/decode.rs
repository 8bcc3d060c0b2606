//! Bytes of a device into facts. Whatever cannot be read fully is refused whole; numbers that no healthy box can have
//! counted are brought within bounds.

use muster_protocol::message::report::PairedLoss;
use muster_protocol::message::{Event, Hello, LabelBlock, Message as _, MessageError, Report, State, Status};
use muster_protocol::topic::Up;

use crate::store::COUNT_MAX;

/// Largest sum in a block of labels. Squares of squared errors are among them, so it leaves room for errors up to 1e15; the
/// sums of all boxes together, and their squares, stay numbers.
const SUM_MAX: f64 = 1e60;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    Hello(Box<Hello>),
    Status(Status),
    State(Box<State>),
    Event(Box<Event>),
    Report(Box<Report>),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("its sequence number is 0; numbers start at 1")]
    Unnumbered,
    #[error("it holds from {held_from} on, but is number {sequence} itself")]
    HeldFrom { held_from: u64, sequence: u64 },
    #[error("chunk requests do not come here")]
    Want,
}

impl Fact {
    pub(super) fn decode(up: Up, payload: &[u8]) -> Result<Self, DecodeError> {
        match up {
            Up::Hello => Ok(Self::Hello(Box::new(Hello::from_json(payload)?))),
            Up::Status => Ok(Self::Status(Status::from_json(payload)?)),
            Up::State => {
                let state = State::from_json(payload)?;
                numbered(state.sequence, 1)?;
                Ok(Self::State(Box::new(state)))
            }
            Up::Event => {
                let event = Event::from_json(payload)?;
                numbered(event.sequence, event.held_from)?;
                Ok(Self::Event(Box::new(event)))
            }
            Up::Report => {
                let mut report = Report::decode(payload)?;
                numbered(report.sequence, report.held_from)?;
                bound(&mut report);
                Ok(Self::Report(Box::new(report)))
            }
            Up::Want => Err(DecodeError::Want),
        }
    }
}

fn numbered(sequence: u64, held_from: u64) -> Result<(), DecodeError> {
    match sequence {
        0 => Err(DecodeError::Unnumbered),
        _ if held_from > sequence => Err(DecodeError::HeldFrom { held_from, sequence }),
        _ => Ok(()),
    }
}

/// Brings what a report says within what sums can bear. Not by a refusal: the box would send it again for ever, and nothing
/// that waits behind it would come.
fn bound(report: &mut Report) {
    // A clock that was set back.
    report.from = report.from.min(report.to);
    for pane in &mut report.panes {
        pane.to = pane.to.max(pane.from);
    }
    for model in &mut report.models {
        bound_counts([&mut model.requests, &mut model.rows, &mut model.failures, &mut model.refused]);
    }
    // One NaN, once added, would spoil its day for ever.
    report.labels.retain(is_finite);
    for block in &mut report.labels {
        let LabelBlock { n, label_sum, prediction_sum, loss_sum, loss_sum_sq, against, .. } = block;
        bound_counts([n]);
        bound_sums([label_sum, prediction_sum, loss_sum, loss_sum_sq]);
        if let Some(PairedLoss { n, loss_sum, diff_sum, diff_sum_sq, .. }) = against {
            bound_counts([n]);
            bound_sums([loss_sum, diff_sum, diff_sum_sq]);
        }
    }
    for block in &mut report.shadows {
        block.n = block.n.min(COUNT_MAX);
        block.differed = block.differed.min(block.n);
    }
}

fn bound_counts<const N: usize>(counts: [&mut u64; N]) {
    for count in counts {
        *count = COUNT_MAX.min(*count);
    }
}

fn bound_sums<const N: usize>(sums: [&mut f64; N]) {
    for sum in sums {
        *sum = f64::clamp(*sum, -SUM_MAX, SUM_MAX);
    }
}

fn is_finite(block: &LabelBlock) -> bool {
    let pairs = block.against.iter().flat_map(|pairs| [pairs.loss_sum, pairs.diff_sum, pairs.diff_sum_sq]);
    [block.label_sum, block.prediction_sum, block.loss_sum, block.loss_sum_sq]
        .into_iter()
        .chain(pairs)
        .all(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::{BootId, Digest, SlotName};
    use muster_protocol::message::{Health, ModelStats, Pane, ShadowBlock};
    use muster_protocol::time::Timestamp;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_named() {
        let check = |up: Up, payload: &str, part: &str| {
            let error = Fact::decode(up, payload.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        let boot = BootId::mint([1; 16]);
        let event = |v: u8, sequence: u64, held_from: u64| {
            format!(
                r#"{{"v":{v},"boot":"{boot}","sequence":{sequence},"held_from":{held_from},
                "at":"2026-11-24T00:00:00Z","kind":{{"kind":"started","agent_version":"1"}}}}"#
            )
        };
        check(Up::Hello, "{}", "not JSON of the expected shape");
        check(Up::State, "\u{1}", "not JSON");
        check(Up::Event, &event(2, 1, 1), "version 2");
        check(Up::Event, &event(1, 0, 0), "sequence number is 0");
        check(Up::Event, &event(1, 3, 4), "holds from 4 on");
        check(Up::Report, "", "version 0");
        check(Up::Report, "\u{1}xx", "cannot be read");
        check(Up::Want, "{}", "do not come here");
        assert!(Fact::decode(Up::Event, event(1, 3, 2).as_bytes()).is_ok());
    }

    /// A report that says `count` and `sum` wherever it counts and sums.
    fn report(count: u64, sum: f64) -> Report {
        let (slot, bundle) = ("beds".parse::<SlotName>().unwrap(), Digest::of(b""));
        let [from, to] = [60, 120].map(Timestamp::from_seconds);
        Report {
            boot: BootId::mint([1; 16]),
            sequence: 1,
            held_from: 1,
            from,
            to,
            health: Health::default(),
            models: vec![ModelStats {
                slot: slot.clone(),
                bundle,
                requests: count,
                rows: count,
                failures: count,
                refused: count,
                latency: vec![],
            }],
            panes: vec![Pane { slot: slot.clone(), bundle, from, to, streams: vec![] }],
            labels: vec![LabelBlock {
                slot: slot.clone(),
                bundle,
                day: from,
                n: count,
                label_sum: sum,
                prediction_sum: sum,
                loss_sum: sum,
                loss_sum_sq: sum,
                against: Some(PairedLoss {
                    bundle,
                    n: count,
                    loss_sum: sum,
                    diff_sum: -sum,
                    diff_sum_sq: sum,
                }),
            }],
            shadows: vec![ShadowBlock {
                slot,
                bundle,
                against: bundle,
                day: from,
                n: count,
                differed: count,
            }],
        }
    }

    fn taken(report: &Report) -> Report {
        let fact = Fact::decode(Up::Report, &report.encode().unwrap()).unwrap();
        let Fact::Report(report) = fact else { panic!("it is no report") };
        *report
    }

    #[test]
    fn what_no_box_can_have_counted_is_brought_within_bounds() {
        let honest = report(1_000_000, 1e50);
        assert_eq!(taken(&honest), honest);
        assert_eq!(taken(&report(u64::MAX, 1e308)), report(COUNT_MAX, SUM_MAX));
        assert_eq!(taken(&report(u64::MAX, f64::MIN)), report(COUNT_MAX, -SUM_MAX));
        let more_than_all = ShadowBlock { n: 3, differed: 7, ..honest.shadows[0].clone() };
        let shadows = taken(&Report { shadows: vec![more_than_all], ..honest }).shadows;
        assert_eq!((shadows[0].n, shadows[0].differed), (3, 3));
    }

    #[test]
    fn a_block_whose_sums_are_no_numbers_is_left_out_and_the_report_is_taken() {
        let block = |sum| report(1, sum).labels.remove(0);
        let mut told = report(1, 1.0);
        let paired = block(1.0).against.map(|pairs| PairedLoss { diff_sum_sq: f64::NAN, ..pairs });
        let half = LabelBlock { against: paired, ..block(1.0) };
        told.labels = vec![block(f64::NAN), block(2.0), block(f64::NEG_INFINITY), half];
        assert_eq!(taken(&told), Report { labels: vec![block(2.0)], ..told });
    }

    #[test]
    fn a_span_that_ends_before_it_begins_is_none_at_all() {
        let mut told = report(1, 1.0);
        let (early, late) = (told.from, told.to);
        (told.from, told.to) = (late, early);
        (told.panes[0].from, told.panes[0].to) = (late, early);
        let taken = taken(&told);
        assert_eq!((taken.from, taken.to), (early, early));
        // A pane belongs to the window in which it began.
        assert_eq!((taken.panes[0].from, taken.panes[0].to), (late, late));
    }
}
