//! What is read only when a Database ends: whether everything around it ends too, and what its data is kept in.

use api::names;
use kube::Client;
use kube::core::Request;
use kube::core::params::GetParams;
use planner::child::{ChildRef, Children};
use planner::deletion::LetGo;
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

/// Looks for these children themselves: without its label no watch shows one.
pub(crate) async fn look_at(
    writer: &Writer,
    unseen: impl IntoIterator<Item = ChildRef>,
    children: &mut Children,
) -> Result<(), ApiError> {
    for child in unseen {
        match writer.look(&child).await {
            Ok((child, facts)) => drop(children.insert(child, facts)),
            Err(ApiError::NotFound { .. }) => drop(children.remove(&child)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
