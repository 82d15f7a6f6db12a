//! The second step: which intent to work from, and what is to be said about the one that was declared.

use api::fault::Fault;
use engines::catalogue::Catalogue;
use planner::intent::Intent;
use planner::validate::{Reference, References, Refusal, validate as judge};
use serde_json::Value;

use crate::dereference::{Declared, Found};
use planner::fresh::as_recorded;

/// What the declared spec came to. Only [`validate`] and [`denied`] make one.
#[derive(Debug)]
pub struct Verdict {
    intent: Option<Intent>,
    accept: Option<Value>,
    refusal: Option<Refusal>,
    has_references: bool,
    configuration_unknown: bool,
}

impl Verdict {
    /// What to work from: the declared spec, or the one accepted last if the declared one is refused.
    pub fn intent(&self) -> Option<&Intent> {
        self.intent.as_ref()
    }

    /// The spec to be recorded as accepted, if that has not been done.
    pub fn accept(&self) -> Option<&Value> {
        self.accept.as_ref()
    }

    /// Why the declared spec is refused, if it is.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Whether the intent was made without what its spec refers to, because that is gone or spoilt.
    pub fn configuration_unknown(&self) -> bool {
        self.configuration_unknown
    }

    /// Whether objects that are not watched for certain play a part, so that they must be looked at again.
    pub fn has_references(&self) -> bool {
        self.has_references
    }
}

/// Judges what was found. Pure.
pub fn validate(found: &Found, catalogue: &Catalogue) -> Verdict {
    let before = found.before.as_ref();
    let verdict = match &found.current {
        Ok(current) => judge(
            &current.spec,
            &current.references,
            catalogue,
            before.map(|before| &*before.spec),
        ),
        Err(unreadable) => Err(Refusal {
            faults: vec![Fault {
                field: unreadable.field.clone(),
                value: String::new(),
                rule: format!("cannot be read by this version of the operator: {}", unreadable.error),
                remedy: "correct the field, or upgrade the operator".to_owned(),
            }],
            only_missing: false,
        }),
    };
    match verdict {
        Ok(intent) => {
            let accept = match &found.current {
                Ok(current) if !found.is_accepted => Some(as_recorded(&current.spec)),
                _ => None,
            };
            Verdict {
                intent: Some(intent),
                accept,
                refusal: None,
                has_references: has_references(found),
                configuration_unknown: false,
            }
        }
        Err(refusal) => fall_back(found, catalogue, Some(refusal)),
    }
}

/// What is left to work from when policies refuse what [`validate`] would accept. Pure.
pub fn denied(found: &Found, catalogue: &Catalogue) -> Verdict {
    fall_back(found, catalogue, None)
}

/// What was accepted last.
fn fall_back(found: &Found, catalogue: &Catalogue, refusal: Option<Refusal>) -> Verdict {
    let before = found.before.as_ref();
    // It is what is declared, if only what it refers to has changed since.
    let accepted = match &found.current {
        Ok(current) if found.is_accepted => Some(current),
        _ => before,
    };
    let work_from =
        |references: &References| accepted.and_then(|accepted| judge(&accepted.spec, references, catalogue, None).ok());
    let whole = accepted.and_then(|accepted| work_from(&accepted.references));
    let configuration_unknown = whole.is_none();
    Verdict {
        intent: whole.or_else(|| work_from(&References::default())),
        accept: None,
        refusal,
        has_references: has_references(found),
        configuration_unknown,
    }
}

fn has_references(found: &Found) -> bool {
    let refers = |declared: &Declared| {
        declared.references.config_map != Reference::Absent || declared.references.secret != Reference::Absent
    };
    found.current.as_ref().is_ok_and(refers) || found.before.as_ref().is_some_and(refers)
}
