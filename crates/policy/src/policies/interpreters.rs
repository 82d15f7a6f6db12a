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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn one_that_was_asked_is_asked_again_unless_it_was_broken_off() {
        let mut prepared = Engine::new();
        let rule = "package x\nimport rego.v1\na contains input.b";
        prepared
            .add_policy("x.rego".to_owned(), rule.to_owned())
            .expect("it is a policy");
        let interpreters = Interpreters::new(prepared);
        let ask = |input: &str| {
            let input = Rego::from_json_str(input).expect("it is JSON");
            interpreters.ask(input, |engine| {
                engine
                    .eval_rule("data.x.a".to_owned())
                    .map_err(|error| error.to_string())
            })
        };
        let kept = || interpreters.spare().len();
        for (input, answer) in [(r#"{"b": "c"}"#, Some("c")), ("{}", None), (r#"{"b": "d"}"#, Some("d"))] {
            let answer = answer.into_iter().map(Rego::from).collect::<BTreeSet<_>>();
            // Nothing is left of what was asked before.
            assert_eq!(ask(input), Ok(Rego::from(answer)));
            assert_eq!(kept(), 1);
        }
        let broken = interpreters.ask(Rego::Undefined, |_| Err::<(), _>("broken off".to_owned()));
        assert_eq!((broken, kept()), (Err("broken off".to_owned()), 0));
    }
}
