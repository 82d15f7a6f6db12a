//! The permissions that the operator needs, and no more, from one table.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::names;

/// What may be done with some resources.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// Where the resources live.
    pub scope: Scope,
    /// API group; empty for the core.
    pub group: &'static str,
    /// Resources of the group.
    pub resources: &'static [&'static str],
    /// Only objects of these names; empty for all.
    pub names: &'static [&'static str],
    /// What may be done.
    pub verbs: &'static [&'static str],
    /// Why it is needed.
    pub why: &'static str,
}

/// Where resources live, which decides who grants them if the operator is confined to some namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In namespaces: a Role in each suffices.
    Namespaced,
    /// Outside of namespaces: always a `ClusterRole`.
    Cluster,
    /// The namespaces themselves: always a `ClusterRole`, for no others than those if it is confined.
    Namespaces,
    /// In the operator's own namespace only: always a Role.
    Own,
}

/// All permissions.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        scope: Scope::Namespaced,
        group: "intent.example.com",
        resources: &["databases"],
        names: &[],
        verbs: &["get", "list", "watch", "patch"],
        why: "Patch: the finalizer and the bucket's label. The spec is never written.",
    },
    Rule {
        scope: Scope::Namespaced,
        group: "intent.example.com",
        resources: &["databases/status"],
        names: &[],
        verbs: &["patch"],
        why: "The report.",
    },
    Rule {
        scope: Scope::Namespaced,
        group: "intent.example.com",
        resources: &["databases/finalizers"],
        names: &[],
        verbs: &["update"],
        why: "Children block the deletion of their owner, which OwnerReferencesPermissionEnforcement asks this for.",
    },
    Rule {
        scope: Scope::Namespaced,
        group: "",
        resources: &["services", "configmaps", "serviceaccounts", "persistentvolumeclaims"],
        names: &[],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "Children. ConfigMaps also because a Database may refer to one.",
    },
    Rule {
        scope: Scope::Namespaced,
        group: "",
        resources: &["secrets"],
        names: &[],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "Children: credentials. They are selected by label, which RBAC cannot express, so this reaches every \
              Secret of the namespaces: confine the operator to some with --namespaces where that matters.",
    },
    Rule {
        scope: Scope::Namespaced,
        group: "",
        resources: &["pods"],
        names: &[],
        verbs: &["get", "list", "watch", "patch", "delete"],
        why: "Patch: the role's label. Delete: a restart. Pods are created by StatefulSets only.",
    },
    Rule {
        scope: Scope::Namespaces,
        group: "",
        resources: &["namespaces"],
        names: &[],
        verbs: &["get", "list", "watch"],
        why: "Their labels choose the policies. And whether one is terminating: then finalizers let go and destroy nothing.",
    },
    Rule {
        scope: Scope::Namespaced,
        group: "apps",
        resources: &["statefulsets"],
        names: &[],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "Children.",
    },
    Rule {
        scope: Scope::Namespaced,
        group: "apps",
        resources: &["controllerrevisions"],
        names: &[],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "Accepted specs. Patch: a label that somebody removed; what was accepted never changes.",
    },
    Rule {
        scope: Scope::Namespaced,
        group: "policy",
        resources: &["poddisruptionbudgets"],
        names: &[],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "Children of Databases with more than one member.",
    },
    Rule {
        scope: Scope::Namespaced,
        group: "events.k8s.io",
        resources: &["events"],
        names: &[],
        verbs: &["create", "patch"],
        why: "Patch: an event that happens again is counted up.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "apiextensions.k8s.io",
        resources: &["customresourcedefinitions"],
        names: &["databases.intent.example.com"],
        verbs: &["get"],
        why: "Whether the definition itself is being deleted: then finalizers let go and destroy nothing.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "intent.example.com",
        resources: &["policyexceptions"],
        names: &[],
        verbs: &["get", "list", "watch"],
        why: "Which rules of policy some Databases may break. They are never written.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "intent.example.com",
        resources: &["shardmaps"],
        names: &[],
        verbs: &["get", "list", "watch", "create", "update"],
        why: "Which replica has which Databases. It is written by the one that leads.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "intent.example.com",
        resources: &["shardmaps/status"],
        names: &[],
        verbs: &["patch"],
        why: "The condition that says whether the fence is in force.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "admissionregistration.k8s.io",
        resources: &["validatingadmissionpolicybindings"],
        names: &[],
        verbs: &["list"],
        why: "Whether the fence is installed. Names alone are read.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "admissionregistration.k8s.io",
        resources: &["validatingwebhookconfigurations"],
        names: &["database-operator"],
        verbs: &["get", "list", "watch", "patch"],
        why: "The authority of the operator's own certificates, so that the API server knows the webhook. Nothing else of it.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "authentication.k8s.io",
        resources: &["tokenreviews"],
        names: &[],
        verbs: &["create"],
        why: "Who asks for decisions of policy.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "authorization.k8s.io",
        resources: &["subjectaccessreviews"],
        names: &[],
        verbs: &["create"],
        why: "Whether they may: they see decisions about namespaces whose Databases they may read.",
    },
    Rule {
        scope: Scope::Own,
        group: "",
        resources: &["configmaps"],
        names: &[],
        verbs: &["create"],
        why: "What policies were in force. Which names may be created RBAC cannot tell.",
    },
    Rule {
        scope: Scope::Own,
        group: "",
        resources: &["configmaps"],
        names: &["database-operator-policies"],
        verbs: &["get", "update"],
        why: "What policies were in force, so that no older ones come into force.",
    },
    Rule {
        scope: Scope::Own,
        group: "",
        resources: &["secrets"],
        names: &[],
        verbs: &["create"],
        why: "The operator's own certificates. Which names may be created RBAC cannot tell.",
    },
    Rule {
        scope: Scope::Own,
        group: "",
        resources: &["secrets"],
        names: &["database-operator-webhook-tls"],
        verbs: &["get", "list", "watch", "update"],
        why: "The operator's own certificates.",
    },
    Rule {
        scope: Scope::Own,
        group: "coordination.k8s.io",
        resources: &["leases"],
        names: &[],
        verbs: &["get", "list", "watch", "create", "update", "delete"],
        why: "By which replicas know of each other. Delete: those of replicas long gone.",
    },
];

