//! One declaration per endpoint of the API: it routes, and it documents.

use actix_web::{Route, web};
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// An endpoint.
pub struct Endpoint {
    /// `get`, `post`, `put`, `patch` or `delete`.
    pub method: &'static str,
    /// Its path, with `{parameters}`.
    pub path: &'static str,
    /// The handler's name, and the operation's id.
    pub id: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The noun that it belongs to.
    pub tag: &'static str,
    /// The body's schema.
    pub body: Option<fn(&mut SchemaGenerator) -> Schema>,
    /// The query's schema.
    pub query: Option<fn(&mut SchemaGenerator) -> Schema>,
    /// The answer's schema.
    pub answer: Option<fn(&mut SchemaGenerator) -> Schema>,
    /// How it is served.
    pub route: fn() -> Route,
}

/// The schema of a type, for the tables.
pub fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Registers endpoints; those with one path share a resource, so that a wrong method answers 405.
pub fn register(config: &mut web::ServiceConfig, endpoints: &[Endpoint]) {
    let mut paths: Vec<&'static str> = endpoints.iter().map(|endpoint| endpoint.path).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        let mut resource = web::resource(path);
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.path == path) {
            resource = resource.route((endpoint.route)());
        }
        config.service(resource.default_service(web::to(super::problem::wrong_method)));
    }
}

/// Declares endpoints: `get "/path" handler "Summary." [body: T] [query: Q] [-> A];`
macro_rules! endpoints {
    ($tag:literal: $($method:ident $path:literal $handler:ident $summary:literal
        $(body $body:ty)? $(, query $query:ty)? $(=> $answer:ty)?;)*) => {
        vec![$(
            $crate::endpoint::Endpoint {
                method: stringify!($method),
                path: $path,
                id: stringify!($handler),
                summary: $summary,
                tag: $tag,
                body: $crate::endpoint::endpoints!(@schema $($body)?),
                query: $crate::endpoint::endpoints!(@schema $($query)?),
                answer: $crate::endpoint::endpoints!(@schema $($answer)?),
                route: || actix_web::web::$method().to($handler),
            }
        ),*]
    };
    (@schema) => { None };
    (@schema $type:ty) => { Some($crate::endpoint::schema::<$type>) };
}
pub(crate) use endpoints;
