//! A list's days, told in minutes after midnight (UTC) of Thursday 26 November 2026.

use super::super::tests::need;
use super::super::{Detail, Owner};
use super::*;

const GROUP_M: i64 = 5;

fn rules() -> Rules {
    Rules {
        group: Duration::from_mins(5),
        remind: Duration::from_hours(24),
        quiet: Hours::default(),
        zone: Zone::default(),
    }
}

fn quiet() -> Rules {
    Rules { quiet: Hours { windows: vec!["daily 21:00-06:00".parse().unwrap()] }, ..rules() }
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_seconds(1_795_651_200 + minutes * 60)
}

fn hour(hours: i64) -> i64 {
    hours * 60
}

fn place() -> Place {
    Place { dashboard: "https://fleet.example".to_owned(), zone: Zone::default(), project: None }
}

fn silent(ids: &[&str]) -> Needs {
    let mut needs = Needs::default();
    needs.add(ids.iter().map(|id| need(Kind::DeviceSilent, id)), 100);
    needs
}

fn urgent(id: &str) -> Need {
    Need { urgency: Urgency::Urgent, ..need(Kind::DeviceSuspect, id) }
}

/// Two people, and what the relay says to them.
struct Desk {
    book: Book,
    rules: Rules,
    letters: Vec<Draft>,
}

impl Desk {
    fn new(rules: Rules) -> Self {
        Self { book: Book::default(), rules, letters: Vec::new() }
    }

    fn people() -> Vec<String> {
        ["ada@x.example", "ben@x.example"].map(str::to_owned).to_vec()
    }

    /// Looks, writes, and returns what would be sent.
    fn draft(&mut self, needs: &Needs, minutes: i64) -> Option<Draft> {
        self.book.look(needs, &self.rules, at(minutes));
        self.book.write(needs, &Self::people(), &self.rules, &place(), at(minutes));
        // As a restart would: whatever is kept must be enough.
        self.book = serde_json::from_str(&serde_json::to_string(&self.book).unwrap()).unwrap();
        self.book.begin(&Self::people(), &self.rules, at(minutes))
    }

    /// As [`Self::draft`], with a relay that takes everything; the subject of what was sent.
    fn tick(&mut self, needs: &Needs, minutes: i64) -> Option<String> {
        let draft = self.draft(needs, minutes)?;
        let taken = |to: &String| Answer { to: to.clone(), fate: Fate::Taken, said: "250 ok".to_owned() };
        let answers = draft.left.iter().map(taken).collect();
        let Ended::Delivered { subject, .. } = self.book.ended(Attempt::Answered(answers), at(minutes))
        else {
            panic!("not delivered");
        };
        self.letters.push(draft);
        Some(subject)
    }

    fn ended(&mut self, attempt: Attempt, minutes: i64) -> Ended {
        self.book.ended(attempt, at(minutes))
    }

    fn last(&self) -> &str {
        &self.letters.last().unwrap().body
    }
}

fn away() -> Attempt {
    Attempt::Failed { why: "connection refused".to_owned() }
}

fn cut_off() -> Attempt {
    Attempt::Unknown { why: "the line broke".to_owned() }
}

fn answers(fates: &[(&str, Fate)]) -> Attempt {
    let answer =
        |(to, fate): &(&str, Fate)| Answer { to: (*to).to_owned(), fate: *fate, said: "said".to_owned() };
    Attempt::Answered(fates.iter().map(answer).collect())
}

#[test]
fn what_comes_together_is_one_letter_and_what_goes_before_is_none() {
    let mut desk = Desk::new(rules());
    assert_eq!(desk.tick(&silent(&["a"]), 0), None);
    assert_eq!(desk.tick(&silent(&["a", "b", "c"]), 4), None);
    assert_eq!(desk.tick(&silent(&["a", "c"]), GROUP_M).unwrap(), "[Muster] 2 things need you: a needs you");
    assert!(!desk.last().contains("b needs you"), "{}", desk.last());
    // Nothing is said twice.
    for minutes in 6..hour(20) {
        assert_eq!(desk.tick(&silent(&["a", "c"]), minutes), None, "{minutes}");
    }
    let outlook = desk.book.outlook(&desk.rules, at(hour(20)));
    assert_eq!((outlook.standing, outlook.waiting, outlook.next), (2, 0, Some(at(hour(24) + GROUP_M))));
}

#[test]
fn what_comes_and_goes_is_told_once_it_has_come_for_long() {
    let mut desk = Desk::new(rules());
    let mut sent = Vec::new();
    for minutes in 0..20 {
        // Two minutes away, one minute here.
        let needs = if minutes % 3 == 2 { silent(&[]) } else { silent(&["a"]) };
        sent.extend(desk.tick(&needs, minutes).map(|_| minutes));
    }
    assert_eq!(sent, [6], "when it was away at the fifth minute");
}

