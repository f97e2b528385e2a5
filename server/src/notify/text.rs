//! Text for other systems: cut to their limits, and escaped so that nothing in it is markup or calls everybody.

/// At most so many characters; a longer text ends in `…`.
pub fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(max.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// For Slack's `mrkdwn`: `&`, `<` and `>` are what it reads links, mentions and `<!channel>` from.
pub fn escape_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// For Discord's Markdown: a backslash before what it would read as markup.
pub fn escape_discord(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '#' | '[' | ']' | '<' | '@') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_calls_everybody_or_is_a_link() {
        assert_eq!(escape_slack("<!channel> a & b"), "&lt;!channel&gt; a &amp; b");
        assert_eq!(
            escape_discord("@everyone **b** [x](y)"),
            "\\@everyone \\*\\*b\\*\\* \\[x\\](y)"
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
