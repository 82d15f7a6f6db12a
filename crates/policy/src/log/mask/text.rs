//! Secrets inside a string: private keys, URLs with credentials, tokens, assignments.

use super::MASK;
use super::assignment::{assignments, flags};
use super::copies::remember;

/// How tokens of well-known issuers begin.
const PREFIXES: [&str; 17] = [
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "hvs.",
    "npm_",
    "sk_live_",
    "sk-proj-",
    "dckr_pat_",
    "pypi-AgE",
    "AIza",
    "AGE-SECRET-KEY-1",
];

/// A token of a well-known issuer is at least this long, its prefix included.
const SHORTEST_TOKEN: usize = 16;

/// `-----BEGIN ` in Base64, and with the word that makes it a certificate, which is public.
const PEM_BASE64: &str = "LS0tLS1CRUdJTi";
const CERTIFICATE_BASE64: &str = "LS0tLS1CRUdJTiBDRVJU";

/// One kind of secret: gives the changed text, or `None`, and keeps what it has taken out.
pub(super) type Pass = fn(&str, &mut Vec<String>) -> Option<String>;

/// How often a text is looked through again because something was taken out of it.
const ROUNDS: usize = 8;

/// The text without the secrets in it, or `None` if there are none.
pub(super) fn scrub(text: &str, secrets: &mut Vec<String>) -> Option<String> {
    let mut clean = once(text, secrets)?;
    // What is left beside a mask may look like a secret in its turn.
    for _ in 0..ROUNDS {
        match once(&clean, secrets) {
            Some(next) if next != clean => clean = next,
            Some(_) | None => break,
        }
    }
    Some(clean)
}

fn once(text: &str, secrets: &mut Vec<String>) -> Option<String> {
    // Blocks before words: a key may hold anything that the later ones look for.
    const PASSES: [Pass; 7] = [private_keys, urls, data_sources, tokens, bearers, flags, assignments];
    let mut clean: Option<String> = None;
    for pass in PASSES {
        let current = clean.as_deref().unwrap_or(text);
        if let Some(next) = pass(current, secrets) {
            clean = Some(next);
        }
    }
    clean
}

/// PEM blocks, and blocks of SSH2, whose label says that they are private. One ends where its own label does, not that
/// of another block, or not at all: then it is masked to the end of the text.
fn private_keys(text: &str, secrets: &mut Vec<String>) -> Option<String> {
    const BEGIN: &str = "BEGIN ";
    let mut clean = String::new();
    let mut copied = 0;
    for (at, _) in text.match_indices(BEGIN) {
        let line = &text[copied.min(at)..at];
        let dashes = line.trim_end_matches(' ');
        let start = at - line.len() + dashes.trim_end_matches('-').len();
        let label = text[at + BEGIN.len()..].split("---").next().unwrap_or_default().trim();
        if at < copied || !dashes.ends_with("----") || !label.contains("PRIVATE") {
            continue;
        }
        let closing = format!("END {label}");
        let end = text[at..].find(&closing).map_or(text.len(), |end| {
            let after = &text[at + end + closing.len()..];
            let close = after.trim_start_matches([' ', '-']);
            text.len() - close.len()
        });
        remember(secrets, &text[start..end]);
        clean.push_str(&text[copied..start]);
        clean.push_str(MASK);
        copied = end;
    }
    (copied > 0).then(|| clean + &text[copied..])
}

/// `scheme://user:password@host`: everything before the last `@` of the word goes, since a password may hold anything.
fn urls(text: &str, secrets: &mut Vec<String>) -> Option<String> {
    let mut rest = text;
    let mut clean = String::new();
    let mut found = false;
    while let Some(at) = rest.find("://") {
        let start = at + 3;
        clean.push_str(&rest[..start]);
        let word_end = rest[start..]
            .find(char::is_whitespace)
            .map_or(rest.len(), |end| start + end);
        let word = &rest[start..word_end];
        let keys = || {
            rest[..at]
                .ends_with(['3', 'a', 'n'])
                .then(|| storage_keys(&rest[..at], word))
                .flatten()
        };
        if let Some(user) = credentials(word).or_else(keys) {
            found = true;
            remember_user(secrets, user);
            clean.push_str(MASK);
            rest = &rest[start + user.len()..];
        } else {
            rest = &rest[start..];
        }
    }
    clean.push_str(rest);
    found.then_some(clean)
}

/// The credentials at the beginning of what follows `://`.
fn credentials(word: &str) -> Option<&str> {
    let authority = word.split(['/', '?', '#']).next().unwrap_or_default();
    let user = &word[..word.rfind('@')?];
    // A colon without `@`: a port with a digest or a module version behind it, or a password with a slash in it.
    let has_credentials = authority.contains('@') || (authority.contains(':') && !is_digest(&word[user.len() + 1..]));
    (has_credentials && !user.is_empty() && user != MASK).then_some(user)
}

/// `s3://KEY:SECRET/bucket`: what a bucket may not be called.
fn storage_keys<'a>(before: &str, word: &'a str) -> Option<&'a str> {
    let is_storage = ["s3", "s3a", "s3n"].iter().any(|scheme| before.ends_with(scheme));
    let authority = word.split(['/', '?', '#']).next().unwrap_or_default();
    let (_, port) = authority.split_once(':')?;
    (is_storage && !port.bytes().all(|byte| byte.is_ascii_digit())).then_some(authority)
}

