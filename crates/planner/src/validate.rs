//! From a declared spec to an [`Intent`], or to every fault in it at once.
//!
//! The schema and its CEL rules have refused what they can before; this is what needs the catalogue, the objects that
//! the spec refers to, or the spec that was accepted before. It knows no clock and reads nothing.

use std::collections::BTreeMap;

use api::database::{DatabaseSpec, Engine};
use api::fault::Fault;
use api::quantity::Quantity;
use api::retention::Retention;
use api::schedule::Schedule;
use api::version::Version;
use engines::catalogue::{Catalogue, Release};

use crate::intent::{Compute, Intent};

/// What was found for one reference of a spec.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Reference {
    /// The spec has no such reference.
    #[default]
    Absent,
    /// The object does not exist.
    Missing,
    /// Its data.
    Found(BTreeMap<String, String>),
    /// It has keys whose values are not text; the engine could not read them.
    NotText(Vec<String>),
}

/// What the spec refers to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct References {
    /// `configuration.configMapRef`.
    pub config_map: Reference,
    /// `configuration.secretRef`.
    pub secret: Reference,
}

/// Why a spec is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Every fault, in the order of the fields.
    pub faults: Vec<Fault>,
    /// Whether all that is wrong is that something referred to does not exist yet.
    pub only_missing: bool,
}

/// Checks a spec against the catalogue, what it refers to, and the spec accepted before it.
pub fn validate(
    spec: &DatabaseSpec,
    references: &References,
    catalogue: &Catalogue,
    accepted: Option<&DatabaseSpec>,
) -> Result<Intent, Refusal> {
    check(spec, references, catalogue, accepted, Able::ToRun)
}

/// The intent of a spec as it is declared: without what it refers to, and whether or not the operator can run it yet.
pub fn as_declared(spec: &DatabaseSpec, catalogue: &Catalogue) -> Result<Intent, Vec<Fault>> {
    let nothing = References::default();
    check(spec, &nothing, catalogue, None, Able::ToPlan).map_err(|refusal| refusal.faults)
}

/// What the operator must be able to do with a spec.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Able {
    ToPlan,
    ToRun,
}

fn check(
    spec: &DatabaseSpec,
    references: &References,
    catalogue: &Catalogue,
    accepted: Option<&DatabaseSpec>,
    able: Able,
) -> Result<Intent, Refusal> {
    let mut faults = Vec::new();
    let release = if able == Able::ToRun && !catalogue.is_available(spec.engine) {
        faults.push(fault(
            "spec.engine",
            &spec.engine.to_string(),
            "is planned but not yet available",
            "use postgresql or redis",
        ));
        None
    } else {
        version(spec, catalogue, accepted, &mut faults)
    };
    let (compute, storage) = resources(spec, accepted, &mut faults);
    if able == Able::ToRun && spec.high_availability {
        faults.push(fault(
            "spec.highAvailability",
            "true",
            "is not yet available: without replication it would be several unconnected servers",
            "leave it out, or set it to false",
        ));
    }
    backup(spec, &mut faults);
    let before_references = faults.len();
    let sources = Sources::of(spec, references, &mut faults);
    let only_missing = before_references == 0 && sources.missing == faults.len() && sources.missing > 0;
    if let Some(release) = &release {
        sources.check(spec.engine, release, &mut faults);
    }
    match (release, storage) {
        (Some(release), Some(storage)) if faults.is_empty() => Ok(Intent {
            engine: spec.engine,
            declared_version: spec.version.clone(),
            release,
            compute,
            storage,
            storage_class: spec.storage_class.clone(),
            deletion_policy: spec.deletion_policy,
            backup: spec.backup_policy.is_some(),
            monitoring: spec.monitoring.as_ref().is_some_and(|monitoring| monitoring.enabled),
            parameters: sources.open,
            secret_parameters: sources.secret,
        }),
        _ => Err(Refusal {
            only_missing: only_missing && faults.len() == sources.missing,
            faults,
        }),
    }
}

fn fault(field: &str, value: &str, rule: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault {
        field: field.to_owned(),
        value: value.to_owned(),
        rule: rule.into(),
        remedy: remedy.into(),
    }
}

