//! The closed list of metrics. One row = one metric: its name, type, labels and meaning; what is served,
//! what `docs/metrics.md` says and what dashboards and rules may name all come from here.

use std::fmt::Write as _;

use uvs_core::counters::{BulkResult, ScheduleFailure};
use uvs_core::numbers::HandshakeNumbers;
use uvs_core::offload::{Untaken, Up};
use uvs_core::verdict::DropReason;

use crate::BackendMetrics;

/// A metric's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Classic buckets.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels' names, in order.
    pub labels: &'static [&'static str],
    /// What it says, one sentence.
    pub help: &'static str,
}

/// A service's labels. One of a firewall mark has `fwmark` instead.
pub const SERVICE: &[&str] = &["vip", "port", "proto"];

macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal [$($label:literal)*] $help:literal)*) => {
        $(#[doc = $help] pub const $id: Definition = Definition {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All metrics but those of [`NODE_IPVS`].
        pub const ALL: &[Definition] = &[$($id),*];
    };
}

metrics! {
    BUILD_INFO Gauge "uvs_build_info" ["version" "commit" "rustc"]
        "Always 1; the labels name the running program."
    START_TIME Gauge "uvs_start_time_seconds" []
        "When the daemon started, in seconds since 1970."
    READY Gauge "uvs_ready" []
        "1 while /readyz answers 200: the configuration is in force, all interfaces are up, the guard is there and the worker answers."

    PLUGIN_INFO Gauge "uvs_plugin_info" ["name" "version" "abi" "file"]
        "Always 1 for each loaded scheduler plugin; the labels say what it is and where it came from."
    PLUGIN_FAULTS Counter "uvs_plugin_faults_total" ["name" "reason"]
        "Faults of a scheduler plugin, by reason: `panic`, `wrong_index`, `forbidden_server` (of weight 0 or overloaded), `failed`, `slow` (a pick that took more than plugins.scheduler_budget)."
    SCHEDULER_PICK Histogram "uvs_scheduler_pick_seconds" ["vip" "port" "proto" "scheduler"]
        "How long the scheduler plugin took to choose a real server for the service, of all workers; absent with a built-in scheduler, whose times are in uvs_schedule_duration_seconds alone."
    SCHEDULER_OVER_BUDGET Counter "uvs_scheduler_over_budget_total" ["vip" "port" "proto" "scheduler"]
        "Picks of the scheduler plugin that took more than plugins.scheduler_budget, those included that were late because the host had other things to do, and are no fault."
    SCHEDULER_FALLBACK Gauge "uvs_scheduler_fallback" ["vip" "port" "proto" "scheduler"]
        "1 while wrr is at work in the place of the scheduler plugin, in a worker or in all, because of the plugin's faults; 0 otherwise."

    SERVICE_INFO Gauge "uvs_service_info" ["vip" "port" "proto" "scheduler" "persistent"]
        "Always 1 for each virtual service; the labels name its scheduler and whether it is persistent."
    SERVICE_CONNECTIONS_TOTAL Counter "uvs_service_connections_total" ["vip" "port" "proto"]
        "Connections scheduled."
    SERVICE_PACKETS Counter "uvs_service_packets_total" ["vip" "port" "proto" "direction"]
        "Packets forwarded, `in` from clients and `out` from real servers (none in modes where replies do not pass UVS)."
    SERVICE_BYTES Counter "uvs_service_bytes_total" ["vip" "port" "proto" "direction"]
        "IP bytes forwarded, before encapsulation, by direction."
    SERVICE_CONNECTIONS Gauge "uvs_service_connections" ["vip" "port" "proto" "state"]
        "Connections in the table by state: `active`, `inactive`, and `persistent` for templates."
    SERVICE_BACKENDS Gauge "uvs_service_backends" ["vip" "port" "proto" "state"]
        "Real servers by state: `up`, `drained` (weight 0), `overloaded` (at their upper threshold), `down` (the next hop does not answer ARP)."
    SCHEDULE_FAILURES Counter "uvs_schedule_failures_total" ["vip" "port" "proto" "reason"]
        "New connections that got no real server, by reason (below)."

    BACKEND_CONNECTIONS_TOTAL Counter "uvs_backend_connections_total" ["vip" "port" "proto" "rip" "rport" "mode"]
        "Connections scheduled to the real server."
    BACKEND_PACKETS Counter "uvs_backend_packets_total" ["vip" "port" "proto" "rip" "rport" "mode" "direction"]
        "Packets forwarded to (`in`) and from (`out`) the real server."
    BACKEND_BYTES Counter "uvs_backend_bytes_total" ["vip" "port" "proto" "rip" "rport" "mode" "direction"]
        "IP bytes forwarded to and from the real server, before encapsulation."
    BACKEND_CONNECTIONS Gauge "uvs_backend_connections" ["vip" "port" "proto" "rip" "rport" "mode" "state"]
        "Connections of the real server by state, as for services."
    BACKEND_OPEN Gauge "uvs_backend_open_connections" ["vip" "port" "proto" "rip" "rport" "mode"]
        "Connections of the real server that are neither closed by both sides nor reset: at weight 0, what it still has to drain."
    BACKEND_WEIGHT Gauge "uvs_backend_weight" ["vip" "port" "proto" "rip" "rport" "mode"]
        "The real server's weight; 0 = quiesced."
    BACKEND_EFFECTIVE_WEIGHT Gauge "uvs_backend_effective_weight" ["vip" "port" "proto" "rip" "rport" "mode"]
        "What the real server counts for: less than its weight during its slow start."
    BACKEND_HANDSHAKE Gauge "uvs_backend_handshake_seconds" ["vip" "port" "proto" "rip" "rport" "mode"]
        "Smoothed time from SYN to SYN-ACK of the last minute's connections; absent where none was measured, as in modes that see no replies."
    BACKEND_HANDSHAKES Counter "uvs_backend_handshakes_total" ["vip" "port" "proto" "rip" "rport" "mode" "result"]
        "TCP handshakes of clients by how the real server answered, each connection once: `ok` (a SYN-ACK), `reset` (a RST), `timeout` (nothing by the third SYN, or at all); absent in modes that see no replies."
    BACKEND_UP Gauge "uvs_backend_up" ["vip" "port" "proto" "rip" "rport" "mode"]
        "1 while the MAC address of the real server's next hop is known, so that packets can be sent to it. UVS checks no application: that is keepalived's or ldirectord's part."
    BACKEND_OVERLOADED Gauge "uvs_backend_overloaded" ["vip" "port" "proto" "rip" "rport" "mode"]
        "1 while the real server is at its upper threshold."
    TRUNCATED Gauge "uvs_metrics_truncated" []
        "1 while there are more real servers than `metrics.max_backends`, so that the uvs_backend_* series are left out."

    FRAMES_RECEIVED Counter "uvs_frames_received_total" ["interface" "worker"]
        "Frames taken from the interface's ring. Each ends as one of forwarded, answered, held, passed, local, or dropped at stage `input`, where there are several workers perhaps at the one that it was handed on to."
    FRAMES_IN_KERNEL Counter "uvs_frames_in_kernel_total" ["interface"]
        "Frames that came in by the interface and were forwarded in the kernel, by the hook; they are in no ring, and come on top of uvs_frames_received_total."
    FRAMES_FORWARDED Counter "uvs_frames_forwarded_total" ["interface" "worker"]
        "Frames that came in here and were to be sent on, as they were or as segments or fragments."
    FRAMES_ANSWERED Counter "uvs_frames_answered_total" ["interface" "worker"]
        "Frames that ended in an answer: ICMP, RST or ARP."
    FRAMES_HELD Counter "uvs_frames_held_total" ["interface" "worker"]
        "Fragments held until their datagram was complete, and sent with it."
    FRAMES_PASSED Counter "uvs_frames_passed_total" ["interface" "worker"]
        "Frames left to the kernel."
    FRAMES_LOCAL Counter "uvs_frames_local_total" ["interface" "worker"]
        "Frames for the host's own stack, and given to it: the director is their real server or client, their VIP is not the director's, or they are a NAT server's own."
    FRAMES_HANDED_ON Counter "uvs_frames_handed_on_total" ["interface" "worker"]
        "Frames that were another worker's, and were handed over to it: what the kernel's fan-out program cannot tell, and for a moment after a change of services what it does not know yet."
    FRAMES_TAKEN_OVER Counter "uvs_frames_taken_over_total" ["interface" "worker"]
        "Frames that another worker has handed over to this one; they end here, and came in there."
    DROPS Counter "uvs_drops_total" ["reason" "stage" "interface" "worker"]
        "Frames dropped, by reason (below). Stage `input`: the decision about a received frame, which came in by the interface. Stage `output`: a frame that was to leave by the interface, forwarded or made by UVS, did not."
    FRAMES_UNACCOUNTED Gauge "uvs_frames_unaccounted" ["interface" "worker"]
        "Frames received and taken over minus all that became of them: anything but 0 is a fault of UVS."
    FRAMES_HANDED Counter "uvs_frames_handed_total" ["interface" "worker"]
        "Frames handed over to leave by the interface: forwarded, segments, fragments and answers. Each is sent, waits, or is dropped at stage `output`."
    FRAMES_WAITING Gauge "uvs_frames_waiting" ["interface" "worker"]
        "Frames that wait until the kernel has resolved their next hop's MAC address."
    FRAMES_UNSENT Gauge "uvs_frames_unsent" ["interface" "worker"]
        "Frames handed over minus those sent, waiting and dropped: anything but 0 is a fault of UVS."

    INTERFACE_UP Gauge "uvs_interface_up" ["interface"]
        "1 while the interface can carry traffic."
    RX_PACKETS Counter "uvs_rx_packets_total" ["interface" "worker"]
        "Frames that the kernel put into the ring; ahead of uvs_frames_received_total by those that wait in it."
    RX_BYTES Counter "uvs_rx_bytes_total" ["interface" "worker"]
        "Bytes of the received frames."
    RX_KERNEL_DROPS Counter "uvs_rx_kernel_drops_total" ["interface" "worker"]
        "Frames that the kernel dropped instead of putting them into the ring: it was full, as the worker was too slow, or it had stopped, or the kernel could not describe them."
    RX_STALLS Counter "uvs_rx_ring_stalls_total" ["interface" "worker"]
        "How often the kernel had stopped filling the ring, which was then made anew (docs/alerts.md)."
    RX_OVERSIZED Counter "uvs_rx_oversized_total" ["interface" "worker"]
        "Super-frames larger than a slot of the ring, fetched with a system call of their own."
    TX_PACKETS Counter "uvs_tx_packets_total" ["interface" "worker"]
        "Frames that the kernel took to send."
    TX_BYTES Counter "uvs_tx_bytes_total" ["interface" "worker"]
        "Bytes of the sent frames."
    TX_ERRORS Counter "uvs_tx_errors_total" ["interface" "worker" "errno"]
        "Frames that the kernel refused to send, by errno."

    HOOK_STATE Gauge "uvs_hook_state" ["state"]
        "1 for what the program in the kernel does: `tier` (it forwards established connections), `guard` (it tells UVS's frames from the host's) or `off`."
    HOOK_ATTACHED Gauge "uvs_hook_attached" ["interface"]
        "1 while the hook's program is on the interface; absent where there is no hook."
    HOOK_CONNECTIONS Gauge "uvs_hook_connections" []
        "Connections that the kernel forwards."
    HOOK_KNOWN Gauge "uvs_hook_known_connections" []
        "Connections that user space forwards and whose servers' frames the hook gives to it (NAT, FULLNAT)."
    HOOK_LIMIT Gauge "uvs_hook_connections_limit" []
        "How many connections the kernel can forward (hook.connections); 0 without a hook."
    HOOK_TAKEN Counter "uvs_hook_taken_total" []
        "Connections that were handed to the kernel."
    HOOK_RELEASED Counter "uvs_hook_released_total" []
        "Connections that were taken back from the kernel: ended, or changed so that the program no longer could."
    HOOK_UNTAKEN Counter "uvs_hook_untaken_total" ["reason"]
        "Connections that stayed in user space, by reason (below)."
    HOOK_UP Counter "uvs_hook_up_frames_total" ["reason"]
        "Frames that the hook gave to user space, by reason (below)."
    HOOK_BYTES Counter "uvs_hook_forwarded_bytes_total" ["interface"]
        "Bytes of the frames that came in by the interface and were forwarded in the kernel."
    HOOK_LOST Counter "uvs_hook_lost_frames_total" ["interface" "reason"]
        "Frames that the hook dropped: `no_memory` (the kernel had none to change it) or `gso_unsupported` (a super-frame that the ring cannot describe: UDP before Linux 6.2, SCTP always)."
    HOOK_EVENTS Counter "uvs_hook_events_total" []
        "Changes of connections that the hook told user space without being asked: established, closing, closed."
    HOOK_EVENTS_LOST Counter "uvs_hook_events_lost_total" []
        "Events that found no room; the daemon then looks at every connection that it handed over."
    HOOK_HEARTBEAT Gauge "uvs_hook_heartbeat_age_seconds" []
        "Since when the daemon has not told the hook that it lives; 0 without a hook."
    HOOK_HEARTBEAT_LIMIT Gauge "uvs_hook_heartbeat_limit_seconds" []
        "The age of the heartbeat at which the kernel gets everything back; 0 without a hook."
    HOOK_REPAIRS Counter "uvs_hook_repairs_total" []
        "How often the hook had to be repaired because somebody else had removed it from an interface."

    SEGMENTS Counter "uvs_segments_total" []
        "Frames made by segmenting super-frames that the kernel could not segment."
    FRAGMENTS Counter "uvs_fragments_total" []
        "Frames made by fragmenting datagrams that had come in fragments or were too big."
    FRAGMENTS_EXPIRED Counter "uvs_fragments_expired_total" []
        "Held fragments whose datagram was never completed."
    ICMP_SENT Counter "uvs_icmp_sent_total" ["type"]
        "ICMP and ICMPv6 errors made by UVS, by type; ICMP's fragmentation needed counts as unreachable."
    ICMP_TRANSLATED Counter "uvs_icmp_translated_total" []
        "ICMP messages about a connection that were passed on to its other side."
    SCHEDULER_FAULTS Counter "uvs_scheduler_faults_total" []
        "Decisions refused because the scheduler named a real server that does not exist or may not be used."

    CONNTRACK_ENTRIES Gauge "uvs_conntrack_entries" []
        "Connections and persistence templates in the table."
    CONNTRACK_LIMIT Gauge "uvs_conntrack_limit" []
        "How many the table holds (limits.connections)."
    CONNTRACK_EXPIRED Counter "uvs_conntrack_expired_total" []
        "Connections and templates that ended, for whatever reason."
    CONNTRACK_EVICTED Counter "uvs_conntrack_evicted_total" []
        "Connections and templates evicted for new ones at the table's limit: half-open ones and theirs first."
    CONNTRACK_DEFENDED Counter "uvs_conntrack_dropped_entries_total" []
        "Connections and templates that the defence drop_entry ended."
    CONNTRACK_OUT_OF_WINDOW Counter "uvs_conntrack_out_of_window_total" []
        "Segments of TCP connections that would have ended them (RST, FIN) with a sequence number far from the expected: forwarded, and without effect on the connection."
    CONNTRACK_REPLACED Counter "uvs_conntrack_replaced_total" ["state"]
        "NAT connections that gave way to a new one of the same client, port and server by another service: `over` already, or `live` because no other server was left."
    CONNTRACK_TOLD Counter "uvs_conntrack_told_total" ["end"]
        "Ends of connections (`client`, `server`) that were notified by RST or ICMP: as on_removal, on_expiry or drain_timeout ask for, or because a new connection replaced it."
    SNAT_PORTS_IN_USE Gauge "uvs_snat_ports_in_use" ["laddr"]
        "FULLNAT: local ports of the address in use towards the real server that has most of them; one port serves all servers at once."
    SNAT_REOPENED Counter "uvs_snat_reopened_total" []
        "FULLNAT: connections whose server still had an old one of their local port, which was reset and the SYN sent again."
    PROXY_HEADERS Counter "uvs_proxy_headers_total" ["attempt"]
        "TCP headers of the PROXY protocol sent to real servers: for the `first` time, or `again` where the server did not acknowledge it."
    SNAT_PORTS_LIMIT Gauge "uvs_snat_ports_limit" ["laddr"]
        "FULLNAT: local ports that the address has for each real server (limits.local_ports)."

    FORWARD_LATENCY Histogram "uvs_forward_latency_seconds" []
        "From a frame's arrival in the ring until the batch with it was handed to the kernel."
    SCHEDULE_DURATION Histogram "uvs_schedule_duration_seconds" []
        "How long a scheduler, built-in or plugin, took to choose a real server."
    BATCH_SIZE Histogram "uvs_batch_size" ["worker"]
        "Frames taken from a ring at once."
    WORKER_BUSY Counter "uvs_worker_busy_seconds_total" ["worker"]
        "Time the worker worked."
    WORKER_WAIT Counter "uvs_worker_poll_seconds_total" ["worker"]
        "Time the worker waited for frames."

    NEIGHBOURS Gauge "uvs_neighbour_entries" ["state"]
        "The host's neighbour entries on UVS's interfaces: `known` with a MAC address, `unknown` without."
    NETLINK_OVERRUNS Counter "uvs_netlink_overruns_total" []
        "How often netlink overran, after which everything was read again."
    GUARD_REPAIRS Counter "uvs_guard_repairs_total" ["harm"]
        "How often the guard had to be repaired because another program had changed it: `removed`, as by `nft flush ruleset`, or `damaged`."
    SYNC_DATAGRAMS Counter "uvs_sync_datagrams_total" ["role"]
        "Datagrams of the synchronisation with other directors: sent by the `master`, received by the `backup`."
    SYNC_BYTES Counter "uvs_sync_bytes_total" ["role"]
        "Their bytes, headers not counted."
    SYNC_MESSAGES Counter "uvs_sync_messages_total" ["role"]
        "What was said of connections in them; of a `backup`, what was taken up."
    SYNC_REFUSED Counter "uvs_sync_refused_total" ["role"]
        "Datagrams and messages that were not taken up: of another syncid, damaged, or without a place in the table."
    SYNC_LOST Counter "uvs_sync_lost_total" ["role"]
        "Messages that were lost before they were sent."
    SYNC_MISSED Counter "uvs_sync_missed_datagrams_total" ["role"]
        "Datagrams that other directors have sent a backup and that did not come, or after later ones; known with a key only."
    SYNC_DELAY Gauge "uvs_sync_delay_seconds" ["role"]
        "From the sealing of the last datagram by another director until it was taken up here, by both hosts' clocks: below 0 where they differ. With a key only; no series before the first."
    SYNC_ENTRIES Gauge "uvs_sync_entries" ["role"]
        "Connections and templates in a backup's table that other directors have told of."
    SYNC_BULK Counter "uvs_sync_bulk_transfers_total" ["role" "result"]
        "Transfers of the whole table (`bulk`): that others have asked a `master` for, that a `backup` has asked others for, by how they ended."
    SYNC_BULK_MESSAGES Counter "uvs_sync_bulk_messages_total" ["role"]
        "What was said of connections in them."
    SYNC_SILENCE Gauge "uvs_sync_last_datagram_age_seconds" ["role"]
        "Seconds since the last datagram; no series before the first."
    RELOADS Counter "uvs_config_reloads_total" ["result"]
        "Attempts to load the configuration, the one at the start included: `success` or `failure`."
    RELOAD_OK Gauge "uvs_config_last_reload_successful" []
        "1 where the last attempt succeeded."
    RELOAD_TIME Gauge "uvs_config_last_reload_success_timestamp_seconds" []
        "When an attempt last succeeded, in seconds since 1970."
    DRIFT Gauge "uvs_config_drift" []
        "In how many places what runs differs from the configuration file as it was last read: by ipvsadm, keepalived, `uvs weight` and the like. No series without a file."

    LOG_LOST Counter "uvs_log_lines_lost_total" ["reason"]
        "Lines that the log lacks: `queue_full`, as those before them were not written fast enough, or `write_failed`."
    LOG_SUPPRESSED Counter "uvs_log_lines_suppressed_total" []
        "Lines left out of the log, since many like them had just been written; a line says how many and of what kind."
    RECORDS Counter "uvs_connection_log_lines_total" []
        "Lines that the connection log has: one for each connection that has ended of a logged service, and one for its start where that is asked for."
    RECORDS_LOST Counter "uvs_connection_log_lines_lost_total" ["reason"]
        "Lines that the connection log lacks: `queue_full`, as those before them were not written fast enough, or `write_failed`."

    SNAPSHOT_AGE Gauge "uvs_snapshot_age_seconds" []
        "Age of the numbers served; a few milliseconds unless the daemon is stuck: then the last known numbers are served."
    HTTP_REQUESTS Counter "uvs_http_requests_total" ["code"]
        "Requests that the exporter answered, by status code."
    HTTP_REFUSED Counter "uvs_http_connections_refused_total" []
        "Connections that the exporter closed unanswered, because too many were open."

    PROCESS_CPU Counter "process_cpu_seconds_total" []
        "Total user and system CPU time spent in seconds."
    PROCESS_OPEN_FDS Gauge "process_open_fds" []
        "Number of open file descriptors."
    PROCESS_MAX_FDS Gauge "process_max_fds" []
        "Maximum number of open file descriptors."
    PROCESS_VIRTUAL Gauge "process_virtual_memory_bytes" []
        "Virtual memory size in bytes."
    PROCESS_RESIDENT Gauge "process_resident_memory_bytes" []
        "Resident memory size in bytes."
    PROCESS_START Gauge "process_start_time_seconds" []
        "Start time of the process since unix epoch in seconds."
    PROCESS_THREADS Gauge "process_threads" []
        "Number of OS threads in the process."
}

