//! Slack's incoming webhooks: a fallback text, and blocks with header, text, facts and buttons that are links.

use serde_json::{Value, json};

use super::post::Answer;
use super::text::{cut, escape_slack};
use super::{Message, Refusal};

/// What Slack takes, in characters: a header, a section, a field, a button's text and address.
const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 2_900;
const FIELD_MAX: usize = 1_900;
const FIELDS_MAX: usize = 10;
const BUTTON_MAX: usize = 75;
const URL_MAX: usize = 3_000;
const BUTTONS_MAX: usize = 5;

/// The body for a message.
pub fn body(message: &Message) -> Value {
    let said = message.says.chat.as_deref().unwrap_or(&message.text);
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": cut(&message.title, HEADER_MAX)},
    })];
    if !said.trim().is_empty() {
        let text = cut(&escape_slack(said.trim()), SECTION_MAX);
        blocks.push(json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}));
    }
    let field = |(name, value): &(String, String)| {
        let text = format!("*{}*\n{}", escape_slack(name), escape_slack(value));
        json!({"type": "mrkdwn", "text": cut(&text, FIELD_MAX)})
    };
    let fields: Vec<Value> = message.facts.iter().take(FIELDS_MAX).map(field).collect();
    if !fields.is_empty() {
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    let button = |(label, url): &(String, String)| {
        let text = json!({"type": "plain_text", "text": cut(label, BUTTON_MAX)});
        json!({"type": "button", "text": text, "url": url})
    };
    let links = message.links.iter().filter(|(_, url)| url.len() <= URL_MAX);
    let buttons: Vec<Value> = links.take(BUTTONS_MAX).map(button).collect();
    if !buttons.is_empty() {
        blocks.push(json!({"type": "actions", "elements": buttons}));
    }
    let text = cut(&escape_slack(&format!("{}: {said}", message.title)), SECTION_MAX);
    json!({"text": text, "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

/// Slack took it when it answers 200 and exactly `ok`.
pub fn judge(answer: &Answer) -> Result<(), Refusal> {
    answer.judge()?;
    match answer.body.trim() {
        "ok" => Ok(()),
        other => Err(Refusal::Never(format!("Slack answered `{}`", cut(other, 100)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_fits_and_calls_nobody() {
        let message = Message {
            title: "x".repeat(400),
            text: format!("<!channel> {}", "&".repeat(9_000)),
            facts: (0..20).map(|n| (format!("n{n}"), "v".repeat(5_000))).collect(),
            links: vec![("Open".into(), "https://x.test/?a=1&b=2".into())],
            ..Message::default()
        };

        let body = body(&message);

        let blocks = body["blocks"].as_array().unwrap();
        let length = |value: &Value| value.as_str().unwrap().chars().count();
        assert_eq!(length(&blocks[0]["text"]["text"]), 150);
        assert!(length(&blocks[1]["text"]["text"]) <= 3_000);
        assert!(!body.to_string().contains("<!channel>"));
        let fields = blocks[2]["fields"].as_array().unwrap();
        assert!(fields.len() == 10 && fields.iter().all(|f| length(&f["text"]) <= 2_000));
        assert_eq!(blocks[3]["elements"][0]["url"], "https://x.test/?a=1&b=2");
    }
}
