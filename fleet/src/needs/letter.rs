//! How a letter reads: plain text, a paragraph for each thing, and nothing in it that somebody else's name could steer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use muster_protocol::time::Timestamp;

use super::{Detail, Kind, Need, Urgency};
use crate::rollout::calendar::Zone;

/// Things of one kind that get a paragraph; of the others there is a number.
const PARAGRAPHS_MAX: usize = 20;
const OVER_MAX: usize = 50;
const SUBJECT_CHARS_MAX: usize = 150;
const TITLE_CHARS_MAX: usize = 200;
const DETAIL_CHARS_MAX: usize = 600;

/// Where and for whom it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address of the dashboard, without a slash at its end.
    pub dashboard: String,
    pub zone: Zone,
    /// Of what the reader is told; of everything, if absent.
    pub project: Option<String>,
}

/// Something that the letter says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    pub(super) need: &'a Need,
    /// It was told before.
    pub(super) again: bool,
}

/// What else there is to say.
#[derive(Debug)]
pub(super) struct Rest<'a> {
    /// Titles of what is over, and when it was told.
    pub(super) over: Vec<(&'a str, Timestamp)>,
    /// Things that were told before and still stand.
    pub(super) standing: usize,
    /// In quiet hours: things that wait for their end.
    pub(super) held: Option<(usize, Timestamp)>,
    /// Things that came and went in quiet hours.
    pub(super) passed: u64,
    pub(super) cut: &'a BTreeSet<Kind>,
}

/// A letter's subject and text. `said` begins with the worst.
pub(super) fn write(said: &[Said<'_>], rest: &Rest<'_>, place: &Place, now: Timestamp) -> (String, String) {
    let what = counted(said);
    let of = place.project.as_ref().map_or_else(String::new, |project| format!(" ({project})"));
    let worst = said.first().map(|said| said.need.title.as_str()).unwrap_or_default();
    let subject = plain(&format!("[Muster{of}] {what}: {worst}"), SUBJECT_CHARS_MAX);
    let mut body = String::new();
    let within =
        place.project.as_ref().map_or_else(String::new, |project| format!(" in the project {project}"));
    write_line(&mut body, &format!("{what}{within}."));
    let mut shown: BTreeMap<Kind, usize> = BTreeMap::new();
    for Said { need, again } in said {
        let shown = shown.entry(need.kind).or_default();
        *shown += 1;
        if *shown <= PARAGRAPHS_MAX {
            paragraph(&mut body, need, *again, place);
        }
    }
    for (kind, count) in shown {
        let more = count.saturating_sub(PARAGRAPHS_MAX);
        let than = if rest.cut.contains(&kind) { "more than " } else { "" };
        if more > 0 {
            write_line(&mut body, &format!("\nAnd {than}{more} more of the kind: {}.", kind.others()));
        }
    }
    if !rest.over.is_empty() {
        write_line(&mut body, "\nOver:");
        for (title, told) in rest.over.iter().take(OVER_MAX) {
            let told = moment(*told, place);
            write_line(&mut body, &format!("- {} (told {told})", plain(title, TITLE_CHARS_MAX)));
        }
        let more = rest.over.len().saturating_sub(OVER_MAX);
        if more > 0 {
            write_line(&mut body, &format!("- and {more} more"));
        }
    }
    let others =
        [(rest.standing as u64, "told before, and still so"), (rest.passed, "came and went in quiet hours")];
    for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
        write_line(&mut body, &format!("\n{count} more: {what}."));
    }
    if let Some((held, until)) = rest.held.filter(|(held, _)| *held > 0) {
        write_line(
            &mut body,
            &format!("\n{held} more: less urgent, told after {}.", place.zone.clock(until, now)),
        );
    }
    write_line(&mut body, &format!("\nAll of it: {}/", place.dashboard));
    (subject, body)
}

/// A letter that says nothing but that it arrives.
pub fn test(place: &Place, now: Timestamp) -> (String, String) {
    let body = format!(
        "This is a test: mail from Muster arrives here.\n\nSent {}.\nAll that needs you: {}/\n",
        moment(now, place),
        place.dashboard
    );
    ("[Muster] A test".to_owned(), body)
}

