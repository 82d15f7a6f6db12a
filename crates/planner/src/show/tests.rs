use std::collections::BTreeMap;

use api::database::Engine;
use base64::Engine as _;

use super::*;
use crate::action::Why;
use crate::intent::Salt;
use crate::plan::{Desired, Observed, plan};
use crate::test_support::{desired, intent, settled};

fn fresh(desired: &Desired) -> Value {
    let observed = Observed {
        stamp: Some(json!({"metadata": {"finalizers": ["intent.example.com/finalizer"]}})),
        ..Observed::default()
    };
    shown(&plan(
        &Desired {
            accept: Some(json!({"engine": desired.intent.engine})),
            ..desired.clone()
        },
        &observed,
    ))
}

/// The whole plan of a fresh Database of each engine. MySQL and MongoDB are refused by `validate`, but planned.
#[test]
fn a_fresh_database_of_each_engine() {
    let goldens = [
        (
            Engine::Postgresql,
            expect_test::expect_file!["../../tests/children/postgresql.yaml"],
        ),
        (
            Engine::Mysql,
            expect_test::expect_file!["../../tests/children/mysql.yaml"],
        ),
        (
            Engine::Mongodb,
            expect_test::expect_file!["../../tests/children/mongodb.yaml"],
        ),
        (
            Engine::Redis,
            expect_test::expect_file!["../../tests/children/redis.yaml"],
        ),
    ];
    for (engine, golden) in goldens {
        let text = serde_yaml::to_string(&fresh(&desired(engine))).expect("it is made of maps, lists and scalars");
        golden.assert_eq(&text);
    }
}

#[test]
fn no_value_of_a_secret_is_shown() {
    let planted = "Planted-7f3a";
    let mut desired = desired(Engine::Postgresql);
    desired.intent.secret_parameters = BTreeMap::from([("work_mem".to_owned(), planted.to_owned())]);
    desired.salt = Some(Salt::new("salt"));
    let shown = fresh(&desired);
    let text = shown.to_string();
    let file = engines::render::secret_configuration(Engine::Postgresql, &desired.intent.secret_parameters);
    for secret in [
        planted,
        &base64::engine::general_purpose::STANDARD.encode(&file["postgresql.conf"]),
    ] {
        assert!(!text.contains(secret), "{secret} is shown");
    }
    let actions = shown["actions"].as_array().expect("a plan has actions");
    let of = |object: &str| {
        actions
            .iter()
            .find(|action| action["object"] == object)
            .expect("it is planned")
    };
    assert_eq!(
        of("Secret orders-config-secret")["manifest"]["data"],
        json!({"inputs": HIDDEN, "postgresql.conf": HIDDEN})
    );
    assert_eq!(
        of("Secret orders-app")["manifest"]["data"],
        json!({"host": HIDDEN, "port": HIDDEN, "type": HIDDEN})
    );
    let patch = Action::Patch {
        child: ChildRef::new(Kind::Secret, "orders-app"),
        uid: "1".into(),
        patch: Patch::Merge(json!({"stringData": {"password": planted}})),
        why: Why::Differs,
        effect: Effect::None,
    };
    assert_eq!(action(&patch)["change"], json!({"stringData": {"password": HIDDEN}}));
}

#[test]
fn an_edit_shows_what_it_does_and_why() {
    let mut desired = desired(Engine::Postgresql);
    let children = settled(&desired);
    let of = |desired: &Desired| {
        let mut shown = shown(&plan(
            desired,
            &Observed {
                stamp: None,
                children: children.clone(),
            },
        ));
        for action in shown["actions"].as_array_mut().expect("a plan has actions") {
            action.as_object_mut().expect("it is one").remove("manifest");
        }
        shown
    };
    assert_eq!(of(&desired), json!({"effect": "none", "actions": []}));
    desired
        .intent
        .parameters
        .insert("work_mem".to_owned(), "8MB".to_owned());
    let apply = |object: &str, effect: &str| json!({"action": "apply", "object": object, "effect": effect, "force": true, "why": "differs from what is declared"});
    assert_eq!(
        of(&desired),
        json!({
            "effect": "restart",
            "actions": [apply("ConfigMap orders-config", "none"), apply("StatefulSet orders-g1", "restart")],
        })
    );
    desired.intent = intent(Engine::Postgresql);
    desired.intent.storage = "20Gi".parse().expect("it is a quantity");
    assert_eq!(
        of(&desired),
        json!({
            "effect": "none",
            "actions": [{
                "action": "patch", "object": "PersistentVolumeClaim data-orders-g1-0", "effect": "none",
                "why": "more storage is declared", "change": {"spec": {"resources": {"requests": {"storage": "20Gi"}}}},
            }],
        })
    );
}

#[test]
fn every_block_is_told() {
    let claim = || ChildRef::new(Kind::PersistentVolumeClaim, "data-orders-g1-0");
    let secret = || ChildRef::new(Kind::Secret, "orders-admin");
    let plan = Plan {
        blocks: vec![
            Block::NameTaken(secret()),
            Block::ForeignVolume {
                claim: claim(),
                mismatch: "engine is redis, wanted postgresql".to_owned(),
            },
            Block::VolumeLeaving(claim()),
            Block::CredentialsLost(secret()),
            Block::AwaitsSecret,
        ],
        ..Plan::default()
    };
    assert_eq!(
        shown(&plan)["blocked"],
        json!([
            {"object": "Secret orders-admin", "why": "an object of this name is not ours"},
            {"object": "PersistentVolumeClaim data-orders-g1-0", "why": "holds other data: engine is redis, wanted postgresql"},
            {"object": "PersistentVolumeClaim data-orders-g1-0", "why": "is being deleted while it is in use"},
            {"object": "Secret orders-admin", "why": "is gone, and the data knows its password"},
            {"why": "what depends on values of a Secret is planned once the administrator's Secret exists"},
        ])
    );
}
