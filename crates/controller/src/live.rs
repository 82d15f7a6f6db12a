//! One Database read from the API server, for the command line: what a running operator has in its store.

use std::sync::Arc;

use api::database::DatabaseSpec;
use api::names;
use engines::catalogue::Catalogue;
use kube::core::Request;
use kube::core::params::{GetParams, ListParams};
use kube::{Client, ResourceExt as _};
use planner::action::Action;
use planner::child::{Child, Children, Kind, database_of};
use planner::deletion;
use planner::intent::Salt;
use planner::json::Json;
use planner::kept::without_configuration;
use planner::plan::{Desired, Observed, Plan, plan};
use serde_json::Value;
use sharding::Epoch;

use crate::dereference::{DereferenceError, dereference};
use crate::permit::Permit;
use crate::reconcile::lost;
use crate::requests::{ApiError, Writer, collection, exchange};
use crate::seen::SeenDatabase;
use crate::store::Key;
use crate::validate::{Verdict, validate};

/// The Database and its children as they are now; `None` if it does not exist.
pub async fn observe(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<(Option<SeenDatabase>, Children), ApiError> {
    let path = collection(names::GROUP, names::VERSION, names::PLURAL, namespace);
    let request = Request::new(path).get(name, &GetParams::default());
    let database = match exchange::<SeenDatabase>(client, &format!("Database {name}"), request).await {
        Ok(database) => Some(database),
        Err(ApiError::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    let mut children = Children::new();
    for kind in Kind::ALL {
        let (group, version, plural) = kind.resource();
        let of_ours = ListParams::default().labels(names::BUCKET_LABEL);
        let request = Request::new(collection(group, version, plural, namespace)).list(&of_ours);
        let list: Value = exchange(client, plural, request).await?;
        for object in list["items"].as_array().into_iter().flatten().map(Json::from) {
            if database_of(kind, &object).as_deref() == Some(name)
                && let Ok((child, facts)) = Child::observe(kind, object)
            {
                children.insert(child, facts);
            }
        }
    }
    Ok((database, children))
}

/// What a running operator would do about a spec now.
#[derive(Debug)]
pub struct Preview {
    /// What the spec came to.
    pub verdict: Verdict,
    /// What would be done, for the declared spec or else the one accepted last; `None` if there is none.
    pub plan: Option<Plan>,
    /// The spec that the cluster has now, if the Database exists.
    pub current: Option<DatabaseSpec>,
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// A read failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What the spec refers to could not be read.
    #[error(transparent)]
    Dereference(#[from] DereferenceError),
}

/// Goes through the steps of a reconcile up to the plan, as if `spec` were declared. Reads only.
pub async fn preview(
    client: &Client,
    catalogue: &Catalogue,
    namespace: &str,
    name: &str,
    spec: &DatabaseSpec,
) -> Result<Preview, PreviewError> {
    let (mut live, mut children) = observe(client, namespace, name).await?;
    let current = live.as_ref().and_then(|live| live.spec.as_deref().ok().cloned());
    let database = match live.take() {
        Some(mut live) => {
            live.spec = Ok(Arc::new(spec.clone()));
            live
        }
        None => SeenDatabase::undeclared(namespace, name, spec.clone()),
    };
    let subject = Key::new(namespace, name).subject(&database.uid().unwrap_or_default());
    let reader = Writer::new(client.clone(), &subject, Permit::always(Epoch(0)));
    let found = dereference(&reader, &database, None, &children, name).await?;
    if let Some(spoilt) = found.spoilt {
        return Err(DereferenceError::Salt(spoilt).into());
    }
    let verdict = validate(&found, catalogue);
    let Some(intent) = verdict.intent() else {
        return Ok(Preview {
            verdict,
            plan: None,
            current,
        });
    };
    let desired = Desired {
        subject: subject.clone(),
        intent: intent.clone(),
        accept: verdict.accept().cloned(),
        // Before the Secret exists its salt is not known; for a preview any will do, since no hash is compared yet.
        salt: found.salt.or_else(|| Some(Salt::new(""))),
        replicas: 1,
    };
    let stamp = deletion::stamp(&subject, database.finalizers(), database.bucket());
    let mut next = plan(
        &desired,
        &Observed {
            stamp: stamp.clone(),
            children: children.clone(),
        },
    );
    // What is not labelled as ours may still stand in the place of a child, or be one that passes for lost.
    let mut taken = false;
    let missing = next.actions.iter().filter_map(|action| match action {
        Action::Apply { child, known: None, .. } | Action::CreateOnce { child, .. } => Some(child),
        _ => None,
    });
    for child in missing.chain(lost(&next)) {
        match reader.look(child).await {
            Ok((child, facts)) => {
                children.insert(child, facts);
                taken = true;
            }
            Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if taken {
        let observed = Observed { stamp, children };
        next = plan(&desired, &observed);
        children = observed.children;
    }
    if verdict.configuration_unknown() {
        next = without_configuration(next, &subject, &children);
    }
    Ok(Preview {
        verdict,
        plan: Some(next),
        current,
    })
}
