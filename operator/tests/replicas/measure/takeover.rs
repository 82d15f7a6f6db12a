//! How long the Databases of a replica that died have nobody.

use super::{again, quantile, seconds, takeovers};
use crate::audit::Micros;
use crate::faults;
use crate::place::{Place, Shape, say};
use crate::setting::{Setting, in_a_cluster};

const KILLS: usize = 30;
const DATABASES: usize = 36;

#[test]
#[ignore = "takes 10 minutes: make measure"]
fn measure_takeovers_in_the_fast_profile() {
    in_a_cluster(None, &again("takeovers_in_the_fast"), |setting| {
        measure(setting, [6, 4, 1], 6_500_000)
    });
}

#[test]
#[ignore = "takes 20 minutes: make measure"]
fn measure_takeovers_in_the_default_profile() {
    in_a_cluster(None, &again("takeovers_in_the_default"), |setting| {
        measure(setting, [15, 10, 2], 15_500_000)
    });
}

/// `kill -9`, each third time of the leader, in the middle of work.
async fn measure(setting: Setting, timings: [u64; 3], bar: Micros) {
    let shape = Shape {
        timings,
        ..Shape::fast(3)
    };
    let mut place = Place::of_three(setting, shape, DATABASES).await;
    place.load().start(4);
    for kill in 0..KILLS {
        let leader = place.leader().await;
        let led = kill % 3 == 0;
        let victim = if led { leader } else { (leader + 1 + kill % 2) % 3 };
        faults::killed(&mut place, victim, led).await;
        place.settled().await;
    }
    let found = takeovers(&place);
    let sorted = |of: fn(&super::Takeover) -> Micros| {
        let mut all: Vec<Micros> = found.iter().map(of).collect();
        all.sort_unstable();
        all
    };
    let owned = sorted(|takeover| takeover.owned);
    let written = sorted(|takeover| takeover.written.unwrap_or_default());
    say(&format!(
        "    Profile {timings:?}, {} kills: owned by others after p50 {:.2}, worst {:.2} s (bar {:.1}); a change that \
         waited was written for after p50 {:.2}, worst {:.2} s.",
        found.len(),
        seconds(quantile(&owned, 500)),
        seconds(owned[owned.len() - 1]),
        seconds(bar),
        seconds(quantile(&written, 500)),
        seconds(written[written.len() - 1]),
    ));
    assert_eq!(found.len(), KILLS);
    assert!(
        found.iter().all(|takeover| takeover.databases > 0),
        "each had Databases"
    );
    assert!(owned[owned.len() - 1] <= bar, "a takeover took too long");
}
