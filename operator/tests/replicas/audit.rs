//! What the API server wrote down of the replicas' requests, as it grows.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use api::names::FENCE_ANNOTATION;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use sharding::map::Spec;
use sharding::{Bucket, bucket_of};

use crate::place::{NAMESPACE, USER};

/// Microseconds of the machine's clock, which is also the API server's.
pub(crate) type Micros = i64;

pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_micros()).expect("before 290000")
}

/// A write of a replica to a Database, its status or a child, whatever became of it.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    /// From the user agent.
    pub(crate) member: String,
    pub(crate) database: String,
    /// Resource, name and subresource.
    pub(crate) object: String,
    pub(crate) bucket: Bucket,
    pub(crate) code: u16,
    /// The object's resourceVersion after it, if the log has the answer.
    pub(crate) version: Option<u64>,
    /// The epoch that was sent.
    pub(crate) fence: Option<u64>,
    /// Whether the log has what was sent: not of Secrets.
    pub(crate) shown: bool,
    pub(crate) deletes: bool,
    /// What the API server said, if it refused.
    pub(crate) message: String,
    pub(crate) received: Micros,
    pub(crate) done: Micros,
}

impl Write {
    pub(crate) fn accepted(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Refused as that of an owner whose time is over.
    pub(crate) fn fenced_off(&self) -> bool {
        self.code == 403 && self.message.contains("stale owner")
    }
}

/// A ShardMap that was written.
#[derive(Debug, Clone)]
pub(crate) struct MapWrite {
    pub(crate) version: u64,
    pub(crate) done: Micros,
    pub(crate) spec: Spec,
}

/// A Lease of a replica, or of the leader, that was written.
#[derive(Debug, Clone)]
pub(crate) struct LeaseWrite {
    pub(crate) name: String,
    pub(crate) done: Micros,
    /// All that was sent, but for the time of the renewal.
    pub(crate) says: Value,
}

/// All that was read so far.
pub(crate) struct Log {
    path: PathBuf,
    offset: u64,
    pub(crate) leases: Vec<LeaseWrite>,
    pub(crate) writes: Vec<Write>,
    pub(crate) maps: Vec<MapWrite>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
    request_object: Option<Value>,
    response_object: Option<Value>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    subresource: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

impl Log {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            offset: 0,
            leases: Vec::new(),
            writes: Vec::new(),
            maps: Vec::new(),
        }
    }

    /// Forgets what was read, and goes on with what is written from now on.
    pub(crate) fn skip(&mut self) -> io::Result<()> {
        *self = Self::new(&self.path);
        self.offset = std::fs::metadata(&self.path)?.len();
        Ok(())
    }

