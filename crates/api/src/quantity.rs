//! Amounts of CPU, memory and storage, as Kubernetes writes them.
//!
//! [`Quantity`] accepts what `resource.ParseQuantity` of `k8s.io/apimachinery` accepts and nothing more, and renders
//! what the API server renders. It is exact: an integer number of nano-units, no floating point.
//!
//! `tests/quantity/vectors.tsv` holds what the original answers to 1600 texts; the README beside it says how they were
//! made. One difference, on purpose: the original *says* that numbers beyond 2^63-1 are capped, but caps only
//! those with a binary suffix and lets others overflow (`10E` has the milli-value 0 there). Here all are capped.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Nano-units in one unit: the finest amount that is told apart.
const NANO: i128 = 1_000_000_000;
/// Decimal places of a nano-unit.
const NANO_PLACES: i64 = 9;
/// 2^63-1 units, the largest magnitude.
const MAX_NANO: i128 = i64::MAX as i128 * NANO;
/// Digits in front of the point beyond which a number is surely larger than [`MAX_NANO`], and that still fit an `i128`.
const WHOLE_DIGITS_MAX: i64 = 30;

/// How a quantity was written, which decides how it is rendered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Format {
    /// `Ki`, `Mi`, …
    Binary,
    /// None, or `m`, `k`, `M`, …
    Decimal,
    /// `e3`, `E-6`, …
    Exponent,
}

/// An amount, exact to a billionth, of a magnitude up to 2^63-1.
///
/// Compared by value: `1Gi` equals `1024Mi`. Rendered in the form that it was written in: `1024Mi` as `1Gi`.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuantityError {
    /// Nothing stands there.
    #[error("must be a quantity, but is empty")]
    Empty,
    /// The text has not the form of a number with a suffix.
    #[error("must be a number with an optional suffix, without spaces, such as 500m, 2, 1.5Gi or 1e9")]
    Form,
    /// The suffix is not known.
    #[error("must end in a suffix that Kubernetes knows: n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or e3")]
    Suffix,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nano: 0,
        format: Format::Decimal,
    };

    /// So many bytes, rendered with a binary suffix. Negative only if `bytes` is.
    pub const fn from_bytes(bytes: i64) -> Self {
        Self {
            nano: bytes as i128 * NANO,
            format: Format::Binary,
        }
    }

    /// So many thousandths, rendered with a decimal suffix.
    pub const fn from_milli(milli: i64) -> Self {
        Self {
            nano: milli as i128 * 1_000_000,
            format: Format::Decimal,
        }
    }

    /// The amount in whole units (bytes, for memory and storage), rounded away from zero: up, for what is not negative.
    pub fn bytes_ceil(&self) -> i64 {
        i64::try_from(self.in_units_of(NANO)).expect("the magnitude is bounded by 2^63-1 units")
    }

    /// The amount in thousandths (milli-CPU), rounded away from zero: up, for what is not negative.
    pub fn milli_ceil(&self) -> i128 {
        self.in_units_of(NANO / 1_000)
    }

    fn in_units_of(&self, unit: i128) -> i128 {
        let whole = self.nano / unit;
        if self.nano % unit == 0 {
            whole
        } else {
            whole + self.nano.signum()
        }
    }

    /// The sum, in this quantity's form; none if its magnitude would be over 2^63-1.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.with(self.nano + other.nano)
    }

    /// The difference, in this quantity's form; none if its magnitude would be over 2^63-1.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.with(self.nano - other.nano)
    }

    fn with(self, nano: i128) -> Option<Self> {
        (-MAX_NANO..=MAX_NANO).contains(&nano).then_some(Self { nano, ..self })
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Empty);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, rest) = rest.split_at(digits(rest));
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        let suffix = Suffix::parse(suffix)?;
        if whole.is_empty() && fraction.is_empty() && suffix.needs_digits() {
            return Err(QuantityError::Form);
        }
        let (format, magnitude) = match suffix {
            Suffix::Decimal(exponent) => (Format::Decimal, magnitude(whole, fraction, 0, exponent)),
            Suffix::Exponent(exponent) => (Format::Exponent, magnitude(whole, fraction, 0, exponent)),
            Suffix::Binary(exponent) => (Format::Binary, magnitude(whole, fraction, exponent, 0)),
        };
        // Below one, a binary suffix would only confuse; the original forgets it here too.
        let format = if magnitude < NANO && format == Format::Binary {
            Format::Decimal
        } else {
            format
        };
        Ok(Self {
            nano: if negative { -magnitude } else { magnitude },
            format,
        })
    }
}

