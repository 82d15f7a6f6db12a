//! How many requests things cost, counted from the audit log.
//!
//! Every test prints what it counted (`--nocapture` shows it), so that a budget that is kept only just is seen before
//! it is broken.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::api::Patch;
use planner::child::Kind;
use serde_json::{Value, json};

use crate::support::{Bed, Operator, bed, bed_with_node, condition, database, eventually, postgresql, redis, user};

/// Writes of a create beyond one for each child: the stamp, the accepted spec, the status (DESIGN, "Budgets").
const BESIDE_CHILDREN: usize = 3;
/// Writes of a change of one parameter: accepted spec, configuration, StatefulSet, status (DESIGN, "Budgets").
const WRITES_OF_A_CHANGE: usize = 4;
/// How long without a write an operator counts as having nothing left to do.
const QUIET: Duration = Duration::from_secs(3);
/// How long a settled fleet is watched: longer than a watch lives (290 s in kube-runtime) and than the period after
/// which Databases with references are looked at again.
const SETTLED_FOR: Duration = Duration::from_mins(7);
/// How often an operator is started again: the second start shows that the first has left nothing to do.
const RESTARTS: usize = 2;
/// Databases of the settled fleet.
const FLEET: usize = 200;

fn is_read(line: &str) -> bool {
    ["get ", "list ", "watch "].iter().any(|verb| line.starts_with(verb))
}

/// Requests by verb and resource, for people.
fn tally(lines: &[String]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        *tally
            .entry(format!("{} {} {}", words[0], words[1], words.last().unwrap_or(&"")))
            .or_default() += 1;
    }
    tally
}

/// Creates a Database, changes a parameter of it, and counts both.
async fn a_life_is_cheap(engine: &str, spec: Value, parameter: Value) {
    let Some(bed) = bed(&format!("counts-{engine}")).await else {
        return;
    };
    let _operator = bed.operator(0);
    bed.declare("orders", spec).await;
    bed.condition("orders", "Applied", "True").await;
    bed.settled(QUIET).await;

    let writes = bed.writes();
    let status = |line: &String| line.contains("databases/status");
    let until_applied = writes.iter().position(status).expect("the status was written") + 1;
    let children = bed
        .all_children()
        .await
        .into_keys()
        .filter(|(kind, _)| *kind != Kind::ControllerRevision)
        .count();
    let events = bed.events().len();
    println!(
        "{engine}: {until_applied} writes from create to applied, of {children} children; {} until settled; {events} events apart\n  {}",
        writes.len(),
        writes.join("\n  ")
    );
    assert!(until_applied <= children + BESIDE_CHILDREN, "{writes:#?}");
    // Nothing runs, so nothing more becomes true after that: no other write may follow.
    assert_eq!(writes.len(), until_applied, "{writes:#?}");
    assert!(
        writes
            .iter()
            .all(|line| line.ends_with(" 200") || line.ends_with(" 201")),
        "none failed: {writes:#?}"
    );

    let before = bed.requests().len();
    bed.edit("orders", json!({"spec": {"configuration": {"parameters": parameter}}}))
        .await;
    bed.condition("orders", "Applied", "True").await;
    bed.settled(QUIET).await;
    let requests = bed.requests().split_off(before);
    let writes: Vec<_> = requests.iter().filter(|line| !is_read(line)).cloned().collect();
    println!(
        "{engine}: {} writes of a change of one parameter\n  {}",
        writes.len(),
        requests.join("\n  ")
    );
    assert!(writes.len() <= WRITES_OF_A_CHANGE, "{writes:#?}");
    assert!(
        writes
            .iter()
            .all(|line| line.ends_with(" 200") || line.ends_with(" 201")),
        "none failed: {writes:#?}"
    );
}

#[tokio::test]
async fn a_create_and_a_change_of_postgresql_cost_what_the_budget_says() {
    a_life_is_cheap("postgresql", postgresql(), json!({"work_mem": "8MB"})).await;
}

#[tokio::test]
async fn a_create_and_a_change_of_redis_cost_what_the_budget_says() {
    a_life_is_cheap("redis", redis(), json!({"maxmemory-policy": "allkeys-lru"})).await;
}

/// Whole reconciles that an operator has come to the end of.
fn reconciles(operator: &Operator) -> usize {
    let series = operator.metrics.scrape().expect("series can be printed");
    let lines = series
        .lines()
        .filter(|line| line.starts_with("database_operator_reconciliation_total{"));
    lines
        .map(|line| {
            line.rsplit(' ')
                .next()
                .and_then(|n| n.parse::<usize>().ok())
                .expect("a count")
        })
        .sum()
}

