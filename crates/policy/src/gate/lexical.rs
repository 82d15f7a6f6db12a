//! What the text of a module must hold to before it is parsed: the parser of `regorus` takes twice as long for each
//! bracket in a bracket.

use super::Finding;

/// Bytes of a file.
const LONGEST: usize = 256 << 10;
/// Brackets within brackets. The parser takes 2^depth steps for arrays: 1 ms at this depth.
const DEEPEST: usize = 12;

/// What is wrong with a module's text.
pub(super) fn check(file: &str, text: &str) -> Option<Finding> {
    let finding = |line: usize, problem: String| Finding {
        file: file.to_owned(),
        line: u32::try_from(line).unwrap_or(u32::MAX),
        problem,
    };
    if text.len() > LONGEST {
        return Some(finding(0, format!("is longer than {LONGEST} bytes; split it")));
    }
    let line = deepest_line(text)?;
    Some(finding(
        line,
        format!("has brackets nested deeper than {DEEPEST}; split the expression into rules"),
    ))
}

/// The line at which brackets nest too deep, outside of texts and comments.
fn deepest_line(text: &str) -> Option<usize> {
    let (mut depth, mut line) = (0_usize, 1);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\n' => line += 1,
            '#' => {
                chars.by_ref().find(|char| *char == '\n');
                line += 1;
            }
            '"' => {
                while let Some(inner) = chars.next() {
                    match inner {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        '\n' => line += 1,
                        _ => {}
                    }
                }
            }
            '`' => {
                line += chars
                    .by_ref()
                    .take_while(|char| *char != '`')
                    .filter(|char| *char == '\n')
                    .count();
            }
            '[' | '{' | '(' => {
                depth += 1;
                if depth > DEEPEST {
                    return Some(line);
                }
            }
            ']' | '}' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_where_they_are_brackets() {
        let deep = "[".repeat(13);
        assert_eq!(deepest_line(&format!("package a\n\nx := {deep}")), Some(3));
        let open = "[".repeat(12);
        for text in [
            format!("x := {open}"),
            format!("x := \"{deep}\""),
            format!("x := `{deep}`"),
            format!("# {deep}\nx := 1"),
            format!("x := \"\\\"{deep}\""),
            "[]".repeat(100),
        ] {
            assert_eq!(deepest_line(&text), None, "{text}");
        }
        assert_eq!(deepest_line(&format!("`\n\n`\n# x\n{deep}")), Some(5));
    }

    #[test]
    fn files_have_a_bound() {
        assert!(check("a.rego", &" ".repeat(LONGEST)).is_none());
        assert!(check("a.rego", &" ".repeat(LONGEST + 1)).is_some());
    }
}
