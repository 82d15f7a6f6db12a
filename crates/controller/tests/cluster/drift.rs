//! Damage, and its repair.
//!
//! The table of damages is in `drift/damages.rs` and `drift/workload.rs`; here it is replayed on real children. Repaired
//! is judged twice: by comparing the object with what it was, and by the planner's own digest of what we own. Settled
//! is judged by the audit log.

mod damages;
mod workload;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use planner::child::Kind;
use planner::owned;
use planner::status::{CREDENTIALS_LOST, NAME_TAKEN, VOLUME_LEAVING};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Bed, bed, bed_with_node, condition, eventually, postgresql, redis};
use damages::{Damage, Deed, Then, damages, is_applied};

/// How long without a write a Database counts as settled between two damages. What comes later than that is found by
/// the count at the end.
const QUIET: Duration = Duration::from_millis(500);
/// Most writes that one repair may take: what differs, then what others added, and a status in between.
const WRITES_AT_MOST: usize = 4;
/// Databases that are damaged at the same time, by engine.
const LANES: [(&str, usize); 2] = [("postgresql", 10), ("redis", 6)];

fn spec_of(engine: &str) -> Value {
    match engine {
        "redis" => redis(),
        _ => {
            // Also a child that only a secret reference brings.
            let mut spec = postgresql();
            spec["configuration"] = json!({"parameters": {"work_mem": "8MB"}, "secretRef": {"name": "planted"}});
            spec
        }
    }
}

async fn plant(bed: &Bed) {
    let planted = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "planted"}, "stringData": {"shop.api_key": "planted"},
    });
    bed.create(&bed.children(Kind::Secret), planted).await;
}

/// The children of one Database of several in a namespace.
async fn children_of(bed: &Bed, database: &str) -> BTreeMap<(Kind, String), Value> {
    let mut all = bed.all_children().await;
    all.retain(|(kind, _), object| planner::child::database_of(*kind, object).as_deref() == Some(database));
    all
}

/// The object without what the server and others say of it.
fn cleaned(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "labels" | "ownerReferences"));
    let all = object.as_object_mut().expect("an object");
    all.remove("status");
    if let Some(spec) = all.get_mut("spec").and_then(Value::as_object_mut) {
        for assigned in ["clusterIP", "clusterIPs", "volumeName"] {
            // `None` was asked for; an address was given.
            if spec
                .get(assigned)
                .is_some_and(|value| value != "None" && *value != json!(["None"]))
            {
                spec.remove(assigned);
            }
        }
    }
    object
}

/// The first thing that `has` lacks of `wanted`; lists of objects count without order.
fn lacks(wanted: &Value, has: &Value, at: &str) -> Option<String> {
    match (wanted, has) {
        (Value::Object(wanted), Value::Object(has)) => wanted.iter().find_map(|(field, wanted)| {
            let at = format!("{at}/{field}");
            has.get(field)
                .map_or_else(|| Some(format!("{at} is missing")), |has| lacks(wanted, has, &at))
        }),
        (Value::Array(wanted), Value::Array(has)) if wanted.iter().all(Value::is_object) => {
            wanted.iter().enumerate().find_map(|(index, wanted)| {
                let at = format!("{at}/{index}");
                let same = has.iter().any(|has| lacks(wanted, has, &at).is_none());
                (!same).then(|| format!("{at}: {wanted} is not in {has:?}"))
            })
        }
        _ if wanted == has => None,
        _ => Some(format!("{at} is {has}, was {wanted}")),
    }
}

/// Why the object is not what we want it to be, if it is not.
fn unrepaired(kind: Kind, name: &str, before: &Value, now: &Value) -> Option<String> {
    if let Some(lack) = lacks(&cleaned(before), &cleaned(now), "") {
        return Some(lack);
    }
    if cleaned(now).to_string().contains("intruder") {
        return Some(format!("an intruder is still there: {}", cleaned(now)));
    }
    if is_applied(kind, name)
        && (owned::digest_of_live(now).is_none() || owned::digest_of_live(now) != owned::digest_of_live(before))
    {
        return Some("what we own is not what we owned".to_owned());
    }
    None
}

