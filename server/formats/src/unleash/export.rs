//! The export of Unleash's admin interface.

use serde::Deserialize;
use serde_json::Value;

use super::document::{Dependency, Feature, Features, Segment, Strategy, Variant};

/// The export of the admin interface keeps flags, strategies and environments apart.
pub(super) fn read(value: &Value) -> Result<Features, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Export {
        features: Vec<Feature>,
        feature_strategies: Vec<ExportedStrategy>,
        #[serde(default)]
        feature_environments: Vec<FeatureEnvironment>,
        #[serde(default)]
        segments: Vec<Segment>,
        #[serde(default)]
        dependencies: Vec<ExportedDependencies>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ExportedStrategy {
        feature_name: String,
        #[serde(flatten)]
        strategy: Strategy,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct FeatureEnvironment {
        #[serde(alias = "name")]
        feature_name: String,
        #[serde(default)]
        enabled: bool,
        #[serde(default)]
        variants: Vec<Variant>,
    }
    #[derive(Deserialize)]
    struct ExportedDependencies {
        feature: String,
        dependencies: Vec<Dependency>,
    }
    let mut export =
        Export::deserialize(value).map_err(|error| format!("is not an export: {error}"))?;
    export.feature_strategies.sort_by(|a, b| {
        let order = |one: &ExportedStrategy| one.strategy.sort_order.unwrap_or(f64::MAX);
        order(a).total_cmp(&order(b))
    });
    for feature in &mut export.features {
        for one in export.feature_strategies.iter().filter(|one| one.feature_name == feature.name) {
            feature.strategies.push(one.strategy.clone());
        }
        for one in export.feature_environments.iter().filter(|one| one.feature_name == feature.name)
        {
            feature.enabled = one.enabled;
            feature.variants.clone_from(&one.variants);
        }
        for one in export.dependencies.iter().filter(|one| one.feature == feature.name) {
            feature.dependencies.clone_from(&one.dependencies);
        }
    }
    Ok(Features { features: export.features, segments: export.segments })
}