fn remember_user(secrets: &mut Vec<String>, user: &str) {
    remember(secrets, user);
    if let Some((_, password)) = user.split_once(':') {
        remember(secrets, password);
    }
}

fn is_digest(text: &str) -> bool {
    text.starts_with("sha256:") || text.starts_with("sha512:")
}

/// `user:password@tcp(host:1)/db` and `user:password@host:1`, without a scheme.
fn data_sources(text: &str, secrets: &mut Vec<String>) -> Option<String> {
    if !text.contains('@') {
        return None;
    }
    let mut clean = String::with_capacity(text.len());
    let mut found = false;
    for word in text.split_inclusive(char::is_whitespace) {
        match word.rfind('@') {
            Some(at) if !word.contains("://") && is_data_source(&word[..at], &word[at + 1..]) => {
                found = true;
                remember_user(secrets, &word[..at]);
                clean.push_str(MASK);
                clean.push_str(&word[at..]);
            }
            _ => clean.push_str(word),
        }
    }
    found.then_some(clean)
}

/// A user name of an identity provider (`oidc:alice@example.com`) is none: no port and no path follow.
fn is_data_source(user: &str, host: &str) -> bool {
    let host = host.trim_end_matches(|character: char| !character.is_alphanumeric());
    let has_password = user.split_once(':').is_some_and(|(_, password)| !password.is_empty());
    has_password && host.contains(['/', ':', '(']) && !is_digest(host)
}

/// JSON Web Tokens, tokens of well-known issuers, keys in Base64.
fn tokens(text: &str, secrets: &mut Vec<String>) -> Option<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_-.+/=".contains(character);
    if text.len() < SHORTEST_TOKEN {
        return None;
    }
    let mut clean = String::new();
    let mut copied = 0;
    let mut start = 0;
    while start < text.len() {
        let rest = &text[start..];
        let end = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        if let Some(at) = token_in(&rest[..end]) {
            clean.push_str(&text[copied..start + at]);
            clean.push_str(MASK);
            remember(secrets, &rest[at..end]);
            copied = start + end;
        }
        start += end + rest[end..].chars().next().map_or(1, char::len_utf8);
    }
    (copied > 0).then(|| clean + &text[copied..])
}

/// Where in a word a token begins.
fn token_in(word: &str) -> Option<usize> {
    if word.len() < SHORTEST_TOKEN {
        return None;
    }
    let jwt = word.find("eyJ").filter(|at| {
        let parts: Vec<&str> = word[*at..].split('.').collect();
        parts.len() >= 3 && parts[0].len() >= 8 && !parts[1].is_empty()
    });
    let key = word
        .find(PEM_BASE64)
        .filter(|at| !word[*at..].starts_with(CERTIFICATE_BASE64));
    // Behind a slash or an equals sign, too: in paths and in settings.
    let issued = PREFIXES
        .iter()
        .flat_map(|prefix| word.match_indices(prefix))
        .map(|(at, _)| at)
        .filter(|at| {
            word.len() - at >= SHORTEST_TOKEN && !word[..*at].ends_with(|before: char| before.is_ascii_alphanumeric())
        })
        .min();
    [jwt, key, issued].into_iter().flatten().min()
}

