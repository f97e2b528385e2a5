//! What may be shown of whom a finding is about: masked labels, and the country of a telephone number.

use crate::pack::LabelKind;

/// Calling codes of two digits, by ITU-T E.164; 1 and 7 have one digit, all others three.
const TWO_DIGITS: &[u8] = &[
    20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56,
    57, 58, 60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98,
];

/// A label as everybody may see it: `61******612`, `a***@example.com`, `A***e`.
pub fn mask(label: &str, kind: LabelKind) -> String {
    match kind {
        LabelKind::None => label.to_owned(),
        LabelKind::Phone => {
            let digits: Vec<char> = label.chars().filter(char::is_ascii_digit).collect();
            let hidden = digits.len().saturating_sub(5);
            // Of a short number, what is left would be the number.
            if digits.len() < 8 {
                return "*".repeat(digits.len().max(3));
            }
            let (head, tail) = (digits.iter().take(2), digits.iter().skip(digits.len() - 3));
            let stars = std::iter::repeat_n(&'*', hidden);
            head.chain(stars).chain(tail).collect()
        }
        LabelKind::Email => match label.rsplit_once('@') {
            Some((name, host)) if !name.is_empty() => {
                let first = name.chars().next().unwrap_or('*');
                let shown = if name.chars().count() < 3 { '*' } else { first };
                format!("{shown}***@{host}")
            }
            _ => mask(label, LabelKind::Text),
        },
        LabelKind::Text => {
            let mut chars = label.chars();
            match (chars.next(), chars.next_back(), chars.count()) {
                (Some(first), Some(last), 2..) => format!("{first}***{last}"),
                (None, ..) => String::new(),
                _ => "***".to_owned(),
            }
        }
    }
}

/// The calling code of a telephone number with its country, such as `61`; `None` when it is not one.
pub fn country(label: &str, kind: LabelKind) -> Option<String> {
    if kind != LabelKind::Phone {
        return None;
    }
    let bare = label.trim().trim_start_matches('+').trim_start_matches("00");
    let digits: String = bare.chars().filter(char::is_ascii_digit).collect();
    // Eight digits with the code at least; a national number begins with a nought.
    if digits.len() < 8 || digits.starts_with('0') {
        return None;
    }
    let two: u8 = digits.get(..2)?.parse().ok()?;
    let length = match digits.as_bytes().first() {
        Some(b'1' | b'7') => 1,
        _ if TWO_DIGITS.contains(&two) => 2,
        _ => 3,
    };
    digits.get(..length).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_are_masked_as_people_know_them() {
        assert_eq!(mask("+61412345612", LabelKind::Phone), "61******612");
        assert_eq!(mask("1234567", LabelKind::Phone), "*******");
        assert_eq!(mask("ada@example.com", LabelKind::Email), "a***@example.com");
        assert_eq!(mask("al@example.com", LabelKind::Email), "****@example.com");
        assert_eq!(mask("Ada Lovelace", LabelKind::Text), "A***e");
        assert_eq!(mask("Al", LabelKind::Text), "***");
        assert_eq!(mask("public.orders", LabelKind::None), "public.orders");
    }

    #[test]
    fn countries_are_told_by_their_codes() {
        let of = |label| country(label, LabelKind::Phone);
        assert_eq!(of("+61 412 345 612").as_deref(), Some("61"));
        assert_eq!(of("15551234567").as_deref(), Some("1"));
        assert_eq!(of("+353 85 123 4567").as_deref(), Some("353"));
        assert_eq!(of("0412345612"), None);
        assert_eq!(of("nobody"), None);
    }

    proptest! {
        /// At most five digits of a number are ever shown, and no text is shown whole.
        #[test]
        fn nothing_is_shown_whole(label in "[+0-9 ]{0,20}", text in "\\PC{1,20}") {
            let shown = mask(&label, LabelKind::Phone);
            prop_assert!(shown.chars().filter(char::is_ascii_digit).count() <= 5);
            prop_assert_ne!(mask(&text, LabelKind::Text), text.clone());
            let _ = (mask(&text, LabelKind::Email), country(&text, LabelKind::Phone));
        }
    }
}