fn version(
    spec: &DatabaseSpec,
    catalogue: &Catalogue,
    accepted: Option<&DatabaseSpec>,
    faults: &mut Vec<Fault>,
) -> Option<Release> {
    let mut refuse = |rule: String, remedy: String| faults.push(fault("spec.version", &spec.version, rule, remedy));
    let declared: Version = match spec.version.parse() {
        Ok(version) => version,
        Err(error) => {
            refuse(format!("{error}"), "write a version such as 15 or 15.18".to_owned());
            return None;
        }
    };
    let release = match catalogue.resolve(spec.engine, &declared) {
        Ok(release) => release.clone(),
        Err(refusal) => {
            refuse(refusal.rule(), refusal.remedy());
            return None;
        }
    };
    if let Some(before) = accepted
        && let Ok(before_version) = before.version.parse::<Version>()
    {
        // A release that has left the catalogue is judged by what was declared.
        let resolved = catalogue.resolve(before.engine, &before_version).ok();
        let running_major =
            resolved.map_or_else(|| engines::major(before.engine, &before_version), |r| r.major.clone());
        if running_major != release.major {
            refuse(
                format!(
                    "would change the major version from {running_major} to {}, which converts data one way and is not yet available",
                    release.major
                ),
                format!("keep {}, or restore a dump into a new Database", before.version),
            );
        } else if release.version < *resolved.map_or(&before_version, |r| &r.version) && before.version != spec.version
        {
            refuse(
                format!(
                    "would go back from {}: an engine may not read what a newer one wrote",
                    before.version
                ),
                format!("declare {} or newer", before.version),
            );
        }
    }
    Some(release)
}

fn resources(
    spec: &DatabaseSpec,
    accepted: Option<&DatabaseSpec>,
    faults: &mut Vec<Fault>,
) -> (Compute, Option<Quantity>) {
    let requests = &spec.resources.requests;
    let limits = spec.resources.limits.as_ref();
    let mut positive = |field: &str, text: Option<&api::database::QuantityText>| {
        let text = text?;
        match text.parse() {
            Ok(quantity) if quantity > Quantity::ZERO => Some(quantity),
            Ok(_) => {
                faults.push(fault(
                    field,
                    text.as_str(),
                    "must be more than 0",
                    "write a size such as 500m or 2Gi",
                ));
                None
            }
            Err(error) => {
                faults.push(fault(
                    field,
                    text.as_str(),
                    error.to_string(),
                    "write a quantity such as 500m or 2Gi",
                ));
                None
            }
        }
    };
    let compute = Compute {
        cpu_request: positive("spec.resources.requests.cpu", requests.cpu.as_ref()),
        memory_request: positive("spec.resources.requests.memory", requests.memory.as_ref()),
        cpu_limit: positive(
            "spec.resources.limits.cpu",
            limits.and_then(|limits| limits.cpu.as_ref()),
        ),
        memory_limit: positive(
            "spec.resources.limits.memory",
            limits.and_then(|limits| limits.memory.as_ref()),
        ),
    };
    let storage = positive("spec.resources.requests.storage", Some(&requests.storage));
    for (name, request, limit) in [
        ("cpu", &compute.cpu_request, &compute.cpu_limit),
        ("memory", &compute.memory_request, &compute.memory_limit),
    ] {
        if let (Some(request), Some(limit)) = (request, limit)
            && limit < request
        {
            faults.push(fault(
                &format!("spec.resources.limits.{name}"),
                &limit.to_string(),
                format!("must be at least the request, {request}"),
                "raise the limit, or lower the request",
            ));
        }
    }
    let least = &engines::profile(spec.engine).minimum_memory;
    if let Some(memory) = &compute.memory_limit
        && memory < least
    {
        faults.push(fault(
            "spec.resources.limits.memory",
            &memory.to_string(),
            format!("{} does not start with less than {least}", spec.engine),
            format!("write {least} or more"),
        ));
    }
    if let (Some(storage), Some(before)) = (&storage, accepted)
        && let Ok(before) = before.resources.requests.storage.parse()
        && *storage < before
    {
        faults.push(fault(
            "spec.resources.requests.storage",
            &storage.to_string(),
            format!("a volume cannot shrink; it has {before}"),
            format!("write {before} or more"),
        ));
    }
    (compute, storage)
}

