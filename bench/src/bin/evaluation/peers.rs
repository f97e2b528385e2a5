//! Another engine on the same work, in the same run: Unleash's own (`unleash-yggdrasil`).

use std::collections::HashMap;
use std::hint::black_box;

use serde_json::json;
use switchback_core::model::Document;
use switchback_formats::unleash::features_of;
use unleash_types::client_features::{ClientFeatures, Context};
use unleash_yggdrasil::{EngineState, UpdateMessage};

/// The engine with a document, and the user who asks.
pub struct Unleash {
    engine: EngineState,
    context: Context,
    external: Option<HashMap<String, bool>>,
    names: Vec<String>,
}

impl Unleash {
    /// The flags of a document in Unleash's terms.
    pub fn new(document: &Document, user: &str) -> Self {
        let mut written = features_of(document);
        for feature in written.features.values_mut() {
            // Groups are said twice, for apps that send several at once; here there is one.
            let is_listed = |field: &str, operator: &str| field == "groups" && operator == "REGEX";
            feature.strategies.retain(|strategy| {
                !strategy.constraints.iter().any(|one| is_listed(&one.context_name, &one.operator))
            });
        }
        let features: Vec<_> = written.features.values().collect();
        let state = json!({"version": 2, "features": features, "segments": []});
        let state: ClientFeatures = serde_json::from_value(state).unwrap_or_default();
        let engine = EngineState::default();
        engine.take_state(UpdateMessage::FullResponse(state));
        let properties =
            [("platform", "ios"), ("appVersion", "3.4.1"), ("groups", "group-42"), ("plan", "pro")];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let context = Context {
            user_id: Some(user.to_owned()),
            properties: Some(properties.into_iter().collect()),
            ..Context::default()
        };
        let names = document.flags.keys().cloned().collect();
        Self { engine, context, external: None, names }
    }

    /// As bool.
    pub fn is_enabled(&self, calls: u64, name: &str) {
        for _ in 0..calls {
            let (name, context) = (black_box(name), black_box(&self.context));
            black_box(self.engine.is_enabled(name, context, &self.external));
        }
    }

    /// With its variant.
    pub fn variant(&self, calls: u64, name: &str) {
        for _ in 0..calls {
            let (name, context) = (black_box(name), black_box(&self.context));
            black_box(self.engine.get_variant(name, context, &self.external));
        }
    }

    /// One call for each flag, as bool.
    pub fn all(&self, calls: u64) {
        for _ in 0..calls {
            for name in &self.names {
                black_box(self.engine.is_enabled(name, black_box(&self.context), &self.external));
            }
        }
    }
}
