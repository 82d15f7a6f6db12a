//! Which part of the fleet a Database belongs to, and who works on it. The words that must never change are
//! [`bucket`] (a fixed partition of all Databases) and [`epoch`] (since when a bucket has its owner); [`map`] says who
//! owns which bucket, [`crd`] how the API server keeps that, [`protocol`] how it changes, and [`timing`] how long a Lease
//! is good for.
//!
//! Promise: [`bucket_of`] gives the same answer in every version of the binary, for ever. Labels on objects in
//! running clusters hold its results; `tests/golden_buckets.txt` pins it.

pub mod bucket;
pub mod crd;
pub mod epoch;
pub mod map;
pub mod protocol;
pub mod timing;

pub use bucket::{BUCKETS, Bucket, BucketError, bucket_of, hash_of};
pub use epoch::{Epoch, EpochError};