fn backup(spec: &DatabaseSpec, faults: &mut Vec<Fault>) {
    let Some(policy) = &spec.backup_policy else { return };
    if let Err(error) = policy.schedule.parse::<Schedule>() {
        faults.push(fault(
            "spec.backupPolicy.schedule",
            &policy.schedule,
            error.to_string(),
            "write five fields such as `0 2 * * *`, or @daily",
        ));
    }
    if let Err(error) = api::schedule::time_zone(&policy.time_zone) {
        faults.push(fault(
            "spec.backupPolicy.timeZone",
            &policy.time_zone,
            error.to_string(),
            "write a name of the IANA database such as Europe/Berlin, or UTC",
        ));
    }
    if let Err(error) = policy.retention.parse::<Retention>() {
        faults.push(fault(
            "spec.backupPolicy.retention",
            &policy.retention,
            error.to_string(),
            "write a number and a unit: 30d, 12w, 6m (months), 2y",
        ));
    }
}

/// Parameters by where they come from, after precedence: `parameters` over `secretRef` over `configMapRef`.
struct Sources {
    open: BTreeMap<String, String>,
    secret: BTreeMap<String, String>,
    /// Parameters that `parameters` names itself; the others of `open` come from the ConfigMap.
    inline: BTreeMap<String, String>,
    missing: usize,
}

impl Sources {
    fn of(spec: &DatabaseSpec, references: &References, faults: &mut Vec<Fault>) -> Self {
        let configuration = spec.configuration.clone().unwrap_or_default();
        let mut missing = 0;
        let mut read = |what: &str, field: &str, name: Option<&str>, reference: &Reference| match reference {
            Reference::Absent => BTreeMap::new(),
            Reference::Found(data) => data.clone(),
            Reference::Missing => {
                missing += 1;
                faults.push(fault(
                    field,
                    name.unwrap_or_default(),
                    format!("there is no {what} of this name in the namespace"),
                    format!("create the {what}; it is picked up when it appears"),
                ));
                BTreeMap::new()
            }
            Reference::NotText(keys) => {
                faults.push(fault(
                    field,
                    name.unwrap_or_default(),
                    format!(
                        "the {what} holds values that are not UTF-8 text under: {}",
                        keys.join(", ")
                    ),
                    "keep only parameter names and their values in it",
                ));
                BTreeMap::new()
            }
        };
        let config_map_name = configuration
            .config_map_ref
            .as_ref()
            .map(|reference| reference.name.as_str());
        let secret_name = configuration
            .secret_ref
            .as_ref()
            .map(|reference| reference.name.as_str());
        let mut open = read(
            "ConfigMap",
            "spec.configuration.configMapRef.name",
            config_map_name,
            &references.config_map,
        );
        let mut secret = read(
            "Secret",
            "spec.configuration.secretRef.name",
            secret_name,
            &references.secret,
        );
        secret.retain(|name, _| !configuration.parameters.contains_key(name));
        open.retain(|name, _| !secret.contains_key(name));
        open.extend(configuration.parameters.clone());
        Self {
            open,
            secret,
            inline: configuration.parameters,
            missing,
        }
    }

    fn check(&self, engine: Engine, release: &Release, faults: &mut Vec<Fault>) {
        let (inline, referred): (Vec<_>, Vec<_>) = self
            .open
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .partition(|(k, _)| self.inline.contains_key(*k));
        let version = &release.version;
        let checks = [
            ("spec.configuration.parameters", inline),
            ("spec.configuration.configMapRef", referred),
        ];
        for (field, parameters) in checks {
            faults.extend(engines::parameters::check(
                engine,
                version,
                parameters.into_iter(),
                field,
            ));
        }
        let secret = self.secret.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        // A value from a Secret is never repeated, not even to say what is wrong with it.
        faults.extend(
            engines::parameters::check_secret(engine, version, secret, "spec.configuration.secretRef")
                .into_iter()
                .map(|fault| Fault {
                    value: api::fault::HIDDEN.to_owned(),
                    ..fault
                }),
        );
    }
}

#[cfg(test)]
mod tests;
