//! Microsoft Teams, by the webhook of its Workflows: one Adaptive Card with title, text, facts and buttons that are links.

use serde_json::{Value, json};

use super::text::{cut, escape_markdown};
use super::{Message, Severity};

/// What a card holds, in characters. All of it stays under the 28 kB that Teams takes, at four bytes a character too.
const TITLE_MAX: usize = 200;
const TEXT_MAX: usize = 3_000;
const NAME_MAX: usize = 60;
const VALUE_MAX: usize = 150;
const FACTS_MAX: usize = 8;
const BUTTON_MAX: usize = 60;
const BUTTONS_MAX: usize = 5;
/// Longer addresses get no button, in bytes.
const URL_MAX: usize = 1_000;
/// The format of the card: the oldest that has all that is used here.
const VERSION: &str = "1.2";

/// The body for a message.
pub fn body(message: &Message) -> Value {
    let said = message.says.chat.as_deref().unwrap_or(&message.text).trim();
    let color = match (message.is_over, message.severity) {
        (true, _) => "Good",
        (false, Severity::Info) => "Accent",
        (false, Severity::Warning) => "Warning",
        (false, Severity::Critical) => "Attention",
    };
    let mut parts = vec![json!({
        "type": "TextBlock", "text": cut(&escape_markdown(&message.title), TITLE_MAX),
        "size": "Medium", "weight": "Bolder", "color": color, "wrap": true,
    })];
    if !said.is_empty() {
        // One line break is none in a card's Markdown; two are.
        let text = cut(&escape_markdown(said).replace('\n', "\n\n"), TEXT_MAX);
        parts.push(json!({"type": "TextBlock", "text": text, "wrap": true}));
    }
    let fact = |(name, value): &(String, String)| {
        let value = if value.is_empty() { "-" } else { value };
        json!({
            "title": cut(&escape_markdown(name), NAME_MAX),
            "value": cut(&escape_markdown(value), VALUE_MAX),
        })
    };
    let facts: Vec<Value> = message.facts.iter().take(FACTS_MAX).map(fact).collect();
    if !facts.is_empty() {
        parts.push(json!({"type": "FactSet", "facts": facts}));
    }
    let links = message.links.iter().filter(|(_, url)| url.len() <= URL_MAX).take(BUTTONS_MAX);
    let button = |(label, url): &(String, String)| json!({"type": "Action.OpenUrl", "title": cut(label, BUTTON_MAX), "url": url});
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": VERSION,
        "body": parts,
        "actions": links.map(button).collect::<Vec<_>>(),
        "msteams": {"width": "Full"},
    });
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_fits_and_is_no_markup() {
        let message = Message {
            title: "**t**".repeat(99),
            text: format!("[x](https://evil.test) {}", "\u{1f6d1}".repeat(9_000)),
            facts: (0..30).map(|n| (format!("n{n}"), "\u{1f6d1}".repeat(5_000))).collect(),
            links: (0..9).map(|n| (format!("Open {n}"), "https://x.test".into())).collect(),
            ..Message::default()
        };

        let body = body(&message);

        assert!(body.to_string().len() < 28_000, "{}", body.to_string().len());
        let card = &body["attachments"][0]["content"];
        assert!(card["body"][0]["text"].as_str().unwrap().starts_with("\\*\\*t"));
        assert!(card["body"][1]["text"].as_str().unwrap().starts_with("\\[x\\]\\(https"));
        assert_eq!(card["body"][2]["facts"].as_array().unwrap().len(), 8);
        assert_eq!(card["actions"][4]["url"], "https://x.test");
    }

    #[test]
    fn a_message_without_facts_or_links_is_a_card_too() {
        let body = body(&Message { title: "Up".into(), is_over: true, ..Message::default() });

        let card = &body["attachments"][0]["content"];
        assert_eq!(
            (card["body"].as_array().unwrap().len(), &card["body"][0]["color"]),
            (1, &json!("Good"))
        );
        assert_eq!(
            (&body["attachments"][0]["contentUrl"], &card["actions"]),
            (&Value::Null, &json!([]))
        );
    }
}
