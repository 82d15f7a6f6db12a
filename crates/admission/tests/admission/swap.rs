//! Other policies come into force while many ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use admission::webhook::Webhook;
use futures::future::join_all;

use crate::support::{Client, Serving, Staging, creation, database, denies, desk, planner};

/// Of each of the [`ASKING`].
const REQUESTS: usize = 20;
const ASKING: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_of_the_revision_that_it_names() {
    // So many threads that nobody is turned away.
    let desk = desk(13, &planner(), Arc::new(Staging::default()));
    let guard = desk.guard().clone();
    guard.activate(denies("denying", "input.object"));
    let (serving, state) = Serving::with(Webhook::new(desk).router()).await;
    let client = Client::new(serving.address, &state.bundle());

    let done = Arc::new(AtomicBool::new(false));
    let swaps = {
        let done = Arc::clone(&done);
        let both = [denies("allowing", "input.none"), denies("denying", "input.object")].map(Arc::new);
        thread::spawn(move || {
            let mut swaps = 0;
            while !done.load(Relaxed) {
                guard.activate(Arc::clone(&both[swaps % 2]));
                swaps += 1;
            }
            swaps
        })
    };
    let ask = |_| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut connection = client.connect().await.expect("a connection");
            let mut seen = [0, 0];
            for _ in 0..REQUESTS {
                let response = connection.review(&creation(&database("18"))).await;
                let revision = &response["auditAnnotations"]["bundle-revision"];
                let message = response["status"]["message"].as_str().unwrap_or_default();
                if response["allowed"] == true {
                    assert_eq!(revision, "tested=allowing", "{response}");
                    seen[0] += 1;
                } else {
                    assert_eq!(revision, "tested=denying", "{response}");
                    assert!(message.contains("refused by revision denying"), "{response}");
                    seen[1] += 1;
                }
            }
            seen
        })
    };
    let all = join_all((0..ASKING).map(ask)).await;
    done.store(true, Relaxed);
    let swaps = swaps.join().expect("it ends");
    let [allowed, denied] = all.into_iter().fold([0, 0], |sum, seen| {
        let seen: [usize; 2] = seen.expect("no answer disagrees");
        [sum[0] + seen[0], sum[1] + seen[1]]
    });
    assert_eq!(allowed + denied, ASKING * REQUESTS);
    assert!(
        allowed > 0 && denied > 0 && swaps > 10,
        "{allowed} allowed, {denied} denied, {swaps} swaps"
    );
}