fn counted(said: &[Said<'_>]) -> String {
    let (count, still) = (said.len(), if said.iter().all(|said| said.again) { " still" } else { "" });
    let urgent = said.iter().filter(|said| said.need.urgency == Urgency::Urgent).count();
    let urgent = match urgent {
        0 => String::new(),
        all if all == count => ", urgently".to_owned(),
        some => format!(", {some} of them urgently"),
    };
    if count == 1 {
        format!("1 thing{still} needs you{urgent}")
    } else {
        format!("{count} things{still} need you{urgent}")
    }
}

fn paragraph(body: &mut String, need: &Need, again: bool, place: &Place) {
    let urgent = match need.urgency {
        Urgency::Urgent => "URGENT: ",
        Urgency::Usual => "",
    };
    write_line(body, &format!("\n* {urgent}{}", plain(&need.title, TITLE_CHARS_MAX)));
    match &need.detail {
        Detail::Ours(text) => write_line(body, &format!("  {}", plain(text, DETAIL_CHARS_MAX))),
        Detail::Theirs(_) => {
            write_line(body, "  What it said is in the dashboard: words of others are not mailed.");
        }
    }
    if let Some(fingerprint) = &need.fingerprint {
        write_line(body, &format!("  Fingerprint {}", plain(fingerprint, TITLE_CHARS_MAX)));
    }
    let told = if again { "; told before" } else { "" };
    write_line(body, &format!("  Since {}{told}", moment(need.since, place)));
    write_line(body, &format!("  {}{}", place.dashboard, plain(&need.link, TITLE_CHARS_MAX)));
    write_line(body, &format!("  {}", plain(&need.command(), TITLE_CHARS_MAX)));
}

fn moment(at: Timestamp, place: &Place) -> String {
    format!("{} ({})", place.zone.at(at).strftime("%-d %B %Y, %H:%M"), place.zone.name())
}

fn write_line(body: &mut String, line: &str) {
    // A String takes everything.
    writeln!(body, "{line}").ok();
}

/// Somebody's words as one line of at most so many characters, without anything that ends a line, moves a cursor or turns
/// the direction of reading.
pub(crate) fn plain(text: &str, chars: usize) -> String {
    let steers = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut letters = text.chars().map(|letter| if steers(letter) { ' ' } else { letter });
    let mut plain: String = letters.by_ref().take(chars).collect();
    if letters.next().is_some() {
        plain.pop();
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::super::tests::need;
    use super::*;

    fn place() -> Place {
        Place {
            dashboard: "https://fleet.example".to_owned(),
            zone: "Europe/Berlin".parse().unwrap(),
            project: None,
        }
    }

    fn rest(cut: &BTreeSet<Kind>) -> Rest<'_> {
        Rest { over: Vec::new(), standing: 0, held: None, passed: 0, cut }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_letter_says_what_since_when_withinand_how() {
        let held = Need {
            urgency: Urgency::Urgent,
            since: at("2026-11-26T02:12:00Z"),
            ..need(Kind::RolloutHeld, "ro-1")
        };
        let failed = Need {
            detail: Detail::Theirs("row 7: John Doe".to_owned()),
            ..need(Kind::RetrainFailed, "run-1")
        };
        let knocks = Need { fingerprint: Some("0a1b".to_owned()), ..need(Kind::DevicePending, "d-1") };
        let said =
            [(&held, false), (&knocks, true), (&failed, false)].map(|(need, again)| Said { need, again });
        let cut = BTreeSet::new();
        let rest = Rest {
            over: vec![("box is offline", at("2026-11-25T11:00:00Z"))],
            standing: 2,
            held: Some((4, at("2026-11-26T05:30:00Z"))),
            passed: 3,
            ..rest(&cut)
        };
        let (subject, body) = write(&said, &rest, &place(), at("2026-11-26T02:20:00Z"));
        assert_eq!(subject, "[Muster] 3 things need you, 1 of them urgently: ro-1 needs you");
        let expect = "\
3 things need you, 1 of them urgently.

* URGENT: ro-1 needs you
  because
  Since 26 November 2026, 03:12 (Europe/Berlin)
  https://fleet.example/things/ro-1
  muster rollout show ro-1

* d-1 needs you
  because
  Fingerprint 0a1b
  Since 24 November 2026, 03:00 (Europe/Berlin); told before
  https://fleet.example/things/d-1
  muster device pending

* run-1 needs you
  What it said is in the dashboard: words of others are not mailed.
  Since 24 November 2026, 03:00 (Europe/Berlin)
  https://fleet.example/things/run-1
  muster run show run-1

Over:
- box is offline (told 25 November 2026, 12:00 (Europe/Berlin))

2 more: told before, and still so.

3 more: came and went in quiet hours.

4 more: less urgent, told after 06:30 Berlin.

All of it: https://fleet.example/
";
        assert_eq!(body, expect);
    }

    #[test]
    fn many_of_a_kind_are_counted() {
        let needs: Vec<Need> = (0..500).map(|n| need(Kind::DeviceSilent, &format!("d-{n}"))).collect();
        let said: Vec<Said<'_>> = needs.iter().map(|need| Said { need, again: true }).collect();
        let cut = [Kind::DeviceSilent].into();
        let place = Place { project: Some("er".to_owned()), ..place() };
        let (subject, body) = write(&said, &rest(&cut), &place, at("2026-11-26T02:20:00Z"));
        assert_eq!(subject, "[Muster (er)] 500 things still need you: d-0 needs you");
        assert!(body.contains("And more than 480 more of the kind: boxes are offline."), "{body}");
        assert_eq!(body.matches("muster device show").count(), PARAGRAPHS_MAX);
    }

    #[test]
    fn names_steer_nothing() {
        let evil = "x\r\nBcc: all@x.example\r\n\r\n.\r\n\u{202e}\u{2028}\u{0}<b>bold</b>";
        let need = Need {
            title: evil.to_owned(),
            detail: Detail::Ours(evil.to_owned()),
            link: evil.to_owned(),
            id: evil.to_owned(),
            fingerprint: Some(evil.to_owned()),
            ..need(Kind::ActivationFailed, "d")
        };
        let cut = BTreeSet::new();
        let rest = Rest { over: vec![(evil, at("2026-11-25T11:00:00Z"))], ..rest(&cut) };
        let (subject, body) =
            write(&[Said { need: &need, again: false }], &rest, &place(), at("2026-11-26T02:20:00Z"));
        assert!(!subject.contains(['\r', '\n', '\u{202e}', '\u{2028}', '\0']), "{subject:?}");
        assert!(!body.contains(['\r', '\u{202e}', '\u{2028}', '\0']), "{body:?}");
        assert!(body.lines().all(|line| !line.starts_with("Bcc") && !line.starts_with('.')), "{body}");
        assert_eq!(plain(&"a".repeat(9), 5), "aaaa…");
        assert_eq!(plain("aaaaa", 5), "aaaaa");
    }
}
