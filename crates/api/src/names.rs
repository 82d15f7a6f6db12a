//! Names that people, tests and other tools rely on. They never change; see `docs/decisions/`.
//!
//! The names of children are functions of the Database's name. `generation` is a generation of *volumes*: it is 1
//! until a blue-green update makes a second set beside the first. No child of a kind that users reach by name bears
//! the Database's bare name, except the ServiceAccount and the PodDisruptionBudget.

/// API group of the custom resources.
pub const GROUP: &str = "intent.example.com";
/// Version of the API.
pub const VERSION: &str = "v1";
/// `apiVersion` of a Database in a manifest.
pub const API_VERSION: &str = "intent.example.com/v1";
/// `kind` of a Database in a manifest.
pub const KIND: &str = "Database";
/// Plural name, as in request paths and in `kubectl get databases`.
pub const PLURAL: &str = "databases";
/// Name of the Database's CustomResourceDefinition.
pub const CRD_NAME: &str = "databases.intent.example.com";

/// Plural name of exceptions from policies, as in request paths.
pub const EXCEPTIONS_PLURAL: &str = "policyexceptions";

/// Longest name of a Database, in characters. With the longest suffix a StatefulSet's name must stay under 52, or its
/// pods' labels are too long and it makes none.
pub const DATABASE_NAME_MAX: usize = 40;

/// Finalizer of a Database.
pub const FINALIZER: &str = "intent.example.com/finalizer";
/// Field manager of everything that is applied; also the value of [`MANAGED_BY_LABEL`] and the name in the user agent.
pub const FIELD_MANAGER: &str = "database-operator";

/// Label on a Database and its children: the bucket that it falls into, a decimal number.
pub const BUCKET_LABEL: &str = "intent.example.com/bucket";
/// Label on children: name of the Database.
pub const DATABASE_LABEL: &str = "intent.example.com/database";
/// Label on pods: what the member is now (`primary`, `replica`). Patched on the pod, never in the template.
pub const ROLE_LABEL: &str = "intent.example.com/role";
/// Label on a ConfigMap or Secret that a Database refers to: changes of it are then seen at once.
pub const WATCH_LABEL: &str = "intent.example.com/watch";
/// Value of [`WATCH_LABEL`], [`PAUSED_ANNOTATION`] and [`DRAIN_ANNOTATION`] that switches it on.
pub const TRUE: &str = "true";

/// Annotation on every object that a replica writes: the epoch of the bucket's owner, a decimal number.
pub const FENCE_ANNOTATION: &str = "intent.example.com/fence";
/// Begins the names of the admission policies that refuse writes with an epoch that is over.
pub const FENCE_POLICY_PREFIX: &str = "database-operator-fence-";
/// Annotation on pods: hash of what the user declared. Only a change of it restarts a pod.
pub const INPUTS_ANNOTATION: &str = "intent.example.com/inputs";
/// Annotation on a Database: `true` stops all writes but the status.
pub const PAUSED_ANNOTATION: &str = "intent.example.com/paused";

/// Annotation on the Lease of a replica: `true` asks the leader to give its buckets to others for as long as it runs.
pub const DRAIN_ANNOTATION: &str = "intent.example.com/drain";

/// Whether a label or annotation of a Database is the operator's own writing, and nothing that anybody declares.
pub fn is_written_by_operator(name: &str) -> bool {
    [BUCKET_LABEL, FENCE_ANNOTATION].contains(&name)
}

/// Recommended label: name of the application, here the engine.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Recommended label: name of the Database.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// Recommended label: what the object is for within the Database.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Recommended label: who manages the object; its value is [`FIELD_MANAGER`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Recommended label: the larger thing that the object belongs to.
pub const PART_OF_LABEL: &str = "app.kubernetes.io/part-of";

/// Label on a namespace, set by administrators: `development`, `staging` or `production`. Chooses policies.
pub const ENVIRONMENT_LABEL: &str = "intent.example.com/environment";
/// Label on a namespace, set by administrators: the team that it belongs to. Chooses policies.
pub const TEAM_LABEL: &str = "intent.example.com/team";
/// Label on a namespace, set by administrators: the business unit that it belongs to. Chooses policies.
pub const BUSINESS_UNIT_LABEL: &str = "intent.example.com/business-unit";

/// Lease, in the operator's namespace, whose holder is the leader.
pub const COORDINATOR_LEASE: &str = "database-operator-coordinator";

/// Lease, in the operator's namespace, of one member.
pub fn member_lease(member: &str) -> String {
    format!("database-operator-member-{member}")
}

/// StatefulSet of one generation of volumes.
pub fn stateful_set(database: &str, generation: u32) -> String {
    format!("{database}-g{generation}")
}

/// Pod of a StatefulSet. Ordinals count from 0.
pub fn pod(database: &str, generation: u32, ordinal: u32) -> String {
    format!("{database}-g{generation}-{ordinal}")
}

/// PersistentVolumeClaim of a pod: the name that a StatefulSet gives to the claim of its template `data`.
pub fn claim(database: &str, generation: u32, ordinal: u32) -> String {
    format!("data-{}", pod(database, generation, ordinal))
}

/// Service that leads to the primary.
pub fn service_rw(database: &str) -> String {
    format!("{database}-rw")
}

/// Service that leads to the replicas; there only while there is one.
pub fn service_ro(database: &str) -> String {
    format!("{database}-ro")
}

/// Headless Service that gives each pod a name.
pub fn service_pods(database: &str) -> String {
    format!("{database}-pods")
}

/// Secret for applications: the keys of a service binding.
pub fn secret_app(database: &str) -> String {
    format!("{database}-app")
}

/// Secret of the administrator.
pub fn secret_admin(database: &str) -> String {
    format!("{database}-admin")
}

/// ConfigMap with the rendered configuration.
pub fn config(database: &str) -> String {
    format!("{database}-config")
}

/// Secret with the rendered configuration whose values come from `configuration.secretRef`.
pub fn config_secret(database: &str) -> String {
    format!("{database}-config-secret")
}

/// ServiceAccount of the pods. It has no rights, and no token is mounted.
pub fn service_account(database: &str) -> String {
    database.to_owned()
}

/// PodDisruptionBudget; there only with more than one member.
pub fn disruption_budget(database: &str) -> String {
    database.to_owned()
}

/// ControllerRevision that keeps the n-th accepted spec.
pub fn revision(database: &str, number: i64) -> String {
    format!("{database}-{number}")
}

/// Name by which clients inside the cluster reach a Service, without the cluster's domain (it can be configured).
pub fn service_host(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_the_longest_name_stay_within_the_limits_of_kubernetes() {
        let name = "d".repeat(DATABASE_NAME_MAX);
        // A StatefulSet puts `NAME-<10 characters of hash>` into a label of its pods, which holds 63.
        assert!(stateful_set(&name, u32::from(u16::MAX)).len() <= 52);
        for service in [
            service_rw(&name),
            service_ro(&name),
            service_pods(&name),
            pod(&name, 99, 99),
        ] {
            assert!(service.len() <= 63, "{service}");
        }
        assert!(claim(&name, u32::MAX, u32::MAX).len() <= 253);
    }

    #[test]
    fn children_are_named_as_promised() {
        assert_eq!(stateful_set("shop", 1), "shop-g1");
        assert_eq!(claim("shop", 1, 0), "data-shop-g1-0");
        assert_eq!(revision("shop", 7), "shop-7");
        assert_eq!(service_host(&service_rw("shop"), "prod"), "shop-rw.prod.svc");
    }
}