/// Every `key: value` that is theirs by its name.
fn theirs(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![("", object)];
    while let Some((key, value)) = rest.pop() {
        match value {
            Value::Object(fields) => rest.extend(
                fields
                    .iter()
                    .filter(|(key, _)| *key != "managedFields")
                    .map(|(key, value)| (key.as_str(), value)),
            ),
            Value::Array(items) => rest.extend(items.iter().map(|item| (key, item))),
            scalar => {
                let line = format!("{key}={scalar}");
                if line.contains("theirs") {
                    found.push(line);
                }
            }
        }
    }
    found
}

fn by(manager: &str) -> PatchParams {
    PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    }
}

/// Does the deed, as a manager of this name. Returns what the server made of it.
async fn perform(bed: &Bed, (kind, name): &(Kind, String), deed: &Deed, manager: &str) -> Result<Value, kube::Error> {
    let api = bed.children(*kind);
    let as_value = |object: DynamicObject| serde_json::to_value(object).expect("objects are JSON");
    match deed {
        Deed::Delete => {
            api.delete(name, &DeleteParams::background()).await?;
            Ok(Value::Null)
        }
        Deed::DeleteSlowly => {
            let hold = |finalizers: Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
            api.patch(name, &by(manager), &hold(json!(["example.org/slow"])))
                .await?;
            api.delete(name, &DeleteParams::background()).await?;
            // Long enough for a hasty operator to do something about what is on its way out.
            tokio::time::sleep(QUIET).await;
            api.patch(name, &by(manager), &hold(Value::Null)).await?;
            Ok(Value::Null)
        }
        Deed::Merge(change) => api.patch(name, &by(manager), &Patch::Merge(change)).await.map(as_value),
        Deed::Apply(fields) => {
            let mut body = fields.clone();
            body["apiVersion"] = json!(kind.api_version());
            body["kind"] = json!(kind.name());
            body["metadata"]["name"] = json!(name);
            api.patch(name, &by(manager).force(), &Patch::Apply(body))
                .await
                .map(as_value)
        }
        Deed::Json(operations) => {
            let operations = serde_json::from_value(operations.clone()).expect("a JSON patch");
            api.patch(name, &by(manager), &Patch::Json::<()>(operations))
                .await
                .map(as_value)
        }
        Deed::Replace(change) => loop {
            let mut object = as_value(api.get(name).await?);
            change(&mut object);
            let object = serde_json::from_value(object).expect("an object");
            let parameters = PostParams {
                field_manager: Some(manager.to_owned()),
                ..PostParams::default()
            };
            match api.replace(name, &parameters, &object).await {
                // Its status was written in between.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                other => return other.map(as_value),
            }
        },
    }
}

/// One Database and what is done to it, one damage after the other.
struct Lane<'a> {
    bed: &'a Bed,
    database: String,
    baseline: BTreeMap<(Kind, String), Value>,
    /// Writes that were accounted for.
    counted: usize,
    failures: Vec<String>,
    slowest: (Duration, String),
    dearest: (usize, String),
    replayed: usize,
    refused: Vec<String>,
}

impl<'a> Lane<'a> {
    async fn new(bed: &'a Bed, engine: &str, number: usize) -> Self {
        let database = format!("{engine}{number}");
        bed.declare(&database, spec_of(engine)).await;
        bed.condition(&database, "Applied", "True").await;
        let mut lane = Self {
            bed,
            baseline: children_of(bed, &database).await,
            database,
            counted: 0,
            failures: Vec::new(),
            slowest: (Duration::ZERO, String::new()),
            dearest: (0, String::new()),
            replayed: 0,
            refused: Vec::new(),
        };
        lane.counted = lane.quiet().await.len();
        lane
    }

