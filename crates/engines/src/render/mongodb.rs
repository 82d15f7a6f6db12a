//! `mongod.conf`. Not yet read by a real server.
//!
//! Options stand under their dotted names, which the server takes as it takes nested sections; so the file of the Secret
//! can be appended to this one, since the server has no include. Only `setParameter` must be a section.

use std::collections::BTreeMap;

use super::{Files, Parts, pairs, text};
use crate::parameters::SET_PARAMETER;

pub(super) const FILE: &str = "mongod.conf";

pub(super) fn configuration(parameters: &BTreeMap<String, String>) -> Files {
    // The server sizes its cache by the container's memory limit.
    let fixed = pairs([
        ("net.bindIpAll", "true"),
        ("net.port", "27017"),
        ("net.unixDomainSocket.pathPrefix", "/run/database"),
        // A set of one from birth: members can join later, and change streams and transactions work at once.
        ("replication.replSetName", "rs0"),
        ("security.authorization", "enabled"),
        ("security.keyFile", "/run/database/keyfile"),
        ("storage.dbPath", "/var/lib/database/data"),
    ]);
    let main = Parts {
        defaults: String::new(),
        parameters: lines(parameters),
        include: "# Appended at the start of the pod.",
        fixed: lines(&fixed),
    };
    BTreeMap::from([(FILE.to_owned(), main.join())])
}

/// One `name: "value"` a line, then the section of server parameters, if there are any.
pub(super) fn lines(parameters: &BTreeMap<String, String>) -> String {
    let is_server = |name: &&String| name.starts_with(SET_PARAMETER);
    let (server, options): (Vec<_>, Vec<_>) = parameters.iter().partition(|(name, _)| is_server(name));
    let options = options
        .into_iter()
        .map(|(name, value)| format!("{name}: {}", quoted(value)));
    let heading = (!server.is_empty()).then(|| "setParameter:".to_owned());
    let server = server
        .into_iter()
        .map(|(name, value)| format!("  {}: {}", &name[SET_PARAMETER.len()..], quoted(value)));
    text(options.chain(heading).chain(server))
}

/// A double-quoted scalar: JSON's escapes are YAML's too. The server reads numbers and truth values from text.
pub(super) fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}
