//! Logs, to standard error: standard output belongs to what a command prints.

use std::fmt;
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use prometheus::IntGauge;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object per line, for machines.
    #[default]
    Json,
    /// One line of text, for people.
    Pretty,
}

/// Who logs: on every line, so that those of several replicas can be told apart and put in order.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Its name.
    pub member: String,
    /// Term of the map that it obeys; 0 without one.
    pub term: IntGauge,
    /// Sequence of that map: the newest epoch that it knows.
    pub epoch: IntGauge,
}

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("log filter {filter:?} is invalid: {reason}; examples: info, debug, info,controller=debug")]
    Filter {
        /// What was asked for.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logs were set up before. A defect.
    #[error("logs are set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Checks a filter: a level (`info`), or levels by module (`info,controller=debug`).
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    parse(filter).map(|_| ())
}

/// From now on, the process logs what `filter` lets through. To be called once.
pub fn init_logs(format: Format, filter: &str, replica: Replica) -> Result<(), LogError> {
    let colours = io::stderr().is_terminal();
    subscriber(format, filter, replica, colours, io::stderr)?
        .try_init()
        .map_err(LogError::Twice)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A panic as a log line like any other. What is formatted into its message may be anything, a password too, so only
/// messages that stand in the source as they are get told.
fn log_panic(panic: &PanicHookInfo) {
    let message = panic.payload().downcast_ref::<&'static str>();
    let message = message.unwrap_or(&"(a message with values, which are not logged)");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, panic = message, "a defect: something panicked");
}

/// Warnings of `kube` hold the whole text of an answer that it could not decode, which may be a list of Secrets; its callers
/// get the error, and tell it. No filter brings them back.
const UNSPOKEN: &str = "kube_client::client=error";

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder().parse(filter).map_err(|error| LogError::Filter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })
}

fn subscriber<W>(
    format: Format,
    filter: &str,
    replica: Replica,
    colours: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let unspoken = UNSPOKEN.parse().expect("a filter");
    let filtered = tracing_subscriber::registry().with(parse(filter)?.add_directive(unspoken));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(match format {
        Format::Json => {
            let layer = layer.json().flatten_event(true).with_ansi(false);
            Box::new(filtered.with(layer.map_event_format(|inner| Told { inner, replica, format })))
        }
        Format::Pretty => {
            let layer = layer.compact().with_ansi(colours);
            Box::new(filtered.with(layer.map_event_format(|inner| Told { inner, replica, format })))
        }
    })
}

/// A line, and who says it.
struct Told<F> {
    inner: F,
    replica: Replica,
    format: Format,
}

impl<F, S, N> FormatEvent<S, N> for Told<F>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        // Colours are the inner format's, which was told of them.
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let Replica { member, term, epoch } = &self.replica;
        let (term, epoch) = (term.get(), epoch.get());
        if let (Format::Json, Some(rest)) = (self.format, line.strip_prefix('{')) {
            // Names of members need no escapes: they are those of Kubernetes.
            write!(writer, r#"{{"member":"{member}","term":{term},"epoch":{epoch},{rest}"#)
        } else {
            let line = line.trim_end_matches('\n');
            writeln!(writer, "{line} member={member} term={term} epoch={epoch}")
        }
    }
}

/// An error with all of its causes, in one line, each said once.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Many messages of libraries repeat their source.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str, log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let gauge = |value| {
            let gauge = IntGauge::new("name", "help").expect("a gauge");
            gauge.set(value);
            gauge
        };
        let replica = Replica {
            member: "operator-1".to_owned(),
            term: gauge(7),
            epoch: gauge(1_767_300_000),
        };
        let subscriber = subscriber(format, filter, replica, false, move || writer.clone()).expect("a valid filter");
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(buffer.0.lock().expect("no panic").clone()).expect("UTF-8")
    }

    #[test]
    fn json_is_one_object_per_line_with_fields_and_spans() {
        let text = logged(Format::Json, "info", || {
            let span = tracing::info_span!("reconcile", database = "shop/orders");
            span.in_scope(|| tracing::info!(writes = 3, "applied\nand \"quoted\""));
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(lines[0]).expect("JSON");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "applied\nand \"quoted\"");
        assert_eq!(line["writes"], 3);
        assert_eq!(line["span"]["database"], "shop/orders");
        assert!(line["timestamp"].is_string());
        assert_eq!(line["member"], "operator-1");
        assert_eq!((&line["term"], &line["epoch"]), (&7.into(), &1_767_300_000.into()));
    }

    #[test]
    fn a_panic_is_a_line_that_tells_no_values() {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        let text = logged(Format::Json, "info", || {
            for password in [None, Some("hunter2")] {
                let ended = std::panic::catch_unwind(|| match password {
                    None => panic!("it must not be"),
                    Some(password) => panic!("it must not be {password}"),
                });
                assert!(ended.is_err());
            }
        });
        std::panic::set_hook(before);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["panic"], "it must not be");
        assert_eq!(lines[1]["panic"], "(a message with values, which are not logged)");
        for line in lines {
            assert_eq!(line["level"], "ERROR");
            assert!(
                line["location"].as_str().is_some_and(|at| at.contains("logs.rs:")),
                "{line}"
            );
        }
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn a_filter_lets_through_what_it_names_and_nothing_else() {
        let text = logged(Format::Pretty, "warn,telemetry=debug", || {
            tracing::debug!("ours");
            tracing::info!(target: "other", "theirs, too quiet");
            tracing::warn!(target: "other", "theirs, loud enough");
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("ours") && text.contains("loud enough"), "{text}");
        assert_eq!(
            text.matches(" member=operator-1 term=7 epoch=1767300000\n").count(),
            2,
            "{text}"
        );
    }

    #[test]
    fn what_kube_says_of_an_answer_is_never_told() {
        for filter in ["info", "trace", "kube_client=trace", "kube_client::client=trace"] {
            let text = logged(Format::Json, filter, || {
                tracing::warn!(target: "kube_client::client", "{}, {:?}", "hunter2", "cannot be decoded");
                tracing::error!(target: "kube_client::client::builder", "failed");
            });
            assert_eq!(
                (text.contains("hunter2"), text.contains("failed")),
                (false, true),
                "{filter}: {text}"
            );
        }
    }

    #[test]
    fn text_for_people_carries_no_control_characters_of_strangers() {
        let text = logged(Format::Pretty, "info", || tracing::info!(message = "\u{1b}[31mred"));
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn a_bad_filter_is_named_with_examples() {
        let error = check_filter("info,controller=loud").expect_err("no such level");
        let text = error.to_string();
        assert!(
            text.contains("info,controller=loud") && text.contains("examples"),
            "{text}"
        );
        check_filter("info,controller=debug").expect("a valid filter");
    }
}
