//! What others than its member do to a member Lease: people who write a wish into it, and the leader who removes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::names::{DRAIN_ANNOTATION, member_lease};
use fleet::lease::version;
use fleet::requests::Requests;
use fleet::{Clients, Clocks};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use sharding::protocol::{Answer, Command, Event, Version};

use crate::judge::Judge;
use crate::member::{Member, Place, configured};
use crate::{DEADLINE, NAMESPACE, reached};

fn leases(client: &Client) -> Api<Lease> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// By compare-and-swap, as the command line does it.
async fn wish(client: &Client, member: &str, drain: Option<&str>) {
    let (leases, name, began) = (leases(client), member_lease(member), Instant::now());
    loop {
        let lease = leases.get(&name).await.expect("its Lease is there");
        let patch = json!({"metadata": {
            "resourceVersion": lease.resource_version(), "annotations": {DRAIN_ANNOTATION: drain},
        }});
        match leases.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
        assert!(began.elapsed() < DEADLINE, "it changes all the time");
    }
}

/// It hands over and stays, and carries the wish along with its renewals until that is taken back.
pub(crate) async fn a_member_is_drained(judge: &Judge, client: &Client, one: &Member, two: &Member) {
    wish(client, &one.name, Some("true")).await;
    reached(judge, &[&two.name], DEADLINE, "a member is drained").await;
    let (leases, name, began) = (leases(client), member_lease(&one.name), Instant::now());
    let mut renewals = 0;
    let mut last = None;
    while renewals < 4 {
        let lease = leases.get(&name).await.expect("its Lease is there");
        let drain = lease.annotations().get(DRAIN_ANNOTATION).map(String::as_str);
        assert_eq!(drain, Some("true"), "after {renewals} renewals");
        let renewed = lease.spec.and_then(|spec| spec.renew_time);
        renewals += u32::from(renewed != last);
        last = renewed;
        assert!(began.elapsed() < DEADLINE, "it renews no more");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    counted([one, two]);
    assert!(
        one.runs() && judge.shared_by(&[&two.name]),
        "it stays, and gets nothing"
    );
    wish(client, &one.name, None).await;
    reached(judge, &[&one.name, &two.name], DEADLINE, "the wish is taken back").await;
}

/// What the series say of a member that was drained, and of the other one.
fn counted([one, two]: [&Member; 2]) {
    let serving = [one, two].map(|member| member.metric("member_buckets{state=\"serving\"}"));
    assert!(serving[0] < 0.5 && serving[1] > 1023.5, "{serving:?}");
    assert!(one.metric("handovers_total") >= 512.0, "it has handed over its half");
    assert!(
        one.metric("lease_renewals_total{outcome=\"conflict\"}") >= 1.0,
        "it met the wish"
    );
    for member in [one, two] {
        let left = member.metric("lease_seconds");
        assert!(left > 0.0 && left <= 4.0, "{left} s until the renew deadline");
        assert!(member.metric("lease_renewals_total{outcome=\"success\"}") >= 4.0);
        assert!(member.metric("self_fences_total") < 0.5);
        assert_eq!(member.metric("leader") > 0.5, member.leads());
        assert!(member.metric("term") >= 1.0 && member.metric("map_sequence") > 1_700_000_000.0);
    }
}

/// A deletion is for one object at one version.
pub(crate) async fn only_the_lease_that_was_seen_is_removed(place: &Place, client: &Client, member: &str) {
    let clients = Clients::new(&place.config, "database-operator/test", None).expect("clients");
    let config = Arc::new(configured("leader", 1, "here"));
    let requests = Requests::new(&clients, NAMESPACE, &config, Clocks::default());
    let lease = leases(client)
        .get(&member_lease(member))
        .await
        .expect("its Lease is there");
    let uid: Arc<str> = lease.uid().expect("a uid").into();
    let seen = version(lease.metadata.resource_version.as_deref()).expect("a version");
    let accepted = Answer::Accepted {
        version: seen,
        uid: Arc::clone(&uid),
    };
    for (case, uid, version, expected) in [
        (
            "another object of this name",
            Arc::from("another"),
            seen,
            Answer::Conflict,
        ),
        (
            "an older version",
            Arc::clone(&uid),
            Version(seen.0 - 1),
            Answer::Conflict,
        ),
        ("as it was seen", Arc::clone(&uid), seen, accepted),
        ("gone already", uid, seen, Answer::Conflict),
    ] {
        let member: Arc<str> = member.into();
        let answer = requests
            .carry_out(Command::Forget(Arc::clone(&member), uid, version))
            .await;
        assert_eq!(answer, Some(Event::Forgotten(member, expected)), "{case}");
    }
    let gone = leases(client).get_opt(&member_lease(member)).await.expect("an answer");
    assert!(gone.is_none());
}
