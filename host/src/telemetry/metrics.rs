//! Metrics in the text format of Prometheus: what there is, and how it is told.
//!
//! What is counted while it happens goes to one recorder a process, because the `metrics` crate has only that; it is
//! there once a server asks for it, and until then counting costs next to nothing. What can be looked up is looked
//! up when somebody asks, by the server that is asked: so two servers in one process do not mix up theirs.

use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use Kind::{Counter, Gauge, Histogram};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    /// Looked up when somebody asks.
    Gauge,
    /// Of seconds.
    Histogram,
}

/// Every metric there is: its name, its kind and what it tells.
pub const ALL: &[(&str, Kind, &str)] = &[
    ("leadwire_build_info", Gauge, "1, with the version as a label"),
    ("leadwire_sockets", Gauge, "Sockets that are connected, by transport"),
    ("leadwire_sockets_behind", Gauge, "Sockets that are being caught up from the log"),
    ("leadwire_holds", Gauge, "Leads that are withheld from a role, because a plugin gives no verdict on them"),
    ("leadwire_holds_total", Counter, "Times that sockets went past what a plugin held back"),
    ("leadwire_holds_released_total", Counter, "Times that a plugin gave a verdict again on what was withheld"),
    ("leadwire_connections", Gauge, "Engine.IO connections, with a handshake or without"),
    ("leadwire_connects_total", Counter, "Handshakes that were accepted, by transport"),
    ("leadwire_connects_refused_total", Counter, "Handshakes that were refused, by reason"),
    ("leadwire_disconnects_total", Counter, "Sockets that ended, by reason"),
    ("leadwire_sockets_cut_total", Counter, "Sockets that the server ended, by reason"),
    ("leadwire_sockets_fell_behind_total", Counter, "Times that a live socket could not take an event, by reason"),
    ("leadwire_sockets_caught_up_total", Counter, "Times that such a socket was live again"),
    ("leadwire_sockets_reset_total", Counter, "Times that a socket was told to fetch everything again"),
    ("leadwire_events_delivered_total", Counter, "Events handed to sockets, as they happened or read again"),
    ("leadwire_packets_sent_total", Counter, "Packets handed to the transport, acks and answers among them"),
    ("leadwire_sent_bytes_total", Counter, "Bytes of these packets"),
    ("leadwire_packets_queued", Gauge, "Packets that wait in the outboxes of sockets"),
    ("leadwire_queued_bytes", Gauge, "Bytes of these packets"),
    ("leadwire_delivery_seconds", Histogram, "From an event's time until every live socket was offered it"),
    ("leadwire_rooms", Gauge, "Rooms with somebody in them"),
    ("leadwire_limits_hit_total", Counter, "Refusals for want of a limit, by limit"),
    ("leadwire_log_head_seq", Gauge, "The newest event of the log"),
    ("leadwire_log_tail_lag", Gauge, "Events of the log that are not handed out yet"),
    ("leadwire_log_pruned_total", Counter, "Events that are no longer kept"),
    ("leadwire_database_wal_bytes", Gauge, "Bytes of the write-ahead log"),
    ("leadwire_database_errors_total", Counter, "Statements that failed because of the database, by reason"),
    ("leadwire_database_reads_ended_total", Counter, "Reads that were ended because they were open for too long"),
    ("leadwire_http_requests_total", Counter, "Requests, by route, method and class of status"),
    ("leadwire_http_request_seconds", Histogram, "How long these took, by route and method"),
    ("leadwire_plugin_generation", Gauge, "The number of the set of plugins in force"),
    (
        "leadwire_plugin_up",
        Gauge,
        "1 while a plugin works or looks on, 0 while it is failing, refused, disabled or missing",
    ),
    ("leadwire_plugin_quarantined", Gauge, "1 while a plugin rests after faults in a row"),
    ("leadwire_plugin_holding", Gauge, "1 while something is denied or held back because of a plugin's state"),
    ("leadwire_plugin_calls_total", Counter, "Calls of plugins, by plugin and hook"),
    ("leadwire_plugin_faults_total", Counter, "Calls that failed, by plugin and hook"),
    ("leadwire_plugin_skipped_total", Counter, "Calls that were spared a resting plugin, by plugin and hook"),
    ("leadwire_plugin_rests_total", Counter, "Times that a plugin was given a rest, by plugin"),
    ("leadwire_plugin_call_seconds", Histogram, "How long calls took, by plugin and hook"),
    ("leadwire_plugin_instances", Gauge, "Warm instances, by plugin"),
    ("leadwire_plugin_dropped_log_lines", Gauge, "Log lines left out since a plugin was loaded"),
    ("leadwire_plugin_dropped_metrics", Gauge, "Counts left out since a plugin was loaded"),
    ("leadwire_plugin_metric", Gauge, "What a plugin counted since it was loaded, by its own names"),
    ("leadwire_plugin_effects", Gauge, "Effects that wait to be done or are parked, by plugin and state"),
    ("leadwire_plugin_reminders", Gauge, "Reminders that wait for their time, by plugin"),
    ("leadwire_effects_done_total", Counter, "Effects that were carried out, by plugin"),
    ("leadwire_effects_parked_total", Counter, "Effects and questions that were given up for now, by plugin"),
    (
        "leadwire_effect_chains_stopped_total",
        Counter,
        "Times that plugins would have set each other off without end, by plugin",
    ),
];

/// From a tenth of a millisecond, which a slow call of a plugin takes, to what nobody waits for.
const BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

static RECORDED: OnceLock<PrometheusHandle> = OnceLock::new();

/// Begins to count, for the rest of the process; what was made earlier may go on uncounted.
pub fn start() {
    RECORDED.get_or_init(|| {
        let recorder = recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("something else in this process counts already: most metrics will be missing");
        }
        describe();
        handle
    });
}

/// Whether somebody counts.
pub fn is_on() -> bool {
    RECORDED.get().is_some()
}

/// What was counted so far, and what `look_up` sets of gauges, as Prometheus reads it.
pub fn render(look_up: impl FnOnce()) -> String {
    let current = recorder();
    metrics::with_local_recorder(&current, || {
        describe();
        look_up();
    });
    let counted = RECORDED.get().map(PrometheusHandle::render).unwrap_or_default();
    counted + &current.handle().render()
}

/// Has to be called now and then, or what nobody asks for piles up.
pub fn tidy() {
    if let Some(handle) = RECORDED.get() {
        handle.run_upkeep();
    }
}

fn recorder() -> PrometheusRecorder {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS);
    builder.expect("there are buckets").build_recorder()
}

fn describe() {
    for (name, kind, help) in ALL.iter().copied() {
        match kind {
            Counter => describe_counter!(name, help),
            Gauge => describe_gauge!(name, help),
            Histogram => describe_histogram!(name, help),
        }
    }
}