/// A series that each real server has.
pub(crate) struct BackendSeries {
    /// Its metric.
    pub(crate) of: &'static Definition,
    /// The value of the metric's last label, where that is one more than a real server's.
    pub(crate) by: Option<&'static str>,
    /// Its value; `None` = no series.
    pub(crate) value: fn(&BackendMetrics) -> Option<f64>,
}

impl BackendSeries {
    const fn one(of: &'static Definition, value: fn(&BackendMetrics) -> Option<f64>) -> Self {
        Self {
            of,
            by: None,
            value,
        }
    }

    const fn by(
        of: &'static Definition,
        by: &'static str,
        value: fn(&BackendMetrics) -> Option<f64>,
    ) -> Self {
        Self {
            of,
            by: Some(by),
            value,
        }
    }
}

/// All series of a real server.
pub(crate) const BACKEND_SERIES: &[BackendSeries] = &[
    BackendSeries::one(&BACKEND_CONNECTIONS_TOTAL, |b| {
        Some(b.numbers.stats.connections as f64)
    }),
    BackendSeries::by(&BACKEND_PACKETS, "in", |b| {
        Some(b.numbers.stats.in_packets as f64)
    }),
    BackendSeries::by(&BACKEND_PACKETS, "out", |b| {
        Some(b.numbers.stats.out_packets as f64)
    }),
    BackendSeries::by(&BACKEND_BYTES, "in", |b| {
        Some(b.numbers.stats.in_bytes as f64)
    }),
    BackendSeries::by(&BACKEND_BYTES, "out", |b| {
        Some(b.numbers.stats.out_bytes as f64)
    }),
    BackendSeries::by(&BACKEND_CONNECTIONS, "active", |b| {
        Some(b.numbers.active.into())
    }),
    BackendSeries::by(&BACKEND_CONNECTIONS, "inactive", |b| {
        Some(b.numbers.inactive.into())
    }),
    BackendSeries::by(&BACKEND_CONNECTIONS, "persistent", |b| {
        Some(b.numbers.persistent.into())
    }),
    BackendSeries::one(&BACKEND_OPEN, |b| Some(b.numbers.open.into())),
    BackendSeries::one(&BACKEND_WEIGHT, |b| Some(b.spec.weight.into())),
    BackendSeries::one(&BACKEND_EFFECTIVE_WEIGHT, |b| {
        Some(b.numbers.effective_weight)
    }),
    BackendSeries::one(&BACKEND_HANDSHAKE, |b| {
        let micros = b.numbers.handshake;
        (micros > 0).then(|| f64::from(micros) / 1e6)
    }),
    BackendSeries::by(&BACKEND_HANDSHAKES, "ok", |b| handshakes(b, |h| h.ok)),
    BackendSeries::by(&BACKEND_HANDSHAKES, "reset", |b| handshakes(b, |h| h.reset)),
    BackendSeries::by(&BACKEND_HANDSHAKES, "timeout", |b| {
        handshakes(b, |h| h.timeout)
    }),
    BackendSeries::one(&BACKEND_UP, |b| Some(b.reachable.into())),
    BackendSeries::one(&BACKEND_OVERLOADED, |b| Some(b.numbers.overloaded.into())),
];

