//! When something may happen at a site: weekly windows in the site's own time, through summer and winter.
//!
//! No window at all means: always. A window that ends before it begins ends on the next day. A start that a clock change
//! skips moves forward with the clock; an end that comes twice is the second one: the site sees the window that it wrote.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

pub const WINDOWS_MAX: usize = 32;
/// Local days that are looked at to count open time: longer than the longest deadline.
const DAYS_MAX: usize = 800;
/// Every weekly window has begun and ended once within so many days.
const WEEK_AND_MORE: i32 = 9;
const MINUTES_A_DAY: u16 = 24 * 60;
const WEEK: Duration = Duration::from_hours(7 * 24);

/// A time zone by its IANA name, such as `Europe/Berlin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// Weekly windows of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hours {
    pub windows: Vec<Window>,
}

/// `mon-fri 22:00-05:00`: on these days, from then until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// Days on which it begins, 0 is Monday.
    days: BTreeSet<u8>,
    from: u16,
    until: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    #[error("'{0}' is no time zone; write an IANA name, such as Europe/Berlin")]
    Zone(String),
    #[error("'{0}' is no window; write days and times, such as 'mon-fri 22:00-05:00'")]
    Window(String),
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }
}

impl Zone {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A moment with everything that a calendar there knows of it.
    pub fn at(&self, moment: Timestamp) -> jiff::Zoned {
        instant(moment).to_zoned(self.zone.clone())
    }

    /// A moment as a clock on the site's wall shows it, `02:00` or `Tue 02:00` if it is not today.
    pub fn clock(&self, moment: Timestamp, now: Timestamp) -> String {
        let local = |time: Timestamp| instant(time).to_zoned(self.zone.clone());
        let (then, now) = (local(moment), local(now));
        let city = self.name.rsplit('/').next().unwrap_or(&self.name).replace('_', " ");
        if then.date() == now.date() {
            format!("{} {city}", then.strftime("%H:%M"))
        } else {
            format!("{} {city}", then.strftime("%a %H:%M"))
        }
    }
}

impl Hours {
    pub fn is_open(&self, zone: &Zone, now: Timestamp) -> bool {
        self.windows.is_empty()
            || self.around(zone, now).iter().any(|&(from, until)| from <= now && now < until)
    }

    /// The next moment at which [`Self::is_open`] answers differently; `None` if it never does.
    pub fn next_change(&self, zone: &Zone, now: Timestamp) -> Option<Timestamp> {
        let spans = merged(self.around(zone, now));
        spans.iter().flat_map(|&(from, until)| [from, until]).find(|&moment| moment > now)
    }

    /// When the window that covers this moment ends, for windows in which something must not happen: no windows at all
    /// mean "always" to whoever waits for one, and "never" to whoever keeps out of them.
    pub fn keeps_until(&self, zone: &Zone, now: Timestamp) -> Option<Timestamp> {
        if self.windows.is_empty() || !self.is_open(zone, now) {
            return None;
        }
        Some(self.next_change(zone, now).unwrap_or_else(|| now.plus(WEEK)))
    }

    /// How much of the time between two moments the windows were open.
    pub fn open_between(&self, zone: &Zone, from: Timestamp, until: Timestamp) -> Duration {
        if self.windows.is_empty() {
            return until.since(from);
        }
        let days = i32::try_from(until.since(from).as_secs() / 86_400).unwrap_or(i32::MAX);
        let spans = merged(self.spans(zone, from, days.saturating_add(3)));
        spans.iter().map(|&(a, b)| b.min(until).since(a.max(from))).sum()
    }

    fn around(&self, zone: &Zone, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        self.spans(zone, now, WEEK_AND_MORE)
    }