/// Who gets the permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A service account, the usual one.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A user, as the API server's authentication names it.
    User(String),
}

impl Default for Subject {
    /// What the chart installs.
    fn default() -> Self {
        let name = "database-operator".to_owned();
        Self::ServiceAccount {
            namespace: name.clone(),
            name,
        }
    }
}

impl Subject {
    /// Reads `NAMESPACE:NAME`.
    pub(crate) fn service_account(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((namespace, name)) if names::is_label(namespace) && names::is_subdomain(name) => {
                Ok(Self::ServiceAccount {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err("expected NAMESPACE:NAME, for example database-operator:database-operator".to_owned()),
        }
    }

    /// As the API server's authentication names it.
    pub(crate) fn username(&self) -> String {
        match self {
            Self::ServiceAccount { namespace, name } => format!("system:serviceaccount:{namespace}:{name}"),
            Self::User(name) => name.clone(),
        }
    }

    /// As a FlowSchema names it.
    pub(crate) fn flow(&self) -> Value {
        match self {
            Self::ServiceAccount { namespace, name } => {
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}})
            }
            Self::User(name) => json!({"kind": "User", "user": {"name": name}}),
        }
    }

    fn write(&self, yaml: &mut String) {
        match self {
            Self::ServiceAccount { namespace, name } => {
                line(yaml, "- kind: ServiceAccount");
                line(yaml, &format!("  name: {}", quoted(name)));
                line(yaml, &format!("  namespace: {}", quoted(namespace)));
            }
            Self::User(name) => {
                line(yaml, "- apiGroup: rbac.authorization.k8s.io");
                line(yaml, "  kind: User");
                line(yaml, &format!("  name: {}", quoted(name)));
            }
        }
    }
}

/// The manifests that grant [`RULES`] to `subjects`: in all namespaces if `namespaces` is empty, else in those; and in
/// `own`, the operator's namespace, which must exist.
pub(crate) fn manifests(own: &str, namespaces: &[String], subjects: &[Subject]) -> String {
    let mut yaml = String::from("# Printed by `database-operator rbac`. What the operator needs, and no more.\n");
    let everywhere = namespaces.is_empty();
    let granted = |rule: &Rule| match rule.scope {
        Scope::Cluster => Some(rule.names.to_vec()),
        Scope::Namespaces => Some(namespaces.iter().map(String::as_str).collect()),
        Scope::Namespaced if everywhere => Some(rule.names.to_vec()),
        Scope::Namespaced | Scope::Own => None,
    };
    grant(&mut yaml, None, subjects, granted);
    let mut confined: BTreeSet<&str> = namespaces.iter().map(String::as_str).collect();
    confined.insert(own);
    for namespace in confined {
        let watched = namespaces.iter().any(|watched| watched == namespace);
        grant(&mut yaml, Some(namespace), subjects, |rule| {
            let granted = namespace == own && rule.scope == Scope::Own || watched && rule.scope == Scope::Namespaced;
            granted.then(|| rule.names.to_vec())
        });
    }
    yaml
}

