//! [`super::inspect`] in a process of its own, with limits on CPU, memory and time: what a policy can do to a process, it
//! does to that one.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::{Finding, inspect};
use crate::bundle::{self, Bundle, Tests, archive};
use crate::stack;

/// What the child may use.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Seconds of CPU.
    pub cpu: u64,
    /// Bytes of address space.
    pub memory: u64,
    /// Time until it is ended.
    pub wall: Duration,
}

impl Default for Limits {
    /// The shipped policies and their tests take a tenth of a second of CPU and 200 MiB, of which 64 MiB are the stack.
    fn default() -> Self {
        Self {
            cpu: 1,
            memory: 1 << 30,
            wall: Duration::from_secs(10),
        }
    }
}

/// Why nothing can be said about policies.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The child cannot be started.
    #[error("the process that checks policies cannot be started")]
    Start(#[source] io::Error),
    /// The child did not answer as it must.
    #[error("the process that checks policies ended with {status} and said what nobody understands: {said}")]
    Answer {
        /// How it ended.
        status: ExitStatus,
        /// Its errors.
        said: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Question {
    limits: Limits,
    /// Names, and archives in base64.
    bundles: Vec<(String, String)>,
}

/// Everything that speaks against loading these bundles, found by `command`, which must call [`answer`].
pub fn check(mut command: Command, bundles: &[Bundle], limits: Limits) -> Result<Vec<Finding>, GateError> {
    let question = serde_json::to_vec(&Question {
        limits,
        bundles: bundles.iter().map(sent).collect(),
    })
    .map_err(|error| GateError::Start(error.into()))?;
    let mut child = command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(GateError::Start)?;
    let (mut asked, mut told, mut complaints) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (status, in_time, said, complaint) = thread::scope(|scope| {
        // A child that ends before it has read everything is seen by its status.
        scope.spawn(move || asked.take().map(|mut pipe| pipe.write_all(&question)));
        let said = scope.spawn(move || read(told.as_mut()));
        let complaint = scope.spawn(move || read(complaints.as_mut()));
        let (status, in_time) = wait(&mut child, limits.wall).map_err(GateError::Start)?;
        Ok((
            status,
            in_time,
            said.join().unwrap_or_default(),
            complaint.join().unwrap_or_default(),
        ))
    })?;
    if let Ok(findings) = serde_json::from_str(&said) {
        return Ok(findings);
    }
    let whole = |problem: String| Finding {
        file: bundles.iter().map(Bundle::name).collect::<Vec<_>>().join(", "),
        line: 0,
        problem,
    };
    match (in_time, status.signal()) {
        (false, _) => Ok(vec![whole(format!(
            "takes longer than {:?} to load and test",
            limits.wall
        ))]),
        (true, Some(XCPU | KILL)) => {
            let problem = format!(
                "takes more than {} s of CPU to load and test: a loop over too much?",
                limits.cpu
            );
            Ok(vec![whole(problem)])
        }
        (true, Some(ABRT | SEGV | BUS)) => {
            let mib = limits.memory >> 20;
            let problem = format!("takes more than {mib} MiB of memory, or more stack than there is, to load and test");
            Ok(vec![whole(problem)])
        }
        (true, _) => Err(GateError::Answer {
            status,
            said: complaint,
        }),
    }
}

fn sent(bundle: &Bundle) -> (String, String) {
    (
        bundle.name().to_owned(),
        BASE64.encode(bundle::build(bundle, Tests::Include)),
    )
}

/// What [`sent`] sent; a fault in it is one in us, for the bundle was opened before.
fn received((name, text): &(String, String)) -> io::Result<Bundle> {
    let archive = BASE64.decode(text).map_err(io::Error::other)?;
    let files = archive::read(&archive).map_err(io::Error::other)?;
    Bundle::open_unverified(name, files).map_err(io::Error::other)
}

const XCPU: i32 = nix::libc::SIGXCPU;
const KILL: i32 = nix::libc::SIGKILL;
const ABRT: i32 = nix::libc::SIGABRT;
const SEGV: i32 = nix::libc::SIGSEGV;
const BUS: i32 = nix::libc::SIGBUS;

/// How often the child is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits for its end, and ends it after `wall`; whether it ended by itself.
fn wait(child: &mut Child, wall: Duration) -> io::Result<(ExitStatus, bool)> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, true));
        }
        if begun.elapsed() > wall {
            child.kill()?;
            return Ok((child.wait()?, false));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// At most a megabyte: what policies say of themselves is theirs to choose.
fn read(pipe: Option<&mut impl io::Read>) -> String {
    let mut said = Vec::new();
    if let Some(pipe) = pipe {
        // What cannot be read is no answer, which is seen.
        drop(pipe.take(1 << 20).read_to_end(&mut said));
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// The child's part: reads what is asked from `input`, and writes findings to `output`.
pub fn answer(mut input: impl io::Read, mut output: impl io::Write) -> io::Result<()> {
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    let Question { limits, bundles } = serde_json::from_str(&text)?;
    // The hard limit is a second later, in case somebody ignores the signal of the soft one.
    limit(Resource::RLIMIT_CPU, limits.cpu, limits.cpu + 1)?;
    limit(Resource::RLIMIT_AS, limits.memory, limits.memory)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let findings = stack::large(|| -> io::Result<Vec<Finding>> {
        let bundles: io::Result<Vec<Bundle>> = bundles.iter().map(received).collect();
        Ok(inspect(&bundles?))
    })??;
    output.write_all(&serde_json::to_vec(&findings)?)
}

/// Limits this process, but not above what it is limited to already, which nobody may raise.
fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let (_, most) = getrlimit(resource)?;
    Ok(setrlimit(resource, soft.min(most), hard.min(most))?)
}
