//! Copies of what was masked, in messages: whole, cut, quoted and escaped.

use serde_json::Value;

use super::MASK;

/// Shorter values are looked for in quotes only: too many harmless words would go.
const SHORTEST_COPY: usize = 6;

/// After so many characters a [`Fault`](api::fault::Fault) cuts a value.
const CUT: usize = 80;

/// Keeps a masked value, so that copies of it are found in messages.
pub(super) fn remember(secrets: &mut Vec<String>, secret: &str) {
    if !secret.is_empty() && secret != MASK && !secrets.iter().any(|known| known == secret) {
        secrets.push(secret.to_owned());
    }
}

/// The forms in which secrets may stand in a message.
#[derive(Default)]
pub(super) struct Copies {
    /// Text, and what it becomes; the longest text first, since a shorter one may be part of it.
    forms: Vec<(String, String)>,
    /// So many secrets are known.
    learned: usize,
}

impl Copies {
    /// Takes over what was masked since the last call.
    pub(super) fn learn(&mut self, secrets: &[String]) {
        if self.learned == secrets.len() {
            return;
        }
        for secret in &secrets[self.learned..] {
            self.add_forms(secret);
        }
        self.learned = secrets.len();
        self.forms
            .sort_unstable_by(|(one, _), (other, _)| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        self.forms.dedup();
    }

    /// Masks every copy; says whether there was one.
    pub(super) fn mask(&self, text: &mut String) -> bool {
        let mut changed = false;
        for (form, mask) in &self.forms {
            if text.contains(form.as_str()) {
                *text = text.replace(form.as_str(), mask);
                changed = true;
            }
        }
        changed
    }

    fn add_forms(&mut self, secret: &str) {
        self.add_escaped(secret);
        if let Some((cut, _)) = secret.char_indices().nth(CUT) {
            self.add_escaped(&secret[..cut]);
        }
    }

    /// As it is, as Rust escapes it in `{:?}`, and as JSON does.
    fn add_escaped(&mut self, secret: &str) {
        self.add(secret);
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if !secret.bytes().all(is_plain) {
            for escaped in [format!("{secret:?}"), Value::from(secret).to_string()] {
                let inner = &escaped[1..escaped.len() - 1];
                if inner != secret {
                    self.add(inner);
                }
            }
        }
    }

    fn add(&mut self, form: &str) {
        if form.chars().count() >= SHORTEST_COPY {
            self.forms.push((form.to_owned(), MASK.to_owned()));
        } else {
            for quote in ['"', '\'', '`'] {
                self.forms
                    .push((format!("{quote}{form}{quote}"), format!("{quote}{MASK}{quote}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secret: &str, message: &str) -> String {
        let (mut secrets, mut copies, mut message) = (Vec::new(), Copies::default(), message.to_owned());
        remember(&mut secrets, secret);
        copies.learn(&secrets);
        copies.mask(&mut message);
        message
    }

    #[test]
    fn a_fault_that_repeats_a_secret_is_masked() {
        let long = "hunter2 ".repeat(30);
        for secret in [
            "hunt5",
            "a",
            "hunter2",
            &long,
            "hunter2\"q\\z",
            "a\"b",
            "hunter2é\u{200b}z",
            "ß\n",
            "hunter\t2",
        ] {
            let fault = api::fault::Fault::new("spec.x", secret, "is wrong", "mend it").to_string();
            let masked = masked(secret, &fault);
            assert!(
                [
                    r#"spec.x ("[masked]"): is wrong; mend it"#,
                    r#"spec.x ("[masked]"…): is wrong; mend it"#
                ]
                .contains(&masked.as_str()),
                "{masked}"
            );
            let json = Value::from(secret).to_string();
            assert_eq!(self::masked(secret, &json), r#""[masked]""#, "{json}");
        }
    }

    #[test]
    fn a_short_secret_does_not_take_words_apart() {
        assert_eq!(
            masked("shop", "the shop is `shop`, shopping"),
            "the shop is `[masked]`, shopping"
        );
    }

    #[test]
    fn a_secret_inside_a_longer_one_leaves_nothing_of_it() {
        let (mut copies, mut text) = (Copies::default(), "hunter2hunter2".to_owned());
        copies.learn(&["hunter2".to_owned(), "hunter2hunter2".to_owned()]);
        assert!(copies.mask(&mut text));
        assert_eq!(text, MASK);
    }
}
