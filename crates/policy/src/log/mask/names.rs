//! Which names announce a secret, and which only name one.

/// Parts of a name that announce a secret when they stand alone, in the singular.
const WHOLE: [&str; 12] = [
    "cred",
    "authorization",
    "bearer",
    "cookie",
    "dsn",
    "otp",
    "signature",
    "sig",
    "sas",
    "jwt",
    "keyfile",
    "keytab",
];

/// What announces a secret also inside a longer word (`PGPASSWORD`), and is hardly ever part of another one.
const INSIDE: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "credential",
    "accesskey",
    "privatekey",
    // A connection's settings, its password among them.
    "conninfo",
    "connectionstring",
];

/// Endings of words, and words, that announce a secret (`requirepass`, `userpwd`, `masterauth`, `sslkey`).
const ENDINGS: [&str; 6] = ["pass", "pwd", "pw", "token", "auth", "key"];

/// Words with such an ending that announce nothing.
const HARMLESS: [&str; 4] = ["monkey", "turkey", "bypass", "compass"];

/// Every word of the lists contains one of these; most names contain none, and need not be cut into parts.
const STEMS: [&str; 16] = [
    "pass", "pwd", "pw", "token", "key", "cred", "auth", "bearer", "cookie", "secret", "sig", "jwt", "dsn", "otp",
    "sas", "conn",
];

/// How the value under a name is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Like any other.
    Plain,
    /// The value is a secret.
    Secret,
    /// The value, or the name in it, says where a secret is: `secretRef`, `secretName`, `secretKeyRef`.
    Reference,
    /// As an object it says where a secret is (the volume source `secret: {secretName}`), as anything else it is one.
    SecretUnlessObject,
    /// Values are labels: the names of labels announce nothing.
    Labels,
    /// A copy of the object, secrets and all, in one string.
    LastApplied,
}

/// What a name says about its value.
pub(super) fn meaning(name: &str) -> Meaning {
    match name {
        "labels" | "matchLabels" | "nodeSelector" | "selector" => return Meaning::Labels,
        "topologyKey" => return Meaning::Plain,
        "secret" | "secrets" | "imagePullSecrets" => return Meaning::SecretUnlessObject,
        _ if name.ends_with("last-applied-configuration") => return Meaning::LastApplied,
        _ => {}
    }
    let lower = name.to_lowercase();
    if !STEMS.iter().any(|stem| lower.contains(stem)) {
        return Meaning::Plain;
    }
    let parts = parts(name);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if matches!(parts[..], [.., "secret" | "key", "ref" | "name"]) {
        Meaning::Reference
    } else if parts.iter().any(|part| announces(part)) || parts.concat().contains("connectionstring") {
        Meaning::Secret
    } else {
        Meaning::Plain
    }
}

/// Whether what follows this name in a text is a secret.
pub(super) fn is_secret(name: &str) -> bool {
    matches!(meaning(name), Meaning::Secret | Meaning::SecretUnlessObject)
}

/// Whether a member of a reference is part of the name, not of the secret.
pub(super) fn names_the_place(member: &str) -> bool {
    matches!(
        member,
        "name"
            | "namespace"
            | "key"
            | "path"
            | "kind"
            | "apiVersion"
            | "group"
            | "uid"
            | "optional"
            | "items"
            | "mode"
            | "defaultMode"
            | "secretName"
    )
}

fn announces(part: &str) -> bool {
    // `pass1`, `token2`.
    let part = part.trim_end_matches(|c: char| c.is_ascii_digit());
    let singular = match part.strip_suffix('s') {
        Some(singular) if !part.ends_with("ss") => singular,
        _ => part,
    };
    WHOLE.contains(&part)
        || WHOLE.contains(&singular)
        || INSIDE.iter().any(|word| part.contains(word))
        || ENDINGS.iter().any(|ending| singular.ends_with(ending)) && !HARMLESS.contains(&singular)
}

/// The parts of a name, in lower case: `sslKey_file` is `ssl`, `key`, `file`, and `APIKeyV2` is `api`, `key`, `v2`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let characters: Vec<char> = name.chars().collect();
    for (index, &character) in characters.iter().enumerate() {
        if !character.is_alphanumeric() {
            parts.push(String::new());
            continue;
        }
        let before = index.checked_sub(1).map(|index| characters[index]);
        let after = characters.get(index + 1);
        // A capital begins a part after a small letter, and the last of several before a small letter.
        let begins = character.is_uppercase()
            && before.is_some_and(|before| !before.is_uppercase() || after.is_some_and(|after| after.is_lowercase()));
        if begins {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.extend(character.to_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_a_stem() {
        for word in WHOLE.iter().chain(&INSIDE).chain(&ENDINGS) {
            assert!(
                STEMS.iter().any(|stem| word.contains(stem)),
                "{word} would never be found"
            );
        }
    }

    #[test]
    fn names_are_cut_into_parts() {
        for (name, expected) in [
            ("ssl_key_file", vec!["ssl", "key", "file"]),
            ("APIKeyV2", vec!["api", "key", "v2"]),
            ("secretKeyRef", vec!["secret", "key", "ref"]),
            ("example.com/db-token", vec!["example", "com", "db", "token"]),
            ("PGPASSWORD", vec!["pgpassword"]),
            ("", vec![]),
        ] {
            assert_eq!(parts(name), expected, "{name}");
        }
    }

    #[test]
    fn names_that_announce_a_secret_and_names_that_do_not() {
        use Meaning::{LastApplied, Plain, Reference, Secret, SecretUnlessObject};
        for (name, expected) in [
            ("password", Secret),
            ("PGPASSWORD", Secret),
            ("MYSQL_ROOT_PASSWORD", Secret),
            ("ssl_key_file", Secret),
            ("masterauth-token", Secret),
            ("example.com/api-tokens", Secret),
            ("refreshtoken", Secret),
            ("secretKey", Secret),
            ("credentials", Secret),
            ("Authorization", Secret),
            ("requirepass", Secret),
            ("masterauth", Secret),
            ("primaryauth", Secret),
            ("dbpass", Secret),
            ("rootpw", Secret),
            ("userpwd", Secret),
            ("sslkey", Secret),
            ("primary_conninfo", Secret),
            ("connectionString", Secret),
            ("connection_string", Secret),
            ("pass1", Secret),
            ("token2", Secret),
            ("password2", Secret),
            ("apikeys", Secret),
            ("oauth2", Secret),
            ("keyfile", Secret),
            ("masteruser", Plain),
            ("bypass", Plain),
            ("keyspace", Plain),
            ("monkey", Plain),
            ("tokenizer", Plain),
            ("author", Plain),
            ("topologyKey", Plain),
            ("max_connections", Plain),
            ("configMapKeyRef", Reference),
            ("secretRef", Reference),
            ("caSecretRef", Reference),
            ("secretName", Reference),
            ("secret", SecretUnlessObject),
            ("kubectl.kubernetes.io/last-applied-configuration", LastApplied),
        ] {
            assert_eq!(meaning(name), expected, "{name}");
        }
    }
}
