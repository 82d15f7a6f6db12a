//! The start of every pod, run by a real shell on a real file system: what may happen to a volume, and what never does.
//!
//! The script is Redis', whose data directory needs no server to be made; the frame is the same for all engines. Its
//! absolute paths are replaced by those of a temporary directory. PostgreSQL's and Redis' own parts run on real nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use api::database::Engine;
use engines::catalogue::Catalogue;
use tempfile::TempDir;

const OURS: &str = "redis 7 lineage-1\n";

/// A pod's file system, before its start.
struct Pod {
    root: TempDir,
    script: String,
}

impl Pod {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let catalogue = Catalogue::builtin();
        let release = &catalogue.releases(Engine::Redis)[0];
        let command = engines::pod::containers(Engine::Redis, release).initialise;
        let mut script = command["command"][2].as_str().expect("the script").to_owned();
        for path in ["/var/lib/database", "/etc/database", "/run/database"] {
            let here = root.path().join(&path[1..]);
            fs::create_dir_all(&here).expect("a directory");
            script = script.replace(path, here.to_str().expect("a path in UTF-8"));
        }
        let pod = Self { root, script };
        pod.write("etc/database/config/inputs", "hash-1");
        pod.write("etc/database/config/redis.conf", "port 6379\n");
        pod.write("etc/database/admin/lineage", "lineage-1");
        pod
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// Names on the volume, sorted.
    fn volume(&self) -> Vec<String> {
        names(&self.path("var/lib/database"))
    }

    /// Runs the init container: its last line on standard error, if it failed.
    fn start(&self) -> Result<(), String> {
        let output = Command::new("sh")
            .args(["-ec", &self.script, "initialise", "redis", "7"])
            .env("INPUTS", "hash-1")
            .output()
            .expect("a shell");
        if output.status.success() {
            return Ok(());
        }
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(said.lines().count(), 1, "one clear line: {said}");
        Err(said.trim_end().to_owned())
    }

