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
    backslashed(text, r"\*_~`|>#[]<@")
}

/// For the Markdown of an Adaptive Card: a backslash before what it would read as emphasis, a link or a list.
pub fn escape_markdown(text: &str) -> String {
    backslashed(text, r"\*_~`#[]()<>")
}

/// A backslash before each of these characters.
fn backslashed(text: &str, marks: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if marks.contains(c) {
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
        assert_eq!(escape_markdown("[x](y) <b> a-b"), "\\[x\\]\\(y\\) \\<b\\> a-b");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
