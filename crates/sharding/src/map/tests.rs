use super::*;

fn expected() -> Expected {
    Expected {
        installation: "here".into(),
        buckets: 3,
    }
}

fn incarnation(text: &str) -> Incarnation {
    text.parse().expect("an incarnation")
}

fn map() -> ShardMap {
    let member = |text: &str, role| MapMember {
        incarnation: incarnation(text),
        role,
        weight: 1,
    };
    let bucket = |index| Bucket::try_from(index).expect("a bucket");
    ShardMap {
        installation: "here".into(),
        leader: incarnation("b_2"),
        term: 4,
        sequence: 120,
        members: vec![member("a_1", Role::Active), member("b_2", Role::Standby)],
        owners: vec![Some(0), None, Some(0)],
        epochs: vec![Epoch(100), Epoch(120), Epoch(100)],
        round: Some(Round {
            number: 110,
            phase: Phase::Draining,
            moves: [(bucket(0), 1), (bucket(2), 1)].into(),
        }),
    }
}

/// A damaged map whose damage is sealed, as if a leader had written it.
fn sealed(damage: Damage) -> Spec {
    let mut spec = map().to_spec();
    damage(&mut spec);
    spec.seal = spec.sealed();
    spec
}

#[test]
fn a_map_is_written_and_read_back() {
    assert_eq!(map().to_spec().read(&expected()), Ok(map()));
    let json = serde_json::to_string(&map().to_spec()).expect("JSON");
    let spec: Spec = serde_json::from_str(&json).expect("the same JSON");
    assert_eq!(spec.read(&expected()), Ok(map()));
}

#[test]
fn the_wire_form_is_this_one() {
    // An admission policy reads `epochs` by bucket; other versions of the binary read all of it.
    expect_test::expect![[r#"{"installation":"here","buckets":3,"leader":"b_2","term":4,"sequence":120,"members":[{"incarnation":"a_1","role":"Active","weight":1},{"incarnation":"b_2","role":"Standby","weight":1}],"owners":[0,-1,0],"epochs":[100,120,100],"round":{"number":110,"phase":"Draining","moves":[{"bucket":0,"to":1},{"bucket":2,"to":1}]},"seal":"f5fb83574cba9028"}"#]]
    .assert_eq(&serde_json::to_string(&map().to_spec()).expect("JSON"));
}

#[test]
fn the_wire_form_of_the_product_is_small() {
    let mut map = map();
    map.owners = vec![Some(0); 1024];
    map.epochs = vec![Epoch(1_795_000_000); 1024];
    map.sequence = 1_795_000_001;
    let json = serde_json::to_string(&map.to_spec()).expect("JSON");
    assert!(json.len() < 16_000, "{} bytes", json.len());
    assert!(map.to_spec().read(&Expected::of("here")) == Ok(map), "not read back");
}

type Damage = fn(&mut Spec);

#[test]
fn what_no_leader_writes_is_refused_with_the_reason() {
    let cases: [(&str, Damage, &str); 18] = [
        (
            "of another installation",
            |map| map.installation = "there".into(),
            "only one may run",
        ),
        (
            "too few owners",
            |map| map.owners.truncate(2),
            "has 2 buckets, this version has 3",
        ),
        ("too many epochs", |map| map.epochs.push(1), "has 4 buckets"),
        ("another count", |map| map.buckets = 1024, "has 1024 buckets"),
        (
            "an owner beyond the members",
            |map| map.owners[1] = 2,
            "bucket 1: 2 is no member",
        ),
        (
            "an owner below none",
            |map| map.owners[1] = -2,
            "bucket 1: -2 is no member",
        ),
        (
            "a member twice",
            |map| map.members[1] = map.members[0].clone(),
            "a_1 is listed twice",
        ),
        ("epoch 0", |map| map.epochs[2] = 0, "bucket 2: epoch 0 is not between 1"),
        (
            "an epoch from the future",
            |map| map.epochs[2] = 121,
            "and the map's sequence, 120",
        ),
        (
            "a number beyond JSON",
            |map| map.sequence = 1 << 53,
            "larger than any number",
        ),
        (
            "a term beyond JSON",
            |map| map.term = u64::MAX,
            "larger than any number",
        ),
        (
            "a round from the future",
            |map| round(map).number = 121,
            "its number is not between",
        ),
        ("round 0", |map| round(map).number = 0, "its number is not between"),
        ("an empty round", |map| round(map).moves.clear(), "it moves nothing"),
        ("a bucket twice", |map| round(map).moves[1].bucket = 0, "not in order"),
        (
            "a bucket that is none",
            |map| round(map).moves[1].bucket = 3,
            "does not exist",
        ),
        (
            "a target that is none",
            |map| round(map).moves[0].to = 2,
            "bucket 0: 2 is no member",
        ),
        ("a bucket of nobody", |map| map.owners[2] = -1, "nobody owns"),
    ];
    for (case, damage, expected_text) in cases {
        let error = sealed(damage).read(&expected()).expect_err(case);
        assert!(error.to_string().contains(expected_text), "{case}: {error}");
    }
    let error = sealed(|map| round(map).moves[0].to = 0)
        .read(&expected())
        .expect_err("no move");
    assert!(error.to_string().contains("to its owner"), "{error}");
}

fn round(map: &mut Spec) -> &mut RoundSpec {
    map.round.as_mut().expect("the map has a round")
}

#[test]
fn an_edit_by_hand_breaks_the_seal() {
    let edits: [Damage; 8] = [
        |map| map.owners[0] = 1,
        |map| map.epochs[0] = 101,
        |map| map.sequence += 1,
        |map| map.term += 1,
        |map| map.members[0].role = Role::Standby,
        |map| map.members[0].weight = 2,
        |map| map.round = None,
        |map| map.seal = String::new(),
    ];
    for edit in edits {
        let mut spec = map().to_spec();
        edit(&mut spec);
        assert_eq!(spec.read(&expected()), Err(MapError::Edited));
    }
}
