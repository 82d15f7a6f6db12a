//! Convergence and stability, as properties: whatever happened to the children of a Database, and wherever the operator
//! was killed, planning and carrying out the plan again comes to rest within [`ROUNDS_MAX`] rounds and stays there.
//!
//! Everything around the planner is simulated (`world/`): an API server with field ownership, the controllers and
//! kubelet around it, and the operator's shell. What a real one does is tested elsewhere, on a real one.

use std::sync::LazyLock;

use api::database::status::{ConditionStatus, ConditionType, DatabaseStatus, Phase};
use api::database::{DeletionPolicy, Engine};
use api::names;
use engines::catalogue::Catalogue;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use planner::bodies::GENERATION;
use planner::child::{ChildRef, Kind};
use planner::marks::{CREDENTIALS_ANNOTATION, LINEAGE_LABEL};
use planner::plan::{Block, Plan};
use planner::status::{self, Progress};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngSeed, TestRunner};
use serde_json::{Value, json};
use world::cluster::Cluster;
use world::damage::{Damage, damages, leftover};
use world::declared::life;
use world::operator::{Declared, Operator, Outcome};
use world::server::{Refused, Server};

mod world {
    pub(crate) mod cluster;
    pub(crate) mod damage;
    pub(crate) mod declared;
    pub(crate) mod defaults;
    pub(crate) mod fields;
    pub(crate) mod operator;
    pub(crate) mod server;
}

/// Rounds within which everything comes to rest. One is a reconcile and a step of all controllers around it. The
/// longest way: a slow finalizer, a new Secret, a StatefulSet made again, a restart of its pod, the pod's role.
const ROUNDS_MAX: usize = 12;

/// Lets the operator and the cluster work until nothing changes. The operator is killed after so many writes in each
/// of the first rounds.
fn settle(operator: &Operator, cluster: &mut Cluster, declared: &Declared, cuts: &[usize]) -> Outcome {
    let mut log = Vec::new();
    for round in 0..ROUNDS_MAX + cuts.len() {
        let clock = cluster.server.clock();
        let outcome = operator.reconcile(cluster, declared, cuts.get(round).copied());
        assert!(
            outcome.failure.is_none(),
            "round {round}: {:?} of {}",
            outcome.failure,
            brief(outcome.plan.as_ref())
        );
        let moved = cluster.step();
        // Only for what is blocked by somebody else's object, the next look may have to find that out again.
        let at_rest = |outcome: &Outcome| {
            let actions = outcome.plan.as_ref().map_or(0, |plan| plan.actions.len());
            let in_vain = if blocks(outcome).is_empty() { 0 } else { outcome.in_vain };
            actions == 0 && outcome.writes == in_vain && !outcome.crashed
        };
        if at_rest(&outcome) && !moved {
            // A reconcile knows nothing but the world, and that has not changed: the next one does the same, nothing.
            assert_eq!(cluster.server.clock(), clock, "it stays at rest");
            return outcome;
        }
        log.push(outcome.plan);
    }
    let log: Vec<String> = log.iter().map(|plan| brief(plan.as_ref())).collect();
    panic!("no rest after {ROUNDS_MAX} rounds:\n{}", log.join("\n"));
}

/// A plan, without manifests.
fn brief(plan: Option<&Plan>) -> String {
    let Some(plan) = plan else { return "no plan".to_owned() };
    let mut shown = planner::show::shown(plan);
    for action in shown["actions"].as_array_mut().into_iter().flatten() {
        action
            .as_object_mut()
            .expect("an action is an object")
            .remove("manifest");
    }
    shown.to_string()
}

fn blocks(outcome: &Outcome) -> &[Block] {
    outcome.plan.as_ref().map_or(&[], |plan| &plan.blocks)
}

fn stateful_set(cluster: &Cluster) -> ChildRef {
    ChildRef::new(
        Kind::StatefulSet,
        names::stateful_set(&cluster.subject.name, GENERATION),
    )
}

fn admin(cluster: &Cluster) -> ChildRef {
    ChildRef::new(Kind::Secret, names::secret_admin(&cluster.subject.name))
}

