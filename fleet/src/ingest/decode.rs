//! Bytes of a device into facts. Whatever cannot be read fully is refused whole.

use muster_protocol::message::{
    Event, Hello, LabelBlock, Message as _, MessageError, Report, ShadowBlock, State, Status,
};
use muster_protocol::topic::Up;

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
    #[error("a report's span ends before it begins")]
    Span,
    #[error("its sequence number is 0; numbers start at 1")]
    Unnumbered,
    #[error("it holds from {held_from} on, but is number {sequence} itself")]
    HeldFrom { held_from: u64, sequence: u64 },
    #[error("a sum in it is not a number")]
    NotANumber,
    #[error("it compared {n} rows in a shadow, and {differed} of them differ")]
    MoreThanAll { n: u64, differed: u64 },
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
                let report = Report::decode(payload)?;
                numbered(report.sequence, report.held_from)?;
                if report.from > report.to || report.panes.iter().any(|pane| pane.from > pane.to) {
                    return Err(DecodeError::Span);
                }
                // One NaN, once added, would spoil its day for ever.
                if !report.labels.iter().all(is_finite) {
                    return Err(DecodeError::NotANumber);
                }
                if let Some(&ShadowBlock { n, differed, .. }) =
                    report.shadows.iter().find(|it| it.differed > it.n)
                {
                    return Err(DecodeError::MoreThanAll { n, differed });
                }
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

fn is_finite(block: &LabelBlock) -> bool {
    let pairs = block.against.iter().flat_map(|pairs| [pairs.loss_sum, pairs.diff_sum, pairs.diff_sum_sq]);
    [block.label_sum, block.prediction_sum, block.loss_sum, block.loss_sum_sq]
        .into_iter()
        .chain(pairs)
        .all(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named() {
        let check = |up: Up, payload: &str, part: &str| {
            let error = Fact::decode(up, payload.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        let boot = muster_protocol::ids::BootId::mint([1; 16]);
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
}
