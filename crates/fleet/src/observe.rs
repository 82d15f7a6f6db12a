//! What the driver counts: a look at each event, each command, and the state after each step.

use sharding::Bucket;
use sharding::map::MapError;
use sharding::protocol::{Answer, Command, Event, Kept, Process, Work};
use telemetry::Metrics;
use telemetry::label::{BucketWork, MapRefusal, Renewal};
use telemetry::metrics::FleetMetrics;
use tokio::sync::watch;

use crate::clock::Clocks;
use crate::handle::Served;

/// Nobody may want to know.
#[derive(Clone, Default)]
pub(crate) struct Observer(Option<FleetMetrics>);

impl Observer {
    pub(crate) fn new(metrics: &Metrics, served: watch::Receiver<Served>, clocks: Clocks) -> Self {
        metrics.before_scrape(move |metrics| {
            let left = served.borrow().start_until.saturating_sub((clocks.boot)());
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            metrics.fleet.lease_seconds.set(f64::from(left) / 1000.0);
        });
        Self(Some(metrics.fleet.clone()))
    }

    pub(crate) fn event(&self, event: &Event) {
        let Some(metrics) = &self.0 else { return };
        match event {
            Event::Written(Kept::Member, answer) => metrics.lease_renewals.record(match answer {
                Answer::Accepted { .. } => Renewal::Success,
                Answer::Conflict => Renewal::Conflict,
                Answer::Unknown => Renewal::Unknown,
            }),
            Event::Taken(_, Answer::Accepted { .. }) => metrics.takeovers.inc(),
            Event::Idle(_) => metrics.handovers.inc(),
            _ => {}
        }
    }

    pub(crate) fn command(&self, command: &Command) {
        let Some(metrics) = &self.0 else { return };
        match command {
            Command::Abort => metrics.self_fences.inc(),
            Command::Refuse(error) => metrics.map_refused.record(refusal(error)),
            _ => {}
        }
    }

    pub(crate) fn state(&self, process: &Process, leads: bool) {
        let Some(metrics) = &self.0 else { return };
        metrics.leader.set(i64::from(leads));
        let map = process.member.map.as_ref().and_then(|(_, map)| map.as_ref());
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        metrics.term.set(map.map_or(0, |map| number(map.term)));
        metrics.map_sequence.set(map.map_or(0, |map| number(map.sequence)));
        metrics.buckets.count(|count| {
            let all = process.member.work.iter();
            all.for_each(|(_, work): (&Bucket, &Work)| {
                count(match work {
                    Work::Serving(_) => BucketWork::Serving,
                    Work::Draining(_) => BucketWork::Draining,
                });
            });
        });
    }
}

fn refusal(error: &MapError) -> MapRefusal {
    match error {
        MapError::Foreign { .. } => MapRefusal::Foreign,
        MapError::BucketCount { .. } => MapRefusal::BucketCount,
        MapError::Edited => MapRefusal::Edited,
        MapError::Older { .. } => MapRefusal::Older,
        MapError::NoSuchMember { .. }
        | MapError::Twice(_)
        | MapError::Epoch { .. }
        | MapError::TooLarge(_)
        | MapError::Round { .. } => MapRefusal::Malformed,
    }
}
