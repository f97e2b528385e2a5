//! The API's document (OpenAPI 3.1), made from the same table that routes.

use actix_web::HttpResponse;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::api;
use super::endpoint::Endpoint;

/// `GET /api/v1/openapi.json`.
pub async fn openapi_json() -> HttpResponse {
    HttpResponse::Ok().json(document())
}

/// The whole document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for endpoint in api::endpoints() {
        let operation = operation(&endpoint, &mut generator);
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(endpoint.method.to_owned(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Switchback",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Flags, playbooks, incidents. Send `Authorization: Bearer <token>`. \
                Errors are problem details (RFC 9457). Writes take an `Idempotency-Key`.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": generator.take_definitions(true),
        },
    })
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = endpoint
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    if let Some(query) = endpoint.query {
        let schema = resolve(generator, query);
        for (name, schema) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            parameters
                .push(json!({"name": name, "in": "query", "required": false, "schema": schema}));
        }
    }
    if endpoint.method != "get" {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "schema": {"type": "string", "maxLength": 200},
        }));
        parameters.push(json!({
            "name": "Switchback-Reason", "in": "header", "required": false,
            "description": "Why, percent-encoded; a reason in the body comes first.",
            "schema": {"type": "string", "maxLength": 1000},
        }));
    }
    let mut ok = json!({"description": "Done."});
    if let (Some(answer), Some(ok)) = (endpoint.answer, ok.as_object_mut()) {
        let schema = answer(generator);
        ok.insert("content".to_owned(), json!({"application/json": {"schema": schema}}));
    }
    let mut operation = json!({
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": parameters,
        "responses": {
            "200": ok,
            "default": {
                "description": "A problem.",
                "content": {"application/problem+json": {"schema": {"type": "object"}}},
            },
        },
    });
    if let (Some(body), Some(operation)) = (endpoint.body, operation.as_object_mut()) {
        let schema = body(generator);
        let content =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
        operation.insert("requestBody".to_owned(), content);
    }
    operation
}

/// A query's schema itself, not a reference to it.
fn resolve(
    generator: &mut SchemaGenerator,
    schema: fn(&mut SchemaGenerator) -> schemars::Schema,
) -> Value {
    let schema = serde_json::to_value(schema(generator)).unwrap_or_default();
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    match name.and_then(|name| generator.definitions().get(name)) {
        Some(found) => found.clone(),
        None => schema,
    }
}
