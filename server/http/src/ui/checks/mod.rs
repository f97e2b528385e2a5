//! Consistency checks in the console: how packs stand, who is broken, repairs with a preview and a way back.

mod change;
mod editor;
mod finding;
mod findings;
mod home;
mod pack;
mod repair;
mod run;
mod says;
mod tile;
mod trend;

pub use tile::Tile;

use actix_web::web::{self, get, post};

/// Its URLs. They belong to no environment: data sources are shared by all.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/checks", get().to(home::page))
        .route("/checks/{pack}", get().to(pack::page))
        .route("/checks/{pack}", post().to(change::change))
        .route("/checks/{pack}/look", post().to(change::look))
        .route("/checks/{pack}/text", get().to(editor::page))
        .route("/checks/{pack}/text", post().to(editor::put))
        .route("/checks/{pack}/findings", get().to(findings::page))
        .route("/checks/{pack}/finding", get().to(finding::page))
        .route("/checks/{pack}/finding", post().to(finding::change))
        .route("/checks/{pack}/repair", get().to(repair::page))
        .route("/checks/{pack}/repair", post().to(repair::start))
        .route("/repairs/{run}", get().to(run::page))
        .route("/repairs/{run}", post().to(run::steer));
}

/// A query with what is set: `?check=a&state=open`.
fn query_of(fields: &[(&str, &str)]) -> String {
    let set = fields.iter().filter(|(_, value)| !value.is_empty());
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(set).finish();
    if query.is_empty() { query } else { format!("?{query}") }
}