/// Length of the run of digits that `text` begins with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// A suffix: powers of ten, or a power of two.
enum Suffix {
    Decimal(i64),
    Exponent(i64),
    Binary(u32),
}

impl Suffix {
    fn parse(text: &str) -> Result<Self, QuantityError> {
        Ok(match text {
            "n" => Self::Decimal(-9),
            "u" => Self::Decimal(-6),
            "m" => Self::Decimal(-3),
            "" => Self::Decimal(0),
            "k" => Self::Decimal(3),
            "M" => Self::Decimal(6),
            "G" => Self::Decimal(9),
            "T" => Self::Decimal(12),
            "P" => Self::Decimal(15),
            "E" => Self::Decimal(18),
            "Ki" => Self::Binary(10),
            "Mi" => Self::Binary(20),
            "Gi" => Self::Binary(30),
            "Ti" => Self::Binary(40),
            "Pi" => Self::Binary(50),
            "Ei" => Self::Binary(60),
            _ => return Self::exponent(text),
        })
    }

    /// Whether a number without a single digit is refused. The original takes it for 0 on its fast path, which these do
    /// not go: `Ti` is accepted, `Pi` is not.
    fn needs_digits(&self) -> bool {
        match *self {
            Self::Decimal(exponent) | Self::Exponent(exponent) => exponent < -NANO_PLACES,
            Self::Binary(exponent) => exponent > 40,
        }
    }

    /// `e` or `E`, an optional sign, and digits that fit 64 bits.
    fn exponent(text: &str) -> Result<Self, QuantityError> {
        // Letters first, then at most one sign, then digits: what is not of this form is no suffix at all.
        let letters = text.bytes().take_while(|byte| b"eEinumkKMGTP".contains(byte)).count();
        let signed = &text[letters..];
        let number = signed.strip_prefix(['+', '-']).unwrap_or(signed);
        if letters == 0 || digits(number) != number.len() {
            return Err(QuantityError::Form);
        }
        if letters != 1 || !text.starts_with(['e', 'E']) {
            return Err(QuantityError::Suffix);
        }
        let exponent: i64 = signed.parse().map_err(|_| QuantityError::Suffix)?;
        // The original keeps the low 32 bits.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "so does the original, and `1e4294967296` is 1 there"
        )]
        Ok(Self::Exponent(i64::from(exponent as i32)))
    }
}

/// `whole.fraction * 2^binary * 10^decimal` in nano-units, rounded up, and capped at [`MAX_NANO`].
fn magnitude(whole: &str, fraction: &str, binary: u32, decimal: i64) -> i128 {
    let mut figures: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
    for _ in 0..binary {
        double(&mut figures);
    }
    let leading = figures.iter().take_while(|figure| **figure == 0).count();
    figures.drain(..leading);
    if figures.is_empty() {
        return 0;
    }
    // The value is `figures * 10^scale` nano-units; its first `before_point` figures are whole nano-units.
    let scale = decimal - length(fraction.len()) + NANO_PLACES;
    let before_point = length(figures.len()) + scale;
    if before_point > WHOLE_DIGITS_MAX {
        return MAX_NANO;
    }
    let mut nano: i128 = 0;
    for place in 0..before_point {
        let figure = usize::try_from(place)
            .ok()
            .and_then(|place| figures.get(place))
            .copied()
            .unwrap_or(0);
        nano = nano * 10 + i128::from(figure);
    }
    let kept = usize::try_from(before_point.max(0)).unwrap_or(usize::MAX);
    let cut = figures.iter().skip(kept).any(|figure| *figure != 0);
    (nano + i128::from(cut)).min(MAX_NANO)
}