    fn refused(&self) -> String {
        let said = self.start().expect_err("it must refuse");
        engines::refusal(Engine::Redis, &said).unwrap_or_else(|| panic!("not told as a refusal: {said}"))
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

#[test]
fn an_empty_volume_gets_data_and_a_mark_once() {
    let pod = Pod::new();
    // What `mkfs` leaves on a fresh volume.
    fs::create_dir(pod.path("var/lib/database/lost+found")).expect("a directory");
    assert_eq!(pod.start(), Ok(()));
    assert_eq!(pod.volume(), ["data", "lineage", "lost+found"]);
    assert_eq!(pod.read("var/lib/database/lineage").as_deref(), Some(OURS));
    pod.write("var/lib/database/data/rows", "precious");
    assert_eq!(pod.start(), Ok(()));
    assert_eq!(pod.read("var/lib/database/data/rows").as_deref(), Some("precious"));
}

#[test]
fn the_configuration_is_copied_for_the_life_of_the_pod() {
    let pod = Pod::new();
    assert_eq!(pod.start(), Ok(()));
    assert_eq!(
        pod.read("run/database/config/redis.conf").as_deref(),
        Some("port 6379\n")
    );
    // The main file includes it, so it is there also without a Secret.
    assert_eq!(pod.read("run/database/config-secret/redis.conf").as_deref(), Some(""));
    pod.write("etc/database/config-secret/inputs", "hash-1");
    pod.write("etc/database/config-secret/redis.conf", "save \"\"\n");
    pod.write("run/database/config/left-over", "");
    assert_eq!(pod.start(), Ok(()));
    assert_eq!(
        pod.read("run/database/config-secret/redis.conf").as_deref(),
        Some("save \"\"\n")
    );
    assert_eq!(names(&pod.path("run/database/config")), ["inputs", "redis.conf"]);
}

#[test]
fn a_stale_configuration_is_waited_for_before_anything_is_done() {
    for file in ["etc/database/config/inputs", "etc/database/config-secret/inputs"] {
        let pod = Pod::new();
        pod.write(file, "hash-0");
        let said = pod.start().expect_err("it is stale");
        assert!(said.starts_with("waiting: "), "{said}");
        assert_eq!(engines::refusal(Engine::Redis, &said), None);
        assert_eq!(pod.volume(), Vec::<String>::new());
    }
}

#[test]
fn a_crash_at_any_point_is_made_good() {
    for (case, left) in [
        ("while the data was made", &[("data.initialising/half", "junk")][..]),
        (
            "before the mark was on disk",
            &[
                ("data.initialising/whole", "junk"),
                ("lineage.initialising", "redis 7 li"),
            ],
        ),
        (
            "before the data had its name",
            &[("data.initialising/whole", "junk"), ("lineage.initialising", OURS)],
        ),
    ] {
        let pod = Pod::new();
        for (path, text) in left {
            pod.write(&format!("var/lib/database/{path}"), text);
        }
        assert_eq!(pod.start(), Ok(()), "{case}");
        assert_eq!(pod.volume(), ["data", "lineage"], "{case}");
        assert_eq!(
            names(&pod.path("var/lib/database/data")),
            Vec::<String>::new(),
            "{case}"
        );
        assert_eq!(pod.read("var/lib/database/lineage").as_deref(), Some(OURS), "{case}");
    }
    let pod = Pod::new();
    pod.write("var/lib/database/data/rows", "precious");
    pod.write("var/lib/database/lineage.initialising", OURS);
    assert_eq!(pod.start(), Ok(()), "before the mark had its name");
    assert_eq!(pod.volume(), ["data", "lineage"]);
    assert_eq!(pod.read("var/lib/database/data/rows").as_deref(), Some("precious"));
}

#[test]
fn what_is_not_ours_is_never_touched() {
    for (case, files, expected) in [
        (
            "another lineage",
            &[("data/rows", "precious"), ("lineage", "redis 7 lineage-0\n")][..],
            "the volume holds \"redis 7 lineage-0\" (engine, major version, lineage), but this Database is \"redis 7 lineage-1\"",
        ),
        (
            "another engine",
            &[("data/rows", "precious"), ("lineage", "postgresql 15 lineage-1\n")],
            "the volume holds \"postgresql 15 lineage-1\"",
        ),
        (
            "another major",
            &[("data/rows", "precious"), ("lineage", "redis 8 lineage-1\n")],
            "the volume holds \"redis 8 lineage-1\"",
        ),
        (
            "another lineage that crashed late",
            &[
                ("data/rows", "precious"),
                ("lineage.initialising", "redis 7 lineage-0\n"),
            ],
            "the volume holds \"redis 7 lineage-0\"",
        ),
        (
            "data that nobody marked",
            &[("data/rows", "precious")],
            "the volume has a data directory without a mark",
        ),
        (
            "a mark whose data is gone",
            &[("lineage", OURS)],
            "the volume is marked \"redis 7 lineage-1\", but its data",
        ),
    ] {
        let pod = Pod::new();
        for (path, text) in files {
            pod.write(&format!("var/lib/database/{path}"), text);
        }
        let before = pod.volume();
        let said = pod.refused();
        assert!(said.starts_with(expected), "{case}: {said}");
        assert_eq!(pod.volume(), before, "{case}");
        for (path, text) in files {
            assert_eq!(
                pod.read(&format!("var/lib/database/{path}")).as_deref(),
                Some(*text),
                "{case}: {path}"
            );
        }
    }
}

#[test]
fn a_secret_without_lineage_starts_nothing() {
    let pod = Pod::new();
    pod.write("etc/database/admin/lineage", "");
    assert!(pod.refused().contains("has nothing under lineage"));
    assert_eq!(pod.volume(), Vec::<String>::new());
}

#[test]
fn every_script_is_valid_shell() {
    let catalogue = Catalogue::builtin();
    for engine in Engine::ALL {
        let parts = engines::pod::containers(engine, &catalogue.releases(engine)[0]);
        let exec = |field: &str| parts.database[field]["exec"]["command"].clone();
        let commands = [
            parts.initialise["command"].clone(),
            parts.database["command"].clone(),
            exec("startupProbe"),
            exec("readinessProbe"),
            exec("livenessProbe"),
            parts.database["lifecycle"]["preStop"]["exec"]["command"].clone(),
        ];
        for command in commands.iter().filter(|command| !command.is_null()) {
            assert_eq!((&command[0], &command[1]), (&"sh".into(), &"-ec".into()), "{engine}");
            let script = command[2].as_str().expect("a script");
            // The kubelet replaces `$$` and `$(NAME)` in commands before any shell sees them.
            assert!(!script.contains("$$") && !script.contains("$(INPUTS)"), "{engine}");
            let output = Command::new("sh").args(["-n", "-c", script]).output().expect("a shell");
            assert!(output.status.success(), "{engine}: {output:?}");
        }
    }
}