#[test]
fn what_is_over_is_a_line_in_the_next_letter() {
    let mut desk = Desk::new(rules());
    desk.tick(&silent(&["a", "b"]), 0);
    desk.tick(&silent(&["a", "b"]), 5).unwrap();
    // A short absence is none.
    assert_eq!(desk.tick(&silent(&["b"]), 30), None);
    assert_eq!(desk.tick(&silent(&["a", "b"]), 34), None);
    assert_eq!(desk.tick(&silent(&["a", "b"]), 60), None);
    // A long one is not told by itself.
    assert_eq!(desk.tick(&silent(&["b"]), 61), None);
    assert_eq!(desk.tick(&silent(&["b"]), 100), None);
    assert_eq!(desk.tick(&silent(&["b", "c"]), 101), None);
    desk.tick(&silent(&["b", "c"]), 106).unwrap();
    assert!(
        desk.last().contains("Over:\n- a needs you (told 26 November 2026, 00:05 (UTC))"),
        "{}",
        desk.last()
    );
    assert!(desk.last().contains("1 more: told before, and still so."), "{}", desk.last());
    // It comes back: news, and no longer over.
    assert_eq!(desk.tick(&silent(&["a", "b", "c"]), 200), None);
    assert_eq!(desk.tick(&silent(&["a", "b", "c"]), 205).unwrap(), "[Muster] 1 thing needs you: a needs you");
    assert!(!desk.last().contains("Over"), "{}", desk.last());
}

#[test]
fn what_still_stands_is_said_again_together() {
    let mut desk = Desk::new(rules());
    let (a, ab) = (silent(&["a"]), silent(&["a", "b"]));
    desk.tick(&a, 0);
    desk.tick(&a, 5).unwrap();
    desk.tick(&ab, hour(3));
    desk.tick(&ab, hour(3) + 5).unwrap();
    let abc = silent(&["a", "b", "c"]);
    desk.tick(&abc, hour(23));
    desk.tick(&abc, hour(23) + 5).unwrap();
    assert_eq!(desk.tick(&abc, hour(24) + 4), None);
    // `c` was told an hour ago and is spared.
    assert_eq!(desk.tick(&abc, hour(24) + 5).unwrap(), "[Muster] 2 things still need you: a needs you");
    let mut sent = 0;
    for hours in 25..24 * 30 {
        sent += usize::from(desk.tick(&abc, hour(hours)).is_some());
    }
    assert!((28..=31).contains(&sent), "{sent} letters in a month: one a day");
}

#[test]
fn in_quiet_hours_only_what_is_urgent_is_sent_and_one_letter_after_them() {
    let mut desk = Desk::new(quiet());
    let night = hour(22);
    assert_eq!(desk.tick(&silent(&["a", "b"]), night), None);
    assert_eq!(desk.tick(&silent(&["a", "b"]), night + 10), None);
    let mut worse = silent(&["a", "b"]);
    worse.add([urgent("s")], 100);
    assert_eq!(desk.tick(&worse, night + 20), None);
    assert_eq!(desk.tick(&worse, night + 25).unwrap(), "[Muster] 1 thing needs you, urgently: s needs you");
    assert!(desk.last().contains("2 more: less urgent, told after Fri 06:00 UTC."), "{}", desk.last());
    let outlook = desk.book.outlook(&desk.rules, at(night + 30));
    assert_eq!((outlook.standing, outlook.waiting), (1, 2));
    assert_eq!((outlook.next, outlook.quiet_until), (Some(at(hour(30))), Some(at(hour(30)))));
    // `b` mends itself before the morning: nobody needs to know which it was.
    let mut left = silent(&["a"]);
    left.add([urgent("s")], 100);
    for minutes in night + 40..hour(30) {
        assert_eq!(desk.tick(&left, minutes), None, "{minutes}");
    }
    assert_eq!(desk.tick(&left, hour(30)).unwrap(), "[Muster] 1 thing needs you: a needs you");
    assert!(!desk.last().contains("b needs you"), "{}", desk.last());
    assert!(desk.last().contains("1 more: came and went in quiet hours."), "{}", desk.last());
    assert!(desk.last().contains("1 more: told before, and still so."), "{}", desk.last());
}

#[test]
fn what_becomes_urgent_is_told_at_night_though_it_was_told_before() {
    let mut desk = Desk::new(quiet());
    let usual = silent(&["a"]);
    desk.tick(&usual, hour(20));
    desk.tick(&usual, hour(20) + 5).unwrap();
    let mut worse = Needs::default();
    worse.add([Need { urgency: Urgency::Urgent, ..need(Kind::DeviceSilent, "a") }], 100);
    assert_eq!(desk.tick(&worse, hour(23)), None);
    assert!(desk.tick(&worse, hour(23) + 5).unwrap().contains("urgently"));
}

