//! Sources and what is remembered of them, at a real API server, with the permissions that the operator has for it.
//!
//! One test, which starts a control plane of its own and runs itself again inside, where the API server is reachable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use devcluster::{Identity, TestBed};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource};
use policy::bundle::{Activated, Algorithm, Claims, Files, SigningKey, archive, signature};
use policy::decision::Verdict;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::follow::Following;
use super::super::keys::Keys;
use super::super::status::{FailureKind, Status};
use super::support::{NAMESPACE, Version, following, following_signed, revision, verdict};
use super::{fs, key};

/// Set for the run inside of the cluster: the kubeconfig of the operator.
const INSIDE: &str = "POLICY_SOURCE_TEST_INSIDE";
/// Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_mins(1);
const USER: &str = "follower";
/// Where source ConfigMaps are.
const SOURCES: &str = "policies";

#[test]
fn sources_and_state_at_a_real_api_server() {
    if let Some(kubeconfig) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        return runtime.block_on(inside(kubeconfig.as_ref()));
    }
    let Some(bed) = TestBed::up("policysource") else { return };
    let kubeconfig = bed.kubeconfig_for(&Identity::new(USER, &[])).expect("a kubeconfig");
    let this = std::env::current_exe().expect("this program");
    let mut again = bed.command(this).expect("a command");
    let thread = std::thread::current();
    let test = thread.name().expect("tests have threads of their names");
    again.args(["--exact", test, "--nocapture"]).env(INSIDE, kubeconfig);
    let status = again.status().expect("it can be run");
    assert!(status.success(), "inside of the cluster: {status}");
}

/// The cluster, as its administrator and as the operator.
struct Bed {
    admin: Client,
    operator: Client,
}

async fn inside(kubeconfig: &std::path::Path) {
    let admin = Client::try_default()
        .await
        .expect("KUBECONFIG leads to the test cluster");
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let operator = Client::try_from(config.expect("a complete one")).expect("a client");
    let bed = Bed { admin, operator };
    for name in [NAMESPACE, SOURCES] {
        let namespace = json!({"metadata": {"name": name}});
        let namespaces: Api<Namespace> = Api::all(bed.admin.clone());
        let namespace = serde_json::from_value(namespace).expect("a namespace");
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("created");
    }
    bed.without_permission().await;
    bed.a_change_comes_into_force_and_a_bad_one_does_not().await;
    bed.an_older_one_is_refused_also_after_a_restart().await;
    bed.what_is_signed_may_go_back().await;
    Box::pin(bed.replicas_agree()).await;
    bed.of_two_at_once_the_newer_one_is_remembered().await;
    bed.several_config_maps_are_one_bundle().await;
    bed.a_state_that_was_edited_stops_nothing_that_is_in_force().await;
    bed.no_answer_is_a_mix().await;
}

