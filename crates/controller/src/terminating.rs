//! What is read only when a Database ends: whether everything around it ends too, and what its data is kept in.

use api::names;
use kube::Client;
use kube::core::Request;
use kube::core::params::GetParams;
use planner::child::{ChildRef, Children, Kind};
use planner::deletion::LetGo;
use planner::plan::{Subject, claim_ref};
use serde_json::Value;

use crate::requests::{ApiError, Writer, exchange};

/// Whether the finalizer must let go at once, with nothing destroyed.
pub(crate) async fn let_go(client: &Client, namespace: &str) -> Result<Option<LetGo>, ApiError> {
    let terminating = async |path: &str, name: &str| -> Result<bool, ApiError> {
        let request = Request::new(path).get(name, &GetParams::default());
        match exchange::<Value>(client, name, request).await {
            Ok(object) => Ok(object.pointer("/metadata/deletionTimestamp").is_some()),
            // It went between the event and this look.
            Err(ApiError::NotFound { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    };
    if terminating("/api/v1/namespaces", namespace).await? {
        return Ok(Some(LetGo::NamespaceTerminating));
    }
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    if terminating(definitions, names::CRD_NAME).await? {
        return Ok(Some(LetGo::CrdTerminating));
    }
    Ok(None)
}

/// Looks for the volume and the administrator's Secret themselves: without their label no watch shows them, and a
/// promise to delete them must not depend on a label.
pub(crate) async fn find_lasting(writer: &Writer, subject: &Subject, children: &mut Children) -> Result<(), ApiError> {
    let lasting = [
        claim_ref(subject, 0),
        ChildRef::new(Kind::Secret, names::secret_admin(&subject.name)),
    ];
    for child in lasting {
        match writer.look(&child).await {
            Ok((child, facts)) => drop(children.insert(child, facts)),
            Err(ApiError::NotFound { .. }) => drop(children.remove(&child)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
