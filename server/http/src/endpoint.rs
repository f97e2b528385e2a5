//! One declaration per endpoint of the API: it routes, and it documents.

use std::collections::BTreeMap;

use actix_web::{Resource, Route, web};
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

/// Where every endpoint is.
pub const ROOT: &str = "/api/v1";

/// Registers endpoints below `ROOT`; those with one path share a resource, so that a wrong method answers 405.
///
/// The router tries one resource after the other, and one with a parameter is a regular expression: with all of them in one
/// list, finding the last took longer than all else of a request. So the paths are a tree of scopes, a word each.
pub fn register(config: &mut web::ServiceConfig, endpoints: &[Endpoint]) {
    let mut tree = Branch::default();
    for endpoint in endpoints {
        let path = endpoint.path.strip_prefix(ROOT).unwrap_or(endpoint.path);
        let words = path.split('/').skip(1);
        words
            .fold(&mut tree, |branch, word| branch.next.entry(word).or_default())
            .here
            .push(endpoint);
    }
    tree.grow(config);
}

/// Endpoints of a path, and what goes on below it, by the next word.
#[derive(Default)]
struct Branch<'e> {
    here: Vec<&'e Endpoint>,
    next: BTreeMap<&'static str, Self>,
}

impl Branch<'_> {
    fn grow(&self, config: &mut web::ServiceConfig) {
        self.add(config, "");
        // A scope keeps what comes into it. Where a parameter stands beside words, these are whole paths and come first, so that
        // what only begins like one of them is still the parameter's.
        let (parameters, words): (Vec<_>, Vec<_>) =
            self.next.iter().partition(|(word, _)| word.contains('{'));
        for (word, branch) in words {
            if parameters.is_empty() {
                branch.scope(config, word);
            } else {
                branch.flat(config, &format!("/{word}"));
            }
        }
        match parameters.as_slice() {
            [(word, branch)] => branch.scope(config, word),
            several => {
                for (word, branch) in several {
                    branch.flat(config, &format!("/{word}"));
                }
            }
        }
    }

    /// As a scope of its own, where there is more below.
    fn scope(&self, config: &mut web::ServiceConfig, word: &str) {
        let path = format!("/{word}");
        if self.next.is_empty() {
            return self.add(config, &path);
        }
        let scope = web::scope(&path).configure(|config| self.grow(config));
        config.service(scope.default_service(web::to(super::problem::no_such_route)));
    }

    /// As whole paths.
    fn flat(&self, config: &mut web::ServiceConfig, path: &str) {
        self.add(config, path);
        for (word, branch) in &self.next {
            branch.flat(config, &format!("{path}/{word}"));
        }
    }

    fn add(&self, config: &mut web::ServiceConfig, path: &str) {
        if self.here.is_empty() {
            return;
        }
        let add = |resource: Resource, endpoint: &&Endpoint| resource.route((endpoint.route)());
        let resource = self.here.iter().fold(web::resource(path), add);
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
