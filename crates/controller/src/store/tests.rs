use planner::child::Kind;
use serde_json::json;

use super::*;

fn child(version: u64, uid: &str) -> (ChildRef, Arc<Child>) {
    let object = json!({"metadata": {"name": "orders-rw", "uid": uid, "resourceVersion": version.to_string()}});
    Child::observe(Kind::Service, &object).expect("has all that is required")
}

fn key() -> Key {
    Key::new("shop", "orders")
}

fn store() -> Store {
    let store = Store::default();
    store.hold(Bucket::all());
    store
}

/// All buckets of one namespace, or of all.
fn part<'a>(buckets: &'a BTreeSet<Bucket>, namespace: Option<&'a str>) -> Part<'a> {
    Part { buckets, namespace }
}

fn put(store: &Store, version: u64) -> bool {
    let (name, facts) = child(version, "u");
    store.put_child(&key(), name, facts)
}

#[test]
fn the_echo_of_our_own_write_is_no_news() {
    let store = store();
    assert!(put(&store, 5), "the answer to our write");
    assert!(!put(&store, 5), "its event");
    assert!(!put(&store, 4), "an event from before it");
    assert!(put(&store, 10), "versions are compared as numbers, not as text");
}

#[test]
fn what_siblings_say_in_the_same_words_is_kept_once() {
    let store = store();
    let labelled = |name: &str, uid: &str, database: &str| {
        let metadata = json!({
            "name": name, "uid": uid, "resourceVersion": "5",
            "labels": {"intent.example.com/database": database},
            "ownerReferences": [{"controller": true, "uid": "f4b7b0a2-5d3c-4b5e-9d0a-0f2b7c1d2e3f"}],
        });
        Child::observe(Kind::Service, &json!({"metadata": metadata})).expect("has all that is required")
    };
    let (first, facts) = labelled("orders-rw", "1", "orders");
    assert!(store.put_child(&key(), first.clone(), facts));
    let (second, facts) = labelled("orders-pods", "2", "orders");
    let answered = store.answer_child(&key(), second.clone(), facts);
    let (third, facts) = labelled("orders-ro", "3", "users");
    assert!(store.put_child(&key(), third.clone(), facts));
    let children = store.get(&key()).children;
    let is_shared = |one: &ChildRef, other: &ChildRef| children[one].marks.is_one_with(&children[other].marks);
    assert!(is_shared(&first, &second), "they say the same");
    assert!(!is_shared(&first, &third), "they do not");
    assert!(
        Arc::ptr_eq(&answered, &children[&second]),
        "whoever wrote goes on with what is kept"
    );
    let texts = [&first, &second, &third].map(|child| children[child].controller.as_ref().map(|uid| uid.as_ptr()));
    assert!(texts[0] == texts[1] && texts[1] == texts[2], "one text for all");
}

#[test]
fn a_late_answer_does_not_bring_back_what_has_gone() {
    let store = store();
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
    let store = store();
    put(&store, 5);
    let listed = HashSet::new();
    let all = Bucket::all().collect();
    let everywhere = part(&all, None);
    let other = Bucket::all().filter(|bucket| *bucket != key().bucket).collect();
    assert_eq!(
        store.keep_children(Kind::Service, part(&other, None), &listed, 9),
        Vec::new(),
        "other buckets"
    );
    assert_eq!(
        store.keep_children(Kind::Service, everywhere, &listed, 4),
        Vec::new(),
        "newer than the list"
    );
    assert_eq!(
        store.keep_children(Kind::ConfigMap, everywhere, &listed, 9),
        Vec::new(),
        "another kind"
    );
    assert_eq!(
        store.keep_children(Kind::Service, part(&all, Some("bank")), &listed, 9),
        Vec::new(),
        "another namespace"
    );
    assert_eq!(store.keep_children(Kind::Service, everywhere, &listed, 5), vec![key()]);
    assert!(store.get(&key()).children.is_empty());
}

