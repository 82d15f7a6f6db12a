use planner::child::Kind;
use serde_json::json;

use super::*;

fn child(version: u64, uid: &str) -> (ChildRef, Child) {
    let object = json!({"metadata": {"name": "orders-rw", "uid": uid, "resourceVersion": version.to_string()}});
    Child::observe(Kind::Service, &object).expect("has all that is required")
}

fn key() -> Key {
    Key::new("shop", "orders")
}

fn put(store: &Store, version: u64) -> bool {
    let (name, facts) = child(version, "u");
    store.put_child(&key(), name, facts)
}

#[test]
fn the_echo_of_our_own_write_is_no_news() {
    let store = Store::default();
    assert!(put(&store, 5), "the answer to our write");
    assert!(!put(&store, 5), "its event");
    assert!(!put(&store, 4), "an event from before it");
    assert!(put(&store, 10), "versions are compared as numbers, not as text");
}

#[test]
fn a_late_answer_does_not_bring_back_what_has_gone() {
    let store = Store::default();
    let database = json!({"metadata": {"name": "orders", "resourceVersion": "1"}, "spec": null});
    store.put_database(&key(), serde_json::from_value(database).expect("a Database"));
    put(&store, 5);
    let (name, _) = child(0, "u");
    assert!(store.remove_child(&key(), &name, "7"));
    assert!(!put(&store, 6), "the answer to a write from before the end");
    assert!(put(&store, 8), "made again");
    assert!(!store.remove_child(&key(), &name, "7"), "the end of the one before");
    assert_eq!(store.get(&key()).children.len(), 1);
}

#[test]
fn a_new_list_drops_what_is_not_in_it_but_not_what_was_written_meanwhile() {
    let store = Store::default();
    put(&store, 5);
    let listed = HashSet::new();
    assert_eq!(
        store.keep_children(Kind::Service, |_| true, &listed, 4),
        Vec::new(),
        "newer than the list"
    );
    assert_eq!(
        store.keep_children(Kind::ConfigMap, |_| true, &listed, 9),
        Vec::new(),
        "another kind"
    );
    assert_eq!(
        store.keep_children(Kind::Service, |_| false, &listed, 9),
        Vec::new(),
        "another namespace"
    );
    assert_eq!(store.keep_children(Kind::Service, |_| true, &listed, 5), vec![key()]);
    assert!(store.get(&key()).children.is_empty());
}