impl Bed {
    async fn put<K>(&self, namespace: &str, object: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.admin.clone(), namespace);
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let mut object = object;
        object["apiVersion"] = K::api_version(&()).into();
        object["kind"] = K::kind(&()).into();
        let parameters = PatchParams::apply("test").force();
        api.patch(&name, &parameters, &Patch::Apply(object))
            .await
            .expect("applied");
    }

    /// The permissions of the operator.
    async fn permit(&self) {
        let role = |namespace: &str, rules: Value| {
            (
                namespace.to_owned(),
                json!({"metadata": {"name": USER}, "rules": rules}),
            )
        };
        for (namespace, role) in [
            role(
                NAMESPACE,
                json!([
                    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
                    {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["database-operator-policies"],
                        "verbs": ["get", "update"]},
                ]),
            ),
            role(
                SOURCES,
                json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]),
            ),
        ] {
            self.put::<Role>(&namespace, role).await;
            let binding = json!({
                "metadata": {"name": USER},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": USER},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
            });
            self.put::<RoleBinding>(&namespace, binding).await;
        }
    }

    /// A ConfigMap with these files.
    async fn source(&self, name: &str, version: &Version) {
        let data: BTreeMap<String, String> = version.keys().into_iter().collect();
        self.put::<ConfigMap>(SOURCES, json!({"metadata": {"name": name}, "data": data}))
            .await;
    }

    async fn archive(&self, name: &str, files: &Files) {
        let bytes = ByteString(archive::write(files));
        let binary = json!({"bundle.tar.gz": bytes});
        self.put::<ConfigMap>(SOURCES, json!({"metadata": {"name": name}, "binaryData": binary}))
            .await;
    }

    fn states(&self) -> Api<ConfigMap> {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    async fn remembered(&self, bundle: &str) -> Option<Activated> {
        let state = self
            .states()
            .get_opt("database-operator-policies")
            .await
            .expect("readable")?;
        let text = state.data?.remove(bundle)?;
        Some(serde_json::from_str(&text).expect("what the operator writes"))
    }

    async fn without_permission(&self) {
        self.source("first", &Version::new("1").sequence(1)).await;
        let (mut following, status, guard) = following(&["configmap:policies/first"], self.operator.clone());
        following.look().await;
        assert_eq!(status.borrow().failures, [(FailureKind::Source, 1)].into());
        assert_eq!(verdict(&guard).await, Verdict::Error);
        self.permit().await;
        // The API server takes a moment to know.
        until_loaded(&mut following, &status).await;
        assert_eq!(revision(&guard).await, "1");
        let remembered = self.remembered("first").await.expect("remembered");
        assert_eq!((remembered.sequence, remembered.highest), (Some(1), Some(1)));
        assert_eq!(remembered.digest, status.borrow().revisions["first"].digest);
        assert!(status.borrow().last_success.is_some());

        let (mut gone, status, _) = self::following(&["configmap:policies/gone"], self.operator.clone());
        gone.look().await;
        assert_eq!(status.borrow().failures, [(FailureKind::Source, 1)].into());
    }

    async fn a_change_comes_into_force_and_a_bad_one_does_not(&self) {
        let (mut following, status, guard) = following(&["configmap:policies/changing"], self.operator.clone());
        let good = Version::new("1");
        self.source("changing", &good).await;
        following.look().await;
        assert_eq!((revision(&guard).await.as_str(), guard.generation()), ("1", 1));
        assert_eq!(
            self.remembered("changing").await,
            None,
            "without a sequence nothing is remembered"
        );
        following.look().await;
        assert_eq!(guard.generation(), 1, "nothing has changed");

        for (bad, kind) in [
            ("violations contains", FailureKind::Policies),
            ("x if not_there(1)", FailureKind::Policies),
            ("f(x) := f(x)", FailureKind::Policies),
            ("package database.c", FailureKind::Policies),
        ] {
            let mut version = Version::new("2");
            version.broken = bad;
            self.source("changing", &version).await;
            let before = status.borrow().failures.get(&kind).copied().unwrap_or_default();
            for look in 1..3 {
                following.look().await;
                assert_eq!(status.borrow().failures[&kind], before + look, "{bad:?}");
            }
            assert_eq!(
                (revision(&guard).await.as_str(), guard.generation()),
                ("1", 1),
                "{bad:?}"
            );
        }
        self.source("changing", &good).await;
        let failures = status.borrow().failures.clone();
        following.look().await;
        assert_eq!(
            (guard.generation(), &status.borrow().failures),
            (1, &failures),
            "it is what is in force"
        );
        self.source("changing", &Version::new("2")).await;
        following.look().await;
        assert_eq!((revision(&guard).await.as_str(), guard.generation()), ("2", 2));
        assert_eq!(status.borrow().revisions["changing"].revision, "2");
    }

    async fn an_older_one_is_refused_also_after_a_restart(&self) {
        let source = ["configmap:policies/growing"];
        let (mut following, status, guard) = following(&source, self.operator.clone());
        for sequence in [4, 5] {
            self.source("growing", &Version::new(&sequence.to_string()).sequence(sequence))
                .await;
            following.look().await;
            assert_eq!(revision(&guard).await, sequence.to_string());
        }
        for older in [
            Version::new("4").sequence(4),
            Version::new("other").sequence(5),
            Version::new("unsigned").sequence(4).rollback_from(5),
            Version::new("none"),
        ] {
            self.source("growing", &older).await;
            following.look().await;
            assert_eq!((revision(&guard).await.as_str(), guard.generation()), ("5", 2));
            let (mut restarted, of_restarted, guard) = self::following(&source, self.operator.clone());
            restarted.look().await;
            assert_eq!(of_restarted.borrow().failures, [(FailureKind::Refused, 1)].into());
            assert_eq!((verdict(&guard).await, guard.generation()), (Verdict::Error, 0));
        }
        assert_eq!(status.borrow().failures, [(FailureKind::Refused, 4)].into());
        self.source("growing", &Version::new("5").sequence(5)).await;
        let (mut restarted, _, guard) = self::following(&source, self.operator.clone());
        restarted.look().await;
        assert_eq!(revision(&guard).await, "5", "what was in force comes again");
    }

    async fn what_is_signed_may_go_back(&self) {
        let keys = Keys {
            files: vec![key("p256.pub.pem")],
            scope: "production".to_owned(),
        };
        let source = ["configmap:policies/signed"];
        let start = || following_signed(&source, self.operator.clone(), keys.clone());
        let (mut following, status, guard) = start();
        self.archive("signed", &Version::new("5").sequence(5).files()).await;
        following.look().await;
        assert_eq!(status.borrow().failures, [(FailureKind::Refused, 1)].into(), "unsigned");
        self.archive("signed", &signed(&Version::new("5").sequence(5), "other-p256"))
            .await;
        following.look().await;
        assert_eq!(status.borrow().failures[&FailureKind::Signature], 1);
        assert_eq!(guard.generation(), 0);
        for (version, in_force) in [
            (Version::new("5").sequence(5), "5"),
            (Version::new("4").sequence(4), "5"),
            (Version::new("4").sequence(4).rollback_from(3), "5"),
            (Version::new("back").sequence(4).rollback_from(5), "back"),
            (Version::new("5").sequence(5), "back"),
        ] {
            self.archive("signed", &signed(&version, "p256")).await;
            following.look().await;
            assert_eq!(revision(&guard).await, in_force);
        }
        let remembered = self.remembered("signed").await.expect("remembered");
        assert_eq!((remembered.sequence, remembered.highest), (Some(4), Some(5)));
        let (mut restarted, of_restarted, _) = start();
        restarted.look().await;
        assert_eq!(
            of_restarted.borrow().failures,
            [(FailureKind::Refused, 1)].into(),
            "it was taken back"
        );
        self.archive("signed", &signed(&Version::new("6").sequence(6), "p256"))
            .await;
        following.look().await;
        assert_eq!(revision(&guard).await, "6");
    }

    /// Two put the same bundle in force at once; one that has an older source is refused what others have left behind.
    async fn replicas_agree(&self) {
        self.source("shared", &Version::new("1").sequence(1)).await;
        let start = || following(&["configmap:policies/shared"], self.operator.clone());
        let ((mut one, _, first), (mut two, _, second)) = (start(), start());
        for sequence in 1..6_u64 {
            self.source("shared", &Version::new(&sequence.to_string()).sequence(sequence))
                .await;
            tokio::join!(one.look(), two.look());
            let text = sequence.to_string();
            assert_eq!((revision(&first).await, revision(&second).await), (text.clone(), text));
            let remembered = self.remembered("shared").await.expect("remembered");
            assert_eq!(remembered.highest, Some(sequence));
        }
        let state = self.states().get("database-operator-policies").await.expect("readable");
        let names: Vec<String> = state.data.unwrap_or_default().into_keys().collect();
        assert_eq!(names, ["first", "growing", "shared", "signed"], "others are kept");

        // Somebody deletes the state: what this process knows is written again.
        let delete = self
            .states()
            .delete("database-operator-policies", &DeleteParams::default())
            .await;
        delete.expect("deleted");
        self.source("shared", &Version::new("4").sequence(4)).await;
        one.look().await;
        assert_eq!(revision(&first).await, "5");
        self.source("shared", &Version::new("6").sequence(6)).await;
        one.look().await;
        assert_eq!(self.remembered("shared").await.expect("remembered").highest, Some(6));
    }

    /// The one with the older bundle may be overtaken after it was admitted, while the gate is asked.
    async fn of_two_at_once_the_newer_one_is_remembered(&self) {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = ["x", "y"].map(|parent| folder.path().join(parent).join("raced"));
        let start = |at: usize| following(&[roots[at].to_str().expect("UTF-8")], self.operator.clone());
        let ((mut one, _, _first), (mut two, status, _second)) = (start(0), start(1));
        for round in 1..13_u64 {
            let sequences = [2 * round, 2 * round + 1];
            for (root, sequence) in roots.iter().zip(sequences) {
                Version::new(&sequence.to_string()).sequence(sequence).write_to(root);
            }
            tokio::join!(one.look(), two.look());
            let remembered = self.remembered("raced").await.expect("remembered");
            assert_eq!(remembered.sequence, Some(sequences[1]));
            assert_eq!(status.borrow().failures, BTreeMap::new());
        }
    }

    async fn several_config_maps_are_one_bundle(&self) {
        let keys = Version::new("1").keys();
        for (name, (key, text)) in ["part-a", "part-b", "part-c"].into_iter().zip(keys) {
            let object = json!({"metadata": {"name": name}, "data": {key: text}});
            self.put::<ConfigMap>(SOURCES, object).await;
        }
        let source = ["configmap:policies/part-a+part-b+part-c"];
        let (mut following, status, guard) = following(&source, self.operator.clone());
        following.look().await;
        assert_eq!(revision(&guard).await, "1");
        assert!(status.borrow().revisions.contains_key("part-a"));
        let mut rules = Version::new("1");
        rules.broken = "# a comment\n";
        let object = json!({"metadata": {"name": "part-c"}, "data": {"database__b.rego": rules.rules("b")}});
        self.put::<ConfigMap>(SOURCES, object).await;
        following.look().await;
        assert_eq!(guard.generation(), 2);
    }

    async fn a_state_that_was_edited_stops_nothing_that_is_in_force(&self) {
        let (mut following, status, guard) = following(&["configmap:policies/kept"], self.operator.clone());
        self.source("kept", &Version::new("1").sequence(1)).await;
        following.look().await;
        let edited = json!({"metadata": {"name": "database-operator-policies"}, "data": {"kept": "1"}});
        self.put::<ConfigMap>(NAMESPACE, edited).await;
        self.source("kept", &Version::new("2").sequence(2)).await;
        for look in 1..3 {
            following.look().await;
            assert_eq!(status.borrow().failures, [(FailureKind::State, look)].into());
            assert_eq!(revision(&guard).await, "1");
        }
        let mended = json!({"data": {"kept": null}});
        let patch = Patch::Merge(mended);
        let api = self.states();
        let patched = api
            .patch("database-operator-policies", &PatchParams::default(), &patch)
            .await;
        patched.expect("patched");
        following.look().await;
        assert_eq!(revision(&guard).await, "2");
    }

    /// A folder is swapped again and again while questions are asked.
    async fn no_answer_is_a_mix(&self) {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("swapped");
        Version::new("0").write_to(&root);
        let (following, mut status, guard) = following(&[root.to_str().expect("UTF-8")], self.operator.clone());
        let following = tokio::spawn(following.run());
        status.wait_for(|status| status.loaded).await.expect("it goes on");
        let (done, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            let (guard, done, asked) = (guard.clone(), done.clone(), asked.clone());
            asking.spawn(async move {
                let mut seen = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    seen.push(revision(&guard).await.parse::<u32>().expect("a number"));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                seen
            });
        }
        for number in 1..=20 {
            let next = folder.path().join("next");
            Version::new(&number.to_string()).write_to(&next);
            let old = folder.path().join("old");
            fs::rename(&root, &old).expect("moved away");
            fs::rename(&next, &root).expect("moved here");
            fs::remove_dir_all(&old).expect("removed");
            let number = number.to_string();
            let is_in_force = |status: &Status| status.revisions["swapped"].revision == number;
            let waited = tokio::time::timeout(DEADLINE, status.wait_for(is_in_force)).await;
            waited.expect("in time").expect("it goes on");
            assert_eq!(revision(&guard).await, number);
        }
        following.abort();
        let enough = asked.load(Ordering::Relaxed) + 40;
        let deadline = Instant::now() + DEADLINE;
        while asked.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < deadline, "questions are not answered");
            tokio::task::yield_now().await;
        }
        done.store(true, Ordering::Relaxed);
        let mut seen = Vec::new();
        while let Some(answers) = asking.join_next().await {
            let answers = answers.expect("no mix");
            assert!(answers.is_sorted(), "an older one came back: {answers:?}");
            seen.extend(answers);
        }
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 5, "questions saw only {seen:?}");
    }
}

fn signed(version: &Version, by: &str) -> Files {
    let pem = fs::read_to_string(key(&format!("{by}.pem"))).expect("a key");
    let key = SigningKey::from_pem(&pem, Some(Algorithm::Es256)).expect("a key");
    let claims = Claims {
        key_id: "throw-away-p256".to_owned(),
        scope: "production".to_owned(),
    };
    signature::sign(&version.files(), &key, &claims, Timestamp::now()).expect("signed")
}

async fn until_loaded(following: &mut Following, status: &watch::Receiver<Status>) {
    let deadline = Instant::now() + DEADLINE;
    while !status.borrow().loaded {
        assert!(Instant::now() < deadline, "nothing is in force: {:?}", *status.borrow());
        following.look().await;
    }
}
