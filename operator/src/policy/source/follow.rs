//! From sources to policies in force, again and again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::panic;
use std::sync::Arc;
use std::time::Duration;

use engines::catalogue::Catalogue;
use jiff::Timestamp;
use kube::Client;
use policy::bundle::{Activated, Bundle, Files, OpenError, Refusal, Trust, admit};
use policy::decision::BundleRevision;
use policy::gate::Finding;
use policy::guard::Guard;
use policy::policies::{self, Policies};
use policy::stack;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Source;
use super::keys::{Keys, KeysError};
use super::read::{Held, ReadError, Reader};
use super::state::{State, StateError, Stored};
use super::status::{FailureKind, Status};
use crate::policy::GateFailure;

/// After so long the gate is asked again about what it refused: a machine may have been too busy.
const ASK_GATE_AGAIN: Duration = Duration::from_mins(1);
/// How often the state is read again because another replica has written it.
const TRIES: u32 = 5;
/// How many findings of the gate are told; `policy lint` tells all.
const TOLD_FINDINGS: usize = 10;

/// Tells what speaks against bundles.
pub(crate) type Gate = fn(&[Bundle]) -> Result<Vec<Finding>, GateFailure>;

/// How often is looked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From the end of a look to the next.
    pub every: Duration,
    /// How long what may be half written must have stayed as it is.
    pub settle: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            settle: Duration::from_secs(2),
        }
    }
}

/// What is followed, and how.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Where bundles come from, no two of one name ([`Source::parse_all`]).
    pub sources: Vec<Source>,
    /// Who must have signed them.
    pub keys: Keys,
    /// Releases that there are.
    pub catalogue: Catalogue,
    /// For ConfigMaps, and for what was in force before.
    pub client: Client,
    /// The operator's, where that is kept.
    pub namespace: String,
    /// How often.
    pub pace: Pace,
    /// Asked before anything is loaded: [`crate::policy::gate`].
    pub gate: Gate,
    /// The time.
    pub now: fn() -> Timestamp,
}

/// Why nothing new is in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It cannot be read.
    #[error("policies from {from}")]
    Read {
        /// The source.
        from: String,
        /// Why.
        source: ReadError,
    },
    /// It is being written, or never rests.
    #[error("policies change while they are read; write them elsewhere and rename, or ship an archive")]
    Changing,
    /// Whom to trust is not known.
    #[error("the keys that policies are signed with are not known")]
    Keys(#[source] KeysError),
    /// The signature does not hold, or the content means nothing.
    #[error("policies from {from}")]
    Open {
        /// The source.
        from: String,
        /// Why.
        source: OpenError,
    },
    /// What was in force before is not known, or cannot be remembered.
    #[error(transparent)]
    State(#[from] StateError),
    /// Other replicas write all the time.
    #[error("what is in force cannot be remembered: other replicas have changed the ConfigMap {TRIES} times meanwhile")]
    Contended,
    /// Older, expired, unsigned.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The gate cannot be asked.
    #[error("policies cannot be checked")]
    Gate(#[from] GateFailure),
    /// The gate refuses them.
    #[error("policies are refused:\n{0}")]
    Findings(Arc<Findings>),
    /// The interpreter refuses them, though the gate did not.
    #[error("policies cannot be loaded")]
    Load(#[from] policies::LoadError),
    /// No thread.
    #[error("no thread to load policies on")]
    Thread(#[from] io::Error),
    /// A defect, in us or in the interpreter.
    #[error("loading the policies panicked")]
    Panicked,
}

/// What speaks against policies. Shows the first of them.
#[derive(Debug)]
pub(crate) struct Findings(Vec<Finding>);

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self.0.iter().take(TOLD_FINDINGS) {
            writeln!(f, "{finding}")?;
        }
        match self.0.len().saturating_sub(TOLD_FINDINGS) {
            0 => Ok(()),
            more => write!(f, "and {more} more; `database-operator policy lint` tells all"),
        }
    }
}

impl Failure {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Read { .. } => FailureKind::Source,
            Self::Changing => FailureKind::Changing,
            Self::Keys(_) => FailureKind::Keys,
            Self::Open {
                source: OpenError::Signature { .. },
                ..
            } => FailureKind::Signature,
            Self::Open {
                source: OpenError::Content { .. },
                ..
            } => FailureKind::Content,
            Self::State(_) | Self::Contended => FailureKind::State,
            Self::Refused(_) => FailureKind::Refused,
            Self::Gate(_) | Self::Thread(_) => FailureKind::Gate,
            Self::Findings(_) | Self::Load(_) | Self::Panicked => FailureKind::Policies,
        }
    }
}