fn claim(cluster: &Cluster) -> ChildRef {
    ChildRef::new(
        Kind::PersistentVolumeClaim,
        names::claim(&cluster.subject.name, GENERATION, 0),
    )
}

fn uid(cluster: &Cluster, child: &ChildRef) -> Option<Value> {
    cluster
        .server
        .get(child)
        .map(|object| object["metadata"]["uid"].clone())
}

/// The status of a settled world, and what a second look would write.
fn reported(outcome: &Outcome) -> (DatabaseStatus, Value) {
    let now = |second| Time(Timestamp::from_second(second).expect("it is a time"));
    let progress = Progress {
        generation: 1,
        refusal: None,
        ruling: None,
        desired: outcome.desired.as_ref(),
        plan: outcome.plan.as_ref(),
        children: &outcome.children,
        failure: None,
        contested: None,
        paused: false,
    };
    let first = status::of(&DatabaseStatus::default(), &progress, &now(1_800_000_000)).status;
    let second = status::of(&first, &progress, &now(1_800_000_600)).status;
    let change = status::changes(&first, &second);
    (first, change)
}

fn assert_ready(cluster: &Cluster, outcome: &Outcome) {
    assert_eq!(blocks(outcome), []);
    let (status, change) = reported(outcome);
    let of = |kind| status.condition(kind).map(|condition| condition.status);
    assert_eq!(status.phase, Some(Phase::Ready), "{status:#?}");
    for kind in [
        ConditionType::Ready,
        ConditionType::Applied,
        ConditionType::StorageReady,
        ConditionType::SpecValid,
    ] {
        assert_eq!(of(kind), Some(ConditionStatus::True), "{kind}");
    }
    assert_eq!(of(ConditionType::Stalled), Some(ConditionStatus::False));
    assert_eq!(change, Value::Null, "a second look at the same world changes nothing");
    // The data knows the password that the Secret has.
    let volume = uid(cluster, &claim(cluster)).expect("it has a volume");
    let data = &cluster.data[volume.as_str().expect("it is text")];
    let password = cluster.server.get(&admin(cluster)).expect("it exists")["data"]["password"].clone();
    assert_eq!(json!(world::declared::encoded(&data.password)), password);
}

/// What is not blocked is as it was before the damage: every field that the operator applied has its value again, and
/// nothing that changes its meaning stands beside it.
fn assert_repaired(before: &Cluster, after: &Cluster) {
    for (child, was) in before.server.list() {
        let now = after.server.get(child);
        let applied = before.server.applied(child, names::FIELD_MANAGER);
        if now == Some(was) || applied.is_empty() {
            continue;
        }
        let flat = world::fields::flatten(child.kind, now.unwrap_or_else(|| panic!("{child} is back")));
        // The fence is left out: it is written anew with the next change of anything else.
        for (path, value) in applied
            .into_iter()
            .filter(|(path, _)| !path.ends_with(names::FENCE_ANNOTATION))
        {
            let filled = value.is_some_and(|value| *value == json!({})) && world::fields::has_members(&flat, &path);
            assert!(
                flat.get(&path) == Some(&value) || filled,
                "{child}: {path} is {:?}",
                flat.get(&path)
            );
        }
    }
    let count = |owner: &Value, list: &str| owner[list].as_array().map_or(0, Vec::len);
    for service in [
        names::service_rw(&after.subject.name),
        names::service_pods(&after.subject.name),
    ] {
        let service = after
            .server
            .get(&ChildRef::new(Kind::Service, service))
            .expect("it is back");
        assert_eq!(count(&service["spec"], "ports"), 1);
    }
    let lists = |cluster: &Cluster| {
        let set = cluster.server.get(&stateful_set(cluster)).expect("it is there");
        let containers = set["spec"]["template"]["spec"]["containers"]
            .as_array()
            .expect("it has some");
        let database = containers
            .iter()
            .find(|container| container["name"] == "database")
            .expect("it is ours");
        ["env", "envFrom", "volumeMounts", "ports"].map(|list| count(database, list))
    };
    assert_eq!(lists(before), lists(after));
}

