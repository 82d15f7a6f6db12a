//! Real members of a fleet at a real API server, in one process, with trivial work: whatever happens, no two of them work
//! in one bucket at one time, and every bucket finds an owner again.
//!
//! One test. It starts a control plane of its own and runs itself again inside, where the API server is reachable.

mod judge;
mod leases;
mod member;

use std::io::Write as _;
use std::time::{Duration, Instant};

use api::names;
use devcluster::TestBed;
use fleet::shardmap;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config, ResourceExt as _};
use sharding::crd;
use sharding::protocol::Exit;

use crate::judge::Judge;
use crate::member::{Member, Place};

/// Set for the run inside of the cluster.
const INSIDE: &str = "FLEET_TEST_INSIDE";
/// Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_mins(1);
/// 6.5 s on a machine that has nothing else to do.
const TAKEOVER: Duration = Duration::from_secs(13);
/// 10 s until it is noticed, and what joining takes.
const STALL: Duration = Duration::from_secs(20);
/// Of the Leases. The operator's own in the product.
const NAMESPACE: &str = "default";

/// Not `eprintln!`, which is swallowed when a test passes.
fn say(text: &str) {
    std::io::stderr()
        .write_all(format!("{text}\n").as_bytes())
        .expect("standard error is open");
}

#[test]
fn members_share_the_buckets() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        return runtime.block_on(inside());
    }
    let Some(bed) = TestBed::up("fleet") else { return };
    let this = std::env::current_exe().expect("this program");
    let mut again = bed.command(this).expect("a command");
    again
        .args(["--exact", "members_share_the_buckets", "--nocapture"])
        .env(INSIDE, "1");
    let status = again.status().expect("it can be run");
    assert!(status.success(), "inside of the cluster: {status}");
}

async fn inside() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let config = Config::infer().await.expect("KUBECONFIG leads to the test cluster");
    let client = Client::try_from(config.clone()).expect("a client");
    define_the_map(&client).await;
    let judge = Judge::start();
    let server = config.cluster_url.authority().expect("an address").to_string();
    let place = Place {
        config,
        server: server.parse().expect("an address and a port"),
        namespace: NAMESPACE,
        judge: judge.clone(),
    };

    let [leader, one] = members_die(&place).await;
    let [one, two] = members_leave(&place, &client, leader, one).await;
    leases::a_member_is_drained(&judge, &client, &one, &two).await;
    let [one, two] = connections_fail(&place, one, two).await;
    the_server_is_away(&judge, &[&one, &two]).await;
    let gone = one.name.clone();
    all_leave(&place, &client, one, two).await;
    leases::only_the_lease_that_was_seen_is_removed(&place, &client, &gone).await;
    let checks = judge.verdict();
    say(&format!(
        "    looked {} times at all buckets, {} works done",
        checks.looks, checks.works
    ));
    assert!(checks.looks > 1_000 && checks.works > 10_000, "the judge slept");
}

/// Three members share; one dies, another comes, the leader dies. Returns the two that are left.
async fn members_die(place: &Place) -> [Member; 2] {
    let judge = &place.judge;
    let members = ["a", "b", "c"].map(|name| Member::start(place, name, 1));
    reached(judge, &["a", "b", "c"], DEADLINE, "three members share the buckets").await;
    rests(judge).await;

    let (leader, others): (Vec<_>, Vec<_>) = members.into_iter().partition(Member::leads);
    let [leader] = <[Member; 1]>::try_from(leader).ok().expect("one of them leads");
    let [one, two] = <[Member; 2]>::try_from(others).ok().expect("the others do not");

    let (dead, left) = (two.name.clone(), [&leader, &one].map(|member| member.name.clone()));
    two.kill().await;
    reached(
        judge,
        &left,
        TAKEOVER,
        &format!("takeover from {dead}, which did not lead"),
    )
    .await;

    let joined = Member::start(place, "d", 1);
    let all = [&leader, &one, &joined].map(|member| member.name.clone());
    reached(judge, &all, DEADLINE, "a member joins").await;

    let (dead, left) = (leader.name.clone(), [&one, &joined].map(|member| member.name.clone()));
    leader.kill().await;
    reached(judge, &left, TAKEOVER, &format!("takeover from {dead}, which led")).await;
    [one, joined]
}

/// One leaves and one comes; the map is deleted and comes back.
async fn members_leave(place: &Place, client: &Client, one: Member, stays: Member) -> [Member; 2] {
    let judge = &place.judge;
    judge.forget_gaps();
    let (leaving, began) = (one.name.clone(), Instant::now());
    one.fleet.leave();
    assert_eq!(one.ended().await, Exit::Left);
    say(&format!("    {leaving} leaves: {} ms", began.elapsed().as_millis()));
    reached(judge, &[&stays.name], DEADLINE, "the other has it all").await;
    say(&format!(
        "    longest gap of a bucket in it: {} ms",
        judge.longest_gap().as_millis()
    ));
    assert_eq!(holder(client, &leaving).await, None, "released");

    judge.forget_gaps();
    let comes = Member::start(place, "e", 1);
    reached(judge, &["d", "e"], DEADLINE, "another member joins").await;
    say(&format!(
        "    longest gap of a bucket in it: {} ms",
        judge.longest_gap().as_millis()
    ));
    the_map_is_deleted(client, judge).await;
    [stays, comes]
}