/// Identities of what all sources and the keys held at one look.
type Seen = Vec<String>;

/// Puts in force what sources hold.
pub(crate) struct Following {
    settings: Settings,
    guard: Guard,
    readers: Vec<Reader>,
    state: State,
    status: watch::Sender<Status>,
    /// What this process has put in force, by name.
    activated: BTreeMap<String, Activated>,
    /// What was held when it was put in force.
    in_force: Option<Seen>,
    /// What was held at the last look.
    seen: Seen,
    /// What the gate refused, and when it is asked again.
    refused: Option<(Seen, Arc<Findings>, Instant)>,
    /// The failure that was told last.
    told: Option<(FailureKind, Seen)>,
}

impl Following {
    /// Nothing is looked at yet. The receiver tells how it stands.
    pub(crate) fn new(settings: Settings, guard: Guard) -> (Self, watch::Receiver<Status>) {
        let (status, receiver) = watch::channel(Status::default());
        let client = &settings.client;
        let reader = |source: &Source| Reader::new(source.clone(), client.clone());
        let following = Self {
            readers: settings.sources.iter().map(reader).collect(),
            state: State::new(client.clone(), &settings.namespace),
            settings,
            guard,
            status,
            activated: BTreeMap::new(),
            in_force: None,
            seen: Seen::new(),
            refused: None,
            told: None,
        };
        (following, receiver)
    }

    /// Looks for as long as it is polled.
    pub(crate) async fn run(mut self) -> Infallible {
        loop {
            self.look().await;
            tokio::time::sleep(self.settings.pace.every).await;
        }
    }

    /// One look: what sources hold is in force after it, or why not is in the log.
    pub(crate) async fn look(&mut self) {
        match self.attempt().await {
            Ok(()) => {
                let now = (self.settings.now)();
                self.status.send_modify(|status| status.last_success = Some(now));
                if self.told.take().is_some() {
                    tracing::info!("what the sources of policies hold is in force");
                }
            }
            Err(failure) => self.tell(&failure),
        }
        self.status.send_modify(|status| status.looked = true);
    }

    fn tell(&mut self, failure: &Failure) {
        let kind = failure.kind();
        self.status
            .send_modify(|status| *status.failures.entry(kind).or_default() += 1);
        let told = Some((kind, self.seen.clone()));
        if self.told == told {
            return;
        }
        let error = telemetry::chain(failure);
        if self.in_force.is_some() {
            tracing::error!(kind = kind.label(), %error, "policies are not put in force; those that are in force stay");
        } else {
            tracing::error!(kind = kind.label(), %error, "policies are not put in force, and none are; every question is refused");
        }
        self.told = told;
    }

    async fn attempt(&mut self) -> Result<(), Failure> {
        let (files, trust) = self.settled().await?;
        if self.in_force.as_ref() == Some(&self.seen) {
            return Ok(());
        }
        if let Some((seen, findings, again)) = &self.refused
            && *seen == self.seen
            && Instant::now() < *again
        {
            return Err(Failure::Findings(findings.clone()));
        }
        let bundles: Arc<[Bundle]> = self.open(files, &trust)?.into();
        let stored = self.state.read().await?;
        self.admit(&bundles, &stored, &trust)?;
        let policies = self.load(&bundles).await?;
        // Before it is in force: what is in force and not remembered could be taken back by a restart.
        let activated = self.remember(&bundles, stored, &trust).await?;
        self.guard.activate(policies);
        self.in_force = Some(self.seen.clone());
        self.activated = activated;
        self.announce(&bundles);
        Ok(())
    }

    /// What all sources hold, once it rests, and who must have signed it.
    async fn settled(&mut self) -> Result<(Vec<Files>, Trust), Failure> {
        let mut look = self.read().await;
        if !look.whole && look.seen != self.seen {
            tokio::time::sleep(self.settings.pace.settle).await;
            let again = self.read().await;
            if again.seen != look.seen {
                self.seen = again.seen;
                return Err(Failure::Changing);
            }
            look = again;
        }
        self.seen = look.seen;
        let trust = look.trust.map_err(Failure::Keys)?;
        let held = self.readers.iter().zip(look.held);
        let files = held.map(|(reader, held)| {
            held.files.map_err(|source| Failure::Read {
                from: reader.source.to_string(),
                source,
            })
        });
        Ok((files.collect::<Result<_, _>>()?, trust))
    }

