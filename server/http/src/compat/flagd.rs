//! flagd's HTTP sync source: every flagd that is given this address relays our flags.

use actix_web::{HttpRequest, HttpResponse};
use switchback_app::live::client::Protocol;
use switchback_app::live::unleash::Place;
use switchback_formats::flagd_definition::definition_of;
use switchback_store::TokenKind;

use super::{Guest, Refusal, is_known, json_bytes, not_modified};

/// `GET /flagd/v1/flags.json`.
pub async fn flags(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, &[TokenKind::Server]).await?;
    let snapshot = guest.feed.current();
    guest.note(&request, Protocol::Flagd, Some(snapshot.document.revision));
    let etag = format!("\"{}\"", Place::of(&snapshot.document));
    if is_known(&request, &etag) {
        return Ok(not_modified(&etag));
    }
    Ok(json_bytes(&etag, definition_of(&snapshot.document).to_string()))
}
