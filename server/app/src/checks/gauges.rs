//! Figures of checks for `/metrics`: shown by the node that sweeps, so that a cluster tells each once.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::health::PackView;

/// A pack.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPack {
    pack: String,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCheck {
    pack: String,
    check: String,
}

/// What was found and fixed, by pack and check.
#[derive(Default)]
pub struct CheckGauges {
    findings: Family<OfCheck, Gauge>,
    stuck: Family<OfCheck, Gauge>,
    health: Family<OfPack, Gauge<f64, AtomicU64>>,
    swept_at: Family<OfPack, Gauge<f64, AtomicU64>>,
    fixed: Family<OfCheck, Counter>,
}

impl CheckGauges {
    /// Names them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "check_findings",
            "Broken rows that a check finds",
            self.findings.clone(),
        );
        registry.register(
            "check_findings_stuck",
            "Findings that are back after every fix",
            self.stuck.clone(),
        );
        registry.register(
            "check_health_ratio",
            "The share that a pack of checks finds whole, 0 to 1",
            self.health.clone(),
        );
        registry.register(
            "check_last_sweep_timestamp_seconds",
            "When a pack of checks looked last and could, in seconds since 1970",
            self.swept_at.clone(),
        );
        registry.register("check_fixed", "Rows that the monitor healed", self.fixed.clone());
    }

    /// How a pack stands now.
    pub(super) fn set(&self, view: &PackView) {
        let pack = OfPack { pack: view.name.clone() };
        if let Some(health) = view.health {
            self.health.get_or_create(&pack).set(health);
        }
        self.swept_at.get_or_create(&pack).set(view.swept_at as f64 / 1_000.0);
        for check in &view.checks {
            let label = OfCheck { pack: view.name.clone(), check: check.name.clone() };
            if let Some(figures) = check.state.figures {
                self.findings.get_or_create(&label).set(figures.found.cast_signed());
            }
            self.stuck.get_or_create(&label).set(check.state.stuck.cast_signed());
            let told = self.fixed.get_or_create(&label).get();
            let new = check.state.fixed.saturating_sub(told);
            self.fixed.get_or_create(&label).inc_by(new);
        }
    }

    /// Another node tells them now.
    pub(super) fn clear(&self) {
        self.findings.clear();
        self.stuck.clear();
        self.health.clear();
        self.swept_at.clear();
        self.fixed.clear();
    }
}
