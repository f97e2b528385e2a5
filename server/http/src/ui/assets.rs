//! Style, script and icons: embedded, and named by their content, so that browsers keep them for good.

use std::fmt::Write as _;

use actix_web::http::header;
use actix_web::{HttpResponse, web::Path};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "../../templates/assets"]
struct Assets;

/// The URL of an asset, with its hash in it. An unknown name gives a URL that answers 404.
pub fn url(name: &str) -> String {
    let hash = Assets::get(name).as_ref().map(hash_of).unwrap_or_default();
    format!("/assets/{hash}/{name}")
}

/// The text of an asset, for pages that carry it inside.
pub fn text(name: &str) -> String {
    Assets::get(name)
        .map(|file| String::from_utf8_lossy(&file.data).into_owned())
        .unwrap_or_default()
}

fn hash_of(file: &EmbeddedFile) -> String {
    hex(file.metadata.sha256_hash().get(..6).unwrap_or_default())
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a text cannot fail
        text
    })
}

/// `GET /assets/{hash}/{name}`. An old hash gets the newest file, but may not keep it.
pub async fn serve(path: Path<(String, String)>) -> HttpResponse {
    let (wanted, name) = path.into_inner();
    let Some(file) = Assets::get(&name) else { return HttpResponse::NotFound().finish() };
    let hash = hash_of(&file);
    let keep =
        if wanted == hash { "public, max-age=31536000, immutable" } else { "public, max-age=60" };
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, keep))
        .insert_header((header::ETAG, format!("\"{hash}\"")))
        .content_type(mime_of(&name))
        .body(file.data.into_owned())
}

fn mime_of(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
