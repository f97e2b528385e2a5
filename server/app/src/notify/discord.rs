//! Discord's webhooks: one embed, and mentions switched off whatever the text says.

use serde_json::{Value, json};

use super::text::{cut, escape_discord};
use super::{Message, Refusal, Severity};

/// What Discord takes, in characters: an embed's title and text, a field's name and value.
const TITLE_MAX: usize = 256;
const TEXT_MAX: usize = 3_500;
const NAME_MAX: usize = 100;
const VALUE_MAX: usize = 150;
const FIELDS_MAX: usize = 8;

/// The body for a message. All of it stays under 6,000 characters, the limit of what an embed holds together.
pub fn body(message: &Message) -> Value {
    let said = message.says.chat.as_deref().unwrap_or(&message.text);
    let mut text = escape_discord(said.trim());
    for (label, url) in message.links.iter().take(3) {
        text.extend(["\n", &escape_discord(label), ": ", url]);
    }
    let color = match (message.is_over, message.severity) {
        (true, _) => 0x002e_7d32,
        (false, Severity::Info) => 0x0016_7d7f,
        (false, Severity::Warning) => 0x00b4_6900,
        (false, Severity::Critical) => 0x00c6_2828,
    };
    let fields = message.facts.iter().take(FIELDS_MAX).map(|(name, value)| {
        let value = if value.is_empty() { "-" } else { value };
        json!({
            "name": cut(&escape_discord(name), NAME_MAX),
            "value": cut(&escape_discord(value), VALUE_MAX),
            "inline": true,
        })
    });
    let mut embed = json!({
        "title": cut(&escape_discord(&message.title), TITLE_MAX),
        "description": cut(&text, TEXT_MAX),
        "color": color,
        "fields": fields.collect::<Vec<_>>(),
    });
    if let (Some(embed), Ok(at)) =
        (embed.as_object_mut(), jiff::Timestamp::from_millisecond(message.at))
    {
        embed.insert("timestamp".to_owned(), json!(at.to_string()));
    }
    json!({"embeds": [embed], "allowed_mentions": {"parse": []}})
}

/// The address with `wait=true`: without it, a message that is not kept gives no error.
pub fn with_wait(url: &str) -> Result<String, Refusal> {
    let mut url = url::Url::parse(url)
        .map_err(|_| Refusal::Never("the channel's secret is not an address".to_owned()))?;
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| name != "wait")
        .map(|(a, b)| (a.into(), b.into()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(kept).append_pair("wait", "true");
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_fits_and_pings_nobody() {
        let message = Message {
            title: "t".repeat(999),
            text: format!("@everyone {}", "*".repeat(9_000)),
            facts: (0..30).map(|n| (format!("n{n}"), "v".repeat(5_000))).collect(),
            ..Message::default()
        };

        let body = body(&message);

        assert_eq!(body["allowed_mentions"]["parse"], json!([]));
        let embed = &body["embeds"][0];
        let length = |value: &Value| value.as_str().unwrap().chars().count();
        let fields = embed["fields"].as_array().unwrap();
        let all = length(&embed["title"])
            + length(&embed["description"])
            + fields.iter().map(|f| length(&f["name"]) + length(&f["value"])).sum::<usize>();
        assert!(fields.len() <= 25 && all <= 6_000, "{all}");
    }

    #[test]
    fn the_answer_is_always_waited_for() {
        let url =
            with_wait("https://discord.test/api/webhooks/1/t?thread_id=5&wait=false").unwrap();

        assert_eq!(url, "https://discord.test/api/webhooks/1/t?thread_id=5&wait=true");
    }
}