/// The simulation against the rules that Kubernetes documents for server-side apply. That a real server keeps them for
/// our manifests is shown elsewhere, on a real one.
#[test]
fn the_simulated_server_keeps_fields_by_the_rules_of_server_side_apply() {
    let mut server = Server::default();
    let service = ChildRef::new(Kind::Service, "orders-rw");
    let ours = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "orders-rw", "labels": {"a": "b"}, "ownerReferences": [{"uid": "1", "controller": true}]},
        "spec": {"selector": {"a": "b"}, "ports": [{"name": "x", "port": 1, "protocol": "TCP"}]},
    });
    let port = json!({".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}});
    let applied = |selector: bool| {
        let mut spec = json!({"f:ports": {"k:{\"port\":1,\"protocol\":\"TCP\"}": port}});
        if selector {
            spec["f:selector"] = json!({});
        }
        let metadata = json!({"f:labels": {"f:a": {}}, "f:ownerReferences": {"k:{\"uid\":\"1\"}": {}}});
        let fields = json!({"f:metadata": metadata, "f:spec": spec});
        json!({"manager": "us", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields})
    };
    let theirs = |operation: &str, fields: Value| json!({"manager": "them", "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields});
    let managers =
        |server: &mut Server| server.read(&service).expect("it is there")["metadata"]["managedFields"].clone();
    server.apply(&service, &ours, "us", false).expect("nothing is there");
    assert_eq!(managers(&mut server), json!([applied(true)]));

    // The same value from another manager is owned by both, and survives when one of them drops it.
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    server
        .apply(&service, &label, "them", false)
        .expect("it is the same value");
    let shared = theirs("Apply", json!({"f:metadata": {"f:labels": {"f:a": {}}}}));
    assert_eq!(managers(&mut server), json!([applied(true), shared]));
    server
        .apply(&service, &json!({"metadata": {}}), "them", false)
        .expect("it drops the label");
    assert_eq!(managers(&mut server), json!([applied(true)]));
    assert_eq!(
        server.get(&service).expect("it is there")["metadata"]["labels"],
        json!({"a": "b"})
    );

    // Another value is a conflict, unless forced; an update takes what it changes.
    let selector = json!({"metadata": {}, "spec": {"selector": {"c": "d"}}});
    let refused = server.apply(&service, &selector, "them", false);
    assert!(matches!(refused, Err(Refused::Conflict(_))), "{refused:?}");
    server
        .update(&service, "them", |object| {
            object["spec"]["selector"] = json!({"c": "d"});
        })
        .expect("it may");
    let taken = theirs("Update", json!({"f:spec": {"f:selector": {}}}));
    assert_eq!(managers(&mut server), json!([applied(false), taken]));
    server.apply(&service, &ours, "us", true).expect("it is forced");
    assert_eq!(managers(&mut server), json!([applied(true)]));

    // What we drop, and nobody else has, goes.
    let mut less = ours.clone();
    less["spec"].as_object_mut().expect("it is one").remove("selector");
    server.apply(&service, &less, "us", true).expect("it is ours");
    assert_eq!(managers(&mut server), json!([applied(false)]));
    assert_eq!(server.get(&service).expect("it is there")["spec"].get("selector"), None);
}

/// A Database as first declared, as edited later, and its world when the first declaration has settled.
struct Settled {
    declared: Declared,
    edited: Declared,
    cluster: Cluster,
}

/// Databases that have settled, for damage to begin from.
fn settled(engine: Engine) -> Vec<Settled> {
    let mut runner = TestRunner::deterministic();
    let operator = Operator::new();
    let one = |_| {
        let (declared, edited) = life(engine)
            .new_tree(&mut runner)
            .expect("nothing is rejected")
            .current();
        let mut cluster = Cluster::new();
        let outcome = settle(&operator, &mut cluster, &declared, &[]);
        assert_ready(&cluster, &outcome);
        Settled {
            declared,
            edited,
            cluster,
        }
    };
    (0..40).map(one).collect()
}

static POSTGRESQL: LazyLock<Vec<Settled>> = LazyLock::new(|| settled(Engine::Postgresql));
static REDIS: LazyLock<Vec<Settled>> = LazyLock::new(|| settled(Engine::Redis));

/// Seed of the cases.
const SEED: u64 = 1;

/// So many cases, the same ones at each run, so that a change is judged by itself. `PROPTEST_CASES` and
/// `PROPTEST_RNG_SEED` say otherwise, to look further.
fn cases(cases: u32) -> ProptestConfig {
    let chosen = ProptestConfig::default();
    let said = |name| std::env::var_os(name).is_some();
    ProptestConfig {
        cases: if said("PROPTEST_CASES") { chosen.cases } else { cases },
        rng_seed: if said("PROPTEST_RNG_SEED") {
            chosen.rng_seed
        } else {
            RngSeed::Fixed(SEED)
        },
        failure_persistence: None,
        ..chosen
    }
}

/// After how many writes the operator is killed, in each of the first reconciles.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..12_usize, 0..=2)
}

// Two tests, one a core; together 10,000 damaged worlds.
proptest! {
    #![proptest_config(cases(5_000))]

    #[test]
    fn any_damage_of_a_postgresql_is_repaired_or_stated(
        which in any::<prop::sample::Index>(), edit in any::<bool>(), damages in damages(), cuts in cuts(),
    ) {
        damaged(which.get(&POSTGRESQL), edit, &damages, &cuts);
    }
}

proptest! {
    #![proptest_config(cases(5_000))]

    #[test]
    fn any_damage_of_a_redis_is_repaired_or_stated(
        which in any::<prop::sample::Index>(), edit in any::<bool>(), damages in damages(), cuts in cuts(),
    ) {
        damaged(which.get(&REDIS), edit, &damages, &cuts);
    }
}

fn damaged(settled: &Settled, edit: bool, damages: &[Damage], cuts: &[usize]) {
    let operator = Operator::new();
    let before = &settled.cluster;
    let mut cluster = before.clone();
    for damage in damages {
        cluster.suffer(damage);
    }
    let theirs = cluster.others();
    let after = settle(
        &operator,
        &mut cluster,
        if edit { &settled.edited } else { &settled.declared },
        cuts,
    );
    cluster.assert_untouched(&theirs);
    // Other credentials or another salt make other hashes.
    let secret = |cluster: &Cluster| {
        cluster.server.get(&admin(cluster)).map(|secret| {
            (
                secret["data"]["salt"].clone(),
                secret["metadata"]["annotations"][CREDENTIALS_ANNOTATION].clone(),
            )
        })
    };
    if blocks(&after).is_empty() && !edit && secret(before) == secret(&cluster) {
        assert_repaired(before, &cluster);
    }
    if damages.is_empty() {
        assert_ready(&cluster, &after);
    }
}

/// The catalogue of a newer operator: the same declarations resolve to newer releases of the same majors.
fn newer_catalogue() -> Catalogue {
    Catalogue::from_yaml(
        "postgresql: [{version: '15.99', image: 'localhost/postgres:15.99', uid: 999}]\n\
         redis: [{version: '7.2.99', image: 'localhost/redis:7.2.99', uid: 998}, \
                 {version: '7.4.99', image: 'localhost/redis:7.4.99', uid: 998}]\n",
    )
    .expect("it is valid")
}

fn any_engine() -> impl Strategy<Value = (Declared, Declared)> {
    prop_oneof![life(Engine::Postgresql), life(Engine::Redis)]
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_database_is_made_whatever_was_left_behind_or_that_is_stated(
        (declared, _) in any_engine(), leftover in leftover(), cuts in cuts(),
    ) {
        let mut cluster = Cluster::new();
        cluster.leave_behind(&leftover);
        let theirs = leftover.clone();
        let outcome = settle(&Operator::new(), &mut cluster, &declared, &cuts);
        let engine = declared.spec.engine.as_str();
        let major = if engine == "redis" { "7" } else { "15" };
        // A volume is used only with the Secret of its own lineage; where the engine takes a new password, without one.
        let usable = (!theirs.volume || (theirs.engine == engine && theirs.major == major))
            && (!theirs.secret || theirs.engine == engine);
        let one_lineage = theirs.volume_lineage == theirs.secret_lineage;
        let secret_fits = match (theirs.volume, theirs.secret) {
            (true, true) => one_lineage,
            (true, false) => engine == "redis",
            (false, _) => true,
        };
        if usable && secret_fits {
            assert_ready(&cluster, &outcome);
            let lineage = match (theirs.secret, theirs.volume) {
                (true, _) => theirs.secret_lineage,
                (_, true) => theirs.volume_lineage,
                _ => "database-1",
            };
            prop_assert_eq!(lineage_of(&cluster, &claim(&cluster)), json!(lineage), "data and Secret are of one data set");
            prop_assert_eq!(lineage_of(&cluster, &admin(&cluster)), json!(lineage));
        } else {
            prop_assert_ne!(blocks(&outcome), &[]);
            prop_assert_eq!(cluster.pods_made, 0, "nothing is started on data that does not fit");
        }
    }

    #[test]
    fn a_newer_operator_that_makes_another_template_restarts_no_pod(
        (declared, edited) in any_engine(), cuts in cuts(),
    ) {
        let mut cluster = Cluster::new();
        settle(&Operator::new(), &mut cluster, &declared, &[]);
        let newer = Operator { catalogue: newer_catalogue(), epoch: 2 };
        let declared = with_open_version(&declared);
        let older = settle(&Operator::new(), &mut cluster, &declared, &[]);
        let (pods, template) = (cluster.pods_made, template(&cluster));
        let outcome = settle(&newer, &mut cluster, &declared, &cuts);
        prop_assert_eq!(cluster.pods_made, pods, "no pod was made anew");
        prop_assert_ne!(template, self::template(&cluster), "although the template is another");
        assert_ready(&cluster, &outcome);
        prop_assert_eq!(inputs(&older), inputs(&outcome));
        let (status, _) = reported(&outcome);
        let configuration = status.condition(ConditionType::ConfigurationApplied).map(|c| c.reason.as_str());
        prop_assert_eq!(configuration, Some("UpdateAvailable"), "and the status says so");
        // What the user changes restarts it, onto the newer template.
        let edited = with_open_version(&edited);
        let again = settle(&newer, &mut cluster, &edited, &[]);
        assert_ready(&cluster, &again);
        let changed = inputs(&again) != inputs(&outcome);
        prop_assert_eq!(cluster.pods_made, pods + usize::from(changed), "a pod restarts once for a change, and only for one");
    }

    #[test]
    fn a_deleted_database_goes_and_comes_back_with_what_it_keeps(
        (declared, edited) in any_engine(), damages in damages(), damaged in any::<bool>(),
        before in cuts(), during in cuts(), after in cuts(),
    ) {
        let mut cluster = Cluster::new();
        let operator = Operator::new();
        settle(&operator, &mut cluster, &declared, &before);
        let kept = (uid(&cluster, &claim(&cluster)), cluster.server.get(&admin(&cluster)).map(|secret| secret["data"].clone()));
        for damage in damages.iter().filter(|_| damaged) {
            cluster.suffer(damage);
        }
        cluster.database.as_mut().expect("it is there").deleting = true;
        deleted(&operator, &mut cluster, &edited, &during);
        if damaged {
            return Ok(());
        }
        let remains: Vec<&ChildRef> = cluster.server.list().map(|(child, _)| child).collect();
        if edited.spec.deletion_policy == DeletionPolicy::Delete {
            prop_assert_eq!(remains, Vec::<&ChildRef>::new(), "nothing is left");
        } else {
            prop_assert_eq!(remains, [&admin(&cluster), &claim(&cluster)], "the data and its password are left");
        }
        cluster.declare("database-2");
        let outcome = settle(&operator, &mut cluster, &edited, &after);
        assert_ready(&cluster, &outcome);
        let now = (uid(&cluster, &claim(&cluster)), cluster.server.get(&admin(&cluster)).map(|secret| secret["data"].clone()));
        if edited.spec.deletion_policy == DeletionPolicy::Delete {
            prop_assert_ne!(now.0, kept.0, "a new volume");
            prop_assert_eq!(lineage_of(&cluster, &claim(&cluster)), json!("database-2"));
        } else {
            prop_assert_eq!(now, kept, "the same volume and the same password");
            prop_assert_eq!(lineage_of(&cluster, &claim(&cluster)), json!("database-1"));
        }
    }
}

fn inputs(outcome: &Outcome) -> Option<&str> {
    outcome.plan.as_ref().map(|plan| plan.inputs.as_str())
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn data_that_a_database_never_started_upon_survives_it(
        (declared, _) in any_engine(), leftover in leftover(), during in cuts(),
    ) {
        let mut cluster = Cluster::new();
        let operator = Operator::new();
        cluster.leave_behind(&leftover);
        let kept = [claim(&cluster), admin(&cluster)].map(|child| uid(&cluster, &child));
        let outcome = settle(&operator, &mut cluster, &declared, &[]);
        cluster.database.as_mut().expect("it is there").deleting = true;
        deleted(&operator, &mut cluster, &declared, &during);
        let adopted = blocks(&outcome).is_empty() && declared.spec.deletion_policy == DeletionPolicy::Delete;
        for (child, before) in [claim(&cluster), admin(&cluster)].iter().zip(kept) {
            // A Secret that was left without a volume is taken over alone.
            let retired = adopted || (child.kind == Kind::Secret && !leftover.volume);
            if before.is_some() && !retired {
                prop_assert_eq!(&uid(&cluster, child), &before, "{}", child);
            }
        }
    }
}

fn lineage_of(cluster: &Cluster, child: &ChildRef) -> Value {
    cluster.server.get(child).expect("it is there")["metadata"]["labels"][LINEAGE_LABEL].clone()
}

fn template(cluster: &Cluster) -> Value {
    cluster.server.get(&stateful_set(cluster)).expect("it is there")["spec"]["template"].clone()
}

/// The same declaration with a version that a newer catalogue resolves to a newer release.
fn with_open_version(declared: &Declared) -> Declared {
    let mut open = declared.clone();
    let major = if open.spec.engine == Engine::Redis { "7" } else { "15" };
    major.clone_into(&mut open.spec.version);
    open.recorded = json!(open.spec);
    open
}

/// Lets the operator and the cluster work until the Database has gone. The operator is killed as in [`settle`].
fn deleted(operator: &Operator, cluster: &mut Cluster, declared: &Declared, cuts: &[usize]) {
    let subject = cluster.subject.clone();
    let others = cluster.others();
    let mut waited_for = Vec::new();
    for round in 0..=ROUNDS_MAX + cuts.len() {
        let outcome = operator.reconcile(cluster, declared, cuts.get(round).copied());
        assert!(outcome.failure.is_none(), "round {round}: {:?}", outcome.failure);
        if round == ROUNDS_MAX && cluster.is_used_by_others(&outcome.waits_for) {
            // The user wants the data gone, and somebody else's pod holds it: that is waited for, and told.
            return;
        }
        waited_for.push(outcome.waits_for);
        cluster.step();
        if cluster.database.is_none() {
            // The garbage collector takes what was owned.
            while cluster.step() {}
            cluster.assert_untouched(&others);
            let orphans: Vec<&ChildRef> = cluster
                .server
                .list()
                .filter(|(_, object)| {
                    let owners = object["metadata"]["ownerReferences"]
                        .as_array()
                        .map_or(&[][..], Vec::as_slice);
                    // One that somebody else owns too stays, as the garbage collector has it.
                    !owners.is_empty() && owners.iter().all(|owner| owner["uid"] == subject.uid)
                })
                .map(|(child, _)| child)
                .collect();
            assert_eq!(orphans, Vec::<&ChildRef>::new());
            return;
        }
    }
    panic!("it has not gone after {ROUNDS_MAX} rounds: {waited_for:#?}");
}
