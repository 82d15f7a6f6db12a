//! Since when a bucket has its owner.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// A number that only grows; a bucket's epoch changes only when its owner changes. Written, in decimal, on every
/// object that a replica writes (the fence).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Why a text is not an epoch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an epoch: expected a decimal number")]
pub struct EpochError {
    text: String,
    source: ParseIntError,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Epoch {
    type Err = EpochError;

    fn from_str(text: &str) -> Result<Self, EpochError> {
        text.parse().map(Self).map_err(|source| EpochError {
            text: text.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_compare_as_numbers_not_as_text() {
        let epoch = |text: &str| text.parse::<Epoch>().expect("decimal");
        assert!(epoch("9") < epoch("10"));
        assert_eq!(epoch("18446744073709551615"), Epoch(u64::MAX));
        assert_eq!(Epoch(1_700_000_000).to_string(), "1700000000");
    }

    #[test]
    fn anything_else_is_refused_with_the_text_named() {
        for text in ["", "-1", "1.5", "seven", "18446744073709551616"] {
            let error = text.parse::<Epoch>().expect_err("not an epoch");
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
