//! Threads that ask policies, and which policies are in force.
//!
//! The interpreter wants large stacks and all of a core; an asynchronous runtime has neither to give. So questions go to
//! threads of their own, through a queue that is short: who would wait for long is told so at once.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::decision::Decision;
use crate::exception::PolicyException;
use crate::policies::Policies;
use crate::request::{Planner, Request};
use crate::stack;

/// Questions that may wait, for each thread: with 1 ms for an answer, the last of them waits for 8 ms.
pub const WAITING_PER_THREAD: usize = 8;

/// What plans children, for as long as the process lives.
pub type SharedPlanner = Arc<dyn Planner + Send + Sync>;

/// Asks the policies that are in force. Clones share the threads, which end with the last clone.
#[derive(Clone)]
pub struct Guard {
    queue: SyncSender<Question>,
    active: Arc<RwLock<Active>>,
    places: usize,
}

/// Which policies are in force, and the how manieth they are.
#[derive(Clone, Default)]
struct Active {
    policies: Option<Arc<Policies>>,
    generation: u64,
}

struct Question {
    request: Request,
    exceptions: Arc<[PolicyException]>,
    now: Timestamp,
    asked: Instant,
    answer: oneshot::Sender<Answer>,
}

/// A decision, and how it came about.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked.
    pub request: Request,
    /// The decision.
    pub decision: Decision,
    /// How long the question waited for a thread.
    pub waited: Duration,
    /// How long it took from there.
    pub evaluated: Duration,
    /// The how manieth policies were asked; 0 if there were none.
    pub generation: u64,
}

/// Too many questions wait already: this one is not asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too many questions about policies wait already; ask again in a second")]
pub struct Busy;

impl Guard {
    /// Starts `threads`. No policies are in force yet: every answer is an error until [`Guard::activate`].
    pub fn start(threads: NonZeroUsize, planner: &SharedPlanner) -> io::Result<Self> {
        let places = threads.get() * WAITING_PER_THREAD;
        let (queue, questions) = sync_channel(places);
        let questions = Arc::new(Mutex::new(questions));
        let active = Arc::<RwLock<Active>>::default();
        for _ in 0..threads.get() {
            let (questions, active, planner) = (Arc::clone(&questions), Arc::clone(&active), Arc::clone(planner));
            thread::Builder::new()
                .name("policy".to_owned())
                .stack_size(stack::SIZE)
                .spawn(move || answer_all(&questions, &active, &*planner))?;
        }
        Ok(Self { queue, active, places })
    }

    /// Puts policies in force, for every question that a thread takes from now on.
    pub fn activate(&self, policies: impl Into<Arc<Policies>>) {
        let policies = policies.into();
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        active.policies = Some(policies);
        active.generation += 1;
    }

    /// How many questions may wait.
    pub fn places(&self) -> usize {
        self.places
    }

    /// The how manieth policies are in force; 0 if none ever were.
    pub fn generation(&self) -> u64 {
        taken(&self.active).generation
    }

    /// The policies in force.
    pub fn policies(&self) -> Option<Arc<Policies>> {
        taken(&self.active).policies
    }

    /// Decides. Total, but for a queue that is full.
    pub async fn decide(
        &self,
        request: Request,
        exceptions: Arc<[PolicyException]>,
        now: Timestamp,
    ) -> Result<Answer, Busy> {
        let (answer, answered) = oneshot::channel();
        let question = Question {
            request,
            exceptions,
            now,
            asked: Instant::now(),
            answer,
        };
        match self.queue.try_send(question) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return Err(Busy),
        }
        // A thread that died with the question has no answer.
        answered.await.map_err(|_| Busy)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

fn taken(active: &RwLock<Active>) -> Active {
    active.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn answer_all(questions: &Mutex<Receiver<Question>>, active: &RwLock<Active>, planner: &dyn Planner) {
    loop {
        let next = questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // All clones are gone.
        let Ok(question) = next else { return };
        // Whoever asked does not wait any more.
        if question.answer.is_closed() {
            continue;
        }
        let (waited, begun) = (question.asked.elapsed(), Instant::now());
        let Active { policies, generation } = taken(active);
        let decision = match policies {
            Some(policies) => policies.evaluate(&question.request, planner, &question.exceptions, question.now),
            None => Decision::failed("no policies are in force: none could be loaded yet".to_owned()),
        };
        drop(question.answer.send(Answer {
            request: question.request,
            decision,
            waited,
            evaluated: begun.elapsed(),
            generation,
        }));
    }
}

#[cfg(test)]
mod tests;
