//! An API server that is away for a minute.

use std::time::Duration;

use super::{again, seconds};
use crate::audit::Micros;
use crate::faults::{self, Fault};
use crate::place::{Place, Shape, say};
use crate::setting::{Setting, in_a_cluster};

const AWAY: Duration = Duration::from_mins(1);
/// Two retry periods of the fast profile.
const BAR: Micros = 2_000_000;

#[test]
#[ignore = "takes 5 minutes: make measure"]
fn measure_an_outage_of_a_minute() {
    in_a_cluster(None, &again("outage"), measure);
}

async fn measure(setting: Setting) {
    let mut place = Place::of_three(setting, Shape::fast(3), 36).await;
    place.load().start(8);
    let mut resumed = Vec::new();
    for fault in [
        Fault::ServerAway,
        Fault::ServerFrozen,
        Fault::ServerAway,
        Fault::ServerFrozen,
    ] {
        place.pass(Duration::from_secs(3)).await;
        faults::without_server(fault, &mut place, AWAY).await;
        let last = place.journal.resumed.last().copied().expect("just noted");
        resumed.push((fault.name(), last));
    }
    let last = place.load().finish().await;
    place.all_done().await;
    let wrong = place.load().misconfigured(&place.client, &last).await;
    for (fault, after) in &resumed {
        say(&format!(
            "    {fault} for a minute: first write {:.2} s after it was back (bar 2).",
            seconds(*after)
        ));
    }
    say("    No replica has ended; all that was declared last is done.");
    assert!(wrong.is_empty(), "lost: {wrong:?}");
    assert!(
        resumed.iter().all(|(_, after)| *after <= BAR),
        "work did not resume soon enough"
    );
}
