//! Versions of engines.

use std::fmt;
use std::str::FromStr;

/// A version of one to three numbers, such as `16`, `16.4` or `8.4.3`.
///
/// Ordered number by number; where one has fewer numbers it comes first (`16` before `16.0`), so that the order agrees
/// with equality. Whether an incomplete version *covers* a complete one is told by [`Version::covers`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    major: u32,
    minor: Option<u32>,
    patch: Option<u32>,
}

/// Why a text is not a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VersionError {
    /// Nothing stands there.
    #[error("must be a version, but is empty")]
    Empty,
    /// There are more than three numbers.
    #[error("must have at most three numbers between dots, such as 8.4.3")]
    TooLong,
    /// A part is not a number.
    #[error("must be numbers between dots, such as 16.4, with nothing before, between or after them")]
    NotANumber,
    /// A number begins with a zero.
    #[error("must be written without leading zeros")]
    LeadingZero,
    /// A number is too large.
    #[error("must have numbers of at most {}", Version::MAX)]
    TooLarge,
}

impl Version {
    /// The largest number in a version.
    pub const MAX: u32 = 99_999;

    /// The first number. Whether that is what an engine calls a major version is the engine's affair.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The second number, if there is one.
    pub fn minor(&self) -> Option<u32> {
        self.minor
    }

    /// The third number, if there is one.
    pub fn patch(&self) -> Option<u32> {
        self.patch
    }

    /// How many numbers there are: 1, 2 or 3.
    pub fn len(&self) -> usize {
        1 + usize::from(self.minor.is_some()) + usize::from(self.patch.is_some())
    }

    /// Never: a version has at least one number.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether `other` begins with all numbers of this one: `16` covers `16`, `16.4`, but not `17` or (as a text would)
    /// `160`.
    pub fn covers(&self, other: &Self) -> bool {
        self.major == other.major
            && (self.minor.is_none() || self.minor == other.minor)
            && (self.patch.is_none() || self.patch == other.patch)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.is_empty() {
            return Err(VersionError::Empty);
        }
        let mut parts = text.split('.');
        let mut next = || parts.next().map(number).transpose();
        let (major, minor, patch) = (next()?, next()?, next()?);
        match (major, parts.next()) {
            (Some(major), None) => Ok(Self { major, minor, patch }),
            (_, Some(_)) => Err(VersionError::TooLong),
            (None, None) => Err(VersionError::Empty),
        }
    }
}

fn number(text: &str) -> Result<u32, VersionError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VersionError::NotANumber);
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(VersionError::LeadingZero);
    }
    text.parse()
        .ok()
        .filter(|number| *number <= Version::MAX)
        .ok_or(VersionError::TooLarge)
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.major)?;
        for number in [self.minor, self.patch].into_iter().flatten() {
            write!(f, ".{number}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let sorted = ["8.0", "8.0.9", "8.0.10", "8.4", "9", "10.1", "16", "16.0", "16.4"];
        for pair in sorted.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn an_incomplete_version_covers_the_complete_ones() {
        assert!(version("16").covers(&version("16.4")));
        assert!(version("8.4").covers(&version("8.4.3")));
        assert!(!version("16").covers(&version("160")));
        assert!(!version("16.4").covers(&version("16")));
        assert!(!version("8.4").covers(&version("8.40.1")));
    }

    #[test]
    fn each_error_says_what_is_wrong() {
        for (text, error) in [
            ("", VersionError::Empty),
            ("1.2.3.4", VersionError::TooLong),
            ("16.", VersionError::NotANumber),
            (".16", VersionError::NotANumber),
            ("16.x", VersionError::NotANumber),
            ("v16", VersionError::NotANumber),
            ("16 ", VersionError::NotANumber),
            ("+16", VersionError::NotANumber),
            ("-1", VersionError::NotANumber),
            ("1６", VersionError::NotANumber),
            ("16.04", VersionError::LeadingZero),
            ("00", VersionError::LeadingZero),
            ("100000", VersionError::TooLarge),
            ("99999999999999999999", VersionError::TooLarge),
        ] {
            assert_eq!(text.parse::<Version>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(numbers in prop::collection::vec(0..=Version::MAX, 1..=3)) {
            let text = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
            let parsed = version(&text);
            prop_assert_eq!(parsed.to_string(), text);
            prop_assert_eq!(parsed.len(), numbers.len());
        }

        #[test]
        fn the_order_is_that_of_the_numbers(
            a in prop::collection::vec(0..=20_u32, 1..=3),
            b in prop::collection::vec(0..=20_u32, 1..=3),
        ) {
            let parse = |numbers: &[u32]| version(&numbers.iter().map(u32::to_string).collect::<Vec<_>>().join("."));
            prop_assert_eq!(parse(&a).cmp(&parse(&b)), a.cmp(&b));
        }

        #[test]
        fn anything_is_a_version_or_an_error(text in "[0-9.vx -]{0,12}") {
            if let Ok(parsed) = text.parse::<Version>() {
                prop_assert_eq!(parsed.to_string(), text);
            }
        }
    }
}
