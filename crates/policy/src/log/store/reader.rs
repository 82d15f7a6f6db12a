//! Asks the store. Every question costs a bounded amount of work.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rusqlite::{Connection, OptionalExtension, params_from_iter};
use uuid::Uuid;

use super::StoreError;
use super::body::Body;
use super::plan::{Lead, Plan};
use super::schema::{ends, open_reader};
use super::writer::Shared;
use crate::log::chain::{Fault, Head, Walk};
use crate::log::cursor::Cursor;
use crate::log::filter::{Filter, MAX_LIMIT};
use crate::log::keys::Keys;
use crate::log::merge::{Entry, Page};
use crate::log::record::Record;

/// Entries of an index that one page looks at; then it ends, with a cursor.
const SCAN_ENTRIES: usize = 30_000;

/// The same where rules or bundles are looked up for each entry.
const SCAN_ENTRIES_WITH_TAGS: usize = 12_000;

/// Of one value at least so many, else many values would make no headway.
const SCAN_ENTRIES_OF_ONE: usize = 64;

/// Bytes of records that one page holds, give or take a record; then it ends, with a cursor.
const PAGE_BYTES: usize = 4 << 20;

/// How far an index is counted before it is called large.
const ESTIMATE_UP_TO: i64 = 4_000;

/// So few that no other index need be asked.
const FEW: i64 = 200;

/// Records between two looks at the store while the chain is checked: no long transaction keeps the writer's log long.
const VERIFY_RECORDS: i64 = 2_000;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The store is not there (yet), or does not answer.
    #[error("the decision log cannot be read")]
    Unavailable(#[from] rusqlite::Error),
    /// The chain is broken.
    #[error("the decision log was tampered with or damaged")]
    Chain(#[from] Fault),
}

/// Asks for records, on a connection of its own. Blocks while it reads: not for an asynchronous thread.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    shared: Option<Arc<Shared>>,
    open: Option<(u64, Connection)>,
}

impl Reader {
    /// Reads a file that no running log belongs to, for example a copy.
    #[must_use]
    pub fn of_file(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            shared: None,
            open: None,
        }
    }

    pub(crate) fn following(path: PathBuf, shared: Arc<Shared>) -> Self {
        Self {
            path,
            shared: Some(shared),
            open: None,
        }
    }

    /// A page, newest first.
    pub fn page(&mut self, filter: &Filter) -> Result<Page, QueryError> {
        let connection = self.connection()?;
        // One transaction: what is found is still there when it is read.
        let transaction = connection.transaction()?;
        let plan = Plan::of(filter);
        let lead = choose(&transaction, &plan)?;
        // An id is in no index, only its time is: all that lies there is read, and one of them is it.
        let limit = if filter.decision_id.is_some() {
            MAX_LIMIT
        } else {
            filter.effective_limit()
        };
        let gathered = gather(&transaction, &plan, lead, limit)?;
        let mut page = Page::default();
        if let Some(tie) = tie(&transaction, filter)? {
            page.entries.push(tie);
        }
        load(&transaction, filter, gathered, &mut page)?;
        Ok(page)
    }

    /// All records that are asked for, newest first, read a page at a time. A limit of 0 is none; there is no largest.
    pub fn entries(&mut self, filter: Filter) -> Entries<'_> {
        let left = if filter.limit == 0 { usize::MAX } else { filter.limit };
        let filter = Filter {
            limit: MAX_LIMIT,
            ..filter
        };
        Entries {
            reader: self,
            filter,
            left,
            ahead: VecDeque::new(),
            ended: false,
        }
    }

    /// The end of the chain, to be kept elsewhere.
    pub fn head(&mut self) -> Result<Head, QueryError> {
        Ok(ends(self.connection()?)?.last)
    }

    /// Checks the whole chain, and that it goes through the head that was kept. Gives its end.
    pub fn verify(&mut self, anchor: Option<&Head>) -> Result<Head, QueryError> {
        let mut walk: Option<Walk<'_>> = None;
        loop {
            let connection = self.connection()?;
            let transaction = connection.transaction()?;
            let ends = ends(&transaction)?;
            // Retention may have gone past the place where the check stands; what it removed it may remove.
            let mut here = match walk.take() {
                Some(walk) if walk.at().number >= ends.before_first.number => walk,
                _ => Walk::new(ends.before_first, anchor)?,
            };
            if verify_some(&transaction, &mut here)? < VERIFY_RECORDS {
                return Ok(here.finish(&ends.last)?);
            }
            walk = Some(here);
        }
    }

    /// How SQLite would go about a question: its own words, for documentation.
    pub fn explain(&mut self, filter: &Filter) -> Result<String, QueryError> {
        let connection = self.connection()?;
        let plan = Plan::of(filter);
        let lead = choose(connection, &plan)?;
        let sql = lead.sql(other_tags(&plan, lead).len());
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
        let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
        let steps: Result<Vec<String>, _> = statement
            .query_map(params_from_iter(nulls), |row| row.get(3))?
            .collect();
        Ok(format!("{} x {}", lead.values().len(), steps?.join("; ")))
    }

    fn connection(&mut self) -> Result<&mut Connection, rusqlite::Error> {
        let generation = self.shared.as_ref().map_or(0, |shared| shared.generation.load(Relaxed));
        let connection = match self.open.take() {
            Some((opened, connection)) if opened == generation => connection,
            _ => open_reader(&self.path)?,
        };
        Ok(&mut self.open.insert((generation, connection)).1)
    }
}

