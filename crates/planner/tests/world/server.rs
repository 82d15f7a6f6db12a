//! A simulated API server: the rules of a real one by which a plan can go wrong, in memory.
//!
//! Simulated: server-side apply with field ownership, conflicts and pruning; merge and JSON patches; preconditions;
//! immutable fields; finalizers; what a server adds. Not simulated: validation of values, admission, other versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use planner::child::{Child, ChildRef, Kind};
use serde_json::{Value, json};

use super::defaults;
use super::fields::{self, Fields, Path, SEPARATOR, compared, flatten};

/// How a manager writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// What a manager owns.
#[derive(Clone, PartialEq, Debug)]
struct Managed {
    manager: String,
    operation: Operation,
    fields: Fields,
}

#[derive(Clone, Debug)]
struct Stored {
    object: Value,
    managers: Vec<Managed>,
    /// `managedFields`, until a manager changes something.
    rendered: Option<Value>,
    /// What `Child::observe` says of it, until it changes.
    seen: Option<Arc<Child>>,
}

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    NotFound,
    AlreadyExists,
    Conflict(String),
    Invalid(String),
}

/// A simulated API server with the objects of one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    objects: BTreeMap<ChildRef, Stored>,
    /// Counts writes; source of uids and versions.
    clock: u64,
}

impl Server {
    pub(crate) fn get(&self, child: &ChildRef) -> Option<&Value> {
        self.objects.get(child).map(|stored| &stored.object)
    }

    pub(crate) fn list(&self) -> impl Iterator<Item = (&ChildRef, &Value)> {
        self.objects.iter().map(|(child, stored)| (child, &stored.object))
    }

    pub(crate) fn of_kind(&self, kind: Kind) -> Vec<ChildRef> {
        self.objects
            .keys()
            .filter(|child| child.kind == kind)
            .cloned()
            .collect()
    }

    /// Number of changes so far.
    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    /// The object as it is read from a server, with `managedFields`.
    pub(crate) fn read(&mut self, child: &ChildRef) -> Option<Value> {
        let stored = self.objects.get(child)?;
        let mut object = stored.object.clone();
        object["metadata"]["managedFields"] = rendered(&stored.managers);
        Some(object)
    }

    /// The fields that a manager applied, with their values.
    pub(crate) fn applied(&self, child: &ChildRef, manager: &str) -> Vec<(Path, Option<&Value>)> {
        let Some(stored) = self.objects.get(child) else {
            return Vec::new();
        };
        let entry = stored
            .managers
            .iter()
            .find(|e| e.manager == manager && e.operation == Operation::Apply);
        let flat = flatten(child.kind, &stored.object);
        let fields = entry.into_iter().flat_map(|entry| &entry.fields);
        fields
            .map(|path| (path.clone(), flat.get(path).copied().flatten()))
            .collect()
    }

    /// The facts that the operator takes of an object.
    pub(crate) fn look(&mut self, child: &ChildRef) -> Option<Arc<Child>> {
        if self.objects.get(child)?.seen.is_none() {
            let stored = self.objects.get_mut(child)?;
            // Put in and taken out again rather than copied: this is most of the work of the tests.
            let rendered = stored.rendered.take().unwrap_or_else(|| rendered(&stored.managers));
            stored.object["metadata"]["managedFields"] = rendered;
            let (read, facts) = Child::observe(child.kind, &stored.object).expect("a server's object is complete");
            assert_eq!(read, *child, "an object is read as what it is");
            let metadata = stored.object["metadata"]
                .as_object_mut()
                .expect("an object has metadata");
            stored.rendered = metadata.remove("managedFields");
            stored.seen = Some(facts);
        }
        self.objects.get(child)?.seen.clone()
    }

    pub(crate) fn create(&mut self, child: &ChildRef, body: &Value, manager: &str) -> Result<(), Refused> {
        if self.objects.contains_key(child) {
            return Err(Refused::AlreadyExists);
        }
        let owned = flatten(child.kind, body).into_keys().collect();
        let entry = Managed {
            manager: manager.to_owned(),
            operation: Operation::Update,
            fields: owned,
        };
        self.insert(child, body.clone(), vec![entry])
    }

    fn insert(&mut self, child: &ChildRef, mut object: Value, managers: Vec<Managed>) -> Result<(), Refused> {
        one_controller(&object)?;
        self.clock += 1;
        object["metadata"]["name"] = json!(child.name);
        object["metadata"]["uid"] = json!(format!("uid-{}", self.clock));
        object["metadata"]["resourceVersion"] = json!(self.clock.to_string());
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        defaults::add(child.kind, &mut object, self.clock);
        self.objects.insert(
            child.clone(),
            Stored {
                object,
                managers,
                rendered: None,
                seen: None,
            },
        );
        Ok(())
    }

