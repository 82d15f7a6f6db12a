//! Sources as text, keys, and what is in force when nothing can be remembered. What needs an API server is in [`cluster`].

mod cluster;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use policy::bundle::archive;
use policy::decision::Verdict;

use super::keys::{Keys, KeysError};
use super::read::{Held, Reader};
use super::status::FailureKind;
use super::*;
use support::{Version, following, nobody, verdict};

#[test]
fn sources_are_paths_or_config_maps() {
    for (text, name) in [
        ("policies", "policies"),
        ("/etc/policies/", "policies"),
        ("./policies/.", "policies"),
        ("/etc/policies/bundle.tar.gz", "bundle"),
        ("configmap:ops/policies", "policies"),
        ("configmap:ops/policies-1+policies-2", "policies-1"),
        ("configmap:ops/a.b", "a.b"),
        ("configmaps", "configmaps"),
    ] {
        let source = Source::parse(text).expect(text);
        assert_eq!((source.name.as_str(), source.to_string().as_str()), (name, text));
    }
    for (text, words) in [
        ("", "ends in a name"),
        ("/", "ends in a name"),
        ("..", "ends in a name"),
        ("a b", "\"a b\" cannot be the name"),
        ("/etc/..policies", "cannot be the name"),
        ("configmap:policies", "configmap:NAMESPACE/NAME"),
        ("configmap:Ops/policies", "configmap:NAMESPACE/NAME"),
        ("configmap:ops/", "configmap:NAMESPACE/NAME"),
        ("configmap:ops/a+", "configmap:NAMESPACE/NAME"),
        ("configmap:ops/a/b", "configmap:NAMESPACE/NAME"),
    ] {
        let error = Source::parse(text).expect_err(text).to_string();
        assert!(error.contains(words), "{text:?}: {error}");
    }
}

#[test]
fn no_two_bundles_have_one_name() {
    assert_eq!(Source::parse_all(&["a", "configmap:ops/b"]).map(|all| all.len()), Ok(2));
    let error = Source::parse_all(&["/x/a.tar.gz", "b", "configmap:ops/a"]).expect_err("both are a");
    assert_eq!(
        error.to_string(),
        "/x/a.tar.gz and configmap:ops/a are both bundles of the name \"a\"; rename one"
    );
}

fn key(name: &str) -> PathBuf {
    format!(
        "{}/../crates/policy/tests/bundle/fixtures/keys/throw-away-{name}",
        env!("CARGO_MANIFEST_DIR")
    )
    .into()
}

#[test]
fn keys_are_named_by_their_files() {
    let keys = |files: &[PathBuf]| Keys {
        files: files.to_vec(),
        scope: "production".to_owned(),
    };
    let trust = keys(&[key("p256.pub.pem"), key("rsa.pub.pem")]).trust().expect("keys");
    let ids: Vec<&str> = trust.keys.keys().map(String::as_str).collect();
    assert_eq!(ids, ["throw-away-p256", "throw-away-rsa"]);
    assert!(trust.require_signature && trust.scope == "production");
    assert!(!keys(&[]).trust().expect("none").require_signature);

    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("throw-away-p256.pem");
    fs::copy(key("p256.pub.pem"), &copy).expect("copied");
    assert!(matches!(
        keys(&[key("p256.pub.pem"), copy]).trust(),
        Err(KeysError::Twice { .. })
    ));
    for (file, words) in [(key("gone.pem"), "cannot be read"), (key("p256.pem"), "PEM block")] {
        let error = keys(&[file]).trust().expect_err(words);
        assert!(telemetry::chain(&error).contains(words), "{error}");
    }
}

async fn held(source: &str) -> Held {
    let mut reader = Reader::new(Source::parse(source).expect("a source"), nobody());
    reader.read().await
}

#[tokio::test]
async fn the_same_content_is_the_same_however_it_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("bundle");
    Version::new("1").write_to(&root);
    let archived = folder.path().join("bundle.tar.gz");
    fs::write(&archived, archive::write(&Version::new("1").files())).expect("written");
    let of_folder = held(root.to_str().expect("UTF-8")).await;
    let of_archive = held(archived.to_str().expect("UTF-8")).await;
    assert_eq!(of_folder.identity(), of_archive.identity());
    assert!(
        !of_folder.whole && of_archive.whole,
        "a folder may be half written; an archive has a checksum"
    );

    let packed = fs::read(&archived).expect("readable");
    fs::write(&archived, &packed[..packed.len() / 2]).expect("written");
    let half = held(archived.to_str().expect("UTF-8")).await;
    assert!(half.files.is_err() && !half.whole);
    let gone = held(folder.path().join("gone").to_str().expect("UTF-8")).await;
    assert!(gone.identity().contains("cannot be read"), "{}", gone.identity());
}

