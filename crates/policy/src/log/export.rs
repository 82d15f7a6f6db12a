//! Records as JSONL and CSV, one after the other: nothing is gathered in memory.

use std::io::{self, Write};

use crate::log::record::Record;

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError<E: std::error::Error + 'static> {
    /// No more records could be read.
    #[error("cannot read on")]
    Read(#[source] E),
    /// The output takes no more.
    #[error("cannot write on")]
    Write(#[from] io::Error),
}

/// The columns of [`csv`].
pub const COLUMNS: [&str; 22] = [
    "timestamp",
    "decision_id",
    "replica",
    "source",
    "operation",
    "dry_run",
    "user",
    "groups",
    "kind",
    "namespace",
    "name",
    "uid",
    "generation",
    "verdict",
    "rules",
    "messages",
    "warnings",
    "error",
    "bundles",
    "total_ns",
    "request_uid",
    "trace_id",
];

/// Writes a line of JSON for each record. Gives the number of records.
pub fn jsonl<E>(
    records: impl IntoIterator<Item = Result<Record, E>>,
    mut out: impl Write,
) -> Result<u64, ExportError<E>>
where
    E: std::error::Error + 'static,
{
    let mut written = 0;
    for record in records {
        let record = record.map_err(ExportError::Read)?;
        serde_json::to_writer(&mut out, &record).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        written += 1;
    }
    out.flush()?;
    Ok(written)
}

/// Writes a header and a row for each record, as RFC 4180 has it. Gives the number of records.
///
/// A cell that a spreadsheet would take for a formula gets a single quote in front.
pub fn csv<E>(records: impl IntoIterator<Item = Result<Record, E>>, mut out: impl Write) -> Result<u64, ExportError<E>>
where
    E: std::error::Error + 'static,
{
    row(&mut out, &COLUMNS.map(str::to_owned))?;
    let mut written = 0;
    for record in records {
        row(&mut out, &cells(&record.map_err(ExportError::Read)?))?;
        written += 1;
    }
    out.flush()?;
    Ok(written)
}

fn cells(record: &Record) -> [String; COLUMNS.len()] {
    let user = record.user.clone().unwrap_or_default();
    let resource = &record.resource;
    let messages: Vec<&str> = record
        .violations
        .iter()
        .map(|violation| violation.message.as_str())
        .collect();
    let bundles: Vec<String> = record
        .bundles
        .iter()
        .map(|(name, bundle)| format!("{name}={}", bundle.revision))
        .collect();
    [
        record.timestamp.to_string(),
        record.decision_id.to_string(),
        record.replica.clone(),
        word(record.source),
        record.operation.map(word).unwrap_or_default(),
        record.dry_run.to_string(),
        user.name,
        user.groups.join("\n"),
        resource.kind.clone(),
        resource.namespace.clone().unwrap_or_default(),
        resource.name.clone().unwrap_or_default(),
        resource.uid.clone().unwrap_or_default(),
        resource
            .generation
            .map(|generation| generation.to_string())
            .unwrap_or_default(),
        word(record.verdict),
        record.rules().join("\n"),
        messages.join("\n"),
        record.warnings.join("\n"),
        record.error.clone().unwrap_or_default(),
        bundles.join("\n"),
        record.metrics.total_ns.to_string(),
        record.request_uid.clone().unwrap_or_default(),
        record.trace_id.clone().unwrap_or_default(),
    ]
}

/// The serialised name of a variant, so that CSV and JSON say the same word.
fn word(variant: impl serde::Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn row(out: &mut impl Write, cells: &[String]) -> io::Result<()> {
    for (number, cell) in cells.iter().enumerate() {
        if number > 0 {
            out.write_all(b",")?;
        }
        out.write_all(escape(cell).as_bytes())?;
    }
    out.write_all(b"\r\n")
}

/// A cell in quotes if it needs them, and never a formula.
fn escape(cell: &str) -> String {
    // Tab and carriage return too: some spreadsheets drop them and then see what follows.
    let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        "'"
    } else {
        ""
    };
    if cell.contains(['"', ',', '\n', '\r']) {
        format!("\"{guard}{}\"", cell.replace('"', "\"\""))
    } else {
        format!("{guard}{cell}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        for (cell, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@sum", "'@sum"),
            ("\t=1", "'\t=1"),
            ("=a,\"b\"", "\"'=a,\"\"b\"\"\""),
        ] {
            assert_eq!(escape(cell), expected, "{cell:?}");
        }
    }
}
