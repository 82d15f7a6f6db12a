//! Prepared interpreters, kept from one decision to the next: to copy one and to drop the copy costs as much as five rules.

use std::sync::{Mutex, MutexGuard, PoisonError};

use regorus::{Engine, Value as Rego};

/// Interpreters with the same policies, as many as there ever were decisions at a time.
pub(super) struct Interpreters {
    prepared: Engine,
    spare: Mutex<Vec<Engine>>,
}

impl Interpreters {
    pub(super) fn new(prepared: Engine) -> Self {
        Self {
            prepared,
            spare: Mutex::default(),
        }
    }

    /// Asks one about `input`. It is kept if nothing goes wrong: what else a rule leaves behind that was broken off is not
    /// known.
    pub(super) fn ask<T>(&self, input: Rego, ask: impl FnOnce(&mut Engine) -> Result<T, String>) -> Result<T, String> {
        let spare = self.spare().pop();
        let mut engine = spare.unwrap_or_else(|| self.prepared.clone());
        engine.set_input(input);
        let answer = ask(&mut engine)?;
        self.spare().push(engine);
        Ok(answer)
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Engine>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
