//! Secrets that are lost.

use std::time::Duration;

use planner::child::Kind;
use planner::status::CREDENTIALS_LOST;
use serde_json::Value;

use crate::support::{bed, condition, eventually, postgresql, redis};

/// A Secret as a backup of it would bring it back.
pub(crate) fn copy_of(secret: &Value) -> Value {
    let mut copy = secret.clone();
    let metadata = copy["metadata"].as_object_mut().expect("metadata");
    metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations"));
    copy
}

#[tokio::test]
async fn a_lost_secret_of_the_application_is_made_again_with_the_same_password() {
    let Some(bed) = bed("lost-app").await else { return };
    let _operator = bed.operator(0);
    for (name, spec) in [("orders", postgresql()), ("cache", redis())] {
        bed.declare(name, spec).await;
        bed.condition(name, "Applied", "True").await;
        let app = format!("{name}-app");
        let before = bed.child(Kind::Secret, &app).await.expect("the Secret");
        bed.delete(Kind::Secret, &app).await;
        eventually("made again", async || match bed.child(Kind::Secret, &app).await {
            Some(now) if now["data"] == before["data"] && now["metadata"]["uid"] != before["metadata"]["uid"] => Ok(()),
            other => Err(format!("{}", other.is_some())),
        })
        .await;
    }
    bed.settled(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_lost_password_is_not_made_anew_for_postgresql_and_put_back_from_a_copy_it_works_again() {
    let Some(bed) = bed("lost-admin").await else { return };
    let _operator = bed.operator(0);
    bed.declare("orders", postgresql()).await;
    bed.condition("orders", "Applied", "True").await;
    let before = bed.child(Kind::Secret, "orders-admin").await.expect("the Secret");
    bed.delete(Kind::Secret, "orders-admin").await;
    let lost = bed.condition("orders", "CredentialsInSync", "False").await;
    assert_eq!(condition(&lost, "CredentialsInSync")["reason"], CREDENTIALS_LOST);
    let message = condition(&lost, "CredentialsInSync")["message"]
        .as_str()
        .unwrap_or_default();
    assert!(
        message.contains("orders-admin") && message.contains("put the Secret back from a copy"),
        "{message}"
    );
    // Other damage is still repaired, but nothing that needs the password is made of nothing.
    bed.delete(Kind::Service, "orders-rw").await;
    eventually("the Service is back", async || {
        bed.child(Kind::Service, "orders-rw")
            .await
            .map(drop)
            .ok_or_else(String::new)
    })
    .await;
    bed.delete(Kind::Secret, "orders-app").await;
    bed.settled(Duration::from_secs(2)).await;
    assert!(
        bed.child(Kind::Secret, "orders-admin").await.is_none(),
        "no new password"
    );
    assert!(bed.child(Kind::Secret, "orders-app").await.is_none());
    bed.create(&bed.children(Kind::Secret), copy_of(&before)).await;
    bed.condition("orders", "CredentialsInSync", "True").await;
    let now = bed.child(Kind::Secret, "orders-admin").await.expect("the copy");
    assert_eq!(now["data"], before["data"]);
    let app = eventually("the application's Secret", async || {
        bed.child(Kind::Secret, "orders-app").await.ok_or_else(String::new)
    })
    .await;
    assert_eq!(app["data"]["password"], before["data"]["app-password"]);
    bed.settled(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_lost_password_of_redis_is_made_anew() {
    let Some(bed) = bed("lost-redis").await else { return };
    let _operator = bed.operator(0);
    bed.declare("cache", redis()).await;
    bed.condition("cache", "Applied", "True").await;
    let before = bed.child(Kind::Secret, "cache-admin").await.expect("the Secret");
    bed.delete(Kind::Secret, "cache-admin").await;
    let now = eventually("a new Secret", async || {
        bed.child(Kind::Secret, "cache-admin").await.ok_or_else(String::new)
    })
    .await;
    assert_ne!(now["data"]["password"], before["data"]["password"]);
    bed.settled(Duration::from_secs(2)).await;
    bed.condition("cache", "CredentialsInSync", "True").await;
}
