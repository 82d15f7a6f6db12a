use std::future::ready;
use std::sync::Arc;

use policy::log::{Answer as OfReplica, merge};
use proptest::prelude::*;

use super::*;
use crate::server::access::Access;
use crate::test_support::{Known, Rights, record, token};

/// A store in memory that, like the real one, stops a long search with a cursor.
#[derive(Debug)]
struct Memory {
    /// Newest first.
    entries: Vec<Entry>,
    /// Records that one look goes past.
    scan: usize,
}

impl Store for Memory {
    fn look(&self, filter: Filter) -> Pending<'_, Result<Chunk, Refusal>> {
        let is_older = |entry: &&Entry| {
            filter.cursor.is_none_or(|cursor| {
                entry.position < cursor.position || entry.position == cursor.position && entry.cursor() < cursor
            })
        };
        let mut page = Page::default();
        let mut left = self.entries.iter().filter(is_older).peekable();
        for (scanned, entry) in left.by_ref().enumerate() {
            if filter.matches(&entry.record) {
                page.entries.push(entry.clone());
            }
            let is_full = page.entries.len() == filter.effective_limit();
            if is_full || scanned + 1 == self.scan {
                page.next = Some(Cursor {
                    position: entry.position,
                    id: if is_full { entry.record.decision_id } else { Uuid::nil() },
                });
                break;
            }
        }
        if left.peek().is_none() {
            page.next = None;
        }
        Box::pin(ready(Chunk::of(page).map_err(Refusal::from)))
    }
}

/// Stores in which the same places occur, and namespaces, of which number 0 is none.
fn stores() -> impl Strategy<Value = Vec<Memory>> {
    let entries = proptest::collection::btree_map(0_i64..60, 0_usize..6, 0..40);
    let store = (entries, 1_usize..20);
    proptest::collection::vec(store, 1..4).prop_map(|stores| {
        let memory = |(which, (entries, scan)): (usize, (std::collections::BTreeMap<i64, usize>, usize))| {
            let entries = entries.into_iter().rev().map(|(position, namespace)| {
                let name = format!("n{namespace}");
                let number = u64::try_from(position).unwrap() * 8 + u64::try_from(which).unwrap();
                Entry {
                    position,
                    record: record(number, Some(name.as_str()).filter(|_| namespace > 0)),
                }
            });
            Memory {
                entries: entries.collect(),
                scan,
            }
        };
        stores.into_iter().enumerate().map(memory).collect()
    })
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let seconds = prop_oneof![Just(0), Just(3600)];
    (1_usize..8, prop_oneof![Just(1), Just(1 << 30)], 0_usize..4, seconds).prop_map(
        |(chunk, bytes, reviews, seconds)| Bounds {
            chunk,
            bytes,
            reviews,
            time: Duration::from_secs(seconds),
        },
    )
}

