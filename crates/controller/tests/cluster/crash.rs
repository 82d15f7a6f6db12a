//! An operator that ends between any two writes.
//!
//! The death is simulated within this process: after its n-th write has been answered, no request of that operator is
//! answered any more, and its tasks are dropped. To the API server that is what `kill -9` looks like; the operator
//! that follows starts with nothing in memory.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use planner::child::Kind;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::{BoxError, Layer, Service};

use crate::support::{Bed, bed, eventually, postgresql, redis};

/// A client whose n-th write is its last request.
pub(crate) fn mortal_client(config: Config, writes: usize, died: Arc<Notify>) -> Client {
    let builder = ClientBuilder::try_from(config).expect("a client for the operator");
    builder
        .with_layer(&Mortal {
            left: Arc::new(AtomicUsize::new(writes)),
            died,
        })
        .build()
}

/// Lets so many writes through, and then answers nothing.
#[derive(Clone)]
struct Mortal {
    left: Arc<AtomicUsize>,
    died: Arc<Notify>,
}

impl<S> Layer<S> for Mortal {
    type Service = MortalService<S>;

    fn layer(&self, inner: S) -> MortalService<S> {
        MortalService {
            inner,
            mortal: self.clone(),
        }
    }
}

#[derive(Clone)]
struct MortalService<S> {
    inner: S,
    mortal: Mortal,
}

impl<S, B> Service<http::Request<Body>> for MortalService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Into<BoxError> + Send,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mortal = self.mortal.clone();
        let dead = || async { std::future::pending::<Infallible>().await };
        let is_write = request.method() != http::Method::GET;
        let before = if is_write {
            mortal
                .left
                .try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .ok()
        } else {
            Some(mortal.left.load(Ordering::SeqCst)).filter(|left| *left > 0)
        };
        let Some(before) = before else {
            return Box::pin(async move { match dead().await {} });
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if is_write && before == 1 {
                mortal.died.notify_one();
                match dead().await {}
            }
            answer
        })
    }
}

/// Highest number of writes that a life may take; a bound for the loops below, not an expectation.
const WRITES_AT_MOST: usize = 60;
/// How long without a write an operator counts as having nothing left to do.
const QUIET: Duration = Duration::from_secs(2);

async fn password(bed: &Bed, name: &str) -> Option<Value> {
    Some(bed.child(Kind::Secret, &format!("{name}-admin")).await?["data"]["password"].clone())
}

/// Lets an operator die after each of its writes in turn, from the first, until one lives through it all.
/// Returns how many deaths there were.
async fn die_after_each_write(bed: &Bed, mut check: impl AsyncFnMut(usize), done: impl AsyncFn() -> bool) -> usize {
    for death in 1..=WRITES_AT_MOST {
        // Always the first write that is left to do: each death is after the next write of the whole.
        let (operator, died) = bed.mortal_operator(0, 1);
        let lived = tokio::select! {
            () = died.notified() => false,
            lived = async {
                loop {
                    tokio::time::sleep(QUIET).await;
                    if done().await { break true; }
                }
            } => lived,
        };
        drop(operator);
        if lived {
            return death - 1;
        }
        check(death).await;
    }
    panic!("an operator that lives for one write at a time never comes to an end");
}

async fn create_survives_every_death(test: &str, spec: Value) {
    let Some(bed) = bed(test).await else { return };
    let name = "orders";
    bed.declare(name, spec).await;
    let mut first_password = None;
    let applied = async || {
        let database = bed.database(name).await.unwrap_or_default();
        crate::support::condition(&database, "Applied")["status"] == "True"
    };
    let deaths = die_after_each_write(
        &bed,
        async |_| {
            let now = password(&bed, name).await;
            if first_password.is_none() {
                first_password.clone_from(&now);
            }
            assert_eq!(now, first_password, "one password, however often the operator dies");
        },
        applied,
    )
    .await;
    assert!(
        deaths >= 11,
        "each write of a create was the last of some operator: {deaths}"
    );
    assert!(first_password.is_some());
    let operator = bed.operator(0);
    bed.condition(name, "Applied", "True").await;
    bed.settled(QUIET).await;
    let names: Vec<String> = bed
        .all_children()
        .await
        .into_keys()
        .map(|(kind, name)| format!("{} {name}", kind.name()))
        .collect();
    assert_eq!(
        names,
        [
            "ServiceAccount orders",
            "Service orders-pods",
            "Service orders-rw",
            "Secret orders-admin",
            "Secret orders-app",
            "ConfigMap orders-config",
            "PersistentVolumeClaim data-orders-g1-0",
            "StatefulSet orders-g1",
            "ControllerRevision orders-1",
        ],
        "all children, and no orphan"
    );
    assert_eq!(password(&bed, name).await, first_password);
    drop(operator);

    // And the end of it, in the same way.
    bed.edit(name, json!({"spec": {"deletionPolicy": "Delete"}})).await;
    let operator = bed.operator(0);
    bed.condition(name, "Applied", "True").await;
    operator.stop().await;
    bed.databases()
        .delete(name, &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    let deaths = die_after_each_write(&bed, async |_| {}, async || bed.database(name).await.is_none()).await;
    assert!(
        deaths >= 9,
        "each write of a delete was the last of some operator: {deaths}"
    );
    eventually("nothing is left", async || {
        let left: Vec<_> = bed.all_children().await.into_keys().collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_create_and_a_delete_of_postgresql_survive_a_death_after_every_write() {
    create_survives_every_death("crash-postgresql", postgresql()).await;
}

#[tokio::test]
async fn a_create_and_a_delete_of_redis_survive_a_death_after_every_write() {
    create_survives_every_death("crash-redis", redis()).await;
}
