//! What must not leave the process is taken out of a record. Pure.
//!
//! Read in this order: [`mask`] (a record in, a [`Masked`] out), `document.rs` (walks JSON), `names.rs` (which names
//! announce a secret, which only name one), `text.rs` and `assignment.rs` (secrets inside strings), `copies.rs` (what was
//! masked, found again in messages).
//!
//! Promise: of a Secret's values, values under names that announce a secret, credentials in URLs, private keys and
//! tokens, wherever they stand and in whatever string, nothing is left; and a value that was masked in the input is also
//! gone from messages, warnings and errors (`tests/masking.rs` plants them). Rather too much is masked than too little.
//! Not guaranteed: a secret under a harmless name that looks like any other text, a copy of fewer than six characters
//! that is not quoted, or one encoded in a way not listed here.

mod assignment;
mod copies;
mod document;
mod names;
mod text;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::log::chain::hex;
use crate::log::record::{Record, Resource, User, Violation};
use document::Walker;

/// What stands where a secret was.
pub const MASK: &str = "[masked]";

/// A record without secrets. Only [`mask()`] makes one, so nothing else can reach the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Masked(Record);

impl Masked {
    /// The record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.0
    }

    /// The record, to be kept.
    #[must_use]
    pub fn into_record(self) -> Record {
        self.0
    }
}

/// A document without secrets, and where they were.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedDocument {
    /// What is left.
    pub value: Value,
    /// RFC 6901 pointers of members that were removed.
    pub erased: Vec<String>,
    /// RFC 6901 pointers of values that were replaced, wholly or in part.
    pub masked: Vec<String>,
}

/// Masks a record: all its texts, its input, its exceptions. Fills in `erased`, `masked` and `input_digest`.
#[must_use]
pub fn mask(mut record: Record) -> Masked {
    let mut walker = Walker::default();
    // No `..` here: a new field does not compile until someone decides whether it can hold a secret.
    let Record {
        decision_id: _,
        timestamp: _,
        replica: _,
        source: _,
        request_uid: _,
        operation: _,
        dry_run: _,
        user,
        resource,
        verdict: _,
        error,
        violations,
        warnings,
        exceptions,
        bundles: _,
        input_digest,
        input,
        erased,
        masked,
        metrics: _,
        trace_id,
        previous,
    } = &mut record;
    // The input first: what is masked there is then known when the messages are looked at.
    if let Some(input) = input {
        walker.document("/input", input);
        *input_digest = Some(hex(&Sha256::digest(input.to_string())));
    }
    for (index, exception) in exceptions.iter_mut().enumerate() {
        walker.document(&format!("/exceptions/{index}"), exception);
    }
    if let Some(user) = user {
        mask_user(&mut walker, user);
    }
    mask_resource(&mut walker, resource);
    mask_violations(&mut walker, violations);
    for (index, warning) in warnings.iter_mut().enumerate() {
        walker.message(&format!("/warnings/{index}"), warning);
    }
    if let Some(error) = error {
        walker.message("/error", error);
    }
    if let Some(trace_id) = trace_id {
        walker.text("/trace_id", trace_id);
    }
    erased.append(&mut walker.erased);
    masked.append(&mut walker.masked);
    *previous = None;
    Masked(record)
}

/// Masks any document, for what is logged or answered beside a record.
#[must_use]
pub fn mask_document(mut value: Value) -> MaskedDocument {
    let mut walker = Walker::default();
    walker.document("", &mut value);
    MaskedDocument {
        value,
        erased: walker.erased,
        masked: walker.masked,
    }
}

/// Masks any text, for what is logged or answered beside a record.
#[must_use]
pub fn mask_text(text: &str) -> String {
    let mut masked = text.to_owned();
    Walker::default().text("", &mut masked);
    masked
}

fn mask_user(walker: &mut Walker, user: &mut User) {
    let User { name, uid, groups } = user;
    walker.text("/user/name", name);
    if let Some(uid) = uid {
        walker.text("/user/uid", uid);
    }
    for (index, group) in groups.iter_mut().enumerate() {
        walker.text(&format!("/user/groups/{index}"), group);
    }
}

fn mask_resource(walker: &mut Walker, resource: &mut Resource) {
    let Resource {
        group,
        version,
        kind,
        namespace,
        name,
        uid,
        generation: _,
    } = resource;
    walker.text("/resource/group", group);
    walker.text("/resource/version", version);
    walker.text("/resource/kind", kind);
    for (pointer, text) in [
        ("/resource/namespace", namespace),
        ("/resource/name", name),
        ("/resource/uid", uid),
    ] {
        if let Some(text) = text {
            walker.text(pointer, text);
        }
    }
}

fn mask_violations(walker: &mut Walker, violations: &mut [Violation]) {
    for (index, violation) in violations.iter_mut().enumerate() {
        let Violation {
            id,
            level,
            severity: _,
            action: _,
            path,
            message,
            measure: _,
        } = violation;
        for (member, text) in [("id", id), ("level", level), ("path", path)] {
            walker.text(&format!("/violations/{index}/{member}"), text);
        }
        walker.message(&format!("/violations/{index}/message"), message);
    }
}
