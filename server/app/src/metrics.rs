//! Figures for Prometheus. A registry per application, so that several can live in one process.

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::App;
use crate::checks::CheckGauges;

/// An environment's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct InEnvironment {
    environment: String,
}

/// A run's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// The playbook.
    pub playbook: String,
    /// How it ended.
    pub outcome: String,
}

/// What became of an attempt to send a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeliveryLabel {
    channel: String,
    outcome: &'static str,
}

/// A class of HTTP answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StatusClass {
    /// `2xx` ...
    pub class: &'static str,
}

/// Every figure.
pub struct Metrics {
    registry: Registry,
    /// Evaluations that clients reported.
    pub evaluations: Counter,
    /// Evaluation counts that did not fit.
    pub dropped_counts: Counter,
    /// Auth events that are new and kept.
    pub auth_events_taken: Counter,
    /// Auth events that cannot be taken: wrong, too old, in the future.
    pub auth_events_refused: Counter,
    /// Auth events turned away for lack of room, to be sent again.
    pub auth_events_turned_away: Counter,
    /// Frames written to sockets.
    pub frames_sent: Counter,
    /// Sockets dropped because they did not take a frame or said nothing for too long.
    pub sockets_dropped: Counter,
    /// Acknowledgements, by how long they took, in seconds.
    pub ack_seconds: Histogram,
    /// HTTP answers.
    pub http: Family<StatusClass, Counter>,
    /// Logins, logouts and activity that could not be kept.
    pub session_writes_dropped: Counter,
    session_writes_waiting: Gauge,
    /// Consistency checks.
    pub checks: CheckGauges,
    /// Ended runs.
    pub runs: Family<Outcome, Counter>,
    deliveries: Family<DeliveryLabel, Counter>,
    connected: Family<InEnvironment, Gauge>,
    acked: Family<InEnvironment, Gauge>,
    revision: Family<InEnvironment, Gauge>,
    database_up: Gauge,
    open_incidents: Gauge,
}

impl Metrics {
    /// All at nought.
    pub fn new() -> Self {
        let buckets = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
        let mut all = Self {
            registry: Registry::with_prefix("switchback"),
            evaluations: Counter::default(),
            dropped_counts: Counter::default(),
            auth_events_taken: Counter::default(),
            auth_events_refused: Counter::default(),
            auth_events_turned_away: Counter::default(),
            frames_sent: Counter::default(),
            sockets_dropped: Counter::default(),
            ack_seconds: Histogram::new(buckets),
            http: Family::default(),
            session_writes_dropped: Counter::default(),
            session_writes_waiting: Gauge::default(),
            checks: CheckGauges::default(),
            runs: Family::default(),
            deliveries: Family::default(),
            connected: Family::default(),
            acked: Family::default(),
            revision: Family::default(),
            database_up: Gauge::default(),
            open_incidents: Gauge::default(),
        };
        let r = &mut all.registry;
        r.register("evaluations", "Evaluations that clients reported", all.evaluations.clone());
        r.register(
            "dropped_counts",
            "Evaluation counts that did not fit",
            all.dropped_counts.clone(),
        );
        r.register("auth_events_taken", "Auth events kept", all.auth_events_taken.clone());
        r.register(
            "auth_events_refused",
            "Auth events that cannot be taken",
            all.auth_events_refused.clone(),
        );
        r.register(
            "auth_events_turned_away",
            "Auth events for which there was no room",
            all.auth_events_turned_away.clone(),
        );
        r.register("frames_sent", "Frames written to sockets", all.frames_sent.clone());
        r.register("sockets_dropped", "Sockets that were too slow", all.sockets_dropped.clone());
        r.register(
            "ack_seconds",
            "From a known revision to its acknowledgement",
            all.ack_seconds.clone(),
        );
        r.register("http_responses", "HTTP answers by class", all.http.clone());
        r.register(
            "session_writes_dropped",
            "Logins, logouts and activity that could not be kept",
            all.session_writes_dropped.clone(),
        );
        r.register(
            "session_writes_waiting",
            "Logins, logouts and activity that wait for the database",
            all.session_writes_waiting.clone(),
        );
        all.checks.register(r);
        r.register("runs", "Ended playbook runs by outcome", all.runs.clone());
        r.register("deliveries", "Attempts to send messages by outcome", all.deliveries.clone());
        r.register("clients_connected", "Clients connected to the cluster", all.connected.clone());
        r.register("clients_acked", "Clients that have the newest revision", all.acked.clone());
        r.register("environment_revision", "Newest revision known here", all.revision.clone());
        r.register("database_up", "1 while the database answers", all.database_up.clone());
        r.register("incidents_open", "Incidents that are not resolved", all.open_incidents.clone());
        all
    }

    /// Counts an attempt to send a message.
    pub fn count_delivery(&self, channel: &str, outcome: &'static str) {
        let label = DeliveryLabel { channel: channel.to_owned(), outcome };
        self.deliveries.get_or_create(&label).inc();
    }

    /// The figures as Prometheus reads them.
    pub fn render(&self, app: &App) -> String {
        for key in app.hub.environments() {
            let convergence = app.hub.convergence(&key, None);
            let label = InEnvironment { environment: key };
            self.connected.get_or_create(&label).set(convergence.connected.cast_signed());
            self.acked.get_or_create(&label).set(convergence.acked.cast_signed());
            self.revision.get_or_create(&label).set(convergence.revision.cast_signed());
        }
        self.session_writes_waiting.set(app.user_sessions.len() as i64);
        self.database_up.set(i64::from(app.store_is_up()));
        self.open_incidents.set(app.status.current().open().count() as i64);
        let mut text = String::new();
        let _ = encode(&mut text, &self.registry); // writing to a String cannot fail
        text
    }
}

/// Prometheus's own text form of an OpenMetrics text: there a counter is declared by the name that its samples have.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let lines: Vec<&str> = text.lines().collect();
    let counter = |name: &str| {
        let declared = format!("# TYPE {name} counter");
        lines.iter().any(|line| *line == declared)
    };
    for line in &lines {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), _) => {}
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name)) if counter(name) => {
                let rest = words.next().unwrap_or_default();
                let _ = writeln!(out, "# {what} {name}_total {rest}"); // to a String
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_declared_by_the_name_of_their_samples() {
        let open = "# HELP a_b Bees.\n# TYPE a_b counter\na_b_total{k=\"v\"} 3\n# HELP a_c Seas.\n# TYPE a_c gauge\na_c 1\n# EOF\n";
        let wanted = "# HELP a_b_total Bees.\n# TYPE a_b_total counter\na_b_total{k=\"v\"} 3\n# HELP a_c Seas.\n# TYPE a_c gauge\na_c 1\n";
        assert_eq!(plain(open), wanted);
    }
}