fn database(version: u64, deleting: bool) -> SeenDatabase {
    let mut metadata = json!({"name": "orders", "uid": "u", "resourceVersion": version.to_string()});
    if deleting {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    serde_json::from_value(json!({"metadata": metadata, "spec": null})).expect("a Database")
}

#[test]
fn what_is_not_held_is_not_taken_and_goes_with_its_bucket() {
    let store = Store::default();
    assert!(!put(&store, 5));
    assert!(!store.put_database(&key(), database(5, false)));
    store.hold([key().bucket]);
    assert!(put(&store, 5));
    assert_eq!(store.keys([key().bucket], |entry| entry.children.len()), [(key(), 1)]);
    assert_eq!(store.release([key().bucket]), [key()]);
    assert!(store.get(&key()).children.is_empty());
    assert!(!put(&store, 6));
}

#[test]
fn a_database_that_no_watch_shows_is_doubted_until_it_is_read() {
    let store = store();
    assert!(!store.doubt(&key()), "nothing is known of it");
    store.put_database(&key(), database(5, false));
    assert!(store.doubt(&key()));
    assert!(store.get(&key()).doubted);
    assert!(store.get(&key()).database.is_some(), "its label may have gone only");
    store.believe(&key(), database(5, false));
    assert!(!store.get(&key()).doubted);
    store.doubt(&key());
    store.put_database(&key(), database(6, false));
    assert!(!store.get(&key()).doubted, "a watch shows it again");
    let all = Bucket::all().collect();
    let missing = store.keep_databases(part(&all, None), &HashSet::new(), 6);
    assert_eq!(missing, [key()]);
    assert!(store.get(&key()).doubted, "a list that does not hold it");
}

#[test]
fn a_database_whose_last_finalizer_we_removed_has_gone() {
    let store = store();
    store.put_database(&key(), database(5, true));
    assert!(store.doubt(&key()));
    assert!(store.get(&key()).database.is_none());
    assert_eq!(store.len(), 0);
}

#[test]
fn what_left_one_watch_by_its_label_is_kept_for_the_other() {
    let store = store();
    store.put_database(&key(), database(1, false));
    let (name, _) = child(0, "u");
    assert!(put(&store, 5), "the answer to the write that put the label right");
    assert!(!store.remove_child(&key(), &name, "5"), "the watch that it leaves");
    assert!(store.remove_child(&key(), &name, "7"), "somebody's wrong label");
    assert!(!put(&store, 6), "an answer from before");
    assert!(put(&store, 7), "the watch that it comes to");
}

#[test]
fn an_answer_whose_event_was_read_meanwhile_is_not_waited_for() {
    let store = store();
    let (name, facts) = child(5, "u");
    store.answer_child(&key(), name, facts);
    assert!(store.awaits_events());
    assert!(!put(&store, 5), "its event, which was read before the answer was taken");
    assert!(!store.awaits_events());
    let (name, facts) = child(6, "u");
    store.answer_child(&key(), name, facts);
    store.release([key().bucket]);
    assert!(!store.awaits_events(), "nor is one of a bucket that is not held");
}

#[test]
fn the_spec_before_a_change_is_kept_until_the_newest_one_is_accepted() {
    let store = store();
    let of = |version: u64, generation: i64| -> SeenDatabase {
        let metadata = json!({"name": "orders", "resourceVersion": version.to_string(), "generation": generation});
        let spec = json!({
            "engine": "redis", "version": format!("7.{generation}"),
            "resources": {"requests": {"cpu": "1", "memory": "1Gi", "storage": "1Gi"}},
        });
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a Database")
    };
    let before = || store.get(&key()).before.map(|before| before.version.clone());
    let declared = || {
        store
            .get(&key())
            .database
            .and_then(|known| known.spec.as_ref().ok().map(Arc::as_ptr))
    };
    store.put_database(&key(), of(1, 1));
    let first = declared().expect("it can be read");
    store.put_database(&key(), of(2, 1));
    assert_eq!(declared(), Some(first), "what is declared is kept once");
    assert_eq!(before(), None, "only its status changed");
    store.put_database(&key(), of(3, 2));
    store.put_database(&key(), of(4, 3));
    assert_eq!(
        before().as_deref(),
        Some("7.1"),
        "the oldest that may have been accepted"
    );
    store.accepted(&key(), 2);
    assert_eq!(before().as_deref(), Some("7.1"), "a newer one is not accepted yet");
    store.accepted(&key(), 3);
    assert_eq!(before(), None);
}