/// All pages of one store, or of several that are merged, as somebody with these rights sees them.
async fn pages(stores: &[Memory], filter: Filter, rights: &Rights, bounds: Bounds, forgets: bool) -> Vec<Vec<Entry>> {
    let access = || Access::new(Arc::new(Known::default().with("eve", rights.clone())));
    let mut kept: Vec<Access> = stores.iter().map(|_| access()).collect();
    let (mut pages, mut filter) = (Vec::new(), filter);
    loop {
        let mut answers = Vec::new();
        for (store, access) in stores.iter().zip(&kept) {
            let caller = access.caller(&token("eve")).await.unwrap().unwrap();
            let view = if caller.sees_all().await.unwrap() {
                View::All
            } else {
                View::Some(&caller)
            };
            let answer = gather(filter.clone(), view, bounds, store).await.unwrap();
            assert!(answer.entries.len() <= filter.effective_limit());
            let page: Page = serde_json::from_str(&serde_json::to_string(&answer).unwrap()).unwrap();
            answers.push(OfReplica {
                replica: String::new(),
                outcome: Ok(page),
            });
        }
        let merged = merge(answers, filter.effective_limit());
        pages.push(merged.entries);
        assert!(merged.next.is_none() || merged.next != filter.cursor, "no way forward");
        filter.cursor = merged.next;
        if merged.next.is_none() {
            return pages;
        }
        if forgets {
            kept = stores.iter().map(|_| access()).collect();
        }
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(work)
}

proptest! {
    #[test]
    fn all_pages_together_are_what_the_caller_may_see_each_once_in_order(
        stores in stores(),
        seen in proptest::collection::btree_set(1_usize..6, 0..5),
        everything in proptest::bool::weighted(0.1),
        bounds in bounds(),
        limit in 1_usize..12,
        denied_only in any::<bool>(),
        forgets in any::<bool>(),
    ) {
        let rights = Rights { everything, namespaces: seen.iter().map(|number| format!("n{number}")).collect() };
        let filter = Filter {
            limit,
            verdict: denied_only.then_some(policy::log::Verdict::Deny),
            ..Filter::default()
        };
        let mut expected: Vec<&Entry> = stores.iter().flat_map(|store| &store.entries).filter(|entry| {
            let namespace = entry.record.resource.namespace.as_ref();
            filter.matches(&entry.record)
                && (everything || namespace.is_some_and(|namespace| rights.namespaces.contains(namespace)))
        }).collect();
        expected.sort_by_key(|entry| std::cmp::Reverse(entry.cursor()));
        let pages = run(pages(&stores, filter, &rights, bounds, forgets));
        let given: Vec<&Entry> = pages.iter().flatten().collect();
        prop_assert_eq!(given, expected);
    }
}

fn memory(namespaces: &[&str]) -> Memory {
    let entries = namespaces.iter().enumerate().map(|(number, namespace)| Entry {
        position: -i64::try_from(number).unwrap(),
        record: record(u64::try_from(1000 - number).unwrap(), Some(namespace)),
    });
    Memory {
        entries: entries.collect(),
        scan: 1000,
    }
}

#[test]
fn one_request_asks_about_so_many_namespaces_and_the_next_one_goes_on() {
    let reviews = Arc::new(Known::default().with("eve", Rights::of(&["d"])));
    let access = Access::new(reviews.clone() as Arc<_>);
    let store = memory(&["a", "b", "a", "c", "d", "e", "d"]);
    let bounds = Bounds {
        reviews: 2,
        ..Bounds::default()
    };
    run(async {
        let caller = access.caller(&token("eve")).await.unwrap().unwrap();
        let mut filter = Filter::default();
        let mut asked = Vec::new();
        let mut given = 0;
        loop {
            reviews.asked();
            let answer = gather(filter.clone(), View::Some(&caller), bounds, &store)
                .await
                .unwrap();
            asked.push(reviews.asked());
            given += answer.entries.len();
            assert!(answer.restricted);
            filter.cursor = answer.next;
            if filter.cursor.is_none() {
                break;
            }
        }
        let expected = [
            vec!["eve in a", "eve in b"],
            vec!["eve in c", "eve in d"],
            vec!["eve in e"],
        ];
        assert_eq!(asked, expected);
        assert_eq!(given, 2);
    });
}

#[test]
fn what_could_not_be_a_namespace_is_nobodys_and_is_not_asked_about() {
    let reviews = Arc::new(Known::default().with("eve", Rights::of(&["", "A b", "*"])));
    let access = Access::new(reviews.clone() as Arc<_>);
    let store = memory(&["", "A b", "*", "[masked]"]);
    run(async {
        let caller = access.caller(&token("eve")).await.unwrap().unwrap();
        reviews.asked();
        let answer = gather(Filter::default(), View::Some(&caller), Bounds::default(), &store).await;
        assert!(answer.unwrap().entries.is_empty());
        assert!(reviews.asked().is_empty());
    });
}

#[test]
fn a_hidden_record_leaves_only_its_time_in_the_cursor() {
    let reviews = Arc::new(Known::default().with("eve", Rights::of(&["b"])));
    let access = Access::new(reviews.clone() as Arc<_>);
    let store = memory(&["b", "a", "c"]);
    let bounds = Bounds {
        reviews: 2,
        ..Bounds::default()
    };
    run(async {
        let caller = access.caller(&token("eve")).await.unwrap().unwrap();
        let answer = gather(Filter::default(), View::Some(&caller), bounds, &store)
            .await
            .unwrap();
        let expected = Cursor {
            position: -1,
            id: Uuid::nil(),
        };
        assert_eq!((answer.entries.len(), answer.next), (1, Some(expected)));
    });
}