    /// Every opening that begins between the local day before `from` and `days` later.
    fn spans(&self, zone: &Zone, from: Timestamp, days: i32) -> Vec<(Timestamp, Timestamp)> {
        let first = instant(from).to_zoned(zone.zone.clone()).date();
        let Ok(first) = first.yesterday() else { return Vec::new() };
        let days = usize::try_from(days).unwrap_or(0).saturating_add(1).min(DAYS_MAX);
        let mut spans = Vec::new();
        for date in first.series(jiff::Span::new().days(1)).take(days) {
            let today = self.windows.iter().filter(|window| window.days.contains(&number(date.weekday())));
            spans.extend(today.filter_map(|window| window.on(date, &zone.zone)));
        }
        spans
    }
}

impl Window {
    fn on(&self, date: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
        let ends = if self.until <= self.from { date.tomorrow().ok()? } else { date };
        let from = zone.to_ambiguous_zoned(at(date, self.from)?).compatible().ok()?;
        let until = zone.to_ambiguous_zoned(at(ends, self.until)?).later().ok()?;
        let span = (timestamp(from.timestamp()), timestamp(until.timestamp()));
        (span.0 < span.1).then_some(span)
    }
}

/// Minutes after midnight of a day; 24:00 is midnight of the next.
fn at(date: Date, minutes: u16) -> Option<jiff::civil::DateTime> {
    let date = if minutes >= MINUTES_A_DAY { date.tomorrow().ok()? } else { date };
    let minutes = minutes % MINUTES_A_DAY;
    let (hour, minute) = (i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?);
    Some(date.at(hour, minute, 0, 0))
}

fn merged(mut spans: Vec<(Timestamp, Timestamp)>) -> Vec<(Timestamp, Timestamp)> {
    spans.sort_unstable();
    let mut out: Vec<(Timestamp, Timestamp)> = Vec::with_capacity(spans.len());
    for (from, until) in spans {
        match out.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            Some(_) | None => out.push((from, until)),
        }
    }
    out
}

fn instant(time: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(time.as_millis()).unwrap_or_default()
}

fn timestamp(time: jiff::Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millisecond())
}

fn number(day: Weekday) -> u8 {
    u8::try_from(day.to_monday_zero_offset()).unwrap_or(0)
}

impl FromStr for Zone {
    type Err = CalendarError;

    fn from_str(name: &str) -> Result<Self, CalendarError> {
        let zone = TimeZone::get(name).map_err(|_| CalendarError::Zone(name.chars().take(40).collect()))?;
        Ok(Self { name: name.to_owned(), zone })
    }
}

impl TryFrom<String> for Zone {
    type Error = CalendarError;

    fn try_from(name: String) -> Result<Self, CalendarError> {
        name.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.name
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl FromStr for Window {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let wrong = || CalendarError::Window(text.chars().take(80).collect());
        let lower = text.trim().to_ascii_lowercase();
        let (days, times) = match lower.rsplit_once(' ') {
            Some((days, times)) => (days.to_owned(), times.to_owned()),
            None => ("daily".to_owned(), lower.clone()),
        };
        let days = parse_days(&days).ok_or_else(wrong)?;
        let (from, until) = times.split_once('-').ok_or_else(wrong)?;
        let (from, until) = (parse_time(from).ok_or_else(wrong)?, parse_time(until).ok_or_else(wrong)?);
        if from >= MINUTES_A_DAY || from == until {
            return Err(wrong());
        }
        Ok(Self { days, from, until })
    }
}

fn parse_days(text: &str) -> Option<BTreeSet<u8>> {
    if text == "daily" {
        return Some((0..7).collect());
    }
    let day = |name: &str| DAYS.iter().position(|known| *known == name).and_then(|i| u8::try_from(i).ok());
    let mut days = BTreeSet::new();
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        match part.split_once('-') {
            None => {
                days.insert(day(part)?);
            }
            Some((from, until)) => {
                let (from, until) = (day(from)?, day(until)?);
                // `fri-mon` goes round the week.
                let more = (until + 7 - from) % 7;
                days.extend((0..=more).map(|n| (from + n) % 7));
            }
        }
    }
    (!days.is_empty()).then_some(days)
}

