//! Durations as people write them: `250ms`, `1s`, `1.5m`.

use std::time::Duration;

/// Reads a number with a unit (us, ms, s, m, h), or `None`.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    // Only digits and a point: no sign, no exponent, no blank.
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(number * unit).ok()
}

/// Writes a duration so that [`parse`] reads it again: a whole number of the largest unit that fits.
pub(super) fn text(duration: Duration) -> String {
    let micros = duration.as_micros();
    let units = [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)];
    let fitting = units.into_iter().find(|(_, unit)| micros > 0 && micros.is_multiple_of(*unit));
    let (unit, length) = fitting.unwrap_or(("us", 1));
    format!("{}{unit}", micros / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_duration_is_read_again() {
        for text_ in ["24h", "15m", "90s", "1s", "800ms", "1500us", "0us"] {
            assert_eq!(text(parse(text_).unwrap()), text_);
        }
    }

    #[test]
    fn a_number_with_a_unit_is_a_duration() {
        for (text, nanos) in [
            ("1s", 1_000_000_000),
            ("800ms", 800_000_000),
            ("250us", 250_000),
            ("1m", 60_000_000_000),
            ("1.5s", 1_500_000_000),
            ("0s", 0),
            ("2h", 7_200_000_000_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "1",
            "s",
            "1 s",
            "-1s",
            "1s500ms",
            "1d",
            "1e3s",
            "NaNs",
            "infs",
            ".s",
            "99999999999999999999h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
