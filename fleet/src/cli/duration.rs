//! Spans as people write them: `30s`, `10m`, `6h`, `2d`, and sums such as `1d12h`.

use std::time::Duration;

/// Reads a span; for clap.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a span; write 30s, 10m, 6h, 2d or a sum such as 1d12h");
    let mut rest = text;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return Err(wrong()),
        };
        total = number.checked_mul(unit).and_then(|s| total.checked_add(s)).ok_or_else(wrong)?;
        rest = &rest[digits + 1..];
    }
    Ok(Duration::from_secs(total))
}

/// Reads a span that is not nothing: what is signed for no time is signed for nobody.
pub(super) fn some(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("it would have expired already; write for instance 90d".to_owned()),
        span => Ok(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(parse(text).ok().map(|d| d.as_secs()), expect, "{text}");
        };
        check("30s", Some(30));
        check("1d12h", Some(129_600));
        check("0s", Some(0));
        check("10", None);
        check("", None);
        check("ü", None);
        check("-1s", None);
        check("99999999999999999999d", None);
        assert!(some("0s").is_err() && some("1s").is_ok());
    }
}