/// The lead with the fewest entries.
fn choose<'a>(connection: &Connection, plan: &'a Plan) -> Result<&'a Lead, rusqlite::Error> {
    let mut best = &plan.leads[0];
    if plan.leads.len() == 1 {
        return Ok(best);
    }
    let mut fewest = i64::MAX;
    for lead in &plan.leads {
        let entries = estimate(connection, plan, lead)?;
        if entries < fewest {
            (best, fewest) = (lead, entries);
        }
        if fewest < FEW {
            break;
        }
    }
    Ok(best)
}

fn estimate(connection: &Connection, plan: &Plan, lead: &Lead) -> Result<i64, rusqlite::Error> {
    let mut statement = connection.prepare_cached(&lead.count_sql())?;
    let mut entries = 0;
    for value in lead.values() {
        let left = ESTIMATE_UP_TO - entries;
        if left <= 0 {
            break;
        }
        entries += statement.query_row((plan.upper, plan.lower, value, left), |row| row.get::<_, i64>(0))?;
    }
    Ok(entries)
}

/// What was found: places and numbers, newest first.
struct Gathered {
    found: Vec<(i64, i64)>,
    /// There is more, and the search goes on behind this place.
    next: Option<i64>,
}

/// Goes along the ranges of the lead, one after the other. `floor` rises: behind it nothing is wanted any more, because
/// enough newer ones are known, or nothing is certain, because a range was left early.
fn gather(connection: &Connection, plan: &Plan, lead: &Lead, limit: usize) -> Result<Gathered, rusqlite::Error> {
    let tags = other_tags(plan, lead);
    let all_tags = i64::try_from(tags.len()).unwrap_or(i64::MAX);
    let budget = if tags.is_empty() {
        SCAN_ENTRIES
    } else {
        SCAN_ENTRIES_WITH_TAGS
    };
    let budget_of_one = (budget / lead.values().len().max(1)).max(SCAN_ENTRIES_OF_ONE);
    let mut statement = connection.prepare_cached(&lead.sql(tags.len()))?;
    let mut newest: BinaryHeap<Reverse<(i64, i64)>> = BinaryHeap::new();
    let mut floor = plan.lower;
    let mut left_early = false;
    for value in lead.values() {
        let parameters = [plan.upper, floor, *value].into_iter().chain(tags.iter().copied());
        let mut rows = statement.query(params_from_iter(parameters))?;
        let mut scanned = 0;
        while let Some(row) = rows.next()? {
            let at: i64 = row.get(1)?;
            if at < floor {
                break;
            }
            if plan.wanted.accepts(row.get(2)?) && row.get::<_, i64>(3)? == all_tags {
                newest.push(Reverse((at, row.get(0)?)));
                if newest.len() > limit + 1 {
                    newest.pop();
                }
                if let (true, Some(Reverse((oldest, _)))) = (newest.len() > limit, newest.peek()) {
                    floor = floor.max(*oldest);
                }
            }
            scanned += 1;
            if scanned == budget_of_one {
                floor = floor.max(at);
                left_early = true;
                break;
            }
        }
    }
    let mut found: Vec<(i64, i64)> = newest.into_iter().map(|Reverse(entry)| entry).collect();
    found.sort_unstable_by_key(|entry| Reverse(*entry));
    found.retain(|(at, _)| *at >= floor);
    let mut next = left_early.then_some(floor);
    if found.len() > limit {
        found.truncate(limit);
        next = found.last().map(|(at, _)| *at);
    }
    Ok(Gathered { found, next })
}

