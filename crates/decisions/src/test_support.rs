//! Records, and an API server that knows who may see what.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::UserInfo;
use policy::log::{Log, Options, Reader, Record, Retention, decision_id, mask};
use serde_json::json;
use tempfile::TempDir;

use crate::reviews::{Pending, ReviewError, Reviews};

/// A secret that stands in every record before it is masked.
pub(crate) const PLANTED: &str = "pw-3f9c1e7a55d24b";

/// A record that differs from those of other numbers; larger ones are newer.
pub(crate) fn record(number: u64, namespace: Option<&str>) -> Record {
    let timestamp = Timestamp::from_millisecond(1_795_000_000_000 + i64::try_from(number).unwrap()).unwrap();
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let record = json!({
        "decision_id": decision_id(timestamp, random), "timestamp": timestamp, "replica": "r", "source": "admission",
        "operation": "CREATE", "user": {"name": format!("user-{}", number % 3)},
        "resource": {"namespace": namespace, "name": format!("database-{number}")},
        "verdict": if number.is_multiple_of(2) { "deny" } else { "allow" },
        "warnings": [format!("quotes {PLANTED}")],
        "input": {"object": {"kind": "Secret", "stringData": {"a": PLANTED}}, "old": {"spec": {"password": PLANTED}}},
    });
    serde_json::from_value(record).unwrap()
}

/// A store with these records.
pub(crate) struct Kept {
    _folder: TempDir,
    log: Log,
}

impl Kept {
    pub(crate) fn new(records: impl IntoIterator<Item = Record>) -> Self {
        let folder = TempDir::new().unwrap();
        let mut options = Options::new(folder.path().join("decisions.db"));
        // The records have a fixed time, which is soon long ago.
        options.retention = Retention::default();
        let log = Log::start(options).unwrap();
        for record in records {
            log.record(&mask(record));
        }
        assert!(log.flush(Duration::from_mins(1)));
        Self { _folder: folder, log }
    }

    pub(crate) fn readers(&self) -> Vec<Reader> {
        vec![self.log.reader(), self.log.reader()]
    }
}

/// What one token may see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rights {
    pub(crate) everything: bool,
    pub(crate) namespaces: BTreeSet<String>,
}

impl Rights {
    pub(crate) fn all() -> Self {
        Self {
            everything: true,
            namespaces: BTreeSet::new(),
        }
    }

    pub(crate) fn of(namespaces: &[&str]) -> Self {
        Self {
            everything: false,
            namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

/// An API server. The token of a user is `token-of-` and their name.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) users: Mutex<BTreeMap<String, Rights>>,
    /// What was asked: tokens by name of user, places.
    pub(crate) asked: Mutex<Vec<String>>,
    /// It does not answer about places.
    pub(crate) fails: bool,
    /// It does not answer at all.
    pub(crate) hangs: bool,
    pub(crate) hanging: AtomicUsize,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Known {
    pub(crate) fn with(self, user: &str, rights: Rights) -> Self {
        self.set(user, rights);
        self
    }

    pub(crate) fn set(&self, user: &str, rights: Rights) {
        held(&self.users).insert(user.to_owned(), rights);
    }

    /// How many wait for it.
    pub(crate) fn hanging(&self) -> usize {
        self.hanging.load(Relaxed)
    }

    /// What was asked since the last look.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *held(&self.asked))
    }
}

pub(crate) fn token(user: &str) -> String {
    format!("token-of-{user}")
}

impl Reviews for Known {
    fn who<'a>(&'a self, token: &'a str) -> Pending<'a, Result<Option<UserInfo>, ReviewError>> {
        if self.hangs {
            self.hanging.fetch_add(1, Relaxed);
            return Box::pin(pending());
        }
        let user = token.strip_prefix("token-of-").unwrap_or_default().to_owned();
        held(&self.asked).push(format!("who is {user}"));
        let found = held(&self.users).contains_key(&user).then(|| UserInfo {
            username: Some(user),
            ..UserInfo::default()
        });
        Box::pin(ready(Ok(found)))
    }

    fn may_see<'a>(&'a self, who: &'a UserInfo, namespace: Option<&'a str>) -> Pending<'a, Result<bool, ReviewError>> {
        let user = who.username.clone().unwrap();
        let place = namespace.unwrap_or("*");
        held(&self.asked).push(format!("{user} in {place}"));
        if self.fails {
            return Box::pin(ready(Err(ReviewError {
                asked: "what the caller may see",
                why: "it is down".to_owned(),
            })));
        }
        let users = held(&self.users);
        let rights = &users[&user];
        let may = rights.everything || namespace.is_some_and(|namespace| rights.namespaces.contains(namespace));
        Box::pin(ready(Ok(may)))
    }
}