    /// What the operator wrote about this Database.
    fn writes(&self) -> Vec<String> {
        let of_ours = |line: &String| {
            let name = line.split(' ').nth(2).unwrap_or_default();
            let name = name.strip_prefix("data-").unwrap_or(name);
            name.strip_prefix(self.database.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        self.bed.writes().into_iter().filter(of_ours).collect()
    }

    /// Waits until nothing was written for a while, and returns everything that was.
    async fn quiet(&self) -> Vec<String> {
        let mut last = (self.writes().len(), Instant::now());
        let give_up = Instant::now() + QUIET * 20;
        // One that never ends is found by the number of its writes.
        while last.1.elapsed() < QUIET && Instant::now() < give_up {
            tokio::time::sleep(QUIET / 5).await;
            let now = self.writes().len();
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
        self.writes()
    }

    /// Waits until the child is as it was, or gives up on this one damage.
    async fn repaired(&self, child: &(Kind, String)) -> Result<Value, String> {
        let give_up = Instant::now() + Duration::from_secs(15);
        loop {
            let now = self.bed.child(child.0, &child.1).await;
            let why = match &now {
                None => Some("it is not there".to_owned()),
                Some(now) => unrepaired(child.0, &child.1, &self.baseline[child], now),
            };
            match (why, now) {
                (None, Some(now)) => return Ok(now),
                (why, _) if Instant::now() > give_up => return Err(why.unwrap_or_default()),
                _ => tokio::time::sleep(Duration::from_millis(25)).await,
            }
        }
    }

    async fn has_reason(&self, reason: &str, wanted: bool) -> Result<(), String> {
        let give_up = Instant::now() + Duration::from_secs(15);
        loop {
            let database = self.bed.database(&self.database).await.unwrap_or_default();
            let conditions = database["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|condition| condition["reason"] == reason) == wanted {
                return Ok(());
            }
            if Instant::now() > give_up {
                return Err(format!(
                    "a condition with reason {reason}: should be {wanted}; {conditions:?}"
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn replay(&mut self, damage: &Damage) {
        let manager = format!("gitops-{}", self.replayed);
        let since = Instant::now();
        let outcome = match perform(self.bed, &damage.child, &damage.deed, &manager).await {
            Ok(made) => self.follow(damage, &made, since).await,
            // What the API server itself refuses is no damage.
            Err(error) => {
                println!("REFUSED {}: {error}", damage.what);
                self.refused.push(format!("{}: {error}", damage.what));
                return;
            }
        };
        self.replayed += 1;
        let writes = self.quiet().await;
        let new = &writes[self.counted..];
        let outcome = outcome.and_then(|()| match damage.then {
            Then::Left if !new.is_empty() => Err("something was written".to_owned()),
            _ if new.len() > WRITES_AT_MOST => Err("too much was written".to_owned()),
            _ => Ok(()),
        });
        if let Err(why) = outcome {
            let failure = format!("{}: {why}; written: {new:?}", damage.what);
            // At once, in case the test does not come to its end.
            println!("FAILED {failure}");
            self.failures.push(failure);
        }
        if new.len() > self.dearest.0 {
            self.dearest = (new.len(), damage.what.clone());
        }
        self.counted = writes.len();
        if let (Some(undo), Then::Left) = (&damage.undo, &damage.then) {
            perform(self.bed, &damage.child, undo, "undo")
                .await
                .expect("what was done can be undone");
            self.counted = self.quiet().await.len();
        }
    }

    /// Sees that what must follow a deed does.
    async fn follow(&mut self, damage: &Damage, made: &Value, since: Instant) -> Result<(), String> {
        match &damage.then {
            Then::Repaired => {
                let now = self.repaired(&damage.child).await?;
                if since.elapsed() > self.slowest.0 {
                    self.slowest = (since.elapsed(), damage.what.clone());
                }
                let has = theirs(&now);
                match theirs(made).into_iter().find(|line| !has.contains(line)) {
                    Some(lost) => Err(format!("{lost} was theirs, and is gone")),
                    None => Ok(()),
                }
            }
            Then::Left => {
                self.quiet().await;
                let now = self
                    .bed
                    .child(damage.child.0, &damage.child.1)
                    .await
                    .unwrap_or_default();
                if cleaned(&now) == cleaned(made) {
                    Ok(())
                } else {
                    Err(format!("it was {made}, and is {now}"))
                }
            }
            Then::Disputed(reason) => {
                self.has_reason(reason, true).await?;
                self.quiet().await;
                let now = self
                    .bed
                    .child(damage.child.0, &damage.child.1)
                    .await
                    .unwrap_or_default();
                let untouched = cleaned(&now) == cleaned(made);
                if let Some(undo) = &damage.undo {
                    perform(self.bed, &damage.child, undo, "undo")
                        .await
                        .expect("what was done can be undone");
                }
                self.has_reason(reason, false).await?;
                self.repaired(&damage.child).await?;
                if untouched {
                    Ok(())
                } else {
                    Err(format!("it was touched: it was {made}, and is {now}"))
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_damage_is_repaired_and_nothing_else_is_written() {
    let Some(bed) = bed("drift").await else { return };
    plant(&bed).await;
    let operator = bed.operator(0);
    let began = Instant::now();
    let lanes = LANES
        .iter()
        .flat_map(|(engine, lanes)| (0..*lanes).map(move |number| (*engine, *lanes, number)));
    let lanes: Vec<Lane> = stream::iter(lanes)
        .map(async |(engine, lanes, number)| {
            let mut lane = Lane::new(&bed, engine, number).await;
            let all: Vec<Damage> = lane
                .baseline
                .iter()
                .flat_map(|((kind, name), object)| damages(*kind, name, object))
                .collect();
            for damage in all.iter().skip(number).step_by(lanes) {
                lane.replay(damage).await;
            }
            lane
        })
        .buffer_unordered(usize::MAX)
        .collect()
        .await;
    bed.settled(Duration::from_secs(3)).await;
    let (mut failures, mut replayed) = (Vec::new(), 0);
    for lane in &lanes {
        replayed += lane.replayed;
        failures.extend(lane.failures.iter().cloned());
        failures.extend(
            lane.refused
                .iter()
                .map(|refused| format!("refused by the server: {refused}")),
        );
        let writes = lane.writes();
        if writes.len() != lane.counted {
            failures.push(format!(
                "{}: written later: {:?}",
                lane.database,
                &writes[lane.counted..]
            ));
        }
        println!(
            "{}: {} damages, slowest repair {} ms ({}), most writes {} ({})",
            lane.database,
            lane.replayed,
            lane.slowest.0.as_millis(),
            lane.slowest.1,
            lane.dearest.0,
            lane.dearest.1
        );
    }
    println!("{replayed} damages replayed in {} s", began.elapsed().as_secs());
    assert!(
        failures.is_empty(),
        "{} of {replayed}:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(replayed >= 200, "{replayed}");
    operator.stop().await;
}

/// While a Database is paused, its child is replaced by somebody else's of the same name that carries all our labels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_somebody_else_put_in_place_of_ours_is_not_touched_and_ours_comes_back_when_it_goes() {
    let Some(bed) = bed("usurped").await else { return };
    plant(&bed).await;
    let _operator = bed.operator(0);
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stranger"}});
    let owner = bed.create(&bed.children(Kind::ConfigMap), owner).await;
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "stranger", "uid": owner["metadata"]["uid"], "controller": true}]);
    let kinds = [
        (Kind::ServiceAccount, ""),
        (Kind::Service, "-rw"),
        (Kind::Service, "-pods"),
        (Kind::ConfigMap, "-config"),
        (Kind::Secret, "-config-secret"),
        (Kind::Secret, "-app"),
        (Kind::StatefulSet, "-g1"),
    ];
    let replace_one = async |(number, (kind, suffix)): (usize, (Kind, &str))| {
        let database = format!("db{number}");
        bed.declare(&database, spec_of("postgresql")).await;
        bed.condition(&database, "Applied", "True").await;
        let pause = |value: Value| json!({"metadata": {"annotations": {api::names::PAUSED_ANNOTATION: value}}});
        bed.edit(&database, pause(json!("true"))).await;
        bed.condition(&database, "Paused", "True").await;
        let name = format!("{database}{suffix}");
        let before = bed.child(kind, &name).await.expect("ours");
        bed.delete(kind, &name).await;
        let mut foreign = cleaned(&before);
        foreign["metadata"]["ownerReferences"] = owner.clone();
        let foreign = bed.create(&bed.children(kind), foreign).await;
        bed.edit(&database, pause(Value::Null)).await;
        let taken = bed
            .database_when(&database, "the name is taken", |database| {
                condition(database, "Applied")["reason"] == NAME_TAKEN
            })
            .await;
        let message = condition(&taken, "Applied")["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(message.contains(&format!("{} {name}", kind.name())), "{message}");
        let still = bed.child(kind, &name).await.expect("theirs");
        // The StatefulSet's controller writes its status.
        assert_eq!(cleaned(&still), cleaned(&foreign), "{name} was touched");
        bed.delete(kind, &name).await;
        bed.condition(&database, "Applied", "True").await;
        let now = bed.child(kind, &name).await.expect("ours again");
        assert_eq!(unrepaired(kind, &name, &before, &now), None, "{name}");
    };
    stream::iter(kinds.into_iter().enumerate())
        .map(replace_one)
        .buffer_unordered(usize::MAX)
        .collect::<Vec<()>>()
        .await;
    println!("{} children replaced by somebody else's", kinds.len());
}

/// What is no longer declared goes, also from children whose managed fields were wiped or whose spec had to be put back.
#[tokio::test]
async fn what_is_declared_no_more_goes_whatever_was_done_to_a_child_before() {
    let Some(bed) = bed("dropped").await else { return };
    plant(&bed).await;
    let _operator = bed.operator(0);
    let wipe = Deed::Merge(json!({"metadata": {"managedFields": [{}]}}));
    let probe = Deed::Replace(|object| {
        object["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 9}});
    });
    for (name, deed) in [("wiped", wipe), ("overruled", probe)] {
        bed.declare(name, spec_of("postgresql")).await;
        bed.condition(name, "Applied", "True").await;
        let child = (Kind::StatefulSet, format!("{name}-g1"));
        let before = bed.child(child.0, &child.1).await.expect("the StatefulSet");
        let volumes = |set: &Value| set["spec"]["template"]["spec"]["volumes"].to_string();
        let secret = format!("{name}-config-secret");
        assert!(volumes(&before).contains(&secret), "{before}");
        perform(&bed, &child, &deed, "somebody")
            .await
            .expect("the deed is done");
        eventually(&format!("{name}: repaired"), async || {
            let now = bed.child(child.0, &child.1).await.unwrap_or_default();
            unrepaired(child.0, &child.1, &before, &now).map_or(Ok(()), Err)
        })
        .await;
        bed.edit(name, json!({"spec": {"configuration": {"secretRef": null}}}))
            .await;
        bed.condition(name, "Applied", "True").await;
        let now = bed.child(child.0, &child.1).await.expect("the StatefulSet");
        assert!(!volumes(&now).contains(&secret), "{name}: {now}");
        assert!(bed.child(Kind::Secret, &secret).await.is_none());
    }
    bed.settled(Duration::from_secs(2)).await;
}

/// A Secret as a backup of it would bring it back.
fn copy_of(secret: &Value) -> Value {
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

/// A running PostgreSQL under the same kind of treatment.
struct Running<'a> {
    bed: &'a Bed,
    repairs: Vec<(Duration, String)>,
}

impl Running<'_> {
    /// Does a deed to a child, and measures until all that is ours is as it was.
    async fn damage(&mut self, kind: Kind, name: &str, what: &str, deed: Deed) {
        let child = (kind, name.to_owned());
        let before = self.bed.child(kind, name).await.expect("the child");
        let gone = matches!(deed, Deed::Delete);
        perform(self.bed, &child, &deed, "somebody")
            .await
            .expect("the deed is done");
        let since = Instant::now();
        loop {
            let now = self.bed.child(kind, name).await;
            let same = |now: &Value| now["metadata"]["uid"] == before["metadata"]["uid"];
            // What is deleted may still be there for a moment.
            let repaired = now
                .filter(|now| !(gone && same(now)))
                .is_some_and(|now| unrepaired(kind, name, &before, &now).is_none());
            if repaired {
                break;
            }
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "{name}, {what}: never repaired"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.repairs.push((since.elapsed(), format!("{name}: {what}")));
    }

    async fn pod(&self) -> Value {
        self.bed.child(Kind::Pod, "orders-g1-0").await.unwrap_or_default()
    }

    async fn rows(&self) -> String {
        let script = "PGPASSWORD=$(cat /etc/database/admin/app-password) psql -X -A -t -v ON_ERROR_STOP=1 -h orders-rw -U app -d app -c 'select count(*) from t'";
        eventually("rows are counted", async || self.bed.exec("orders-g1-0", script).await)
            .await
            .trim()
            .to_owned()
    }
}

#[tokio::test]
async fn every_child_of_a_running_postgresql_is_repaired_within_seconds_and_no_pod_restarts_for_it() {
    let Some(bed) = bed_with_node("drift-node").await else {
        return;
    };
    let operator = bed.operator(1);
    bed.declare("orders", postgresql()).await;
    bed.condition("orders", "Ready", "True").await;
    let script = "PGPASSWORD=$(cat /etc/database/admin/app-password) psql -X -v ON_ERROR_STOP=1 -h orders-rw -U app -d app -c 'create table if not exists t as select generate_series(1, 1000) as n'";
    eventually("rows are written", async || bed.exec("orders-g1-0", script).await).await;
    let mut running = Running {
        bed: &bed,
        repairs: Vec::new(),
    };
    let pod = running.pod().await["metadata"]["uid"].clone();

    let merge = |change: Value| Deed::Merge(change);
    running
        .damage(Kind::ServiceAccount, "orders", "deleted", Deed::Delete)
        .await;
    running
        .damage(
            Kind::ServiceAccount,
            "orders",
            "a token mounted",
            merge(json!({"automountServiceAccountToken": true})),
        )
        .await;
    running
        .damage(Kind::Service, "orders-rw", "deleted", Deed::Delete)
        .await;
    running
        .damage(
            Kind::Service,
            "orders-rw",
            "another selector",
            merge(json!({"spec": {"selector": {"a": "b"}}})),
        )
        .await;
    running
        .damage(Kind::Service, "orders-pods", "deleted", Deed::Delete)
        .await;
    running
        .damage(
            Kind::Service,
            "orders-pods",
            "another port",
            merge(json!({"spec": {"ports": [{"name": "x", "port": 1}]}})),
        )
        .await;
    running
        .damage(Kind::ConfigMap, "orders-config", "deleted", Deed::Delete)
        .await;
    running
        .damage(
            Kind::ConfigMap,
            "orders-config",
            "another file",
            merge(json!({"data": {"postgresql.conf": "port = 1"}})),
        )
        .await;
    running
        .damage(
            Kind::StatefulSet,
            "orders-g1",
            "another grace",
            merge(json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}})),
        )
        .await;
    running
        .damage(
            Kind::StatefulSet,
            "orders-g1",
            "rolled by its controller",
            merge(json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}})),
        )
        .await;
    let volume = "data-orders-g1-0";
    running
        .damage(
            Kind::PersistentVolumeClaim,
            volume,
            "without bucket",
            merge(json!({"metadata": {"labels": {api::names::BUCKET_LABEL: null}}})),
        )
        .await;
    running
        .damage(
            Kind::PersistentVolumeClaim,
            volume,
            "another database",
            merge(json!({"metadata": {"labels": {api::names::DATABASE_LABEL: "x"}}})),
        )
        .await;
    running
        .damage(Kind::ControllerRevision, "orders-1", "deleted", Deed::Delete)
        .await;
    running
        .damage(
            Kind::Pod,
            "orders-g1-0",
            "without role",
            merge(json!({"metadata": {"labels": {api::names::ROLE_LABEL: null}}})),
        )
        .await;
    running
        .damage(
            Kind::Pod,
            "orders-g1-0",
            "another role",
            merge(json!({"metadata": {"labels": {api::names::ROLE_LABEL: "replica"}}})),
        )
        .await;
    bed.settled(Duration::from_secs(2)).await;
    assert_eq!(
        running.pod().await["metadata"]["uid"],
        pod,
        "no pod restarts because a child was damaged"
    );
    assert_eq!(running.rows().await, "1000");

    // Without the password nothing is restarted; with the copy it goes on.
    let admin = bed.child(Kind::Secret, "orders-admin").await.expect("the Secret");
    bed.delete(Kind::Secret, "orders-admin").await;
    bed.condition("orders", "CredentialsInSync", "False").await;
    bed.settled(Duration::from_secs(2)).await;
    assert_eq!(running.rows().await, "1000", "it serves on without its Secret");
    bed.create(&bed.children(Kind::Secret), copy_of(&admin)).await;
    bed.condition("orders", "CredentialsInSync", "True").await;
    bed.condition("orders", "Ready", "True").await;
    assert_eq!(running.pod().await["metadata"]["uid"], pod);

    // With the StatefulSet the garbage collector takes its pod; it comes back on the same volume.
    running
        .damage(Kind::StatefulSet, "orders-g1", "deleted", Deed::Delete)
        .await;
    eventually("another pod", async || {
        let now = running.pod().await["metadata"]["uid"].clone();
        if now.is_string() && now != pod {
            Ok(())
        } else {
            Err(now.to_string())
        }
    })
    .await;
    bed.condition("orders", "Ready", "True").await;
    assert_eq!(running.rows().await, "1000");

    // A deleted pod is its StatefulSet's to make again.
    let pod = running.pod().await["metadata"]["uid"].clone();
    bed.delete(Kind::Pod, "orders-g1-0").await;
    eventually("another pod", async || {
        let now = running.pod().await["metadata"]["uid"].clone();
        if now.is_string() && now != pod {
            Ok(())
        } else {
            Err(now.to_string())
        }
    })
    .await;
    bed.condition("orders", "Ready", "True").await;
    assert_eq!(running.rows().await, "1000");
    bed.settled(Duration::from_secs(2)).await;

    // A volume that is deleted while it is used cannot be saved by restarting: it is said, and the pod is left alone.
    let pod = running.pod().await["metadata"]["uid"].clone();
    bed.delete(Kind::PersistentVolumeClaim, volume).await;
    let leaving = bed.condition("orders", "StorageReady", "False").await;
    assert_eq!(condition(&leaving, "StorageReady")["reason"], VOLUME_LEAVING);
    bed.settled(Duration::from_secs(2)).await;
    assert_eq!(running.pod().await["metadata"]["uid"], pod);
    assert_eq!(running.rows().await, "1000");

    running.repairs.sort();
    let slowest = running.repairs.last().expect("repairs");
    println!(
        "{} repairs beside a running PostgreSQL, slowest {} ms ({})",
        running.repairs.len(),
        slowest.0.as_millis(),
        slowest.1
    );
    operator.stop().await;
}
