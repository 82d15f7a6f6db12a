//! Which package a module declares, read without a Rego parser.
//!
//! A bundle is checked against its roots before any engine sees it, so this scan takes only what every engine reads
//! alike: comments and blank lines, then `package a.b["c-d"]` on one line of its own.

/// Why the package of a module is not plain to see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}; begin the module with comments at most, then `package a.b` on a line of its own")]
pub struct PackageError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub why: &'static str,
}

/// The path of the package, below `data`.
pub(super) fn package_of(module: &str) -> Result<Vec<String>, PackageError> {
    let mut lines = code_lines(module);
    let (line, first) = lines.next().ok_or(PackageError {
        line: 1,
        why: "there is no package",
    })?;
    let wrong = |why| PackageError { line, why };
    let declared = first
        .strip_prefix("package")
        .ok_or_else(|| wrong("the package does not come first"))?;
    if !declared.starts_with([' ', '\t']) {
        return Err(wrong("there is no space after `package`"));
    }
    let (path, rest) = path(declared.trim_start_matches([' ', '\t'])).map_err(wrong)?;
    let rest = rest.trim_start_matches([' ', '\t']);
    if !rest.is_empty() && !rest.starts_with('#') {
        return Err(wrong("something follows the package"));
    }
    // Engines that do not care for line ends would take this as more of the path.
    if let Some((line, next)) = lines.next()
        && next.starts_with(['.', '['])
    {
        return Err(PackageError {
            line,
            why: "the package seems to go on",
        });
    }
    Ok(path)
}

/// Lines that hold more than space and comments, with their numbers.
fn code_lines(module: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(module.split('\n'))
        .map(|(number, line)| {
            (
                number,
                line.strip_suffix('\r').unwrap_or(line).trim_matches([' ', '\t']),
            )
        })
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Splits off the path at the start of `text`.
fn path(text: &str) -> Result<(Vec<String>, &str), &'static str> {
    let (first, mut rest) = name(text)?;
    let mut path = vec![first.to_owned()];
    loop {
        if let Some(after) = rest.strip_prefix('.') {
            let (next, after) = name(after)?;
            path.push(next.to_owned());
            rest = after;
        } else if let Some(after) = rest.strip_prefix("[\"") {
            let (next, after) = after.split_once("\"]").ok_or("a bracket is not closed")?;
            if next.is_empty() || !next.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
                return Err("a name in brackets has other characters than letters, digits, '.', '_' and '-'");
            }
            path.push(next.to_owned());
            rest = after;
        } else {
            return Ok((path, rest));
        }
    }
}

/// Splits off the name at the start of `text`.
fn name(text: &str) -> Result<(&str, &str), &'static str> {
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a name of the package is not letters, digits and '_'");
    }
    Ok((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_every_engine_reads_alike() {
        for (module, expected) in [
            ("package a", "a"),
            ("package a.b_c.D1\n\nimport rego.v1\n", "a/b_c/D1"),
            (
                "# comment\n\n\t# more: package x\npackage  database.security # why\r\nimport rego.v1",
                "database/security",
            ),
            ("package a[\"b-c\"].d\nx := 1", "a/b-c/d"),
            ("\r\npackage\ta\r\n", "a"),
        ] {
            assert_eq!(
                package_of(module).map(|path| path.join("/")),
                Ok(expected.to_owned()),
                "{module}"
            );
        }
    }

    #[test]
    fn packages_that_could_be_read_in_two_ways_are_refused() {
        for (module, line) in [
            ("", 1),
            ("# package a", 1),
            ("import rego.v1\npackage a", 1),
            ("package", 1),
            ("packagea", 1),
            ("package\na", 1),
            ("\npackage a.b c", 2),
            ("package a; import rego.v1", 1),
            ("package a.\nb", 1),
            ("package a\n.b", 2),
            ("package a\n# c\n[\"b\"]", 3),
            ("package a[b]", 1),
            ("package a[\"b\\u0063\"]", 1),
            ("package a[`b`]", 1),
            ("package a[\"b", 1),
            ("package 1a", 1),
            ("package a..b", 1),
            ("package ä", 1),
            ("\u{feff}package a", 1),
            ("package a\u{a0}", 1),
            ("package a\u{c}", 1),
        ] {
            assert_eq!(package_of(module).map_err(|error| error.line), Err(line), "{module:?}");
        }
    }
}
