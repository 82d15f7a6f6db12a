//! What is wrong with a declaration, told to its author.

use std::fmt;

use serde::Serialize;

pub use crate::rules::schema_faults;

/// One thing that is wrong with a manifest: where, what stands there, which rule it breaks, and the way out.
///
/// All faults of a manifest are reported at once, so that nobody mends them one by one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Fault {
    /// Path of the field, such as `spec.resources.requests.storage`.
    pub field: String,
    /// What stands there, as text; empty if the field is absent or unknown. Never a secret: [`HIDDEN`] for what may be
    /// one, as every parameter's value may.
    pub value: String,
    /// The rule that it breaks, as the rest of a sentence that begins with the field: `must be more than 0`.
    pub rule: String,
    /// What to do about it, as an imperative: `write a size such as 20Gi`.
    pub remedy: String,
}

impl Fault {
    /// A fault of this field.
    pub fn new(
        field: impl Into<String>,
        value: impl Into<String>,
        rule: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            value: value.into(),
            rule: rule.into(),
            remedy: remedy.into(),
        }
    }
}

/// What stands for a value that must not be seen.
pub const HIDDEN: &str = "(hidden)";

/// Longest value that is repeated in a message, in characters; the rest is cut.
const SHOWN_VALUE_MAX: usize = 80;

/// One line: `spec.version ("16.x"): must be …; write …`. Control characters are escaped and long values are cut, so
/// that a value can neither break the line nor fill the terminal.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            value,
            rule,
            remedy,
        } = self;
        f.write_str(field)?;
        if !value.is_empty() {
            let shown: String = value.chars().take(SHOWN_VALUE_MAX).collect();
            let cut = if shown.len() < value.len() { "…" } else { "" };
            write!(f, " ({shown:?}{cut})")?;
        }
        write!(f, ": {rule}")?;
        if !remedy.is_empty() {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_clear_line() {
        let fault = Fault::new("spec.version", "16.x\n", "must be a version", "write 16.4");
        assert_eq!(
            fault.to_string(),
            r#"spec.version ("16.x\n"): must be a version; write 16.4"#
        );
        let absent = Fault::new("spec.engine", "", "is required", "write postgresql");
        assert_eq!(absent.to_string(), "spec.engine: is required; write postgresql");
    }

    #[test]
    fn a_long_value_is_cut() {
        let fault = Fault::new("spec.version", "9".repeat(500), "is too long", "");
        assert!(fault.to_string().len() < 120, "{fault}");
    }
}
