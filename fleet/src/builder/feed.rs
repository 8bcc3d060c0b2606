//! What a run has to say between two heartbeats: progress, a message and log lines, all bounded.
//!
//! Written by whoever works on the run, emptied by the heartbeat. A trainer that prints a million lines costs memory
//! for [`LINES_KEPT`] of them; how many were left out is said in their place.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines kept between two heartbeats.
const LINES_KEPT: usize = 200;
/// Longest line that is passed on, bytes.
pub const LINE_BYTES_MAX: usize = 1000;

#[derive(Debug, Default)]
pub struct Feed {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    progress: f64,
    message: String,
    lines: VecDeque<String>,
    left_out: u64,
}

/// Everything since the last look.
#[derive(Debug, Default, PartialEq)]
pub struct News {
    pub progress: f64,
    pub message: String,
    pub lines: Vec<String>,
}

impl Feed {
    pub fn line(&self, line: &str) {
        let mut inner = self.lock();
        if inner.lines.len() == LINES_KEPT {
            inner.lines.pop_front();
            inner.left_out += 1;
        }
        inner.lines.push_back(clean(line, LINE_BYTES_MAX));
    }

    pub fn progress(&self, fraction: f64, message: &str) {
        let mut inner = self.lock();
        inner.progress = fraction.clamp(0.0, 1.0);
        inner.message = clean(message, 200);
    }

    pub fn take(&self) -> News {
        let mut inner = self.lock();
        let mut lines = Vec::with_capacity(inner.lines.len() + 1);
        if inner.left_out > 0 {
            lines.push(format!("… {} earlier lines left out", inner.left_out));
        }
        inner.left_out = 0;
        lines.extend(inner.lines.drain(..));
        News { progress: inner.progress, message: inner.message.clone(), lines }
    }

    /// Puts back what could not be delivered, as far as it fits.
    pub fn put_back(&self, news: News) {
        let mut inner = self.lock();
        for line in news.lines.into_iter().rev() {
            if inner.lines.len() == LINES_KEPT {
                inner.left_out += 1;
            } else {
                inner.lines.push_front(line);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked left at worst a line out: the rest is good.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads `progress 0.40 fitting`.
pub fn parse_progress(line: &str) -> Option<(f64, &str)> {
    let rest = line.strip_prefix("progress ")?;
    let (number, message) = rest.split_once(' ').unwrap_or((rest, ""));
    let fraction: f64 = number.parse().ok()?;
    (0.0..=1.0).contains(&fraction).then(|| (fraction, message.trim()))
}

/// Printable and short: what a trainer prints ends up on terminals and in a database.
pub fn clean(text: &str, bytes_max: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let c = if c == '\t' { ' ' } else { c };
        if c.is_control() {
            continue;
        }
        if out.len() + c.len_utf8() > bytes_max {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines() {
        let check = |line: &str, expect| assert_eq!(parse_progress(line), expect, "{line}");
        check("progress 0.40 fitting on 10 rows", Some((0.4, "fitting on 10 rows")));
        check("progress 1", Some((1.0, "")));
        check("progress 40% fitting", None);
        check("progress 1.5 x", None);
        check("progress NaN x", None);
        check("making progress 0.4", None);
    }

    #[test]
    fn a_flood_is_bounded_and_said() {
        let feed = Feed::default();
        for i in 0..1000 {
            feed.line(&format!("line {i}"));
        }
        let news = feed.take();
        assert_eq!(news.lines.len(), LINES_KEPT + 1);
        assert_eq!(news.lines[0], "… 800 earlier lines left out");
        assert_eq!(news.lines.last().unwrap(), "line 999");
        assert!(feed.take().lines.is_empty());
    }

    #[test]
    fn what_was_not_delivered_comes_first_next_time() {
        let feed = Feed::default();
        feed.line("a");
        let news = feed.take();
        feed.line("b");
        feed.put_back(news);
        assert_eq!(feed.take().lines, ["a", "b"]);
    }

    #[test]
    fn lines_are_cleaned() {
        assert_eq!(clean("a\x1b[31mb\tc\r", 100), "a[31mb c");
        assert_eq!(clean("üüü", 4), "üü…");
    }
}