#[test]
fn a_letter_that_surely_nobody_got_is_written_anew() {
    let mut desk = Desk::new(rules());
    let ab = silent(&["a", "b"]);
    desk.draft(&ab, 0);
    let first = desk.draft(&ab, 5).unwrap();
    assert_eq!(desk.ended(away(), 5), Ended::Waits);
    let trouble = desk.book.trouble().unwrap().clone();
    assert_eq!((trouble.since, trouble.tries, trouble.why.as_str()), (at(5), 1, "connection refused"));
    assert_eq!(trouble.retry, at(5).plus(BACK_OFF.0));
    // Tried at most so often, and it does not grow for ever.
    let mut tries = 0;
    for minutes in 6..hour(10) {
        if desk.draft(&ab, minutes).is_some() {
            desk.ended(away(), minutes);
            tries += 1;
        }
    }
    assert!((38..=48).contains(&tries), "{tries} in ten hours");
    assert_eq!(desk.book.trouble().unwrap().since, at(5));
    // `b` has mended itself when the relay is back.
    let sent = desk.tick(&silent(&["a"]), hour(11)).unwrap();
    assert_eq!(sent, "[Muster] 1 thing needs you: a needs you");
    assert!(desk.letters[0].number > first.number);
    assert_eq!((desk.book.trouble(), desk.book.sent()), (None, Some(at(hour(11)))));
    // It was never told, so that it is over is no news.
    desk.tick(&silent(&["a", "c"]), hour(12));
    desk.tick(&silent(&["a", "c"]), hour(12) + 5).unwrap();
    assert!(!desk.last().contains("Over"), "{}", desk.last());
}

#[test]
fn a_letter_that_somebody_may_have_stays_as_it_is() {
    let mut desk = Desk::new(rules());
    let ab = silent(&["a", "b"]);
    desk.draft(&ab, 0);
    let first = desk.draft(&ab, 5).unwrap();
    desk.ended(cut_off(), 5);
    // Neither what changes meanwhile nor a surer failure changes a word.
    let second = desk.draft(&silent(&["a"]), 6).unwrap();
    desk.ended(away(), 6);
    assert_eq!(desk.tick(&silent(&["a"]), 8).unwrap(), "[Muster] 2 things need you: a needs you");
    for draft in [&second, &desk.letters[0]] {
        assert_eq!((draft.number, &draft.body), (first.number, &first.body));
    }
    // A server that ended in the middle of an attempt knows no better.
    desk.draft(&silent(&["a", "c"]), 20);
    let before = desk.draft(&silent(&["a", "c"]), 25).unwrap();
    let after = desk.draft(&silent(&["a"]), 26).unwrap();
    assert_eq!((before.number, before.body), (after.number, after.body));
    desk.ended(away(), 26);
    assert_eq!(desk.tick(&silent(&["a"]), 40).unwrap(), "[Muster] 1 thing needs you: c needs you");
    // What was told of is over in the next letter.
    assert!(desk.last().contains("- b needs you (told"), "{}", desk.last());
    desk.tick(&silent(&["a", "d"]), hour(3));
    desk.tick(&silent(&["a", "d"]), hour(3) + 5).unwrap();
    assert!(desk.last().contains("- c needs you (told"), "{}", desk.last());
}

#[test]
fn a_usual_letter_that_waited_into_the_night_waits_for_the_morning() {
    let mut desk = Desk::new(quiet());
    let a = silent(&["a"]);
    desk.draft(&a, hour(20) + 50);
    desk.draft(&a, hour(20) + 55).unwrap();
    desk.ended(cut_off(), hour(20) + 55);
    for minutes in hour(21)..hour(30) {
        assert_eq!(desk.draft(&a, minutes), None, "{minutes}");
    }
    assert!(desk.tick(&a, hour(30)).is_some());
}

#[test]
fn nothing_stands_in_the_way_of_what_is_urgent() {
    let mut desk = Desk::new(quiet());
    let mut needs = silent(&["a"]);
    desk.draft(&needs, hour(20) + 50);
    desk.draft(&needs, hour(20) + 55).unwrap();
    desk.ended(cut_off(), hour(20) + 55);
    needs.add([urgent("s")], 100);
    // What is on its way goes first, though it is night.
    assert_eq!(desk.tick(&needs, hour(22)).unwrap(), "[Muster] 1 thing needs you: a needs you");
    assert!(desk.tick(&needs, hour(22) + 5).unwrap().contains("urgently"));
    // One person's full mailbox keeps nobody else waiting.
    needs.add([urgent("t")], 100);
    desk.draft(&needs, hour(23));
    desk.draft(&needs, hour(23) + 5).unwrap();
    let later = answers(&[("ada@x.example", Fate::Taken), ("ben@x.example", Fate::Later)]);
    assert_eq!(desk.ended(later, hour(23) + 5), Ended::Waits);
    needs.add([urgent("u")], 100);
    desk.draft(&needs, hour(23) + 6).unwrap();
    let later = answers(&[("ben@x.example", Fate::Later)]);
    assert!(matches!(desk.ended(later, hour(23) + 6), Ended::Delivered { taken: 1, .. }));
    assert!(desk.tick(&needs, hour(23) + 11).unwrap().contains("u needs you"));
}

