//! A comparison as a page of its own: no script, nothing fetched, so it can be mailed and kept.

use std::fmt::Write as _;

use super::compare::{ColumnComparison, Comparison, Frequent, Moved};
use super::manifest::{Column, Kind};
use super::profile::{shown, time};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1c2024;background:#fff}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;margin:.5rem 0}\
th,td{text-align:left;padding:.25rem .75rem;border-bottom:1px solid #ddd}td.n{text-align:right;font-variant-numeric:tabular-nums}\
.same{color:#555}.small{color:#6b5900}.moderate{color:#a04000}.major,.type{color:#a0001c;font-weight:600}\
.bar{display:inline-block;height:.6rem;background:#3b6ea5}.bar.b{background:#b5651d}\
@media(prefers-color-scheme:dark){body{color:#e8e8e8;background:#16181a}th,td{border-color:#444}.same{color:#aaa}.small{color:#e0c341}\
.moderate{color:#ff9d5c}.major,.type{color:#ff7a8a}}";

pub fn html(before: &str, now: &str, comparison: &Comparison) -> String {
    let (before, now) = (escaped(before), escaped(now));
    let Comparison { rows, added, removed, columns } = comparison;
    let mut page = String::new();
    // Writing to a string cannot fail, here and below.
    write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{before} and {now}</title><style>{STYLE}</style><h1>What changed from {before} to {now}</h1>\
         <p>{} rows before, {} now.</p>",
        rows.0, rows.1
    )
    .ok();
    names(&mut page, "New columns", added);
    names(&mut page, "Columns that are gone", removed);
    page.push_str(
        "<h2>Columns of both</h2><table><thead><tr><th scope=\"col\">column<th scope=\"col\">change\
         <th scope=\"col\">PSI<th scope=\"col\">by chance<th scope=\"col\">no value before<th scope=\"col\">now\
         <th scope=\"col\">mean before<th scope=\"col\">now</thead><tbody>",
    );
    for column in columns {
        line(&mut page, column);
    }
    page.push_str("</tbody></table>");
    for column in columns {
        detail(&mut page, column);
    }
    page.push_str(
        "<p>The population stability index says how much a column changed: 0.1 is moderate, 0.25 major. <em>By chance</em> is \
         what it would exceed once in a hundred comparisons although nothing changed, if rows knew nothing of each other.</p></html>\n",
    );
    page
}

fn names(page: &mut String, title: &str, columns: &[Column]) {
    if columns.is_empty() {
        return;
    }
    let names: Vec<String> = columns
        .iter()
        .map(|column| format!("{} ({})", escaped(&column.name), escaped(&column.stored)))
        .collect();
    write!(page, "<p><strong>{title}:</strong> {}</p>", names.join(", ")).ok();
}

fn line(page: &mut String, column: &ColumnComparison) {
    let (psi, critical) = column.psi.map_or_else(Default::default, |psi| {
        let about = if psi.approximate { "≈ " } else { "" };
        (format!("{about}{:.4}", psi.psi), format!("{:.4}", psi.critical))
    });
    let (before, now) = column
        .mean
        .map_or_else(Default::default, |(before, now)| (value(column.kind, before), value(column.kind, now)));
    write!(
        page,
        "<tr><th scope=\"row\">{}<td class=\"{verdict}\">{verdict}<td class=\"n\">{psi}<td class=\"n\">{critical}\
         <td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{before}<td class=\"n\">{now}",
        escaped(&column.name),
        percent(column.null_share.0),
        percent(column.null_share.1),
        verdict = column.verdict,
    )
    .ok();
}

fn detail(page: &mut String, column: &ColumnComparison) {
    if column.quantiles.is_empty() && column.top.is_empty() && column.stored.is_none() {
        return;
    }
    write!(page, "<details><summary>{}</summary>", escaped(&column.name)).ok();
    if let Some((before, now)) = &column.stored {
        write!(page, "<p>Stored as {} before, as {} now.</p>", escaped(before), escaped(now)).ok();
    }
    if !column.quantiles.is_empty() {
        page.push_str("<table><tr><th scope=\"col\">quantile<th scope=\"col\">before<th scope=\"col\">now");
        for Moved { share, before, now } in &column.quantiles {
            let (before, now) = (value(column.kind, *before), value(column.kind, *now));
            write!(page, "<tr><td>{}<td class=\"n\">{before}<td class=\"n\">{now}", percent(*share)).ok();
        }
        page.push_str("</table>");
    }
    if !column.top.is_empty() {
        page.push_str("<table><tr><th scope=\"col\">value<th scope=\"col\">before<th scope=\"col\">now");
        for Frequent { value, before, now } in &column.top {
            write!(page, "<tr><td>{}<td>{}<td>{}", escaped(value), bar(*before, ""), bar(*now, " b")).ok();
        }
        page.push_str("</table>");
    }
    page.push_str("</details>");
}

fn bar(share: f64, class: &str) -> String {
    format!(
        "<span class=\"bar{class}\" style=\"width:{:.1}rem\"></span> {}",
        share.clamp(0.0, 1.0) * 10.0,
        percent(share)
    )
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A value as people read it.
pub fn value(kind: Kind, number: f64) -> String {
    match kind {
        Kind::Time => time(number).to_string(),
        Kind::Boolean | Kind::Integer | Kind::Real | Kind::Text | Kind::Opaque => {
            let short = format!("{number:.4}");
            let short = short.trim_end_matches('0').trim_end_matches('.');
            // Small numbers would lose all their digits.
            if number != 0.0 && number.abs() < 0.001 { shown(number) } else { short.to_owned() }
        }
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::compare::compare;
    use super::super::compare::tests::profile;
    use super::*;

    #[test]
    fn what_data_says_is_text_and_nothing_else() {
        let hostile = "<script>alert('x')</script>";
        let one = profile(1, 500, 0.0, &["er", hostile]);
        let mut two = profile(2, 500, 3.0, &["er", "icu"]);
        two.columns[0].column.name = "x\"><img src=x>".to_owned();
        let page = html(hostile, "b@2", &compare(&one, &two));
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;") && page.contains("New columns") && page.contains("major"));
        assert!(!page.contains("http"), "a page of its own fetches nothing");
    }

    #[test]
    fn values_are_short() {
        assert_eq!(value(Kind::Real, 1.5), "1.5");
        assert_eq!(value(Kind::Real, 0.000_01), "0.00001");
        assert_eq!(value(Kind::Integer, 3.0), "3");
        assert_eq!(value(Kind::Time, 0.0), "1970-01-01T00:00:00.000Z");
    }
}
