//! What the indexes hold instead of texts: hashes, and a signature by which most candidates are refused unread.
//!
//! Two texts may share a hash. So indexes only propose, and [`Filter::matches`](crate::log::Filter::matches) decides.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::log::filter::Filter;
use crate::log::record::{Operation, Record, Source, Verdict};

const CLASS_BITS: u32 = 8;
const PART_BITS: u32 = 18;
const PART_MASK: i64 = (1 << PART_BITS) - 1;
const USER_SHIFT: u32 = CLASS_BITS;
const NAMESPACE_SHIFT: u32 = USER_SHIFT + PART_BITS;
const NAME_SHIFT: u32 = NAMESPACE_SHIFT + PART_BITS;

/// A text as a positive number that never changes between versions: the store keeps it.
pub(crate) fn key(text: &str) -> i64 {
    tagged("", text)
}

/// The key of a rule, in the side table.
pub(crate) fn rule_tag(rule: &str) -> i64 {
    tagged("rule", rule)
}

/// The key of a bundle's revision, in the side table.
pub(crate) fn bundle_tag(revision: &str) -> i64 {
    tagged("bundle", revision)
}

fn tagged(kind: &str, text: &str) -> i64 {
    let digest = Sha256::new()
        .chain_update(kind)
        .chain_update([0])
        .chain_update(text)
        .finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(bytes) & i64::MAX
}

fn verdict_bits(verdict: Verdict) -> i64 {
    match verdict {
        Verdict::Allow => 0,
        Verdict::Deny => 1,
        Verdict::Warn => 2,
        Verdict::Error => 3,
    }
}

fn source_bits(source: Source) -> i64 {
    match source {
        Source::Admission => 0,
        Source::Reconcile => 1,
        Source::Audit => 2,
        Source::Cli => 3,
    }
}

fn operation_bits(operation: Option<Operation>) -> i64 {
    match operation {
        None => 0,
        Some(Operation::Create) => 1,
        Some(Operation::Update) => 2,
        Some(Operation::Delete) => 3,
    }
}

/// The columns of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) signature: i64,
    pub(crate) user: Option<i64>,
    pub(crate) namespace: Option<i64>,
    pub(crate) name: Option<i64>,
    /// Rules and bundles, sorted, each once.
    pub(crate) tags: Vec<i64>,
}

impl Keys {
    pub(crate) fn of(record: &Record) -> Self {
        let user = record.user.as_ref().map(|user| key(&user.name));
        let namespace = record.resource.namespace.as_deref().map(key);
        let name = record.resource.name.as_deref().map(key);
        let class = verdict_bits(record.verdict)
            | source_bits(record.source) << 2
            | operation_bits(record.operation) << 4
            | i64::from(record.dry_run) << 7;
        let mut tags: Vec<i64> = record.rules().into_iter().map(rule_tag).collect();
        tags.extend(record.bundles.values().map(|bundle| bundle_tag(&bundle.revision)));
        tags.sort_unstable();
        tags.dedup();
        let signature =
            class | part(user) << USER_SHIFT | part(namespace) << NAMESPACE_SHIFT | part(name) << NAME_SHIFT;
        Self {
            signature,
            user,
            namespace,
            name,
            tags,
        }
    }

    /// Verdict, source, operation and dry run, as one small number.
    pub(crate) fn class(&self) -> i64 {
        self.signature & ((1 << CLASS_BITS) - 1)
    }
}

fn part(key: Option<i64>) -> i64 {
    key.unwrap_or(0) & PART_MASK
}

/// What a signature must look like to be a candidate.
#[derive(Debug)]
pub(crate) struct Wanted {
    mask: i64,
    bits: i64,
    namespaces: Option<HashSet<i64>>,
}

impl Wanted {
    pub(crate) fn by(filter: &Filter) -> Self {
        let mut wanted = Self {
            mask: 0,
            bits: 0,
            namespaces: None,
        };
        if let Some(verdict) = filter.verdict {
            wanted.require(0b11, verdict_bits(verdict));
        }
        if let Some(source) = filter.source {
            wanted.require(0b11 << 2, source_bits(source) << 2);
        }
        if let Some(operation) = filter.operation {
            wanted.require(0b111 << 4, operation_bits(Some(operation)) << 4);
        }
        for (text, shift) in [
            (&filter.user, USER_SHIFT),
            (&filter.namespace, NAMESPACE_SHIFT),
            (&filter.name, NAME_SHIFT),
        ] {
            if let Some(text) = text {
                wanted.require(PART_MASK << shift, part(Some(key(text))) << shift);
            }
        }
        wanted.namespaces = filter
            .allowed
            .as_ref()
            .map(|allowed| allowed.iter().map(|name| part(Some(key(name)))).collect());
        wanted
    }

    fn require(&mut self, mask: i64, bits: i64) {
        self.mask |= mask;
        self.bits |= bits;
    }

    pub(crate) fn accepts(&self, signature: i64) -> bool {
        signature & self.mask == self.bits
            && self
                .namespaces
                .as_ref()
                .is_none_or(|allowed| allowed.contains(&(signature >> NAMESPACE_SHIFT & PART_MASK)))
    }

    /// The classes that can hold a candidate, or `None` if the class is left open.
    pub(crate) fn classes(&self) -> Option<Vec<i64>> {
        let class_mask = self.mask & ((1 << CLASS_BITS) - 1);
        let possible = |class: &i64| class & class_mask == self.bits & class_mask && class >> 4 & 0b111 <= 4;
        (class_mask != 0).then(|| (0..1 << CLASS_BITS).filter(possible).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_change() {
        assert_eq!(
            key("shop"),
            0x3307_34b4_719e_fd3d,
            "stores that exist would no longer be found"
        );
    }

    #[test]
    fn a_verdict_leaves_its_classes_open_and_no_others() {
        let filter = Filter {
            verdict: Some(Verdict::Deny),
            source: Some(Source::Cli),
            ..Filter::default()
        };
        let classes = Wanted::by(&filter).classes().unwrap();
        assert_eq!(classes.len(), 10, "five operations, dry or not: {classes:?}");
        assert!(classes.iter().all(|class| class & 0b1111 == 0b1101));
        assert_eq!(Wanted::by(&Filter::default()).classes(), None);
    }
}