/// `granted`: for objects of which names (all, if none) a rule holds, if it does.
fn grant<'a>(
    yaml: &mut String,
    namespace: Option<&str>,
    subjects: &[Subject],
    granted: impl Fn(&Rule) -> Option<Vec<&'a str>>,
) {
    let rules = RULES.iter().filter_map(|rule| Some((rule, granted(rule)?)));
    role(yaml, namespace, rules);
    binding(yaml, namespace, subjects);
}

fn role<'a>(yaml: &mut String, namespace: Option<&str>, rules: impl Iterator<Item = (&'a Rule, Vec<&'a str>)>) {
    head(
        yaml,
        if namespace.is_some() { "Role" } else { "ClusterRole" },
        namespace,
    );
    line(yaml, "rules:");
    for (rule, names) in rules {
        line(yaml, &format!("# {}", rule.why));
        line(yaml, &format!("- apiGroups: {}", list(&[rule.group])));
        line(yaml, &format!("  resources: {}", list(rule.resources)));
        if !names.is_empty() {
            line(yaml, &format!("  resourceNames: {}", list(&names)));
        }
        line(yaml, &format!("  verbs: {}", list(rule.verbs)));
    }
}

fn binding(yaml: &mut String, namespace: Option<&str>, subjects: &[Subject]) {
    let (kind, role) = if namespace.is_some() {
        ("RoleBinding", "Role")
    } else {
        ("ClusterRoleBinding", "ClusterRole")
    };
    head(yaml, kind, namespace);
    line(yaml, "roleRef:");
    line(yaml, "  apiGroup: rbac.authorization.k8s.io");
    line(yaml, &format!("  kind: {role}"));
    line(yaml, "  name: database-operator");
    line(yaml, "subjects:");
    for subject in subjects {
        subject.write(yaml);
    }
}

fn head(yaml: &mut String, kind: &str, namespace: Option<&str>) {
    line(yaml, "---");
    line(yaml, "apiVersion: rbac.authorization.k8s.io/v1");
    line(yaml, &format!("kind: {kind}"));
    line(yaml, "metadata:");
    line(yaml, "  name: database-operator");
    if let Some(namespace) = namespace {
        line(yaml, &format!("  namespace: {}", quoted(namespace)));
    }
    line(yaml, "  labels:");
    line(yaml, "    app.kubernetes.io/name: database-operator");
    line(yaml, "    app.kubernetes.io/part-of: database-operator");
}

fn line(yaml: &mut String, text: &str) {
    writeln!(yaml, "{text}").expect("writing to a String cannot fail");
}

fn list(items: &[&str]) -> String {
    format!(
        "[{}]",
        items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ")
    )
}

/// A JSON string is a YAML string, whatever it holds.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_holds_a_wildcard_or_grants_more_than_the_operator_may_ever_need() {
        for rule in RULES {
            assert!(!rule.group.contains('*'), "{rule:?}");
            for word in rule.resources.iter().chain(rule.verbs) {
                assert!(!word.contains('*'), "{rule:?}");
            }
            for verb in ["deletecollection", "escalate", "bind", "impersonate"] {
                assert!(!rule.verbs.contains(&verb), "{rule:?}");
            }
            assert!(!rule.why.is_empty() && !rule.why.contains('\n'), "{rule:?}");
        }
        let update = RULES.iter().filter(|rule| rule.verbs.contains(&"update"));
        let updated: Vec<_> = update.flat_map(|rule| rule.resources).copied().collect();
        assert_eq!(
            updated,
            ["databases/finalizers", "shardmaps", "configmaps", "secrets", "leases"]
        );
    }

    #[test]
    fn no_resource_is_granted_twice() {
        let mut all: Vec<_> = RULES
            .iter()
            .filter(|rule| rule.scope != Scope::Own)
            .flat_map(|rule| rule.resources.iter().map(|resource| (rule.group, *resource)))
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn service_accounts_are_read() {
        let account = Subject::ServiceAccount {
            namespace: "a".to_owned(),
            name: "b.c".to_owned(),
        };
        assert_eq!(Subject::service_account("a:b.c"), Ok(account));
        for text in ["", "a", ":", "a:", ":b", "a:b:c", "A:b", "a/b"] {
            assert!(Subject::service_account(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_strange_name_of_a_user_stays_one_string() {
        assert_eq!(quoted("a: \"b\"\n# c"), r#""a: \"b\"\n# c""#);
    }
}