    /// Reads what was added since.
    pub(crate) fn follow(&mut self) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut lines = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = lines.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                // Its rest is being written.
                self.maps.sort_by_key(|map| map.version);
                return Ok(());
            }
            self.offset += u64::try_from(read).expect("a length");
            self.take(&line);
        }
    }

    fn take(&mut self, line: &[u8]) {
        let line = std::str::from_utf8(line).expect("UTF-8");
        // Most lines are not looked at closely.
        if !line.contains(&format!("\"username\":\"{USER}\"")) || line.contains("\"verb\":\"watch\"") {
            return;
        }
        let line: Line = serde_json::from_str(line).expect("a line of the audit log");
        let writes = ["create", "update", "patch", "delete"].contains(&line.verb.as_str());
        let meant = line.stage == "ResponseComplete" && !line.request_uri.contains("dryRun=");
        if line.user.username == USER && writes && meant {
            self.take_write(line);
        }
    }

    fn take_write(&mut self, line: Line) {
        let object = line.object_ref.unwrap_or_default();
        let status = line.response_status;
        let code = status.as_ref().map_or(0, |status| status.code);
        let answer = line.response_object.unwrap_or_default();
        let version = answer
            .pointer("/metadata/resourceVersion")
            .and_then(|version| version.as_str()?.parse().ok());
        let done = line.stage_timestamp.as_microsecond();
        if object.resource == "shardmaps" {
            if let (200..300, Some(version)) = (code, version) {
                assert!(
                    answer["spec"].is_object(),
                    "the audit log shows no bodies: devcluster's program is older than this test"
                );
                let spec = serde_json::from_value(answer["spec"].clone()).expect("a map");
                self.maps.push(MapWrite { version, done, spec });
            }
            return;
        }
        if let ("leases", 200..300) = (object.resource.as_str(), code) {
            let named = answer.pointer("/metadata/name").and_then(Value::as_str);
            // Of a creation, the reference may lack the name.
            let name = named.unwrap_or(&object.name).to_owned();
            let mut says = line.request_object.unwrap_or_default();
            says["spec"]["renewTime"].take();
            says["metadata"]["resourceVersion"].take();
            self.leases.push(LeaseWrite { name, done, says });
            return;
        }
        if object.namespace != NAMESPACE || object.resource == "events" {
            return;
        }
        let sent = line.request_object;
        // Of a creation, the reference may lack the name.
        let name = [&answer, sent.as_ref().unwrap_or(&Value::Null)]
            .iter()
            .find_map(|object| object.pointer("/metadata/name")?.as_str())
            .filter(|_| object.name.is_empty())
            .map_or(object.name.clone(), str::to_owned);
        // All children are called by their Database, whose name has no hyphen; volumes have a word before it.
        let database = name.trim_start_matches("data-").split('-').next();
        let database = database.unwrap_or_default().to_owned();
        self.writes.push(Write {
            member: member_of(&line.user_agent),
            bucket: bucket_of(NAMESPACE, &database),
            database,
            object: format!("{} {name} {}", object.resource, object.subresource),
            code,
            version: version.filter(|_| line.verb != "delete"),
            fence: sent.as_ref().and_then(fence_of),
            shown: sent.is_some(),
            deletes: line.verb == "delete",
            message: status.map(|status| status.message).unwrap_or_default(),
            received: line.request_received_timestamp.as_microsecond(),
            done,
        });
    }
}

/// `database-operator/VERSION (MEMBER)`.
fn member_of(agent: &str) -> String {
    let inner = agent.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    inner.map_or_else(|| format!("?{agent}"), |(member, _)| member.to_owned())
}

/// The epoch that a body carries: an object, a merge patch of one or of a status, or a JSON patch.
fn fence_of(sent: &Value) -> Option<u64> {
    if let Some(operations) = sent.as_array() {
        let path = format!("/metadata/annotations/{}", FENCE_ANNOTATION.replace('/', "~1"));
        return operations.iter().find_map(|operation| {
            let value = &operation["value"];
            match operation["path"].as_str()? {
                "/metadata/annotations" => number(&value[FENCE_ANNOTATION]),
                "/status/fence" => number(value),
                written => (written == path).then(|| number(value)).flatten(),
            }
        });
    }
    number(&sent["metadata"]["annotations"][FENCE_ANNOTATION]).or_else(|| number(&sent["status"]["fence"]))
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[test]
fn fences_are_found_wherever_they_are_sent() {
    use serde_json::json;
    let annotated = json!({"metadata": {"annotations": {FENCE_ANNOTATION: "7"}}});
    assert_eq!(fence_of(&annotated), Some(7));
    assert_eq!(fence_of(&json!({"status": {"fence": 8}})), Some(8));
    let pointer = "/metadata/annotations/intent.example.com~1fence";
    let operations = json!([{"op": "remove", "path": "/spec"}, {"op": "add", "path": pointer, "value": "9"}]);
    assert_eq!(fence_of(&operations), Some(9));
    assert_eq!(fence_of(&json!([{"op": "remove", "path": "/spec"}])), None);
    assert_eq!(member_of("database-operator/0.1.0 (r1)"), "r1");
}
