//! The two forms of names in Kubernetes, as far as the command line takes them.

/// The rule of [`is_label`], for messages.
pub(crate) const LABEL_RULE: &str = "1 to 63 small letters, digits and '-', with a letter or digit at both ends";

/// The rule of [`is_subdomain`], for messages.
pub(crate) const SUBDOMAIN_RULE: &str = "parts of 1 to 63 small letters, digits and '-', joined by dots";

/// Whether `name` may name a namespace (RFC 1123 label).
pub(crate) fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// Whether `name` may name most other objects (RFC 1123 subdomain). Parts are bounded as in host names, which is
/// stricter than the API server, which bounds only the whole.
pub(crate) fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for name in ["a", "0", "a-b", "team-42", &"x".repeat(63)] {
            assert!(is_label(name), "{name:?}");
        }
        for name in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a_b",
            "a b",
            "ä",
            "a/b",
            "a\n",
            &"x".repeat(64),
        ] {
            assert!(!is_label(name), "{name:?}");
        }
    }

    #[test]
    fn subdomains() {
        for name in ["a", "a.b", "database-operator-0", "ip-10-0-0-1.eu.internal"] {
            assert!(is_subdomain(name), "{name:?}");
        }
        for name in ["", ".", "a.", ".a", "a..b", "A.b", &["x"; 128].join(".")] {
            assert!(!is_subdomain(name), "{name:?}");
        }
    }
}
