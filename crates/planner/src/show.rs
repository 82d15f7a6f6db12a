//! A plan as people and tests read it. Values of Secrets are never in it, in whatever form they were planned.

use serde_json::{Map, Value, json};

use crate::action::{Action, Effect, Generate, Patch};
use crate::child::{ChildRef, Kind};
use crate::plan::{Block, Plan};

/// What stands in place of a value of a Secret.
pub const HIDDEN: &str = "(hidden)";

/// The plan as data: its actions in order, what blocks more, and the strongest effect on a running database.
pub fn shown(plan: &Plan) -> Value {
    let effect = plan.actions.iter().map(Action::effect).max().unwrap_or(Effect::None);
    let mut shown = json!({
        "effect": effect,
        "actions": plan.actions.iter().map(action).collect::<Vec<_>>(),
    });
    if !plan.blocks.is_empty() {
        shown["blocked"] = plan.blocks.iter().map(block).collect();
    }
    shown
}

fn action(action: &Action) -> Value {
    let of = |verb: &str, child: &ChildRef, rest: Value| {
        let mut shown = json!({"action": verb, "object": child.to_string(), "effect": action.effect()});
        if let (Some(shown), Value::Object(rest)) = (shown.as_object_mut(), rest) {
            shown.extend(rest);
        }
        shown
    };
    match action {
        Action::Stamp(change) => json!({"action": "stamp", "object": "Database", "effect": action.effect(),
            "why": "has no finalizer or bucket label of ours", "change": change}),
        Action::Release(change) => json!({"action": "release", "object": "Database", "effect": action.effect(),
            "why": "all that had to go has gone", "change": change}),
        Action::CreateOnce {
            child,
            body,
            generate,
            why,
        } => {
            let mut rest = json!({"why": why.to_string(), "manifest": hidden(child, body)});
            if *generate != Generate::Nothing {
                rest["generates"] = json!(generate);
            }
            of("create", child, rest)
        }
        Action::Apply {
            child,
            body,
            known,
            why,
            effect: _,
        } => of(
            "apply",
            child,
            json!({"why": why.to_string(), "force": known.is_some(), "manifest": hidden(child, body)}),
        ),
        Action::Patch {
            child,
            uid: _,
            patch,
            why,
            effect: _,
        } => {
            let change = match patch {
                Patch::Merge(change) => hidden(child, change),
                Patch::Remove { version: _, pointers } => json!({"remove": pointers}),
            };
            of("patch", child, json!({"why": why.to_string(), "change": change}))
        }
        Action::Delete { child, version: _, why } => of("delete", child, json!({"why": why.to_string()})),
        Action::RestartPod { child, version: _, why } => of("restart", child, json!({"why": why.to_string()})),
    }
}

/// The manifest, without the values of a Secret.
fn hidden(child: &ChildRef, body: &Value) -> Value {
    let mut body = body.clone();
    if child.kind == Kind::Secret {
        for field in ["data", "stringData"] {
            if let Some(data) = body.get_mut(field).and_then(Value::as_object_mut) {
                *data = data
                    .keys()
                    .map(|key| (key.clone(), json!(HIDDEN)))
                    .collect::<Map<_, _>>();
            }
        }
    }
    body
}

fn block(block: &Block) -> Value {
    let (why, object) = match block {
        Block::NameTaken(child) => ("an object of this name is not ours".to_owned(), child),
        Block::ForeignVolume { claim, mismatch } => (format!("holds other data: {mismatch}"), claim),
        Block::VolumeLeaving(claim) => ("is being deleted while it is in use".to_owned(), claim),
        Block::CredentialsLost(secret) => ("is gone, and the data knows its password".to_owned(), secret),
        Block::AwaitsSecret => {
            return json!({"why": "what depends on values of a Secret is planned once the administrator's Secret exists"});
        }
    };
    json!({"object": object.to_string(), "why": why})
}

#[cfg(test)]
mod tests;