/// A number of a real server's handshakes, where they are seen.
fn handshakes(b: &BackendMetrics, of: fn(&HandshakeNumbers) -> u64) -> Option<f64> {
    let seen = b.spec.forwarding.passes_replies();
    seen.then(|| of(&b.numbers.handshakes) as f64)
}

const BACKEND_OF_NODE: &[&str] = &[
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "proto",
    "local_mark",
];

const fn node(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Definition {
    Definition {
        name,
        kind,
        labels,
        help,
    }
}

/// node_exporter's series (`metrics.compat = "node_ipvs"`), with its names, labels and help.
pub const NODE_IPVS: [Definition; 8] = [
    node(
        "node_ipvs_connections_total",
        Kind::Counter,
        &[],
        "The total number of connections made.",
    ),
    node(
        "node_ipvs_incoming_packets_total",
        Kind::Counter,
        &[],
        "The total number of incoming packets.",
    ),
    node(
        "node_ipvs_outgoing_packets_total",
        Kind::Counter,
        &[],
        "The total number of outgoing packets.",
    ),
    node(
        "node_ipvs_incoming_bytes_total",
        Kind::Counter,
        &[],
        "The total amount of incoming data.",
    ),
    node(
        "node_ipvs_outgoing_bytes_total",
        Kind::Counter,
        &[],
        "The total amount of outgoing data.",
    ),
    node(
        "node_ipvs_backend_connections_active",
        Kind::Gauge,
        BACKEND_OF_NODE,
        "The current active connections by local and remote address.",
    ),
    node(
        "node_ipvs_backend_connections_inactive",
        Kind::Gauge,
        BACKEND_OF_NODE,
        "The current inactive connections by local and remote address.",
    ),
    node(
        "node_ipvs_backend_weight",
        Kind::Gauge,
        BACKEND_OF_NODE,
        "The current backend weight by local and remote address.",
    ),
];

impl Kind {
    /// As Prometheus writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// `docs/metrics.md`: the tables are this list, the words around them are in `metrics.md.in`.
pub fn markdown() -> String {
    let mut reasons = String::new();
    for r in DropReason::ALL {
        let stage = r.stage().label();
        let _ = writeln!(
            reasons,
            "| `{}` | {stage} | {} | {} |",
            r.label(),
            r.meaning(),
            r.advice()
        );
    }
    let failures = ScheduleFailure::ALL.iter();
    let failures = meanings(failures.map(|f| (f.label(), f.meaning())));
    let bulk = meanings(BulkResult::ALL.iter().map(|b| (b.label(), b.meaning())));
    let untaken = meanings(Untaken::ALL.iter().map(|u| (u.label(), u.meaning())));
    let up = meanings(Up::ALL.iter().map(|u| (u.label(), u.meaning())));
    include_str!("metrics.md.in")
        .replace("@METRICS@\n", &rows(ALL))
        .replace("@NODE_IPVS@\n", &rows(&NODE_IPVS))
        .replace("@REASONS@\n", &reasons)
        .replace("@FAILURES@\n", &failures)
        .replace("@BULK@\n", &bulk)
        .replace("@UNTAKEN@\n", &untaken)
        .replace("@UP@\n", &up)
}

/// Rows of a label and what it means.
fn meanings<'a>(reasons: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    reasons.fold(String::new(), |mut text, (label, meaning)| {
        let _ = writeln!(text, "| `{label}` | {meaning} |");
        text
    })
}

fn rows(definitions: &[Definition]) -> String {
    let mut text = String::new();
    for d in definitions {
        let labels: Vec<String> = d.labels.iter().map(|l| format!("`{l}`")).collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            d.name,
            d.kind.name(),
            labels.join(" "),
            d.help
        );
    }
    text
}