    async fn read(&mut self) -> Look {
        let keys = self.settings.keys.clone();
        let trust = apart(move || keys.trust()).await;
        let mut held = Vec::new();
        for reader in &mut self.readers {
            held.push(reader.read().await);
        }
        let mut seen: Seen = held.iter().map(Held::identity).collect();
        seen.push(match &trust {
            Ok(trust) => format!("{:?}", trust.keys),
            Err(error) => telemetry::chain(error),
        });
        Look {
            whole: held.iter().all(|held| held.whole),
            held,
            trust,
            seen,
        }
    }

    fn open(&self, files: Vec<Files>, trust: &Trust) -> Result<Vec<Bundle>, Failure> {
        let now = (self.settings.now)();
        let open = |(source, files): (&Source, Files)| {
            Bundle::open(&source.name, files, trust, now).map_err(|error| Failure::Open {
                from: source.to_string(),
                source: error,
            })
        };
        self.settings.sources.iter().zip(files).map(open).collect()
    }

    /// What was in force of that name: what all replicas know, else what this one does.
    fn before<'a>(&'a self, name: &str, stored: &'a Stored) -> Option<&'a Activated> {
        stored.activated.get(name).or_else(|| self.activated.get(name))
    }

    fn admit(&self, bundles: &[Bundle], stored: &Stored, trust: &Trust) -> Result<(), Refusal> {
        let now = (self.settings.now)();
        bundles
            .iter()
            .try_for_each(|bundle| admit(self.before(bundle.name(), stored), bundle, trust, now))
    }

    /// Asks the gate, and loads what it lets through.
    async fn load(&mut self, bundles: &Arc<[Bundle]>) -> Result<Policies, Failure> {
        let (gate, catalogue) = (self.settings.gate, self.settings.catalogue.clone());
        let given = Arc::clone(bundles);
        let loaded = apart(move || {
            let findings = gate(&given)?;
            if !findings.is_empty() {
                return Err(Failure::Findings(Arc::new(Findings(findings))));
            }
            let load = || Ok(stack::large(|| Policies::load(&given, catalogue))??);
            // The gate has seen this in a process of its own; but this one must go on whatever happens.
            panic::catch_unwind(panic::AssertUnwindSafe(load)).unwrap_or(Err(Failure::Panicked))
        })
        .await;
        if let Err(Failure::Findings(findings)) = &loaded {
            let again = Instant::now() + ASK_GATE_AGAIN;
            self.refused = Some((self.seen.clone(), findings.clone(), again));
        }
        loaded
    }

    /// Writes down what is about to be in force, unless that is known. Other replicas may do so at the same time.
    async fn remember(
        &self,
        bundles: &[Bundle],
        mut stored: Stored,
        trust: &Trust,
    ) -> Result<BTreeMap<String, Activated>, Failure> {
        for _ in 0..TRIES {
            let after = |bundle: &Bundle| Activated::after(self.before(bundle.name(), &stored), bundle);
            let activated: BTreeMap<String, Activated> = bundles
                .iter()
                .map(|bundle| (bundle.name().to_owned(), after(bundle)))
                .collect();
            let mut changes = activated.clone();
            // What never had a sequence is not kept from coming back.
            changes.retain(|name, after| after.highest.is_some() && stored.activated.get(name) != Some(after));
            if changes.is_empty() || self.state.write(stored, &changes).await? {
                return Ok(activated);
            }
            stored = self.state.read().await?;
            self.admit(bundles, &stored, trust)?;
        }
        Err(Failure::Contended)
    }

    fn announce(&self, bundles: &[Bundle]) {
        let generation = self.guard.generation();
        for bundle in bundles {
            tracing::info!(
                bundle = bundle.name(),
                revision = bundle.manifest().revision,
                digest = bundle.digest(),
                sequence = bundle.manifest().metadata.sequence,
                signed_by = bundle.signed_by(),
                generation,
                "policies are in force"
            );
        }
        let revision = |bundle: &Bundle| {
            let revision = BundleRevision {
                revision: bundle.manifest().revision.clone(),
                digest: bundle.digest().to_owned(),
            };
            (bundle.name().to_owned(), revision)
        };
        self.status.send_modify(|status| {
            status.loaded = true;
            status.generation = generation;
            status.revisions = bundles.iter().map(revision).collect();
        });
    }
}

/// What one look saw.
struct Look {
    held: Vec<Held>,
    trust: Result<Trust, KeysError>,
    seen: Seen,
    whole: bool,
}

/// Does what takes long on a thread where nothing else waits for it.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It is never cancelled.
        Err(defect) => panic::resume_unwind(defect.into_panic()),
    }
}