/// Open connections stall, while new ones are good; then a member is cut off for longer than its Lease.
async fn connections_fail(place: &Place, one: Member, two: Member) -> [Member; 2] {
    let judge = &place.judge;
    one.proxy.stall_what_is_open();
    two.proxy.stall_what_is_open();
    // It cannot join before both have seen the map that has its round.
    let joins = Member::start(place, "g", 1);
    reached(
        judge,
        &["d", "e", "g"],
        STALL,
        "a member joins after all connections stalled",
    )
    .await;
    assert!(one.runs() && two.runs());

    let (lost, left) = if one.leads() { (one, two) } else { (two, one) };
    lost.proxy.cut(true);
    let names = [left.name.clone(), joins.name.clone()];
    reached(judge, &names, TAKEOVER, "takeover from a leader that is cut off").await;
    assert!(lost.runs(), "it does not know yet");
    lost.proxy.cut(false);
    assert_eq!(lost.ended().await, Exit::LeaseLost);
    [left, joins]
}

/// The API server is away for longer than a Lease, for all: nothing may start, nobody exits, and all goes on.
async fn the_server_is_away(judge: &Judge, members: &[&Member; 2]) {
    let names = members.map(|member| member.name.clone());
    for member in members {
        member.proxy.away(true);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(judge.shares(), "{}", "nobody may start anything");
    for member in members {
        member.proxy.away(false);
    }
    reached(judge, &names, DEADLINE, "the API server is back after 10 s").await;
    assert!(members.iter().all(|member| member.runs()), "no process restarts");
}

/// A stranger is refused; then all leave.
async fn all_leave(place: &Place, client: &Client, one: Member, two: Member) {
    let stranger = Member::start_in(place, "f", 1, "elsewhere");
    assert_eq!(
        stranger.ended().await,
        Exit::Foreign,
        "another installation in this cluster"
    );
    let names = [one.name.clone(), two.name.clone()];
    for member in [&one, &two] {
        member.fleet.leave();
    }
    assert_eq!([one.ended().await, two.ended().await], [Exit::Left, Exit::Left]);
    for name in names {
        assert_eq!(holder(client, &name).await, None, "{name} released its Lease");
    }
}

/// Waits until these members, and no others, serve all buckets, each its share.
async fn reached<S: AsRef<str>>(judge: &Judge, members: &[S], within: Duration, what: &str) {
    let began = Instant::now();
    loop {
        judge.objects();
        if judge.shared_by(members) {
            break;
        }
        assert!(
            began.elapsed() < within,
            "{what}: not within {within:?}: {}",
            judge.shares()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    say(&format!("    {what}: {} ms", began.elapsed().as_millis()));
}

/// A settled fleet stays as it is.
async fn rests(judge: &Judge) {
    let before = judge.shares();
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(judge.shares(), before, "longer than a Lease, and nothing moved");
    judge.objects();
}

async fn the_map_is_deleted(client: &Client, judge: &Judge) {
    let (epoch, began) = (judge.highest_epoch(), Instant::now());
    let maps: Api<DynamicObject> = Api::all_with(client.clone(), &shardmap::resource());
    maps.delete(crd::MAP_NAME, &DeleteParams::default())
        .await
        .expect("deleted");
    while judge.lowest_served_epoch() <= epoch || !judge.shared_by(&["d", "e"]) {
        judge.objects();
        assert!(
            began.elapsed() < DEADLINE,
            "not all under new epochs: {}",
            judge.shares()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    say(&format!(
        "    the map is deleted and comes back: {} ms",
        began.elapsed().as_millis()
    ));
    let map = maps.get(crd::MAP_NAME).await.expect("it is there again");
    assert_eq!(
        map.labels().get(names::MANAGED_BY_LABEL).map(String::as_str),
        Some(names::FIELD_MANAGER)
    );
    let wrote = |entry: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(names::FIELD_MANAGER)
    };
    assert!(map.managed_fields().iter().all(wrote), "{:?}", map.managed_fields());
}

async fn holder(client: &Client, member: &str) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let lease = leases
        .get(&names::member_lease(member))
        .await
        .expect("its Lease is there");
    lease.spec.and_then(|spec| spec.holder_identity)
}

async fn define_the_map(client: &Client) {
    let definitions = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
        "customresourcedefinitions",
    );
    let definitions: Api<DynamicObject> = Api::all_with(client.clone(), &definitions);
    let definition = serde_json::from_value(crd::shard_map_crd()).expect("an object");
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .expect("created");
    let maps: Api<DynamicObject> = Api::all_with(client.clone(), &shardmap::resource());
    let began = Instant::now();
    while maps.list(&kube::api::ListParams::default()).await.is_err() {
        assert!(began.elapsed() < DEADLINE, "the ShardMap is not served");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
