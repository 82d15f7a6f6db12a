//! Which index to go along, and between which times. Pure, but for the estimates that the reader brings.

use uuid::Uuid;

use super::writer::nanoseconds;
use crate::log::filter::Filter;
use crate::log::keys::{Wanted, bundle_tag, key, rule_tag};

/// A record may lie this much later than its own time, where others have the same: a bound on what is looked at only,
/// since the record itself decides.
const SLACK_NS: i64 = 1_000;

/// With more namespaces than this, going along the time is better than along each of them.
const MAX_NAMESPACES: usize = 512;

/// An index, and the values in it to go along. Each value is a range of entries, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    Name(i64),
    Tag(i64),
    User(i64),
    Namespaces(Vec<i64>),
    Class(Vec<i64>),
    Time,
}

/// What can be gone along, and what every entry is checked for.
#[derive(Debug)]
pub(crate) struct Plan {
    /// At least one, the likely best first.
    pub(crate) leads: Vec<Lead>,
    pub(crate) wanted: Wanted,
    /// Rules and bundles.
    pub(crate) tags: Vec<i64>,
    /// The newest place to look at.
    pub(crate) upper: i64,
    /// The oldest.
    pub(crate) lower: i64,
}

impl Plan {
    pub(crate) fn of(filter: &Filter) -> Self {
        let wanted = Wanted::by(filter);
        let tags: Vec<i64> = (filter.rule.as_deref().map(rule_tag).into_iter())
            .chain(filter.bundle.as_deref().map(bundle_tag))
            .collect();
        let mut leads = Vec::new();
        leads.extend(filter.name.as_deref().map(key).map(Lead::Name));
        leads.extend(filter.rule.as_deref().map(rule_tag).map(Lead::Tag));
        leads.extend(filter.user.as_deref().map(key).map(Lead::User));
        leads.extend(namespaces(filter).map(Lead::Namespaces));
        leads.extend(wanted.classes().map(Lead::Class));
        leads.extend(filter.bundle.as_deref().map(bundle_tag).map(Lead::Tag));
        if leads.is_empty() {
            leads.push(Lead::Time);
        }
        let (lower, upper) = bounds(filter);
        Self {
            leads,
            wanted,
            tags,
            upper,
            lower,
        }
    }
}

fn namespaces(filter: &Filter) -> Option<Vec<i64>> {
    match (&filter.namespace, &filter.allowed) {
        (Some(namespace), Some(allowed)) if !allowed.contains(namespace) => Some(Vec::new()),
        (Some(namespace), _) => Some(vec![key(namespace)]),
        (None, Some(allowed)) if allowed.len() <= MAX_NAMESPACES => {
            Some(allowed.iter().map(|namespace| key(namespace)).collect())
        }
        (None, _) => None,
    }
}

fn bounds(filter: &Filter) -> (i64, i64) {
    let mut lower = filter.from.map_or(i64::MIN, nanoseconds);
    let mut upper = filter
        .to
        .map_or(i64::MAX, |to| nanoseconds(to).saturating_add(SLACK_NS));
    if let Some(id) = filter.decision_id {
        let begin = milliseconds_of(id).saturating_mul(1_000_000);
        lower = lower.max(begin);
        upper = upper.min(begin.saturating_add(1_000_000 + SLACK_NS));
    }
    if let Some(cursor) = filter.cursor {
        upper = upper.min(cursor.position.saturating_sub(1));
    }
    (lower, upper)
}

/// The time in a UUIDv7.
fn milliseconds_of(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX)
}

impl Lead {
    /// The values to go along; one that is not used for [`Lead::Time`].
    pub(crate) fn values(&self) -> &[i64] {
        match self {
            Self::Name(value) | Self::Tag(value) | Self::User(value) => std::slice::from_ref(value),
            Self::Namespaces(values) | Self::Class(values) => values,
            Self::Time => &[0],
        }
    }

    /// Entries of one value (?3) between two times (?1 and ?2), newest first: number, place, signature, and how many of
    /// `tags` (from ?4 on) the record has.
    pub(crate) fn sql(&self, tags: usize) -> String {
        let (table, column) = self.table_and_column();
        let present = |parameter: usize| {
            format!("EXISTS (SELECT 1 FROM tag AS other WHERE other.tag = ?{parameter} AND other.at = entry.at)")
        };
        let count: Vec<String> = std::iter::once("0".to_owned())
            .chain((4..4 + tags).map(present))
            .collect();
        let count = count.join(" + ");
        format!(
            "SELECT entry.number, entry.at, entry.signature, {count} FROM {table} \
             WHERE {column} = ?3 AND entry.at <= ?1 AND entry.at >= ?2 ORDER BY entry.at DESC"
        )
    }

    /// How many entries one value has between two times, counted up to ?4.
    pub(crate) fn count_sql(&self) -> String {
        let (table, column) = self.table_and_column();
        format!(
            "SELECT count(*) FROM (SELECT 1 FROM {table} \
             WHERE {column} = ?3 AND entry.at <= ?1 AND entry.at >= ?2 LIMIT ?4)"
        )
    }

    fn table_and_column(&self) -> (&'static str, &'static str) {
        match self {
            Self::Name(_) => ("decision AS entry INDEXED BY by_name", "entry.name"),
            Self::Tag(_) => ("tag AS entry", "entry.tag"),
            Self::User(_) => ("decision AS entry INDEXED BY by_user", "entry.user"),
            Self::Namespaces(_) => ("decision AS entry INDEXED BY by_namespace", "entry.namespace"),
            Self::Class(_) => ("decision AS entry INDEXED BY by_class", "entry.class"),
            // The parameter is used, so that all statements take the same ones.
            Self::Time => ("decision AS entry INDEXED BY by_time", "0"),
        }
    }
}
