//! Damage, and its repair.
//!
//! The table of damages is in `drift/damages.rs` and `drift/workload.rs`; here it is replayed on real children. Repaired
//! is judged twice: by comparing the object with what it was, and by the planner's own digest of what we own. Settled
//! is judged by the audit log.

mod damages;
mod deeds;
mod lost;
mod running;
mod workload;

use std::collections::BTreeMap;
use std::time::Duration;

use api::names::FENCE_ANNOTATION;
use futures::{StreamExt as _, stream};
use planner::child::Kind;
use planner::status::NAME_TAKEN;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Bed, bed, condition, eventually, postgresql, redis};
use damages::{Damage, Deed, Then, damages};
use deeds::{cleaned, perform, theirs, unrepaired};

/// How long without a write a Database counts as settled between two damages. What comes later than that is found by
/// the count at the end.
const QUIET: Duration = Duration::from_millis(500);
/// How long one repair may take before it counts as none. Generous: the machine may be busy.
const GIVE_UP: Duration = Duration::from_mins(1);
/// Most writes that one repair may take: what differs, then what others added, and a status in between. One more, a stamp,
/// where somebody took the fence off before.
const WRITES_AT_MOST: usize = 4;
/// Databases that are damaged at the same time, by engine.
const LANES: [(&str, usize); 2] = [("postgresql", 10), ("redis", 6)];

fn spec_of(engine: &str) -> Value {
    if engine == "redis" {
        return redis();
    }
    // Also a child that only a secret reference brings.
    let mut spec = postgresql();
    spec["configuration"] = json!({"parameters": {"work_mem": "8MB"}, "secretRef": {"name": "planted"}});
    spec
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
    all.retain(|(kind, _), object| planner::child::database_of(*kind, &(&*object).into()).as_deref() == Some(database));
    all
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
        let give_up = Instant::now() + GIVE_UP;
        loop {
            let now = self.bed.child(child.0, &child.1).await;
            let why = match &now {
                None => Some("it is not there".to_owned()),
                // A claim is protected for a moment longer, and looks as it was.
                Some(now) if now["metadata"]["deletionTimestamp"].is_string() => Some("it is going".to_owned()),
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
        let give_up = Instant::now() + GIVE_UP;
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
        let before = self
            .bed
            .child(damage.child.0, &damage.child.1)
            .await
            .unwrap_or_default();
        let fenced = before["metadata"]["annotations"][FENCE_ANNOTATION].is_string();
        let most = WRITES_AT_MOST + usize::from(!fenced);
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
            _ if new.len() > most => Err("too much was written".to_owned()),
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
