//! Watches that say nothing while everything else is well.

use std::time::Duration;

use super::{again, seconds};
use crate::audit::{Micros, now};
use crate::faults;
use crate::place::{Place, Shape, say};
use crate::setting::{Setting, in_a_cluster};

const BAR: Micros = 90_000_000;

#[test]
#[ignore = "takes 3 minutes: make measure"]
fn measure_watches_that_stall() {
    in_a_cluster(None, &again("stall"), measure);
}

/// A change that is not seen, because its event is held back, is done once the silence is noticed.
async fn measure(setting: Setting) {
    let mut place = Place::of_three(setting, Shape::fast(3), 36).await;
    let victim = faults::an_owner(&mut place).await;
    let member = place.replicas[victim].name.clone();
    let databases = place.databases_of(&member).await;
    place.pass(Duration::from_secs(5)).await;
    let from = now();
    place.replicas[victim].proxy.hold_events(true);
    place.tell(&format!(
        "no event reaches {member}, which has {} Databases",
        databases.len()
    ));
    // Beyond the time in which what comes counts as an answer.
    place.pass(Duration::from_secs(5)).await;
    place.load().burst(&databases);
    let known = place.log.writes.len();
    place
        .until("the changes are seen", |place, _| {
            let writes = &place.log.writes[known..];
            databases.iter().all(|database| {
                writes
                    .iter()
                    .any(|write| write.database == *database && write.accepted())
            })
        })
        .await;
    let times = place.log.writes[known..].iter().map(|write| write.done - from);
    let (first, last) = (times.clone().min().unwrap_or_default(), times.max().unwrap_or_default());
    let by_it = place.log.writes[known..].iter().all(|write| write.member == member);
    say(&format!(
        "    Watches that stalled while Leases were renewed: the first change was done {:.1} s, the last {:.1} s after the \
         stall began (bar 90).",
        seconds(first),
        seconds(last)
    ));
    assert!(by_it, "it kept its Lease, so nobody else wrote");
    assert!(first > 20_000_000, "the events were held back, or this proves nothing");
    assert!(last <= BAR);
}
