//! Names of the labels and annotations that are particular to the planner.

/// Label on volumes and credentials: which engine they belong to.
pub const ENGINE_LABEL: &str = "intent.example.com/engine";
/// Label on volumes: the engine's major version that wrote the data. A newer binary may not be able to read it.
pub const MAJOR_LABEL: &str = "intent.example.com/major";
/// Label on volumes and on the administrator's Secret: the data set that both belong to (uid of the Database that
/// first made it). A volume is started only with the credentials of its own lineage.
pub const LINEAGE_LABEL: &str = "intent.example.com/lineage";
/// Label on volumes and on the administrator's Secret: uid of the Database that works with them now. They have no owner
/// reference, so that nothing but the word of this very Database's user deletes them.
pub const OWNER_LABEL: &str = "intent.example.com/owner";
/// Label on a StatefulSet's pods and volumes: the generation of volumes that they use (blue-green makes the next).
pub const GENERATION_LABEL: &str = "intent.example.com/generation";
/// Annotation on the administrator's Secret and on pods: how often the credentials were made anew.
pub const CREDENTIALS_ANNOTATION: &str = "intent.example.com/credentials";
