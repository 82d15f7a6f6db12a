//! The API server is asked who somebody is, and what they may see.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::Request;
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::SubjectAccessReviewStatus;
use kube::Client;
use policy::log::mask::mask_text;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::objects;

/// Who may `list` these in a namespace sees the decisions about them there.
pub const RESOURCE: (&str, &str, &str) = (api::names::GROUP, api::names::PLURAL, "list");

/// Audience of tokens that are for this and nothing else. Those for the API server are taken too.
pub const AUDIENCE: &str = "database-operator";

/// Longest that one review may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What is pending.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why something is not known. Says nothing of tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server does not say {asked}: {why}")]
pub struct ReviewError {
    /// What it was asked.
    pub asked: &'static str,
    /// What happened.
    pub why: String,
}

/// Who knows who somebody is.
pub trait Reviews: Send + Sync {
    /// Whose token this is; nobody's, if it is none.
    fn who<'a>(&'a self, token: &'a str) -> Pending<'a, Result<Option<UserInfo>, ReviewError>>;

    /// Whether somebody may list Databases in a namespace, or in all of them.
    fn may_see<'a>(&'a self, who: &'a UserInfo, namespace: Option<&'a str>) -> Pending<'a, Result<bool, ReviewError>>;
}

/// The API server itself.
#[derive(Clone)]
pub struct ApiServer(Client);

impl ApiServer {
    /// It needs the verb `create` for `tokenreviews` of `authentication.k8s.io` and `subjectaccessreviews` of
    /// `authorization.k8s.io`.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// Of the answer nothing is read but its status: the rest repeats the question, and with it the token.
    async fn review<T: DeserializeOwned>(
        &self,
        asked: &'static str,
        path: &str,
        review: &Value,
    ) -> Result<T, ReviewError> {
        let failed = |why: String| ReviewError {
            asked,
            why: mask_text(&why),
        };
        let request = Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(review.to_string().into_bytes())
            .map_err(|error| failed(error.to_string()))?;
        let text = match tokio::time::timeout(ANSWER_WITHIN, self.0.request_text(request)).await {
            Ok(text) => text.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
        };
        // What the parser says could quote the text.
        status(&text).map_err(|_| failed("its answer cannot be read".to_owned()))
    }

    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>, ReviewError> {
        for audience in [None, Some(AUDIENCE)] {
            let review = json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "spec": {"token": token, "audiences": audience.map(|audience| [audience])},
            });
            let path = "/apis/authentication.k8s.io/v1/tokenreviews";
            let status: TokenReviewStatus = self.review("who the caller is", path, &review).await?;
            if status.authenticated == Some(true) && is_meant(&status, audience) {
                return Ok(status.user);
            }
        }
        Ok(None)
    }

    async fn authorise(&self, who: &UserInfo, namespace: Option<&str>) -> Result<bool, ReviewError> {
        let (group, resource, verb) = RESOURCE;
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": who.username, "uid": who.uid, "groups": who.groups, "extra": who.extra,
                "resourceAttributes": {"namespace": namespace, "verb": verb, "group": group, "resource": resource},
            },
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let status: SubjectAccessReviewStatus = self.review("what the caller may see", path, &review).await?;
        Ok(status.allowed && status.denied != Some(true))
    }
}

/// The status of a review.
fn status<T: DeserializeOwned>(review: &str) -> serde_json::Result<T> {
    #[derive(Deserialize)]
    struct Reviewed<T> {
        status: T,
    }
    let Reviewed { status } = objects::from_slice(review.as_bytes())?;
    Ok(status)
}

/// Whether the API server looked at the audience that it was asked for: an authenticator that knows of none says so by
/// leaving it out.
fn is_meant(status: &TokenReviewStatus, audience: Option<&str>) -> bool {
    audience.is_none_or(|audience| {
        let audiences = status.audiences.iter().flatten();
        audiences.into_iter().any(|there| there == audience)
    })
}

impl Reviews for ApiServer {
    fn who<'a>(&'a self, token: &'a str) -> Pending<'a, Result<Option<UserInfo>, ReviewError>> {
        Box::pin(self.authenticate(token))
    }

    fn may_see<'a>(&'a self, who: &'a UserInfo, namespace: Option<&'a str>) -> Pending<'a, Result<bool, ReviewError>> {
        Box::pin(self.authorise(who, namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_lists_lets_nobody_in() {
        let allowed = r#"{"kind": "SubjectAccessReview", "status": {"allowed": true}}"#;
        assert!(status::<SubjectAccessReviewStatus>(allowed).unwrap().allowed);
        let known = r#"{"status": {"authenticated": true, "user": {"username": "eve", "groups": ["staff"]}}}"#;
        assert_eq!(status::<TokenReviewStatus>(known).unwrap().authenticated, Some(true));
        for odd in [
            r#"[{"allowed": true}]"#,
            r#"{"status": [true]}"#,
            r#"{"status": [true, false]}"#,
            "[[true]]",
        ] {
            assert!(status::<SubjectAccessReviewStatus>(odd).is_err(), "{odd}");
        }
        for odd in [
            r#"[{"authenticated": true}]"#,
            r#"{"status": [["a"], true, null, {"username": "eve"}]}"#,
            r#"{"status": {"authenticated": true, "user": [{}, ["system:masters"], "u", "eve"]}}"#,
        ] {
            assert!(status::<TokenReviewStatus>(odd).is_err(), "{odd}");
        }
    }
}
