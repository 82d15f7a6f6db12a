use prometheus::{Gauge, IntCounter, IntGauge, Opts, Registry};

use super::series::{Gauges, Tally};
use crate::label::{BucketWork, FenceLayer, MapRefusal, Orphan, Renewal};

/// The series of this replica as a member of the fleet; clones share them. All of them are about this replica: what the
/// fleet is as a whole is the sum over its replicas, or `database-operator fleet status`.
#[derive(Clone)]
pub struct FleetMetrics {
    /// Buckets in which it works. To be counted anew whenever that changes.
    pub buckets: Gauges<BucketWork>,
    /// Layers of the fence that are active. Worth an alert without the policies: the last line of defence is missing.
    pub fence: Gauges<FenceLayer>,
    /// To be counted before each scrape. Worth an alert if they stay for more than 30 s.
    pub orphans: Gauges<Orphan>,
    /// Whether it leads.
    pub leader: IntGauge,
    /// Of the map that it obeys.
    pub term: IntGauge,
    /// Of the map that it obeys.
    pub map_sequence: IntGauge,
    /// To be set before each scrape: a value of the past would hide what it is there for.
    pub lease_seconds: Gauge,
    /// Worth an alert if it goes on growing: replicas die.
    pub takeovers: IntCounter,
    /// Planned, and harmless.
    pub handovers: IntCounter,
    /// Worth an alert: the API server was out of reach for long, or the process did not run.
    pub self_fences: IntCounter,
    /// Worth an alert: somebody writes the map, or another installation runs.
    pub map_refused: Tally<MapRefusal>,
    /// Conflicts are worth an alert if they go on: somebody else writes the Lease.
    pub lease_renewals: Tally<Renewal>,
}

impl FleetMetrics {
    /// Registers all series at 0.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let lease_seconds = Gauge::with_opts(Opts::new(
            "database_operator_fleet_lease_seconds",
            "Time until this replica must stop starting work, unless it renews its Lease before; 0 without a Lease.",
        ))?;
        registry.register(Box::new(lease_seconds.clone()))?;
        Ok(Self {
            buckets: Gauges::register(
                registry,
                "database_operator_fleet_member_buckets",
                "Buckets in which this replica works: serving, or draining for another one.",
                "state",
            )?,
            fence: Gauges::register(
                registry,
                "database_operator_fleet_fence",
                "1 for each layer of the fence that is active, as of the last look, once a minute.",
                "layer",
            )?,
            orphans: Gauges::register(
                registry,
                "database_operator_fleet_orphans",
                "What nobody looks after, as far as this replica knows: buckets that its map gives to nobody, and Databases \
                 that it sees under the label of another bucket than their own.",
                "kind",
            )?,
            leader: gauge(
                "database_operator_fleet_leader",
                "1 if this replica leads the fleet, as far as it knows.",
            )?,
            term: gauge(
                "database_operator_fleet_term",
                "Term of the map that this replica obeys.",
            )?,
            map_sequence: gauge(
                "database_operator_fleet_map_sequence",
                "Sequence of the map that this replica obeys. Compare it over the replicas: one that is behind hears nothing.",
            )?,
            lease_seconds,
            takeovers: counter(
                "database_operator_fleet_takeovers_total",
                "Leases of dead replicas that this one has taken as the leader.",
            )?,
            handovers: counter(
                "database_operator_fleet_handovers_total",
                "Buckets in which this replica has ended all work so that another one can go on.",
            )?,
            self_fences: counter(
                "database_operator_fleet_self_fences_total",
                "How often this replica has ended all work at once, since its Lease was lost or about to be.",
            )?,
            map_refused: Tally::register(
                registry,
                "database_operator_fleet_map_refused_total",
                "Maps that this replica did not obey, by what is wrong with them.",
                "reason",
            )?,
            lease_renewals: Tally::register(
                registry,
                "database_operator_fleet_lease_renewals_total",
                "Writes of this replica's own Lease, by how they ended.",
                "outcome",
            )?,
        })
    }
}