/// A Database in every state that lasts, and the word by which it is known.
async fn declare_one_of_each(bed: &Bed) -> Vec<&'static str> {
    bed.declare("plain", postgresql()).await;
    bed.declare("cache", redis()).await;

    let mut refused_from_birth = postgresql();
    refused_from_birth["highAvailability"] = json!(true);
    bed.declare("never", refused_from_birth).await;
    bed.declare("refused", postgresql()).await;

    let mut manifest = database("paused", postgresql());
    manifest["metadata"]["annotations"] = json!({api::names::PAUSED_ANNOTATION: "true"});
    bed.create(&bed.databases(), manifest).await;

    let mut too_large = postgresql();
    too_large["resources"]["requests"]["cpu"] = json!("1000");
    bed.declare("unready", too_large).await;

    let taken = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken-rw"},
        "spec": {"ports": [{"port": 80}]},
    });
    bed.create(&bed.children(Kind::Service), taken).await;
    bed.declare("taken", postgresql()).await;

    bed.condition("refused", "Applied", "True").await;
    bed.edit("refused", json!({"spec": {"highAvailability": true}})).await;
    bed.condition("never", "SpecValid", "False").await;
    bed.condition("refused", "SpecValid", "False").await;
    bed.condition("paused", "Paused", "True").await;
    bed.condition("taken", "Applied", "False").await;
    for name in ["plain", "cache", "unready"] {
        bed.condition(name, "Applied", "True").await;
    }
    vec!["plain", "cache", "never", "refused", "paused", "unready", "taken"]
}

/// A restart lists and watches, and that is all: it writes nothing, and reads one by one only what no watch shows: the
/// accepted spec of what is refused, of which a digest is kept, and somebody else's object in the place of a child.
async fn a_restart_writes_nothing(bed: &Bed, replicas: u32) {
    let operator = bed.operator(replicas);
    let names = declare_one_of_each(bed).await;
    if replicas > 0 {
        bed.condition("plain", "Ready", "True").await;
        bed.condition("cache", "Ready", "True").await;
        bed.database_when("unready", "the scheduler has spoken", |database| {
            condition(database, "Ready")["message"]
                .as_str()
                .is_some_and(|message| message.contains("cannot be scheduled"))
        })
        .await;
    }
    bed.settled(QUIET).await;
    operator.stop().await;
    let (before, events) = (bed.requests().len(), bed.events());

    for _ in 0..RESTARTS {
        let operator = bed.operator(replicas);
        eventually("every Database has been looked at", async || {
            match reconciles(&operator) {
                done if done >= names.len() => Ok(()),
                done => Err(format!("{done} of {}", names.len())),
            }
        })
        .await;
        tokio::time::sleep(QUIET).await;
        operator.stop().await;
    }
    let requests = bed.requests().split_off(before);
    println!(
        "{RESTARTS} restarts with {names:?} and {replicas} pods each: {:#?}",
        tally(&requests)
    );
    let writes: Vec<_> = requests.iter().filter(|line| !is_read(line)).collect();
    assert!(writes.is_empty(), "{writes:#?}");
    assert_eq!(bed.events(), events, "nothing happened, so nothing is told");
    let mut reads: Vec<_> = requests.iter().filter(|line| line.starts_with("get ")).collect();
    reads.sort_unstable();
    let not_watched = [
        "get controllerrevisions refused-1 200",
        // Paused from the beginning, so it was never given a bucket.
        "get databases paused 200",
        "get services taken-rw 200",
    ];
    assert_eq!(reads, not_watched.map(|line| [line; RESTARTS]).concat());
    // What was refused is refused still, and nothing was taken for accepted.
    assert_eq!(
        condition(&bed.database("refused").await.expect("there"), "SpecValid")["status"],
        "False"
    );
}

#[tokio::test]
async fn a_restart_of_the_operator_writes_nothing() {
    let Some(bed) = bed("counts-restart").await else { return };
    a_restart_writes_nothing(&bed, 0).await;
}

#[tokio::test]
async fn a_restart_of_the_operator_beside_running_pods_writes_nothing() {
    let Some(bed) = bed_with_node("counts-restart-pods").await else {
        return;
    };
    a_restart_writes_nothing(&bed, 1).await;
}

#[tokio::test]
async fn a_settled_fleet_costs_no_request() {
    let Some(bed) = bed("counts-settled").await else { return };
    let _operator = bed.operator(0);
    let (databases, user) = (bed.databases(), user());
    let declared = stream::iter(0..FLEET).map(|number| {
        let name = format!("db-{number}");
        let spec = if number % 2 == 0 { postgresql() } else { redis() };
        let (databases, user) = (&databases, &user);
        async move {
            databases
                .patch(&name, user, &Patch::Apply(database(&name, spec)))
                .await
                .expect("declared")
        }
    });
    declared.buffer_unordered(8).for_each(async |_| {}).await;
    for name in (0..FLEET).map(|number| format!("db-{number}")) {
        bed.condition(&name, "Applied", "True").await;
    }
    let mut before = bed.requests().len();
    loop {
        tokio::time::sleep(QUIET).await;
        let now = bed.requests().len();
        if now == before {
            break;
        }
        before = now;
    }

    tokio::time::sleep(SETTLED_FOR).await;
    let requests = bed.requests().split_off(before);
    println!(
        "{FLEET} settled Databases, {} s: {:#?}",
        SETTLED_FOR.as_secs(),
        tally(&requests)
    );
    let others: Vec<_> = requests.iter().filter(|line| !line.starts_with("watch ")).collect();
    assert!(
        others.is_empty(),
        "a renewed watch goes on where it was, and nothing else is asked: {others:#?}"
    );
    // Every watch ran out once and was renewed, or this has shown nothing about renewals: Databases, each kind of
    // child, and the two kinds that users may refer to.
    assert!(requests.len() >= Kind::ALL.len() + 3, "{requests:#?}");
}
