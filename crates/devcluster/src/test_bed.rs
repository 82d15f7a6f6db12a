//! A control plane of its own for one test, and what a test says that cannot have one.

use std::io::Write as _;
use std::ops::Deref;

use crate::cluster::{Cluster, ClusterError, Options};

/// A control plane without nodes that ends with the test, however that ends.
pub struct TestBed(Option<Cluster>);

impl TestBed {
    /// Starts one. `None`, with a loud skip, if its parts cannot be had here.
    ///
    /// # Panics
    /// If it does not start for any other reason, and where [`skip`] does.
    #[must_use]
    pub fn up(test: &str) -> Option<Self> {
        Self::with_simulated_nodes(test, None)
    }

    /// Like [`up`](Self::up), with so many nodes on which pods run in name only.
    ///
    /// # Panics
    /// Where [`up`](Self::up) does.
    #[must_use]
    pub fn with_simulated_nodes(test: &str, simulated_nodes: Option<u32>) -> Option<Self> {
        let name = format!("{test}-test-{}", std::process::id());
        let options = Options {
            name: name.parse().expect("a name of a cluster"),
            nodes: None,
            simulated_nodes,
        };
        match Cluster::up(&options) {
            Ok(cluster) => Some(Self(Some(cluster))),
            Err(error @ (ClusterError::NoProgram | ClusterError::Part(_))) => {
                skip(test, &error.to_string());
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Deref for TestBed {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0.as_ref().expect("it is taken only when it is dropped")
    }
}

impl Drop for TestBed {
    fn drop(&mut self) {
        if let Some(cluster) = self.0.take()
            && let Err(error) = cluster.down()
        {
            say(&format!("the cluster was not removed: {error}"));
        }
    }
}

/// Says loudly why a test proves nothing here.
///
/// # Panics
/// With `CI=true` in the environment, where that is a failure.
pub fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{test}: cannot run, and CI=true: {reason}"
    );
    say(&format!("\n########## SKIPPED {test}: {reason} ##########\n"));
}

/// Not `eprintln!`, which is swallowed when a test passes.
fn say(text: &str) {
    // Nobody can be told that standard error is closed.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
