//! The operator is removed with its map and its Leases, and comes back to Databases that have run on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Resource as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use sharding::crd::MAP_NAME;

use super::{again, seconds};
use crate::audit::now;
use crate::place::{DEADLINE, NAMESPACE, Place, Shape, say};
use crate::setting::{Setting, in_a_cluster};

const DATABASES: usize = 200;
const NAMES: [&str; 3] = ["r0", "r1", "r2"];

#[test]
#[ignore = "takes 5 minutes: make measure"]
fn measure_a_reinstall() {
    in_a_cluster(Some(4), &again("reinstall"), measure);
}

async fn measure(setting: Setting) {
    let shape = Shape {
        pods: 1,
        ..Shape::fast(3)
    };
    let mut place = Place::of_three(setting, shape, DATABASES).await;
    place.pass(Duration::from_secs(5)).await;
    let before = pods(&place).await;
    say(&format!("    {} pods run (simulated)", before.len()));
    assert_eq!(before.len(), DATABASES);

    // Under replicas that run.
    remove(&place, false).await;
    place.tell("the map is deleted under running replicas");
    place.settled().await;
    works(&mut place, "the map was deleted").await;

    // And without any.
    place.replicas.clear();
    remove(&place, true).await;
    place.tell("all replicas are dead, map and Leases are deleted");
    let shape = place.shape.clone();
    place.begin_anew(shape, &NAMES, false).await;
    works(&mut place, "the reinstall").await;

    let after = pods(&place).await;
    assert_eq!(before, after, "pods were replaced or restarted");
    say("    The same pods run, none of them was restarted.");
}

/// Each Database loses its Services, and gets them back. A change of its specification would restart its pod.
async fn works(place: &mut Place, since: &str) {
    let services: Api<Service> = Api::namespaced(place.client.clone(), NAMESPACE);
    let names = || async {
        let list = services.list_metadata(&ListParams::default()).await.expect("a list");
        list.iter()
            .map(kube::ResourceExt::name_any)
            .collect::<BTreeSet<String>>()
    };
    let before = names().await;
    assert!(before.len() >= DATABASES, "{} Services", before.len());
    let from = now();
    for name in &before {
        services.delete(name, &DeleteParams::default()).await.expect("deleted");
    }
    let deadline = Instant::now() + DEADLINE;
    while names().await != before {
        assert!(Instant::now() < deadline, "not all Services are back: refused for good");
        place.pass(Duration::from_millis(500)).await;
    }
    let to = now();
    place.pass(Duration::from_secs(2)).await;
    let refused = place.since(from).into_iter().filter(|write| write.fenced_off()).count();
    say(&format!(
        "    After {since}: {} Services that were deleted are back after {:.1} s, {refused} writes refused by the fence \
         meanwhile.",
        before.len(),
        seconds(to - from)
    ));
}

/// Uid and restarts of each pod.
async fn pods(place: &Place) -> BTreeMap<String, (String, i32)> {
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), NAMESPACE);
    let pods = pods.list(&ListParams::default()).await.expect("a list").items;
    let facts = pods.into_iter().map(|pod| {
        let status = pod.status.unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let restarts = containers.iter().map(|container| container.restart_count).sum();
        let name = pod.metadata.name.unwrap_or_default();
        (name, (pod.metadata.uid.unwrap_or_default(), restarts))
    });
    facts.collect()
}

/// The map, and perhaps all Leases.
async fn remove(place: &Place, leases: bool) {
    let maps: Api<DynamicObject> = Api::all_with(place.client.clone(), &fleet::shardmap::resource());
    maps.delete(MAP_NAME, &DeleteParams::default()).await.expect("deleted");
    if leases {
        let leases: Api<Lease> = Api::namespaced(place.client.clone(), "database-operator");
        let all = leases.list(&ListParams::default()).await.expect("a list").items;
        assert!(!all.is_empty());
        for lease in all {
            let name = lease.meta().name.as_deref().expect("a name");
            leases.delete(name, &DeleteParams::default()).await.expect("deleted");
        }
    }
}
