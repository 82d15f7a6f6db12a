//! Certificates and their authority change, and nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use admission::certificates::{Times, secret};
use admission::registration::{self, FailurePolicy};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::watch_object;
use kube::{Api, Client as Kube};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cluster::{Bed, Replica};
use crate::support::{Client, Connection, NAMESPACE, PATIENCE, creation, database, denies};

/// As short as a busy machine allows: a third of each life, and the time to settle, must suffice for whatever is late.
const TIMES: Times = Times {
    authority: Duration::from_secs(24),
    leaf: Duration::from_secs(12),
    settle: Duration::from_secs(3),
    backdated: Duration::ZERO,
};

/// How often the authority changes.
const CHANGES: usize = 2;

/// Requests of one kind, and how they ended.
#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    failed: std::sync::Mutex<Vec<String>>,
}

impl Tally {
    fn count<T, E: std::fmt::Display>(&self, kind: &str, answer: Result<T, E>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.answered.fetch_add(1, Relaxed);
                Some(answer)
            }
            Err(error) => {
                self.failed
                    .lock()
                    .expect("nobody panics")
                    .push(format!("{kind}: {error}"));
                None
            }
        }
    }
}

pub(crate) async fn no_request_fails_while_certificates_change(bed: &Bed) {
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), NAMESPACE);
    secrets
        .delete(secret::NAME, &kube::api::DeleteParams::default())
        .await
        .expect("it is there");
    bed.desk.guard().activate(denies("r11", "false"));
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(bed, TIMES).await);
    }
    bed.lead_to(&replicas).await;
    bed.register(FailurePolicy::Fail).await;
    for replica in &mut replicas {
        replica.accepted().await;
    }
    let (bundles, follows) = follow_bundle(bed).await;
    let learnt = timeout(PATIENCE, async { while dry_run(bed.client.clone()).await.is_err() {} });
    learnt.await.expect("the API server has learnt of the webhook");

    let (done, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Tally::default()));
    let through_the_api_server = Arc::new(Tally::default());
    let mut drivers = vec![drive_api_server(bed, &done, &through_the_api_server)];
    for replica in &replicas {
        drivers.push(drive(replica, bundles.clone(), &done, &tally));
    }
    let seen = changes(bundles).await;
    done.store(true, Relaxed);
    for driver in drivers {
        driver.await.expect("it ends");
    }
    follows.abort();
    for replica in replicas {
        replica.stop().await;
    }
    for tally in [&tally, &through_the_api_server] {
        assert_eq!(tally.failed.lock().expect("nobody panics").as_slice(), [""; 0]);
        assert!(tally.answered.load(Relaxed) > 200, "too few to show anything");
    }
    println!(
        "{} requests to three replicas and {} through the API server, {seen} bundles, none failed",
        tally.answered.load(Relaxed),
        through_the_api_server.answered.load(Relaxed),
    );
}

/// The `caBundle` of the moment, as an API server knows it.
async fn follow_bundle(bed: &Bed) -> (watch::Receiver<String>, JoinHandle<()>) {
    let (tell, mut bundle) = watch::channel(String::new());
    let registrations = bed.registrations();
    let follows = tokio::spawn(async move {
        let mut events = std::pin::pin!(watch_object(registrations, registration::NAME));
        while let Some(event) = events.next().await {
            let webhooks = event.expect("a watch").and_then(|registration| registration.webhooks);
            let bundle = webhooks.and_then(|mut webhooks| webhooks.remove(0).client_config.ca_bundle);
            let bundle = String::from_utf8(bundle.expect("a bundle").0).expect("PEM");
            tell.send_if_modified(|told| std::mem::replace(told, bundle.clone()) != bundle);
        }
    });
    timeout(PATIENCE, bundle.wait_for(|bundle| !bundle.is_empty()))
        .await
        .expect("in time")
        .expect("it is followed");
    (bundle, follows)
}

/// Waits until the authority has changed so often; how many bundles that took.
async fn changes(mut bundles: watch::Receiver<String>) -> usize {
    let count = |bundle: &str| bundle.matches("BEGIN").count();
    let (mut seen, mut changes, mut last) = (1, 0, bundles.borrow().clone());
    while changes < CHANGES {
        let another = timeout(TIMES.authority + PATIENCE, bundles.changed()).await;
        another.expect("it changes").expect("it is followed");
        let bundle = bundles.borrow_and_update().clone();
        seen += 1;
        // From two to the one that came last.
        if count(&bundle) == 1 && count(&last) == 2 {
            assert!(last.ends_with(&bundle), "the newer one stays");
            changes += 1;
        }
        last = bundle;
    }
    seen
}

/// One connection that is kept, and a new one for each request beside it.
fn drive(
    replica: &Replica,
    bundles: watch::Receiver<String>,
    done: &Arc<AtomicBool>,
    tally: &Arc<Tally>,
) -> JoinHandle<()> {
    let (address, done, tally) = (replica.serving.address, Arc::clone(done), Arc::clone(tally));
    tokio::spawn(async move {
        let review = creation(&database("18")).to_string();
        let mut kept: Option<Connection> = None;
        while !done.load(Relaxed) {
            let bundle = bundles.borrow().clone();
            let fresh = tally.count("new connection", Client::new(address, &bundle).connect().await);
            for connection in [&mut kept, &mut { fresh }] {
                let Some(open) = connection else { continue };
                let answer = tally.count("request", open.post(review.clone()).await);
                if !answer.is_some_and(|(_, text)| text.contains("\"allowed\":true")) {
                    tally.count::<(), _>("answer", Err("not allowed"));
                }
            }
            if kept.is_none() {
                kept = tally.count("kept connection", Client::new(address, &bundle).connect().await);
            }
            // Leaves the machine something for the other drivers.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

async fn dry_run(client: Kube) -> kube::Result<()> {
    let kind = GroupVersionKind::gvk("intent.example.com", "v1", "Database");
    let databases: Api<DynamicObject> = Api::namespaced_with(client, "shop", &ApiResource::from_gvk(&kind));
    let mut object = database("18");
    object["metadata"]["name"] = serde_json::json!("tried");
    let object = serde_json::from_value(object).expect("an object");
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    databases.create(&parameters, &object).await.map(drop)
}

fn drive_api_server(bed: &Bed, done: &Arc<AtomicBool>, tally: &Arc<Tally>) -> JoinHandle<()> {
    let (client, done, tally) = (bed.client.clone(), Arc::clone(done), Arc::clone(tally));
    tokio::spawn(async move {
        while !done.load(Relaxed) {
            tally.count("API server", dry_run(client.clone()).await);
        }
    })
}
