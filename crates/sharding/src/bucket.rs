//! The fixed partition of all Databases.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_64;

/// How many buckets there are. Enough that 30 members can be balanced to 2 %, few enough that a map of all of them
/// is one small object. Fixed for ever: another number would move nearly every Database.
pub const BUCKETS: u16 = 1024;

/// One of the [`BUCKETS`] fixed partitions of all Databases. Written as a decimal number, without leading zeros:
/// the value of the label `intent.example.com/bucket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

/// Why something is not a bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// The number is too large.
    #[error("{0} is not a bucket: buckets are numbered 0 to {last}", last = BUCKETS - 1)]
    OutOfRange(u64),
    /// The text is not a number, or not in the one form that a bucket is written in.
    #[error("{0:?} is not a bucket: expected a decimal number without sign or leading zeros")]
    NotDecimal(String),
}

/// The hash of a Database's name, xxh3-64 with seed 0 over `namespace/name`. Neither part can hold a `/`, so
/// different Databases never hash the same text.
#[must_use]
pub fn hash_of(namespace: &str, name: &str) -> u64 {
    xxh3_64(format!("{namespace}/{name}").as_bytes())
}

/// The bucket of a Database. It never changes for an object, since names do not.
#[must_use]
pub fn bucket_of(namespace: &str, name: &str) -> Bucket {
    let index = hash_of(namespace, name) % u64::from(BUCKETS);
    Bucket(u16::try_from(index).expect("a remainder of a u16 fits into one"))
}

impl Bucket {
    /// All buckets, in order.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..BUCKETS).map(Self)
    }

    /// Its number, from 0 to [`BUCKETS`] - 1.
    pub fn index(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Bucket {
    type Error = BucketError;

    fn try_from(index: u16) -> Result<Self, BucketError> {
        if index < BUCKETS {
            Ok(Self(index))
        } else {
            Err(BucketError::OutOfRange(index.into()))
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Bucket {
    type Err = BucketError;

    /// Strict, so that a bucket has one label value and a selector finds all of its objects.
    fn from_str(text: &str) -> Result<Self, BucketError> {
        let index: u64 = text.parse().map_err(|_| BucketError::NotDecimal(text.to_owned()))?;
        if index.to_string() != text {
            return Err(BucketError::NotDecimal(text.to_owned()));
        }
        u16::try_from(index)
            .map_err(|_| BucketError::OutOfRange(index))?
            .try_into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_bucket_is_written_and_read_back() {
        assert_eq!(Bucket::all().len(), usize::from(BUCKETS));
        for bucket in Bucket::all() {
            assert_eq!(bucket.to_string().parse(), Ok(bucket));
            assert_eq!(Bucket::try_from(bucket.index()), Ok(bucket));
        }
    }

    #[test]
    fn only_the_one_form_is_a_bucket() {
        for text in [
            "",
            "-1",
            "+1",
            "007",
            "00",
            " 1",
            "1 ",
            "1.0",
            "0x1",
            "one",
            "99999999999999999999999",
        ] {
            assert_eq!(
                text.parse::<Bucket>(),
                Err(BucketError::NotDecimal(text.to_owned())),
                "{text:?}"
            );
        }
        for text in ["1024", "65536", "18446744073709551615"] {
            assert!(
                matches!(text.parse::<Bucket>(), Err(BucketError::OutOfRange(_))),
                "{text:?}"
            );
        }
        assert_eq!(Bucket::try_from(BUCKETS), Err(BucketError::OutOfRange(1024)));
    }

    #[test]
    fn errors_say_what_is_allowed() {
        assert_eq!(
            BucketError::OutOfRange(1024).to_string(),
            "1024 is not a bucket: buckets are numbered 0 to 1023"
        );
    }

    proptest! {
        #[test]
        fn a_bucket_is_the_remainder_of_the_hash(namespace in "[a-z][a-z0-9-]{0,62}", name in "[a-z][a-z0-9-]{0,39}") {
            let bucket = bucket_of(&namespace, &name);
            prop_assert!(bucket.index() < BUCKETS);
            prop_assert_eq!(u64::from(bucket.index()), hash_of(&namespace, &name) % 1024);
        }
    }
}
