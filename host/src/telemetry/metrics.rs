//! Metrics in the text format of Prometheus: their definitions, and how they are rendered.
//!
//! Counters and histograms go to one recorder per process, because the `metrics` crate supports only that. It is
//! installed once a server asks for it; until then counting costs next to nothing. Gauges are looked up on each request
//! by the server that is asked, so that two servers in one process do not mix theirs up.

use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use MetricKind::{Counter, Gauge, Histogram};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    /// Value looked up on each request.
    Gauge,
    /// Histogram of seconds, or of a size.
    Histogram,
}

/// All metrics: name, kind and description.
pub const ALL: &[(&str, MetricKind, &str)] = &[
    ("leadwire_build_info", Gauge, "1, with the version as a label"),
    ("leadwire_sockets", Gauge, "Connected sockets, by transport"),
    ("leadwire_sockets_behind", Gauge, "Sockets that are catching up from the log"),
    ("leadwire_sockets_direct", Gauge, "Sockets on a WebSocket that are written to directly"),
    ("leadwire_holds", Gauge, "Leads withheld from a role because a plugin returns no verdict"),
    ("leadwire_holds_total", Counter, "Holds placed on leads after a plugin returned no verdict"),
    ("leadwire_holds_released_total", Counter, "Holds released after a plugin returned a verdict again"),
    ("leadwire_connections", Gauge, "Engine.IO connections, with or without a handshake"),
    ("leadwire_connects_total", Counter, "Accepted handshakes, by transport"),
    ("leadwire_connects_refused_total", Counter, "Refused handshakes, by reason"),
    ("leadwire_disconnects_total", Counter, "Disconnected sockets, by reason"),
    ("leadwire_sockets_cut_total", Counter, "Sockets disconnected by the server, by reason"),
    ("leadwire_sockets_fell_behind_total", Counter, "Times that a live socket could not take an event, by reason"),
    ("leadwire_sockets_caught_up_total", Counter, "Times that such a socket became live again"),
    ("leadwire_sockets_reset_total", Counter, "Times that a socket was sent sync:reset"),
    ("leadwire_events_delivered_total", Counter, "Events delivered to sockets, live or replayed from the log"),
    ("leadwire_packets_sent_total", Counter, "Packets handed to the transport, including acks"),
    ("leadwire_sent_bytes_total", Counter, "Bytes of these packets"),
    ("leadwire_packets_queued", Gauge, "Packets queued in the outboxes of sockets"),
    ("leadwire_queued_bytes", Gauge, "Bytes of these packets"),
    ("leadwire_delivery_seconds", Histogram, "Time from an event's timestamp until every live socket was offered it"),
    ("leadwire_rooms", Gauge, "Rooms with at least one member"),
    ("leadwire_limits_hit_total", Counter, "Refusals because of a limit, by limit"),
    ("leadwire_log_head_seq", Gauge, "Sequence number of the newest event of the log"),
    ("leadwire_log_tail_lag", Gauge, "Events of the log that are not delivered yet"),
    ("leadwire_log_pruned_total", Counter, "Events pruned from the log"),
    ("leadwire_database_wal_bytes", Gauge, "Size of the write-ahead log in bytes"),
    ("leadwire_database_errors_total", Counter, "Statements that failed because of the database, by reason"),
    ("leadwire_database_reads_ended_total", Counter, "Read transactions aborted because they were open for too long"),
    ("leadwire_database_write_wait_seconds", Histogram, "Time that commands wait for their turn to write"),
    ("leadwire_database_commit_jobs", Histogram, "Commands per commit, which share one sync of the disk"),
    ("leadwire_http_requests_total", Counter, "Requests, by route, method and class of status"),
    ("leadwire_http_request_seconds", Histogram, "Duration of HTTP requests, by route and method"),
    ("leadwire_plugin_generation", Gauge, "Number of the active generation of plugins"),
    (
        "leadwire_plugin_up",
        Gauge,
        "1 while a plugin is active or in shadow mode, 0 while it is failing, refused, disabled or missing",
    ),
    ("leadwire_plugin_quarantined", Gauge, "1 while a plugin's circuit breaker is open or half-open"),
    ("leadwire_plugin_holding", Gauge, "1 while something is denied or held back because of a plugin's state"),
    ("leadwire_plugin_calls_total", Counter, "Calls of plugins, by plugin and hook"),
    ("leadwire_plugin_faults_total", Counter, "Calls that failed, by plugin and hook"),
    ("leadwire_plugin_skipped_total", Counter, "Calls skipped by an open circuit breaker, by plugin and hook"),
    ("leadwire_plugin_rests_total", Counter, "Times that the circuit breaker opened, by plugin"),
    ("leadwire_plugin_call_seconds", Histogram, "Duration of calls, by plugin and hook"),
    ("leadwire_plugin_instances", Gauge, "Warm instances, by plugin"),
    ("leadwire_plugin_dropped_log_lines", Gauge, "Log lines dropped since a plugin was loaded"),
    ("leadwire_plugin_dropped_metrics", Gauge, "Counts dropped since a plugin was loaded"),
    ("leadwire_plugin_metric", Gauge, "A plugin's own counters since it was loaded, by name"),
    ("leadwire_plugin_effects", Gauge, "Pending or parked effects, by plugin and state"),
    ("leadwire_plugin_reminders", Gauge, "Pending reminders, by plugin"),
    ("leadwire_effects_done_total", Counter, "Effects carried out, by plugin"),
    ("leadwire_effects_parked_total", Counter, "Parked effects and occasions, by plugin"),
    ("leadwire_effect_chains_stopped_total", Counter, "Times that a loop between plugins was stopped, by plugin"),
];

/// From a tenth of a millisecond, the duration of a slow plugin call, to longer than anybody waits.
const BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Up to the largest group that one commit writes.
const GROUP_BUCKETS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

static RECORDED: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts counting for the rest of the process; metrics created earlier may remain uncounted.
pub fn start() {
    RECORDED.get_or_init(|| {
        let recorder = recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is already installed: most metrics will be missing");
        }
        describe();
        handle
    });
}

/// True if metrics are recorded.
pub fn is_on() -> bool {
    RECORDED.get().is_some()
}

/// Renders the recorded metrics, and the gauges set by `look_up`, for Prometheus.
pub fn render(look_up: impl FnOnce()) -> String {
    let current = recorder();
    metrics::with_local_recorder(&current, || {
        describe();
        look_up();
    });
    let counted = RECORDED.get().map(PrometheusHandle::render).unwrap_or_default();
    counted + &current.handle().render()
}

/// Discards old samples. Call it regularly, or samples that are never requested accumulate.
pub fn tidy() {
    if let Some(handle) = RECORDED.get() {
        handle.run_upkeep();
    }
}

fn recorder() -> PrometheusRecorder {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_jobs".into()), &GROUP_BUCKETS))
        .expect("the buckets are not empty")
        .build_recorder()
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
