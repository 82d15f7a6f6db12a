//! What bodies of a Database's children were found to be when they were rendered last.
//!
//! A body follows from what is wanted alone, and nearly every plan wants what the one before it wanted. To see that a
//! child is as it should be takes the digest of its body only ([`crate::owned`]): those are kept here, with a fingerprint
//! of all that they were made from. Whatever is kept, a plan is the same; it is only made sooner.

use std::hash::{Hash as _, Hasher as _};

use xxhash_rust::xxh3::Xxh3;

use crate::bodies::{Context, Part};
use crate::child::Text;
use crate::owned::OwnedDigest;
use crate::plan::Desired;

/// Digests of the bodies that follow from one [`Context`], as far as they were asked for.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// xxh3-128 of the context and of the salt; 0 while there is none.
    of: u128,
    inputs: Text,
    digests: [Option<OwnedDigest>; Part::ALL.len()],
}

impl Rendered {
    /// Completes a context with the hash of the user's inputs, and forgets what was made from another one.
    pub(crate) fn begin(&mut self, cx: &mut Context, desired: &Desired) {
        let of = fingerprint(cx, desired);
        if self.of != of {
            let inputs = desired.intent.inputs(desired.salt.as_ref());
            *self = Self {
                of,
                inputs,
                digests: Default::default(),
            };
        }
        cx.inputs = self.inputs.clone();
    }

    /// The digest of a part's body, if it is known.
    pub(crate) fn digest(&self, part: Part) -> Option<OwnedDigest> {
        self.digests[part as usize]
    }

    /// Keeps the digest of a part's body.
    pub(crate) fn keep(&mut self, part: Part, digest: OwnedDigest) {
        self.digests[part as usize] = Some(digest);
    }
}

/// No `..`: whatever a body comes to depend on does not compile until it is in here.
fn fingerprint(cx: &Context, desired: &Desired) -> u128 {
    let Context {
        subject,
        intent,
        lineage,
        credentials,
        inputs: _,
        template_storage,
        replicas,
    } = cx;
    let mut hasher = Xxh3::new();
    subject.hash(&mut hasher);
    intent.feed(&mut hasher);
    (lineage, credentials, template_storage, replicas).hash(&mut hasher);
    desired.salt.hash(&mut hasher);
    hasher.write_u8(0);
    hasher.digest128()
}