/// A length of text as a signed number, for arithmetic with exponents.
fn length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX / 4)
}

/// Doubles a number of decimal figures, most significant first.
fn double(figures: &mut Vec<u8>) {
    let mut carry = 0;
    for figure in figures.iter_mut().rev() {
        let doubled = *figure * 2 + carry;
        *figure = doubled % 10;
        carry = doubled / 10;
    }
    if carry > 0 {
        figures.insert(0, carry);
    }
}

/// As the API server renders it: the same value, in the form that it was written in, without a fraction, with the
/// largest suffix that allows that.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano.abs() < 1024 * NANO;
        if self.format == Format::Binary && !small && self.nano % NANO == 0 {
            let (amount, power) = without_factors(self.nano / NANO, 1024);
            return write!(f, "{amount}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        // All factors of ten, then back until the power is one of thousand.
        let (mut amount, tens) = without_factors(self.nano, 10);
        let surplus = tens % 3;
        for _ in 0..surplus {
            amount *= 10;
        }
        let thousands = (tens - surplus) / 3;
        if self.format == Format::Exponent {
            let exponent = length(thousands) * 3 - NANO_PLACES;
            return if exponent == 0 {
                write!(f, "{amount}")
            } else {
                write!(f, "{amount}e{exponent}")
            };
        }
        write!(
            f,
            "{amount}{}",
            ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][thousands]
        )
    }
}

/// Takes all factors `base` out of a number that is not zero: what is left, and how many there were.
fn without_factors(mut number: i128, base: i128) -> (i128, usize) {
    let mut times = 0;
    while number % base == 0 {
        number /= base;
        times += 1;
    }
    (number, times)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl std::hash::Hash for Quantity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.nano.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn equal_values_are_equal_however_they_are_written() {
        assert_eq!(quantity("1Gi"), quantity("1024Mi"));
        assert_eq!(quantity("0.5"), quantity("500m"));
        assert_eq!(quantity("1e3"), quantity("1k"));
        assert!(quantity("1Gi") > quantity("1G"));
        assert!(quantity("-1") < Quantity::ZERO);
    }

    #[test]
    fn whole_amounts_are_rounded_away_from_zero() {
        assert_eq!(quantity("1.5").bytes_ceil(), 2);
        assert_eq!(quantity("-1.5").bytes_ceil(), -2);
        assert_eq!(quantity("1n").milli_ceil(), 1);
        assert_eq!(quantity("1500m").milli_ceil(), 1500);
        assert_eq!(quantity("1Ki").bytes_ceil(), 1024);
    }

    #[test]
    fn sums_have_bounds() {
        let max = Quantity::from_bytes(i64::MAX);
        assert_eq!(max.checked_add(quantity("1n")), None);
        assert_eq!(max.checked_sub(max), Some(Quantity::ZERO));
        assert_eq!(
            quantity("1Gi").checked_add(quantity("1Gi")).map(|sum| sum.to_string()),
            Some("2Gi".to_owned())
        );
        assert_eq!(
            quantity("1")
                .checked_sub(quantity("1500m"))
                .map(|rest| rest.to_string()),
            Some("-500m".to_owned())
        );
    }

    #[test]
    fn what_is_beyond_the_bounds_is_capped_or_rounded_up() {
        assert_eq!(quantity("10E").bytes_ceil(), i64::MAX);
        assert_eq!(quantity("-100Ei").bytes_ceil(), -i64::MAX);
        assert_eq!(quantity("1e2000000000").bytes_ceil(), i64::MAX);
        assert_eq!(quantity("1e-2000000000").to_string(), "1e-9");
        assert_eq!(quantity("0.0000000001").to_string(), "1n");
    }

    #[test]
    fn each_error_says_what_is_wrong() {
        assert_eq!("".parse::<Quantity>(), Err(QuantityError::Empty));
        for text in ["1 Gi", "0x1", "1,5", "1.5.5", "Gi 1", "1Gi ", "--1", "1e+-3"] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Form), "{text}");
        }
        for text in ["1K", "1e", "1ki", "1i", "1EE3", "1e99999999999999999999", "1Mi3"] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Suffix), "{text}");
        }
    }
}
