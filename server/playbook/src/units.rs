//! Durations (`300ms`, `5s`, `4h`, `30d`) and percentages (`99%`, `0.5%`) as people write them.

/// The longest duration that a playbook may name: 366 days, in milliseconds.
pub const DURATION_MS_MAX: u64 = 366 * 86_400_000;

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `300ms`, `5s`, `10m`, `4h`, `30d`, or several in a row, such as `1h30m`. In milliseconds.
///
/// The error says what a duration looks like.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration; write one like 300ms, 5s, 10m, 4h or 30d");
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() || rest.len() > 40 {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(wrong)?;
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total =
            number.checked_mul(*scale).and_then(|ms| ms.checked_add(total)).ok_or_else(wrong)?;
        rest = tail;
    }
    if total > DURATION_MS_MAX {
        return Err(format!("`{text}` is longer than 366d"));
    }
    Ok(total)
}

/// The shortest exact spelling that [`parse_duration`] reads back, such as `1h30m`.
pub fn duration_text(mut ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, scale) in UNITS.iter().rev() {
        let count = ms / scale;
        if count > 0 {
            text = format!("{text}{count}{name}");
            ms %= scale;
        }
    }
    text
}

/// A duration in words for the public, such as `2 hours` or `1 hour 30 minutes`.
pub fn duration_words(ms: u64) -> String {
    let mut left = ms;
    let mut words = Vec::new();
    for (name, scale) in
        [("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000)]
    {
        let count = left / scale;
        if count > 0 {
            words.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
            left %= scale;
        }
    }
    if words.is_empty() { "a moment".to_owned() } else { words.join(" ") }
}

/// Reads `99%`, `0.5%` or a bare number of percent. In thousandths of a percent, 0 to 100,000.
pub fn parse_percent(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is not a percentage; write one like 1%, 50% or 0.125%");
    let bare = text.trim().trim_end_matches('%').trim_end();
    let plain = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let percent: f64 = bare.parse().map_err(|_| wrong())?;
    let thousandths = (percent * 1000.0).round();
    if !plain || !(0.0..=100_000.0).contains(&thousandths) {
        return Err(wrong());
    }
    if (percent * 1000.0 - thousandths).abs() > 1e-6 {
        return Err(format!("`{text}` is finer than 0.001%"));
    }
    Ok(thousandths as u32)
}

/// The spelling that [`parse_percent`] reads back, such as `99%`.
pub fn percent_text(thousandths: u32) -> String {
    format!("{}%", f64::from(thousandths) / 1000.0)
}

/// A size for people, such as `12.5 MiB`.
pub fn bytes_text(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, scale)| bytes >= *scale) {
        Some((unit, scale)) => format!("{:.1} {unit}", bytes as f64 / *scale as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_they_were_written() {
        for text in ["300ms", "5s", "4h", "30d", "1h30m", "2d1ms"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
        for text in ["", "5", "h", "5 s", "5w", "-1s", "1.5h", "99999999999999999999s", "367d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(duration_words(parse_duration("1h30m").unwrap()), "1 hour 30 minutes");
    }

    #[test]
    fn percentages_are_exact_to_a_thousandth() {
        assert_eq!(parse_percent("99%"), Ok(99_000));
        assert_eq!(parse_percent("0.125%"), Ok(125));
        for text in ["", "%", "101%", "-1%", "nan%", "inf", "0.0001%", "1e1%"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }
}