/// As the kubelet does it: a folder per version, a link to it that is replaced, and links to what is behind that link.
#[tokio::test]
async fn a_volume_is_read_in_one_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("bundle");
    fs::create_dir(&root).expect("made");
    let swap = {
        let root = root.clone();
        move |number: usize| {
            let (old, new) = (format!("..v{}", number.wrapping_sub(1)), format!("..v{number}"));
            let version = Version::new(&number.to_string());
            version.write_to(&root.join(&new));
            symlink(&new, root.join("..data_tmp")).expect("a link");
            fs::rename(root.join("..data_tmp"), root.join("..data")).expect("swapped");
            // The first version has no other before it.
            let _ = fs::remove_dir_all(root.join(old));
        }
    };
    swap(0);
    symlink("..data/.manifest", root.join(".manifest")).expect("a link");
    symlink("..data/database", root.join("database")).expect("a link");
    let expected: Vec<String> = (0..400)
        .map(|number| Version::new(&number.to_string()).files().digest())
        .collect();
    let (done, wholes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut reader = Reader::new(
        Source::parse(root.to_str().expect("UTF-8")).expect("a source"),
        nobody(),
    );
    let runtime = tokio::runtime::Handle::current();
    thread::scope(|scope| {
        scope.spawn(|| {
            (1..expected.len()).for_each(&swap);
            done.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let held = runtime.block_on(reader.read());
                assert!(held.whole);
                if let Ok(files) = held.files {
                    assert!(expected.contains(&files.digest()), "a mix of versions");
                    wholes.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    });
    assert!(wholes.load(Ordering::Relaxed) > 0, "it was never read");
    let last = runtime
        .spawn(async move { reader.read().await })
        .await
        .expect("no panic");
    assert_eq!(last.files.expect("it rests").digest(), expected[399]);
}

#[tokio::test]
async fn what_is_written_while_it_is_read_is_not_put_in_force() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("bundle");
    Version::new("1").write_to(&root);
    let (mut following, status, _guard) = following(&[root.to_str().expect("UTF-8")], nobody());
    let writing = {
        let root = root.clone();
        let rules = Version::new("1").rules("a");
        tokio::spawn(async move {
            for number in 0.. {
                let next = root.join("../next");
                fs::write(&next, format!("{rules}\n# {number}\n")).expect("written");
                fs::rename(&next, root.join("database/a.rego")).expect("renamed");
                tokio::task::yield_now().await;
            }
        })
    };
    following.look().await;
    writing.abort();
    assert_eq!(status.borrow().failures, [(FailureKind::Changing, 1)].into());
}

/// Fail closed: without knowing what was in force before, an older bundle could not be told from a new one.
#[tokio::test]
async fn without_the_state_nothing_is_in_force_and_each_failure_is_told_once() {
    let told = Told::default();
    let _guard = tracing::subscriber::set_default(told.clone());
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("bundle");
    let (mut following, status, guard) = following(&[root.to_str().expect("UTF-8")], nobody());
    assert!(!status.borrow().looked);
    for _ in 0..3 {
        following.look().await;
    }
    assert!(status.borrow().looked);
    Version::new("1").write_to(&root);
    for _ in 0..2 {
        following.look().await;
    }
    let expected = [(FailureKind::Source, 3), (FailureKind::State, 2)].into();
    assert_eq!(status.borrow().failures, expected);
    assert!(!status.borrow().loaded && status.borrow().last_success.is_none());
    assert_eq!((verdict(&guard).await, guard.generation()), (Verdict::Error, 0));
    let errors = told.0.lock().expect("nobody panics").clone();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].contains("cannot be read"), "{errors:#?}");
    assert!(
        errors[1].contains("get ConfigMap ops/database-operator-policies"),
        "{errors:#?}"
    );
}

/// The errors that were logged.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Told {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR && metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Words(String);
        impl tracing::field::Visit for Words {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                let _ = write!(self.0, "{field}={value:?} ");
            }
        }
        let mut words = Words(String::new());
        event.record(&mut words);
        self.0.lock().expect("nobody panics").push(words.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
