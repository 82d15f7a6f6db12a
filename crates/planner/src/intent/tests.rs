use super::*;
use crate::test_support::intent;

type Change = fn(&mut Intent);

#[test]
fn the_hash_of_inputs_changes_with_what_the_user_declares_and_with_nothing_else() {
    let base = intent(Engine::Postgresql);
    let salt = Salt::new("salt");
    let cases: [(&str, bool, Change); 12] = [
        ("the declared version", true, |i| i.declared_version = "18.4".to_owned()),
        ("a parameter", true, |i| {
            drop(i.parameters.insert("work_mem".to_owned(), "8MB".to_owned()));
        }),
        ("a parameter from a Secret", true, |i| {
            drop(i.secret_parameters.insert("work_mem".to_owned(), "8MB".to_owned()));
        }),
        ("CPU", true, |i| {
            i.compute.cpu_limit = Some("2".parse().expect("it is a quantity"));
        }),
        ("memory", true, |i| i.compute.memory_limit = None),
        ("the same CPU in another form", false, |i| {
            i.compute.cpu_request = Some("0.5".parse().expect("it is one"));
        }),
        ("the image that the version resolves to", false, |i| {
            i.release.image = "localhost/newer:1".to_owned();
        }),
        ("the release", false, |i| {
            i.release.version = "18.99".parse().expect("it is a version");
        }),
        ("storage", false, |i| {
            i.storage = "20Gi".parse().expect("it is a quantity");
        }),
        ("the deletion policy", false, |i| {
            i.deletion_policy = api::database::DeletionPolicy::Delete;
        }),
        ("backups", false, |i| i.backup = true),
        ("monitoring", false, |i| i.monitoring = true),
    ];
    for (case, changes, change) in cases {
        let mut changed = base.clone();
        change(&mut changed);
        assert_eq!(
            changed.inputs(Some(&salt)) != base.inputs(Some(&salt)),
            changes,
            "{case}"
        );
    }
    let mut secret = base.clone();
    secret.secret_parameters.insert("work_mem".to_owned(), "8MB".to_owned());
    let hash = |salt: &str| secret.inputs(Some(&Salt::new(salt)));
    assert_ne!(
        hash("a"),
        hash("b"),
        "a hash of secret values cannot be looked up without the salt"
    );
    assert_eq!(
        base.inputs(None),
        base.inputs(Some(&salt)),
        "without secret values there is nothing to salt"
    );
    assert_eq!(format!("{salt:?}"), "Salt(hidden)");
}
