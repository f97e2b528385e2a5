//! Links to approve by, break-glass and its reviews: parts of `switchback playbook`.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, table, text, when};
use super::{Outcome, say};

/// Makes a link by which a person answers once.
pub async fn link(client: &Client, run: &str, step: &str, person: &str) -> Outcome {
    let url = format!("/runs/{run}/steps/{step}/link");
    let made = client.send(Method::POST, &url, Some(json!({"for": person}))).await?;
    if client.json {
        say(made.to_string());
        return Ok(());
    }
    say(text(&made, "/url"));
    say(format!("For {} alone, once, until {}.", text(&made, "/person"), when(&made, "/until")));
    Ok(())
}

/// Lets a step go on alone.
pub async fn break_glass(client: &Client, run: &str, step: &str, reason: &str) -> Outcome {
    let url = format!("/runs/{run}/steps/{step}/break-glass");
    let review = client.send(Method::POST, &url, Some(json!({"reason": reason}))).await?;
    if client.json {
        say(review.to_string());
        return Ok(());
    }
    say(format!("The step goes on. Somebody else has to review this: {}", text(&review, "/id")));
    Ok(())
}

/// Says that one has looked at a use of break-glass.
pub async fn review(client: &Client, id: &str, comment: &str) -> Outcome {
    let url = format!("/reviews/{id}");
    client.send(Method::POST, &url, Some(json!({"comment": comment}))).await.map(drop)
}

/// Lists uses of break-glass.
pub async fn reviews(client: &Client, all: bool) -> Outcome {
    let found = client.get(&format!("/reviews?open={}", !all)).await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let rows = found.as_array().cloned().unwrap_or_default();
    let row = |one: &Value| {
        let columns = ["/id", "/environment", "/run_id", "/step_id", "/actor", "/reason"];
        let mut cells = vec![when(one, "/at")];
        cells.extend(columns.iter().map(|column| text(one, column)));
        cells.push(text(one, "/reviewed_by"));
        cells
    };
    let heads = ["AT", "REVIEW", "ENVIRONMENT", "RUN", "STEP", "WHO", "WHY", "REVIEWED BY"];
    table(&heads, rows.iter().map(row));
    Ok(())
}