#[test]
fn when_nothing_waits_the_relay_is_nobodys_concern() {
    let mut desk = Desk::new(rules());
    let a = silent(&["a"]);
    desk.draft(&a, 0);
    desk.draft(&a, 5).unwrap();
    desk.ended(away(), 5);
    assert_eq!(desk.draft(&silent(&[]), 6), None);
    assert_eq!(desk.book.trouble(), None);
}

#[test]
fn one_who_is_refused_holds_up_nobody() {
    let mut desk = Desk::new(rules());
    let a = silent(&["a"]);
    desk.draft(&a, 0);
    desk.draft(&a, 5).unwrap();
    let ended = desk.ended(answers(&[("ada@x.example", Fate::Taken), ("ben@x.example", Fate::Refused)]), 5);
    let Ended::Delivered { taken: 1, refused, .. } = ended else { panic!("{ended:?}") };
    assert_eq!((refused[0].to.as_str(), desk.book.refused()), ("ben@x.example", &refused[..]));
    assert_eq!(desk.book.trouble(), None);

    // Not now: asked again, without writing to who has it.
    let ab = silent(&["a", "b"]);
    desk.draft(&ab, 10);
    desk.draft(&ab, 15).unwrap();
    let later = || answers(&[("ada@x.example", Fate::Taken), ("ben@x.example", Fate::Later)]);
    assert_eq!(desk.ended(later(), 15), Ended::Waits);
    let left = desk.draft(&ab, 20).unwrap().left;
    assert_eq!(left, ["ben@x.example"]);
    // But not for ever.
    desk.ended(answers(&[("ben@x.example", Fate::Later)]), 20);
    desk.draft(&ab, 75).unwrap();
    let ended = desk.ended(answers(&[("ben@x.example", Fate::Later)]), 75);
    assert!(matches!(ended, Ended::Delivered { taken: 1, .. }), "{ended:?}");

    // Refused by all, nobody was told.
    let abc = silent(&["a", "b", "c"]);
    desk.draft(&abc, 100);
    desk.draft(&abc, 105).unwrap();
    let all = || answers(&[("ada@x.example", Fate::Refused), ("ben@x.example", Fate::Refused)]);
    assert_eq!(desk.ended(all(), 105), Ended::Waits);
    assert_eq!(desk.book.trouble().unwrap().why, "said");
    assert_eq!(desk.tick(&abc, 120).unwrap(), "[Muster] 1 thing needs you: c needs you");
}

#[test]
fn a_letter_to_people_who_are_gone_is_written_anew() {
    let mut desk = Desk::new(rules());
    let a = silent(&["a"]);
    desk.draft(&a, 0);
    desk.draft(&a, 5).unwrap();
    desk.ended(cut_off(), 5);
    let carl = ["carl@x.example".to_owned()];
    assert_eq!(desk.book.begin(&carl, &desk.rules, at(6)), None);
    desk.book.write(&a, &carl, &desk.rules, &place(), at(6));
    assert_eq!(desk.book.begin(&carl, &desk.rules, at(6)).unwrap().left, carl);
}

#[test]
fn what_is_not_listed_for_want_of_room_is_not_over() {
    let mut desk = Desk::new(rules());
    let all = silent(&["a", "b"]);
    desk.tick(&all, 0);
    desk.tick(&all, 5).unwrap();
    let mut cut = Needs::default();
    cut.add(["x", "a", "b"].map(|id| need(Kind::DeviceSilent, id)), 2);
    desk.tick(&cut, 60);
    desk.tick(&cut, 65).unwrap();
    assert!(!desk.last().contains("Over"), "{}", desk.last());
}

#[test]
fn a_book_does_not_grow_for_ever() {
    let mut book = Book::default();
    let rules = rules();
    for round in 0..40 {
        let mut needs = Needs::default();
        let many = (0..1000).map(|n| Need {
            owner: Owner::Fleet,
            detail: Detail::Ours(String::new()),
            ..need(Kind::DeviceSilent, &format!("{round}-{n}"))
        });
        needs.add(many, 500);
        book.look(&needs, &rules, at(round * 60));
    }
    assert!(book.items.len() <= ITEMS_MAX, "{}", book.items.len());
}