    /// Server-side apply.
    pub(crate) fn apply(&mut self, child: &ChildRef, body: &Value, manager: &str, force: bool) -> Result<(), Refused> {
        let expected = body["metadata"]["uid"].as_str();
        let wanted: Fields = flatten(child.kind, body).into_keys().collect();
        let Some(stored) = self.objects.get(child) else {
            // With a uid, an apply changes that object and makes none.
            if expected.is_some() {
                return Err(Refused::Conflict("the uid names no object".to_owned()));
            }
            let entry = Managed {
                manager: manager.to_owned(),
                operation: Operation::Apply,
                fields: wanted,
            };
            return self.insert(child, body.clone(), vec![entry]);
        };
        if expected.is_some_and(|uid| stored.object["metadata"]["uid"] != uid) {
            return Err(Refused::Conflict("the uid is another's".to_owned()));
        }
        let mut merged = stored.object.clone();
        let mut config = body.clone();
        config["metadata"]
            .as_object_mut()
            .expect("a manifest has metadata")
            .retain(|key, _| key != "uid");
        fields::merge(child.kind, &mut merged, &config);
        let mine = |entry: &&Managed| entry.manager == manager && entry.operation == Operation::Apply;
        let before: Fields = stored
            .managers
            .iter()
            .find(mine)
            .map(|entry| entry.fields.clone())
            .unwrap_or_default();
        let others: Vec<&Managed> = stored.managers.iter().filter(|entry| !mine(entry)).collect();
        // What this manager applied before and leaves out now goes, unless somebody else has it too. The deepest first.
        for path in before.iter().rev().filter(|path| !wanted.contains(*path)) {
            let below = format!("{path}{SEPARATOR}");
            let kept = others.iter().any(|other| {
                other.fields.contains(path)
                    || other
                        .fields
                        .range(below.clone()..)
                        .next()
                        .is_some_and(|f| f.starts_with(&below))
            });
            if !kept {
                fields::remove(&mut merged, path);
            }
        }
        let old = flatten(child.kind, &stored.object);
        let new = flatten(child.kind, &merged);
        let (changed, gone) = compared(&old, &new);
        if !force
            && let Some(path) = others
                .iter()
                .find_map(|other| other.fields.intersection(&changed).next())
        {
            return Err(Refused::Conflict(path.clone()));
        }
        let mut managers: Vec<Managed> = others.into_iter().cloned().collect();
        for other in &mut managers {
            other
                .fields
                .retain(|path| !changed.contains(path) && !gone.contains(path));
        }
        managers.push(Managed {
            manager: manager.to_owned(),
            operation: Operation::Apply,
            fields: wanted,
        });
        self.replace(child, merged, managers)
    }

    /// Any other write: a change of the object by this function, with ownership of what it changes.
    pub(crate) fn update(
        &mut self,
        child: &ChildRef,
        manager: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<(), Refused> {
        let stored = self.objects.get(child).ok_or(Refused::NotFound)?;
        let mut next = stored.object.clone();
        change(&mut next);
        let old = flatten(child.kind, &stored.object);
        let new = flatten(child.kind, &next);
        let (changed, gone) = compared(&old, &new);
        let mut managers = stored.managers.clone();
        let mine = |entry: &Managed| entry.manager == manager && entry.operation == Operation::Update;
        if !changed.is_empty() && !managers.iter().any(mine) {
            let entry = Managed {
                manager: manager.to_owned(),
                operation: Operation::Update,
                fields: Fields::new(),
            };
            managers.push(entry);
        }
        for entry in &mut managers {
            entry
                .fields
                .retain(|path| !changed.contains(path) && !gone.contains(path));
            if mine(entry) {
                entry.fields.extend(changed.iter().cloned());
            }
        }
        self.replace(child, next, managers)
    }

    /// JSON merge patch of exactly the object with the uid in it.
    pub(crate) fn merge_patch(&mut self, child: &ChildRef, patch: &Value, manager: &str) -> Result<(), Refused> {
        let object = self.get(child).ok_or(Refused::NotFound)?;
        if patch["metadata"]["uid"] != object["metadata"]["uid"] {
            return Err(Refused::Conflict("the uid is another's".to_owned()));
        }
        let version = &patch["metadata"]["resourceVersion"];
        if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
            return Err(Refused::Conflict("the version is another's".to_owned()));
        }
        self.update(child, manager, |object| merge_json(object, patch))
    }