/// `Bearer x` and `Basic x`, as in a header.
fn bearers(text: &str, secrets: &mut Vec<String>) -> Option<String> {
    if !text.contains(' ') {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let mut clean = String::new();
    let mut copied = 0;
    for (at, _) in lower.match_indices(' ') {
        let start = at + 1;
        if !lower[..at].ends_with("bearer") && !lower[..at].ends_with("basic") {
            continue;
        }
        if start < copied {
            continue;
        }
        let rest = &text[start..];
        let token = rest
            .split(|c: char| c.is_whitespace() || c == '"' || c == '\'')
            .next()
            .unwrap_or_default();
        // In prose, a word follows.
        let is_token =
            token.len() >= 8 && (token.len() >= 20 || token.contains(|c: char| c.is_ascii_digit() || c == '='));
        if is_token && !token.starts_with(MASK) {
            clean.push_str(&text[copied..start]);
            clean.push_str(MASK);
            remember(secrets, token);
            copied = start + token.len();
        }
    }
    (copied > 0).then(|| clean + &text[copied..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_texts() {
        for (text, expected) in [
            ("postgres://app:hunter2@db:5432/x", "postgres://[masked]@db:5432/x"),
            ("see https://tok3n@host/x, or", "see https://[masked]@host/x, or"),
            ("postgres://u:p/w@host/x", "postgres://[masked]@host/x"),
            ("a://u:p@h b://v:q@i", "a://[masked]@h b://[masked]@i"),
            ("app:hunter2@tcp(db:3306)/x", "[masked]@tcp(db:3306)/x"),
            ("--password=hunter2", "--password=[masked]"),
            ("--password hunter2 -x", "--password [masked] -x"),
            ("host=db password=hunter2", "host=db password=[masked]"),
            ("password = 'two words' x", "password = '[masked]' x"),
            ("PGPASSWORD=a\\ b c", "PGPASSWORD=[masked] c"),
            ("a: 1\npassword: two words\nb: 2", "a: 1\npassword: [masked]\nb: 2"),
            (
                "a:\n  password: |\n    x\n    y\n  b: 2",
                "a:\n  password: [masked]\n  b: 2",
            ),
            (
                r#"broken {"password": "hun\"ter2", "b": 1"#,
                r#"broken {"password": "[masked]", "b": 1"#,
            ),
            (
                r#"{\"password\":\"hunter2\",\"b\":1"#,
                r#"{\"password\":\"[masked]\",\"b\":1"#,
            ),
            ("x -H 'Authorization: Basic abc' y", "x -H 'Authorization: [masked]"),
            ("Bearer abcdefgh12345678 x", "Bearer [masked] x"),
            ("t eyJhbGciOiJI.eyJzdWIiOiIx.sig- x", "t [masked] x"),
            ("ghp_0123456789abcdefghij", "[masked]"),
            (
                "-----BEGIN EC PRIVATE KEY-----\nx\n-----END EC PRIVATE KEY-----\nz",
                "[masked]\nz",
            ),
            ("-----BEGIN PRIVATE KEY-----\nx", "[masked]"),
            ("LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCg==", "[masked]"),
            (
                "-----BEGIN PRIVATE KEY-----\nx\n-----END CERTIFICATE-----\nx",
                "[masked]",
            ),
            (
                "a ---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nx\n---- END SSH2 ENCRYPTED PRIVATE KEY ----\nz",
                "a [masked]\nz",
            ),
            ("----- BEGIN RSA PRIVATE KEY -----\nx", "[masked]"),
            ("requirepass hunter2 x", "requirepass [masked] x"),
            ("port 1\nmasterauth abc\nx", "port 1\nmasterauth [masked]\nx"),
            (
                "user default on >hunter2 ~* +@all",
                "user default on >[masked] ~* +@all",
            ),
            ("a\n  password hunter2", "a\n  password [masked]"),
            ("the password: hunter2, and", "the password: [masked], and"),
            (
                "ALTER USER x IDENTIFIED BY 'abc'",
                "ALTER USER x IDENTIFIED BY '[masked]'",
            ),
            (
                "ALTER ROLE x WITH PASSWORD 'abc' y",
                "ALTER ROLE x WITH PASSWORD '[masked]' y",
            ),
            ("mysql -u root -phunter2 x", "mysql -u root -p[masked] x"),
            ("curl -u admin:hunter2 x", "curl -u [masked] x"),
            ("curl --user=admin:hunter2", "curl --user=[masked]"),
            ("--user admin:hunter2", "--user [masked]"),
            ("redis-cli -a hunter2 x", "redis-cli -a [masked] x"),
            ("s3://KEY:SECRET/bucket", "s3://[masked]/bucket"),
            ("the header: Basic aHVudGVyMg== x", "the header: Basic [masked] x"),
            ("dckr_pat_hunter2hunter2", "[masked]"),
            ("sk-proj-hunter2hunter2", "[masked]"),
            ("AIzaSyA-hunter2hunter2", "[masked]"),
            ("xghp_a.ghp_0123456789abcdef", "xghp_a.[masked]"),
            ("kind: Secret\ndata:\n  a: b\nx: y", "kind: Secret\ndata:[masked]\nx: y"),
            (
                r#"[{"kind":"Secret","data":{"a":"b"}},"#,
                r#"[{"kind":"Secret","data":[masked]"#,
            ),
        ] {
            let clean = scrub(text, &mut Vec::new());
            assert_eq!(clean.as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "",
            "docker.io/library/postgres:16.14-bookworm",
            "docker.io/library/postgres:16.14@sha256:0123456789abcdef",
            "oci://registry:5000/repo@sha256:0123",
            "https://example.com:8080/path?x=1",
            "oidc:alice@example.com",
            "system:serviceaccount:shop:deployer",
            "spec.resources.requests.cpu: 16 is more than 8 (environment/production)",
            "the bearer of this",
            "a basic configuration",
            "token expired",
            "the password is too short",
            "the password: too short",
            "docker run -u 1000:1000 -p 80:80 x",
            "s3://bucket:9000/x",
            "kind: ConfigMap\ndata:\n  a: b",
            "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\nBEGIN PRIVATE",
            "if a > b then user c",
            "secretRef: db-credentials",
            "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----",
            "0 3 * * *",
            "größer als das Maß: 8",
        ] {
            assert_eq!(scrub(text, &mut Vec::new()), None, "{text}");
        }
    }

    #[test]
    fn masking_twice_changes_nothing_more() {
        for text in [
            "postgres://a:b@c/d",
            "password=x1",
            "password: x",
            "key: |\n  a\n",
            "Bearer abcdefgh12345678",
        ] {
            let once = scrub(text, &mut Vec::new()).unwrap();
            assert_eq!(scrub(&once, &mut Vec::new()), None, "{text} -> {once}");
        }
    }
}
