//! Decisions as a table.

use std::io::Write;

use ::decisions::client::ClientError;
use policy::log::export::ExportError;
use policy::log::{Entry, Record};

/// How many lines are as wide as the widest of them.
const TOGETHER: usize = 1000;

const HEAD: [&str; 8] = [
    "TIME",
    "VERDICT",
    "SOURCE",
    "OPERATION",
    "DATABASE",
    "USER",
    "RULES",
    "ID",
];

/// Writes a line for each.
pub(super) fn table(
    found: &mut impl Iterator<Item = Result<Entry, ClientError>>,
    out: &mut impl Write,
) -> Result<(), ExportError<ClientError>> {
    let mut widths = HEAD.map(str::len);
    let mut is_first = true;
    loop {
        let rows: Result<Vec<[String; 8]>, ClientError> =
            found.take(TOGETHER).map(|entry| Ok(row(&entry?.record))).collect();
        let rows = rows.map_err(ExportError::Read)?;
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let head = std::mem::take(&mut is_first).then(|| HEAD.map(str::to_owned));
        for row in head.iter().chain(&rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        if rows.len() < TOGETHER {
            return Ok(());
        }
    }
}

fn row(record: &Record) -> [String; 8] {
    let resource = &record.resource;
    let (namespace, name) = (resource.namespace.as_deref(), resource.name.as_deref());
    let mut rules: Vec<&str> = record
        .violations
        .iter()
        .map(|violation| violation.id.as_str())
        .collect();
    rules.dedup();
    let dry_run = if record.dry_run { " (dry run)" } else { "" };
    let operation = record
        .operation
        .map_or("-".to_owned(), |operation| operation.to_string());
    [
        // To the second: the time of a decision is no measurement.
        format!("{:.0}", record.timestamp),
        record.verdict.to_string(),
        format!("{:?}", record.source).to_lowercase(),
        format!("{operation}{dry_run}"),
        format!("{}/{}", namespace.unwrap_or("-"), name.unwrap_or("-")),
        record.user.as_ref().map_or("-".to_owned(), |user| user.name.clone()),
        if rules.is_empty() {
            "-".to_owned()
        } else {
            rules.join(",")
        },
        record.decision_id.to_string(),
    ]
    .map(|cell| shown(&cell))
}

/// What comes from others must not steer a terminal.
fn shown(cell: &str) -> String {
    cell.chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(user: &str, namespace: &str) -> Record {
        serde_json::from_value(json!({
            "decision_id": "0190163d-8694-739b-aea5-966c26f8ad91", "timestamp": "2026-11-28T12:00:00.123456789Z",
            "replica": "r", "source": "admission", "operation": "CREATE", "dryRun": true, "verdict": "deny",
            "user": {"name": user}, "resource": {"namespace": namespace, "name": "orders"},
            "violations": [{
                "id": "sizes.cpu", "level": "global", "severity": "high", "action": "deny", "path": "spec", "message": "m",
            }],
        }))
        .expect("a record")
    }

    fn printed(records: Vec<Record>) -> String {
        let mut out = Vec::new();
        let mut found = records.into_iter().map(|record| Ok(Entry { position: 0, record }));
        table(&mut found, &mut out).expect("it is written");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_line_each_as_wide_as_the_widest() {
        let text = printed(vec![record("eve", "shop"), record("system:admin", "b")]);
        let id = "0190163d-8694-739b-aea5-966c26f8ad91";
        let expected = format!(
            "TIME                  VERDICT  SOURCE     OPERATION         DATABASE     USER          RULES      ID\n\
             2026-11-28T12:00:00Z  deny     admission  CREATE (dry run)  shop/orders  eve           sizes.cpu  {id}\n\
             2026-11-28T12:00:00Z  deny     admission  CREATE (dry run)  b/orders     system:admin  sizes.cpu  {id}\n"
        );
        assert_eq!(text, expected);
        assert_eq!(printed(vec![]).lines().count(), 1);
    }

    #[test]
    fn a_name_cannot_steer_a_terminal() {
        let text = printed(vec![record("\u{1b}[2Jeve\n\r\u{9b}x", "shop")]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.chars().all(|char| char == '\n' || !char.is_control()), "{text:?}");
    }
}
