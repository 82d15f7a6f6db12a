//! Who may see what, and for how long that is remembered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authentication::v1::UserInfo;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::parameters::is_namespace;
use crate::reviews::{ReviewError, Reviews};

/// How long it is remembered what somebody may see.
pub(super) const REMEMBERED: Duration = Duration::from_secs(30);

/// How much is remembered; then all of it is forgotten.
const MOST: usize = 10_000;

/// Reviews of one request that run at a time.
const AT_ONCE: usize = 8;

/// What stands for a token. The token itself is not kept.
type Digest = [u8; 32];

/// What may be seen where: a namespace, or all of them.
type Place = Option<String>;

/// What was found out lately. Pure: the time comes in.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<(Digest, Place), (bool, Instant)>);

impl Known {
    fn get(&self, key: &(Digest, Place), now: Instant) -> Option<bool> {
        let (may, until) = self.0.get(key)?;
        (now < *until).then_some(*may)
    }

    fn put(&mut self, key: (Digest, Place), may: bool, now: Instant) {
        if self.0.len() >= MOST {
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(key, (may, now + REMEMBERED));
    }
}

/// Whoever decides who may see what.
pub(super) struct Access {
    reviews: Arc<dyn Reviews>,
    known: Mutex<Known>,
}

impl Access {
    pub(super) fn new(reviews: Arc<dyn Reviews>) -> Self {
        Self {
            reviews,
            known: Mutex::default(),
        }
    }

    /// Who has this token, if it is somebody's. Asked each time: a token that is withdrawn is worth nothing at once.
    pub(super) async fn caller(&self, token: &str) -> Result<Option<Caller<'_>>, ReviewError> {
        let who = self.reviews.who(token).await?;
        Ok(who.map(|who| Caller {
            access: self,
            who,
            token: Sha256::digest(token).into(),
        }))
    }
}

/// Somebody whom the API server knows.
pub(super) struct Caller<'a> {
    access: &'a Access,
    who: UserInfo,
    token: Digest,
}

impl Caller<'_> {
    /// As the API server names them.
    pub(super) fn name(&self) -> &str {
        self.who.username.as_deref().unwrap_or_default()
    }

    /// Whether they may see all namespaces, and what is in none.
    pub(super) async fn sees_all(&self) -> Result<bool, ReviewError> {
        self.ask(None).await
    }

    /// Whether they may see this namespace.
    pub(super) async fn sees(&self, namespace: &str) -> Result<bool, ReviewError> {
        // The API server takes an empty one for all of them; others that cannot be are nobody's.
        if !is_namespace(namespace) {
            return Ok(false);
        }
        self.ask(Some(namespace.to_owned())).await
    }

    /// What they may see of these, as far as it is known already.
    pub(super) fn known<'n>(&self, namespaces: impl Iterator<Item = &'n str>) -> BTreeMap<String, bool> {
        let known = self.access.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let found = namespaces.filter_map(|namespace| {
            let key = (self.token, Some(namespace.to_owned()));
            Some((namespace.to_owned(), known.get(&key, now)?))
        });
        found.collect()
    }

    /// What they may see of these.
    pub(super) async fn find_out(&self, namespaces: BTreeSet<String>) -> Result<BTreeMap<String, bool>, ReviewError> {
        let reviews = namespaces.into_iter().map(|namespace| async {
            let may = self.sees(&namespace).await?;
            Ok::<_, ReviewError>((namespace, may))
        });
        stream::iter(reviews).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn ask(&self, place: Place) -> Result<bool, ReviewError> {
        let key = (self.token, place);
        let lock = || self.access.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&key, Instant::now());
        if let Some(may) = known {
            return Ok(may);
        }
        let may = self.access.reviews.may_see(&self.who, key.1.as_deref()).await?;
        lock().put(key, may, Instant::now());
        Ok(may)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize, place: &str) -> (Digest, Place) {
        (Sha256::digest(number.to_be_bytes()).into(), Some(place.to_owned()))
    }

    #[test]
    fn what_is_known_is_of_one_token_and_one_place_and_ends() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.put(key(1, "shop"), true, now);
        known.put(key(1, "bank"), false, now);
        let later = now + REMEMBERED.saturating_sub(Duration::from_millis(1));
        assert_eq!(known.get(&key(1, "shop"), later), Some(true));
        assert_eq!(known.get(&key(1, "bank"), later), Some(false));
        assert_eq!(known.get(&key(2, "shop"), later), None);
        assert_eq!(known.get(&(key(1, "").0, None), later), None);
        assert_eq!(known.get(&key(1, "shop"), now + REMEMBERED), None);
    }

    #[test]
    fn what_is_known_has_a_bound() {
        let (mut known, now) = (Known::default(), Instant::now());
        for number in 0..=MOST {
            known.put(key(number, "shop"), true, now);
        }
        assert_eq!(known.0.len(), 1);
        // Of old ones only those go that are over.
        known.put(key(0, "bank"), true, now + REMEMBERED / 2);
        for number in 0..MOST - 1 {
            known.put(key(number, "shop"), true, now + REMEMBERED);
        }
        assert_eq!(known.get(&key(0, "bank"), now + REMEMBERED), Some(true));
    }
}
