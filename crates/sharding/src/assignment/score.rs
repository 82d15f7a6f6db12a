//! Weighted rendezvous: each member draws a number for each bucket, and the bucket prefers the member with the best.
//!
//! With `u` drawn evenly from (0, 1) and a weight `w`, the member with the largest `-w / ln u` wins a share of exactly
//! `w` over the sum of the weights, and a change of one member changes nothing between the others. That is the member
//! with the smallest `-log2(u) / w`. The logarithm is computed in integers, bit by bit: libraries of mathematics differ
//! in the last digits, and the answer must be the same everywhere.

use xxhash_rust::xxh3::xxh3_64;

/// Bits behind the point of a [`cost`].
const FRACTION_BITS: u32 = 32;

/// What this member draws for this bucket: xxh3-64 with seed 0 over the name and the bucket's number (two bytes, the
/// low one first), and then the finaliser of MurmurHash3, so that names which differ in one digit draw independently.
#[must_use]
pub fn draw(member: &str, bucket: u16) -> u64 {
    let text = [member.as_bytes(), &bucket.to_le_bytes()].concat();
    let mut hash = xxh3_64(&text);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

/// `-log2(draw / 2^64)` in units of 2^-32, rounded up: from 1, the best, to 64 * 2^32, the worst. A larger draw never
/// costs more.
#[must_use]
pub fn cost(draw: u64) -> u64 {
    // 0 has no logarithm, and stands for the draw beside it.
    let draw = draw.max(1);
    let whole = draw.ilog2();
    // 1 <= mantissa / 2^63 < 2. Squaring doubles its logarithm, so what passes 2 is the next bit of it.
    let mut mantissa = draw << (63 - whole);
    let mut log2 = u64::from(whole);
    for _ in 0..FRACTION_BITS {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let carry = u64::from(square >> 127 != 0);
        mantissa = u64::try_from(square >> (63 + carry)).expect("2^126 <= square < 2^128, and a larger one is halved");
        log2 = log2 << 1 | carry;
    }
    (64 << FRACTION_BITS) - log2
}
