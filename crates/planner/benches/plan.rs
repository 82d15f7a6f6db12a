//! What planning costs: a fresh Database, a settled one (every reconcile without a change), and the reading of the
//! largest child. The objects come from the simulated API server of the tests, with `managedFields` as a real one has
//! them.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use planner::child::{Child, Kind};
use planner::plan::{Desired, Observed, plan, plan_again};
use planner::rendered::Rendered;
use planner::validate::References;
use serde_json::json;
use world::cluster::Cluster;
use world::operator::{Declared, Operator};

#[allow(dead_code, reason = "the tests use more of the simulation than the benchmark")]
#[path = "../tests/world"]
mod world {
    pub(crate) mod cluster;
    pub(crate) mod defaults;
    pub(crate) mod fields;
    pub(crate) mod operator;
    pub(crate) mod server;
}

/// A Database with parameters and resources, and its world when it has settled.
fn settled() -> (Cluster, Desired, Observed) {
    let spec = json!({
        "engine": "postgresql", "version": "15",
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi", "storage": "10Gi"}, "limits": {"memory": "1Gi"}},
        "configuration": {"parameters": {"max_connections": "120", "work_mem": "8MB"}},
    });
    let declared = Declared {
        spec: serde_json::from_value(spec.clone()).expect("it is a spec"),
        references: References::default(),
        recorded: spec,
    };
    let (operator, mut cluster) = (Operator::new(), Cluster::new());
    loop {
        let outcome = operator.reconcile(&mut cluster, &declared, None);
        if !cluster.step() && outcome.writes == 0 {
            let desired = outcome.desired.expect("it is not being deleted");
            return (
                cluster,
                desired,
                Observed {
                    stamp: None,
                    children: outcome.children,
                },
            );
        }
    }
}

fn plans(criterion: &mut Criterion) {
    let (mut cluster, desired, observed) = settled();
    assert_eq!(plan(&desired, &observed).actions, [], "it has settled");
    criterion.bench_function("plan/settled", |bencher| {
        bencher.iter(|| plan(black_box(&desired), black_box(&observed)));
    });
    let mut rendered = Rendered::default();
    criterion.bench_function("plan/again", |bencher| {
        bencher.iter(|| plan_again(black_box(&desired), black_box(&observed), &mut rendered));
    });
    let accept = Some(json!({"engine": desired.intent.engine}));
    let (fresh, nothing) = (Desired { accept, ..desired }, Observed::default());
    criterion.bench_function("plan/fresh", |bencher| {
        bencher.iter(|| plan(black_box(&fresh), black_box(&nothing)));
    });
    let set = cluster.server.of_kind(Kind::StatefulSet).remove(0);
    let object = cluster.server.read(&set).expect("it is there");
    criterion.bench_function("observe/stateful-set", |bencher| {
        bencher.iter(|| Child::observe(Kind::StatefulSet, black_box(&object)));
    });
    let text = object.to_string();
    criterion.bench_function("decode-and-observe/stateful-set", |bencher| {
        bencher.iter(|| {
            let object: planner::json::Json = serde_json::from_str(black_box(&text)).expect("it is JSON");
            Child::observe(Kind::StatefulSet, object)
        });
    });
}

criterion_group!(benches, plans);
criterion_main!(benches);