/// The tags that the lead does not already stand for.
fn other_tags(plan: &Plan, lead: &Lead) -> Vec<i64> {
    plan.tags
        .iter()
        .copied()
        .filter(|tag| *lead != Lead::Tag(*tag))
        .collect()
}

/// Reads the records, and lets them decide whether they were asked for.
fn load(connection: &Connection, filter: &Filter, gathered: Gathered, page: &mut Page) -> Result<(), rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT body FROM decision WHERE number = ?1")?;
    let (mut bytes, mut next) = (0, gathered.next);
    let mut found = gathered.found.into_iter().peekable();
    while let Some((position, number)) = found.next() {
        let json = statement.query_row([number], |row| Ok(Body::unpack(row.get_ref(0)?)))?;
        bytes += json.as_ref().map_or(0, Vec::len);
        match parse(json) {
            Some(record) if filter.matches(&record) => page.entries.push(Entry { position, record }),
            Some(_) => {}
            None => page.unreadable += 1,
        }
        if bytes >= PAGE_BYTES && found.peek().is_some() {
            next = Some(position);
            break;
        }
    }
    page.next = next.map(|position| {
        let last = page.entries.last().filter(|entry| entry.position == position);
        last.map_or(
            Cursor {
                position,
                id: Uuid::nil(),
            },
            Entry::cursor,
        )
    });
    Ok(())
}

/// The record at the very place of the cursor, if the cursor is another replica's and the ids are in that order.
fn tie(connection: &Connection, filter: &Filter) -> Result<Option<Entry>, rusqlite::Error> {
    let Some(cursor) = filter.cursor.filter(|cursor| !cursor.id.is_nil()) else {
        return Ok(None);
    };
    let json = connection
        .prepare_cached("SELECT body FROM decision INDEXED BY by_time WHERE at = ?1")?
        .query_row([cursor.position], |row| Ok(Body::unpack(row.get_ref(0)?)))
        .optional()?;
    let record = json.and_then(parse);
    Ok(record
        .filter(|record| record.decision_id < cursor.id && filter.matches(record))
        .map(|record| Entry {
            position: cursor.position,
            record,
        }))
}

fn parse(json: Result<Vec<u8>, StoreError>) -> Option<Record> {
    serde_json::from_slice(&json.ok()?).ok()
}

/// Goes on along the chain by some records. Gives how many.
fn verify_some(connection: &Connection, walk: &mut Walk<'_>) -> Result<i64, QueryError> {
    let mut statement = connection.prepare_cached(
        "SELECT number, body, signature, class, user, namespace, name, \
         (SELECT count(*) FROM tag WHERE tag.number = decision.number) \
         FROM decision WHERE number > ?1 ORDER BY number LIMIT ?2",
    )?;
    let mut rows = statement.query((walk.at().number, VERIFY_RECORDS))?;
    let mut records = 0;
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let json = Body::unpack(row.get_ref(1)?).map_err(|_| Fault::Changed(number))?;
        let record: Record = serde_json::from_slice(&json).map_err(|_| Fault::Changed(number))?;
        walk.step(number, &json, record.previous.as_deref())?;
        let keys = Keys::of(&record);
        let filed = (
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
            row.get(6)?,
            row.get(7)?,
        );
        let tags = i64::try_from(keys.tags.len()).unwrap_or(i64::MAX);
        if filed != (keys.signature, keys.class(), keys.user, keys.namespace, keys.name, tags) {
            return Err(Fault::Misfiled(number).into());
        }
        records += 1;
    }
    Ok(records)
}

/// Records one after the other. After an error there are no more.
#[derive(Debug)]
pub struct Entries<'a> {
    reader: &'a mut Reader,
    filter: Filter,
    left: usize,
    ahead: VecDeque<Entry>,
    ended: bool,
}

impl<'a> Entries<'a> {
    /// Only the records, as [`export`](crate::log::export) takes them.
    pub fn records(self) -> impl Iterator<Item = Result<Record, QueryError>> + use<'a> {
        self.map(|entry| entry.map(|entry| entry.record))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        // A page may be empty and not the last: each has looked at a bounded part.
        while self.ahead.is_empty() && !self.ended {
            match self.reader.page(&self.filter) {
                Ok(page) => {
                    self.ended = page.next.is_none();
                    self.filter.cursor = page.next;
                    self.ahead.extend(page.entries);
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        self.left -= 1;
        self.ahead.pop_front().map(Ok)
    }
}