    /// JSON patch that removes pointers from exactly this version; a failed test is 422, as in the real one.
    pub(crate) fn remove(
        &mut self,
        child: &ChildRef,
        uid: &str,
        version: &str,
        pointers: &[String],
        manager: &str,
    ) -> Result<(), Refused> {
        let object = self.get(child).ok_or(Refused::NotFound)?;
        if object["metadata"]["uid"] != uid || object["metadata"]["resourceVersion"] != version {
            return Err(Refused::Invalid("a test of the patch failed".to_owned()));
        }
        if let Some(missing) = pointers.iter().find(|pointer| object.pointer(pointer).is_none()) {
            return Err(Refused::Invalid(format!("nothing at {missing}")));
        }
        self.update(child, manager, |object| {
            for pointer in pointers {
                let (list, index) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
                let items = object
                    .pointer_mut(list)
                    .and_then(Value::as_array_mut)
                    .expect("it points into a list");
                items.remove(index.parse().expect("an item has a number"));
                if items.is_empty() {
                    let (owner, name) = list.rsplit_once('/').expect("a pointer begins with a slash");
                    object
                        .pointer_mut(owner)
                        .and_then(Value::as_object_mut)
                        .expect("it has it")
                        .remove(name);
                }
            }
        })
    }

    /// DELETE with preconditions, in the background. An object with finalizers stays until they have gone.
    pub(crate) fn delete(&mut self, child: &ChildRef, uid: Option<&str>, version: Option<&str>) -> Result<(), Refused> {
        let object = self.get(child).ok_or(Refused::NotFound)?;
        let differs = |field: &str, expected: Option<&str>| expected.is_some_and(|e| object["metadata"][field] != e);
        if differs("uid", uid) || differs("resourceVersion", version) {
            return Err(Refused::Conflict("precondition".to_owned()));
        }
        // A pod ends when its kubelet says so.
        let stays = object["metadata"]["finalizers"].is_array() || child.kind == Kind::Pod;
        if !stays {
            self.gone(child);
        } else if object["metadata"]["deletionTimestamp"].is_null() {
            self.system(child, |object| {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
            });
        }
        Ok(())
    }

    /// The object vanishes.
    pub(crate) fn gone(&mut self, child: &ChildRef) {
        self.clock += 1;
        self.objects.remove(child);
    }

    /// A change by the control plane itself (status, finalizers), of which no manager matters here.
    pub(crate) fn system(&mut self, child: &ChildRef, change: impl FnOnce(&mut Value)) {
        let Some(stored) = self.objects.get_mut(child) else {
            return;
        };
        change(&mut stored.object);
        self.clock += 1;
        stored.object["metadata"]["resourceVersion"] = json!(self.clock.to_string());
        stored.seen = None;
    }

    /// Its controller reports.
    pub(crate) fn report(&mut self, child: &ChildRef, status: Value) {
        if self.get(child).is_some_and(|object| object["status"] != status) {
            self.system(child, |object| object["status"] = status);
        }
    }

    fn replace(&mut self, child: &ChildRef, mut object: Value, mut managers: Vec<Managed>) -> Result<(), Refused> {
        managers.retain(|entry| !entry.fields.is_empty());
        defaults::add(child.kind, &mut object, self.clock);
        one_controller(&object)?;
        let stored = self.objects.get_mut(child).ok_or(Refused::NotFound)?;
        if object == stored.object && managers == stored.managers {
            return Ok(());
        }
        defaults::check(child.kind, &stored.object, &object).map_err(Refused::Invalid)?;
        self.clock += 1;
        if child.kind == Kind::StatefulSet && object["spec"] != stored.object["spec"] {
            let generation = stored.object["metadata"]["generation"].as_i64().unwrap_or(1);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        object["metadata"]["resourceVersion"] = json!(self.clock.to_string());
        *stored = Stored {
            object,
            managers,
            rendered: None,
            seen: None,
        };
        Ok(())
    }
}

/// `managedFields` of an object.
fn rendered(managers: &[Managed]) -> Value {
    let entry = |entry: &Managed| {
        json!({
            "manager": entry.manager, "operation": format!("{:?}", entry.operation), "fieldsType": "FieldsV1",
            "fieldsV1": fields::rendered(&entry.fields),
        })
    };
    managers.iter().map(entry).collect()
}

/// RFC 7386.
fn merge_json(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        return *target = patch.clone();
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.as_object_mut().expect("it is one").remove(key)),
            value => merge_json(&mut target[key.as_str()], value),
        }
    }
}

fn one_controller(object: &Value) -> Result<(), Refused> {
    let owners = object["metadata"]["ownerReferences"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if owners.iter().filter(|owner| owner["controller"] == true).count() > 1 {
        return Err(Refused::Invalid(
            "only one reference can have controller set to true".to_owned(),
        ));
    }
    Ok(())
}