fn parse_time(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (minutes < 60 && hours * 60 + minutes <= MINUTES_A_DAY && text.trim().len() == 5)
        .then_some(hours * 60 + minutes)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days.len() == 7 {
            f.write_str("daily")?;
        } else {
            let names: Vec<&str> =
                self.days.iter().filter_map(|&day| DAYS.get(usize::from(day)).copied()).collect();
            f.write_str(&names.join(","))?;
        }
        let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(f, " {}-{}", clock(self.from), clock(self.until))
    }
}

impl TryFrom<String> for Window {
    type Error = CalendarError;

    fn try_from(text: String) -> Result<Self, CalendarError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> String {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        timestamp(text.parse().unwrap())
    }

    fn hours(windows: &[&str]) -> Hours {
        Hours { windows: windows.iter().map(|text| text.parse().unwrap()).collect() }
    }

    fn berlin() -> Zone {
        "Europe/Berlin".parse().unwrap()
    }

    #[test]
    fn a_window_is_what_the_site_wrote() {
        let night = hours(&["mon-fri 22:00-05:00"]);
        let check = |at: &str, open| assert_eq!(night.is_open(&berlin(), time(at)), open, "{at}");
        check("2026-11-23T21:30:00Z", true); // Monday 22:30 in Berlin
        check("2026-11-23T20:59:59Z", false);
        check("2026-11-28T03:59:59Z", true); // begun on Friday, Saturday 04:59
        check("2026-11-28T04:00:00Z", false);
        check("2026-11-28T22:00:00Z", false); // Saturday night
        check("2026-07-13T20:30:00Z", true); // summer time: 22:30
        assert!(Hours::default().is_open(&berlin(), time("2026-11-23T12:00:00Z")));
    }

    #[test]
    fn clock_changes_keep_the_window() {
        let night = hours(&["daily 02:15-03:30"]);
        let open =
            |from: &str, until: &str| night.open_between(&berlin(), time(from), time(until)).as_secs() / 60;
        // 29 March 2026: 02:00 becomes 03:00, so 02:15 is 03:15.
        assert_eq!(open("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"), 15);
        // 25 October 2026: 03:00 becomes 02:00, 02:15 comes twice, and 03:30 once.
        assert_eq!(open("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"), 135);
        assert_eq!(open("2026-06-01T00:00:00Z", "2026-06-03T00:00:00Z"), 150);
    }

    #[test]
    fn changes_are_told_beforehand() {
        let two = hours(&["daily 01:00-02:00", "daily 01:30-03:00"]);
        let zone = Zone::default();
        let next = |at: &str| two.next_change(&zone, time(at)).unwrap();
        assert_eq!(next("2026-06-01T00:00:00Z"), time("2026-06-01T01:00:00Z"));
        assert_eq!(next("2026-06-01T01:00:00Z"), time("2026-06-01T03:00:00Z"));
        assert_eq!(next("2026-06-01T03:00:00Z"), time("2026-06-02T01:00:00Z"));
        assert_eq!(Hours::default().next_change(&zone, time("2026-06-01T03:00:00Z")), None);
        assert_eq!(zone.clock(time("2026-06-02T01:00:00Z"), time("2026-06-01T00:00:00Z")), "Tue 01:00 UTC");
    }

    #[test]
    fn texts_come_back() {
        for text in ["daily 00:00-24:00", "mon,tue,wed,thu,fri 22:00-05:00", "sat 09:30-12:00"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        assert_eq!(
            "fri-mon 01:00-02:00".parse::<Window>().unwrap().to_string(),
            "mon,fri,sat,sun 01:00-02:00"
        );
        assert_eq!("sat-fri 01:00-02:00".parse::<Window>().unwrap().to_string(), "daily 01:00-02:00");
        for text in
            ["", "22-23", "mon 25:00-26:00", "xyz 01:00-02:00", "mon 01:00-01:00", "mon 24:00-01:00", "mon"]
        {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
        assert!("Mars/Olympus".parse::<Zone>().is_err());
    }
}
