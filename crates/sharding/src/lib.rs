//! Which part of the fleet a Database belongs to: [`bucket`] (a fixed partition of all Databases), [`epoch`] (since when
//! a bucket has its owner), [`assignment`] (which member is to own which bucket).
//!
//! Promise: [`bucket_of`] gives the same answer in every version of the binary, for ever. Labels on objects in
//! running clusters hold its results; `tests/golden_buckets.txt` pins it.

pub mod assignment;
pub mod bucket;
pub mod epoch;

pub use bucket::{BUCKETS, Bucket, BucketError, bucket_of, hash_of};
pub use epoch::{Epoch, EpochError};
