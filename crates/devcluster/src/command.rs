//! A program that is run to its end.

use std::ffi::OsString;
use std::process::{Command, ExitStatus, Stdio};

use thiserror::Error;

/// How many of a failed program's last lines an error shows.
const LINES_SHOWN: usize = 15;

/// Why a program did not do its work.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It is not installed, or may not be executed.
    #[error("cannot start `{program}`: {source}; is it installed and on PATH?")]
    Start {
        /// The program's name or path.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It ended, but not with success.
    #[error("`{line}` ended with {status}:\n{last_lines}")]
    Failed {
        /// The program and its arguments.
        line: String,
        /// Its exit status or signal.
        status: ExitStatus,
        /// The end of its error output.
        last_lines: String,
    },
}

/// Runs `command` without input and returns its output; its error output is shown only if it fails.
pub(crate) fn run(command: &mut Command) -> Result<String, CommandError> {
    run_with(command, Stdio::null())
}

/// As [`run`], with an input.
pub(crate) fn run_with(command: &mut Command, input: Stdio) -> Result<String, CommandError> {
    let output = command.stdin(input).output().map_err(|source| CommandError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(CommandError::Failed {
        line: line(command),
        status: output.status,
        last_lines: last_lines(&String::from_utf8_lossy(&output.stderr), LINES_SHOWN),
    })
}

/// The last `count` lines of `text`, indented.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let shown: Vec<String> = lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect();
    shown.join("\n")
}

/// The program and its arguments, shortened: a package list can be very long.
fn line(command: &Command) -> String {
    let words: Vec<OsString> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(ToOwned::to_owned)
        .collect();
    let mut line = words
        .iter()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    if let Some((cut, _)) = line.char_indices().nth(300) {
        line.truncate(cut);
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_returned_and_a_failure_shows_the_last_lines() {
        assert_eq!(run(Command::new("printf").arg("a\nb")).unwrap(), "a\nb");
        let failure = run(Command::new("sh").args(["-c", "seq 1 40 >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("exit status: 3") && failure.contains("    40"),
            "{failure}"
        );
        assert!(!failure.contains("    20\n"), "only the end is shown: {failure}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = run(&mut Command::new("no-such-program-here")).unwrap_err().to_string();
        assert!(
            failure.contains("no-such-program-here") && failure.contains("installed"),
            "{failure}"
        );
    }
}
