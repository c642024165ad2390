//! Durations and sizes: a number and its unit.

use std::time::Duration;

use toml::de::DeValue;

use super::reader::{Value, wrong_type};
use super::value::string;
use crate::config::report::{Diagnostic, Report};

/// A duration, which may be none at all.
pub(super) fn duration(value: &Value<'_>, report: &mut Report) -> Option<Duration> {
    if let DeValue::Integer(number) = value.get_ref() {
        report.show(value.span());
        report.push(
            Diagnostic::error("a duration has a unit", value.span())
                .hint(format!("write \"{}s\" for seconds", number.as_str())),
        );
        return None;
    }
    let text = string(value, "a duration like \"10s\"", report)?;
    match parse_duration(text) {
        Some(duration) if duration <= LONGEST => return Some(duration),
        Some(_) => report.push(
            Diagnostic::error("longer than a year", value.span()).hint("write at most \"8760h\""),
        ),
        None => report.push(
            Diagnostic::error("expected a duration", value.span())
                .hint("write a number and ms, s, m or h: \"500ms\", \"10s\", \"1m30s\", \"1h\""),
        ),
    }
    None
}

/// Beyond this, adding it to a point in time may fail.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A duration of which none at all would make no sense.
pub(super) fn some_time(value: &Value<'_>, report: &mut Report) -> Option<Duration> {
    let duration = duration(value, report)?;
    if duration.is_zero() {
        report.push(
            Diagnostic::error("nothing can happen in no time", value.span())
                .hint("write something like \"10s\""),
        );
        return None;
    }
    Some(duration)
}

/// A duration as it is written everywhere, `1m30s`: the largest unit first, each at most once.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut units = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)].iter();
    let mut milliseconds = 0_u64;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| c.is_ascii_digit())
                .unwrap_or(tail.len()),
        );
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(*factor)?;
        milliseconds = milliseconds.checked_add(part)?;
        rest = tail;
    }
    Some(Duration::from_millis(milliseconds))
}

/// A number of bytes.
pub(super) fn size(value: &Value<'_>, report: &mut Report) -> Option<usize> {
    let bytes = match value.get_ref() {
        DeValue::Integer(number) => {
            report.show(value.span());
            usize::from_str_radix(number.as_str(), number.radix()).ok()
        }
        DeValue::String(_) => parse_size(string(value, "a size", report)?),
        _ => {
            wrong_type(value, "a size like \"64KiB\"", report);
            return None;
        }
    };
    let diagnostic = match bytes {
        Some(bytes) if bytes <= LARGEST => return Some(bytes),
        Some(_) => {
            Diagnostic::error("more than 1 TiB", value.span()).hint("write at most \"1024GiB\"")
        }
        None => Diagnostic::error("expected a size", value.span())
            .hint("write a number of bytes, or one with KB, MB, GB, KiB, MiB or GiB: \"64KiB\""),
    };
    report.push(diagnostic);
    None
}

const LARGEST: usize = 1 << 40;

fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor = match unit {
        "B" => 1,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_in_their_order() {
        for (text, milliseconds) in [
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("1h500ms", Some(3_600_500)),
            ("0s", Some(0)),
            ("", None),
            ("10", None),
            ("s", None),
            ("30s1m", None),
            ("1s1s", None),
            ("1.5s", None),
            ("10 s", None),
            ("-1s", None),
            ("10sec", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(
                parse_duration(text),
                milliseconds.map(Duration::from_millis),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_are_decimal_or_binary() {
        for (text, bytes) in [
            ("64KiB", Some(65_536)),
            ("1MiB", Some(1 << 20)),
            ("16KB", Some(16_000)),
            ("0B", Some(0)),
            ("64k", None),
            ("64", None),
            ("KiB", None),
            ("", None),
            ("18446744073709551615GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
