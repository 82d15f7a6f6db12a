//! Quantities are what Kubernetes' own parser makes of them: golden vectors, made as `tests/quantity/README.md` says.

use api::quantity::Quantity;
use proptest::prelude::*;

/// One line of `tests/quantity/vectors.tsv`.
struct Vector {
    text: String,
    expected: Expected,
}

enum Expected {
    Refused,
    Accepted {
        canonical: String,
        milli: i128,
        value: i64,
    },
    /// The magnitude is over 2^63-1, where the original's arithmetic overflows; the sign is told.
    Over(i64),
}

fn vectors() -> Vec<Vector> {
    let lines = include_str!("quantity/vectors.tsv").lines().skip(1);
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [text, accepted, canonical, milli, value, over] = fields[..] else {
                panic!("{line}")
            };
            let expected = match (accepted, over) {
                ("no", "") => Expected::Refused,
                ("yes", "") => Expected::Accepted {
                    canonical: canonical.to_owned(),
                    milli: milli.parse().expect(line),
                    value: value.parse().expect(line),
                },
                ("yes", sign) => Expected::Over(sign.parse().expect(line)),
                _ => panic!("{line}"),
            };
            // The text is quoted as in Go, which for these characters is as in JSON.
            Vector {
                text: serde_json::from_str(&text.replace("\\x", "\\u00")).expect(line),
                expected,
            }
        })
        .collect()
}

#[test]
fn parses_and_renders_as_kubernetes_does() {
    let vectors = vectors();
    assert!(vectors.len() >= 1500, "only {} vectors", vectors.len());
    let mut wrong = Vec::new();
    let (mut refused, mut accepted, mut over) = (0, 0, 0);
    for Vector { text, expected } in vectors {
        let parsed = text.parse::<Quantity>();
        let agrees = match (&expected, &parsed) {
            (Expected::Refused, Err(_)) => {
                refused += 1;
                true
            }
            (
                Expected::Accepted {
                    canonical,
                    milli,
                    value,
                },
                Ok(quantity),
            ) => {
                accepted += 1;
                quantity.to_string() == *canonical && quantity.milli_ceil() == *milli && quantity.bytes_ceil() == *value
            }
            (Expected::Over(sign), Ok(quantity)) => {
                over += 1;
                quantity.bytes_ceil() == sign * i64::MAX
            }
            (Expected::Refused, Ok(_)) | (Expected::Accepted { .. } | Expected::Over(_), Err(_)) => false,
        };
        if !agrees {
            wrong.push(format!("{text:?}: {parsed:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(
        refused > 300 && accepted > 800 && over > 20,
        "{refused} refused, {accepted} accepted, {over} over"
    );
}

/// Texts of quantities within the bounds.
fn texts() -> impl Strategy<Value = String> {
    "[+-]?[0-9]{1,6}(\\.[0-9]{0,6})?(n|u|m||k|M|G|T|Ki|Mi|Gi|Ti|e[0-9]|E-[0-9])"
}

proptest! {
    #[test]
    fn what_is_rendered_is_the_same_value(text in texts()) {
        let quantity: Quantity = text.parse().unwrap();
        let rendered = quantity.to_string();
        let again: Quantity = rendered.parse().unwrap();
        prop_assert_eq!(again, quantity);
        prop_assert_eq!(again.to_string(), rendered);
    }

    #[test]
    fn sums_and_differences_are_exact(a in texts(), b in texts()) {
        let (a, b): (Quantity, Quantity) = (a.parse().unwrap(), b.parse().unwrap());
        let sum = a.checked_add(b).unwrap();
        prop_assert_eq!(sum.checked_sub(b), Some(a));
        prop_assert_eq!(b.checked_add(a), Some(sum));
        prop_assert_eq!(a.cmp(&b), a.checked_sub(b).unwrap().cmp(&Quantity::ZERO));
    }

    #[test]
    fn order_agrees_with_whole_amounts(a in texts(), b in texts()) {
        let (a, b): (Quantity, Quantity) = (a.parse().unwrap(), b.parse().unwrap());
        if a < b {
            prop_assert!(a.milli_ceil() <= b.milli_ceil() && a.bytes_ceil() <= b.bytes_ceil());
        }
    }

    #[test]
    fn no_text_makes_it_fail_but_with_an_error(text in "\\PC{0,40}") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
        }
    }
}
