//! Finding texts, with or without regard to case, without allocation.

use super::Place;

/// A text to look for.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// In lower case when case does not matter.
    text: Box<str>,
    ignore_case: bool,
}

impl Pattern {
    pub(crate) fn new(text: &str, ignore_case: bool) -> Self {
        // Character by character, as the other side is: `str::to_lowercase` knows Greek word ends.
        let text = if ignore_case { lower(text).collect() } else { text.to_owned() };
        Self { text: text.into(), ignore_case }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_found(&self, place: Place, text: &str) -> bool {
        if self.ignore_case {
            return self.is_found_ignoring_case(place, text);
        }
        match place {
            Place::Anywhere => text.contains(&*self.text),
            Place::Start => text.starts_with(&*self.text),
            Place::End => text.ends_with(&*self.text),
        }
    }

    fn is_found_ignoring_case(&self, place: Place, text: &str) -> bool {
        match place {
            Place::Start => begins(lower(text), self.text.chars()),
            Place::End => begins(
                text.chars().rev().flat_map(|c| c.to_lowercase().rev()),
                self.text.chars().rev(),
            ),
            Place::Anywhere => {
                let mut rest = text.chars();
                loop {
                    if begins(lower(rest.as_str()), self.text.chars()) {
                        return true;
                    }
                    if rest.next().is_none() {
                        return false;
                    }
                }
            }
        }
    }
}

fn lower(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

fn begins(mut text: impl Iterator<Item = char>, mut start: impl Iterator<Item = char>) -> bool {
    start.all(|expected| text.next() == Some(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_ignored_beyond_ascii() {
        let found =
            |place, text: &str, pattern: &str| Pattern::new(pattern, true).is_found(place, text);

        assert!(found(Place::Anywhere, "STRAẞE 5", "aße"));
        assert!(found(Place::Start, "ÅSE@EXAMPLE.ORG", "åse@"));
        assert!(found(Place::End, "someone@Example.ORG", "@eXAMPLE.org"));
        assert!(!found(Place::End, "org", "example.org"));
        assert!(!found(Place::Anywhere, "", "a"));
    }
}
