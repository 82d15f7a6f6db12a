//! References to images, taken apart.

/// An image as a container names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image<'a> {
    /// Host of the registry, with its port; `docker.io` where none is written.
    pub registry: String,
    /// Registry and path, `docker.io/library/postgres`.
    pub repository: String,
    /// Tag, if written.
    pub tag: Option<&'a str>,
    /// Digest, if written.
    pub digest: Option<&'a str>,
}

/// Takes a reference apart by the grammar of the distribution project; `None` if it does not fit it.
///
/// The first component is a registry's host if it has a dot or a colon or is `localhost`; otherwise the image is one of
/// docker.io, and there one of `library` if its name has a single component.
pub fn parse(text: &str) -> Option<Image<'_>> {
    let (text, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest).filter(|digest| is_digest(digest))?.into()),
        None => (text, None),
    };
    let (name, tag) = match text.rsplit_once(':') {
        // A colon before a slash is a port's.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag).filter(|tag| is_tag(tag))?.into()),
        _ => (text, None),
    };
    let (registry, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path.to_owned()),
        Some(_) => ("docker.io", name.to_owned()),
        None => ("docker.io", format!("library/{name}")),
    };
    let registry = if registry == "index.docker.io" {
        "docker.io"
    } else {
        registry
    };
    (is_host(registry) && path.split('/').all(is_component)).then(|| Image {
        registry: registry.to_owned(),
        repository: format!("{registry}/{path}"),
        tag,
        digest,
    })
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').unwrap_or((text, "0"));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.split('.').all(label) && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Lower case and digits, with single dots, one or two underscores, or dashes between them.
fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut words = text.split(|char: char| plain(u8::try_from(char).unwrap_or(b' ')));
    let separator =
        |between: &str| matches!(between, "." | "_" | "__" | "") || (between.bytes().all(|byte| byte == b'-'));
    text.bytes().next().is_some_and(plain) && text.bytes().last().is_some_and(plain) && words.all(separator)
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        let expected = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return false,
        };
        hex.len() == expected && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_is_filled_in() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, repository, tag, with_digest) in [
            ("postgres", "docker.io/library/postgres", None, false),
            ("postgres:16", "docker.io/library/postgres", Some("16"), false),
            ("bitnami/redis:7", "docker.io/bitnami/redis", Some("7"), false),
            ("index.docker.io/library/redis", "docker.io/library/redis", None, false),
            ("host:5000/img", "host:5000/img", None, false),
            ("localhost/img:v1", "localhost/img", Some("v1"), false),
            ("quay.io/a/b_c/d--e:1", "quay.io/a/b_c/d--e", Some("1"), false),
            ("gcr.io/p/i@DIGEST", "gcr.io/p/i", None, true),
            ("gcr.io/p/i:1@DIGEST", "gcr.io/p/i", Some("1"), true),
            // A name like a registry's is no registry.
            ("gcr.io", "docker.io/library/gcr.io", None, false),
        ] {
            let text = text.replace("DIGEST", &digest);
            let image = parse(&text).unwrap_or_else(|| panic!("{text} is an image"));
            assert_eq!(
                (image.repository.as_str(), image.tag, image.digest.is_some()),
                (repository, tag, with_digest),
                "{text}"
            );
        }
    }

    #[test]
    fn what_no_runtime_takes_is_refused() {
        for text in [
            "",
            ":",
            "a:",
            "a@",
            "a@sha256:00",
            "a@md5:00",
            "A",
            "a//b",
            "/a",
            "a/",
            "a b",
            "a:b c",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "ho_st.x/a",
            "host:/a",
            "host:x/a",
            "a:-b",
            "é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
