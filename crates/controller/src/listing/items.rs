//! Takes a list apart while it comes.

use std::io;

use memchr::memchr2;
use serde::Deserialize;

/// A list of which a part has been read. Its objects become events; what stands around them is little, and kept.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// Brackets that are open.
    depth: usize,
    within: Within,
    /// In a text.
    text: bool,
    /// Behind a backslash in a text.
    escaped: bool,
    /// The list without its objects.
    envelope: Vec<u8>,
    /// The object that has begun, if the last part ended within it.
    item: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Envelope,
    /// Between two objects.
    Items,
    Item,
}

/// What a list says beside its objects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    /// As of which version it is.
    pub(super) version: String,
    /// Asks for what is left of it.
    pub(super) token: Option<String>,
}

#[derive(Deserialize)]
struct List {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
    #[serde(default, rename = "continue")]
    token: String,
}

/// How deep objects lie: in a list in an object.
const ITEMS: usize = 2;

const ADDED: &[u8] = b"{\"type\":\"ADDED\",\"object\":";

impl Items {
    /// Reads on. Objects that end here are added to `events`, one on a line.
    pub(super) fn read(&mut self, part: &[u8], events: &mut Vec<u8>) -> io::Result<()> {
        // Up to `taken` it has been seen to.
        let (mut taken, mut at) = (0, 0);
        while let Some(&byte) = part.get(at) {
            if self.text {
                at = self.skip_text(part, at);
                continue;
            }
            at += 1;
            match (byte, self.within) {
                (b'{', Within::Items) => {
                    (self.within, taken) = (Within::Item, at - 1);
                    self.depth += 1;
                }
                (b']', Within::Items) => {
                    (self.within, taken) = (Within::Envelope, at - 1);
                    self.depth -= 1;
                }
                (b',' | b' ' | b'\t' | b'\r' | b'\n', Within::Items) => {}
                (_, Within::Items) => return Err(malformed("an item is no object")),
                (b'"', _) => self.text = true,
                (b'{' | b'[', within) => {
                    self.depth += 1;
                    if within == Within::Envelope && byte == b'[' && self.depth == ITEMS {
                        self.envelope.extend_from_slice(&part[taken..at]);
                        taken = at;
                        if names_items(&self.envelope) {
                            self.within = Within::Items;
                        }
                    }
                }
                (b'}' | b']', within) => {
                    let depth = self.depth.checked_sub(1);
                    self.depth = depth.ok_or_else(|| malformed("a bracket ends that has not begun"))?;
                    if within == Within::Item && self.depth == ITEMS {
                        self.add(&part[taken..at], events);
                        (self.within, taken) = (Within::Items, at);
                    }
                }
                _ => {}
            }
        }
        match self.within {
            Within::Envelope => self.envelope.extend_from_slice(&part[taken..]),
            Within::Items => {}
            Within::Item => self.item.extend_from_slice(&part[taken..]),
        }
        Ok(())
    }

    /// Where the text ends that `at` lies in, or the part.
    fn skip_text(&mut self, part: &[u8], at: usize) -> usize {
        if self.escaped {
            self.escaped = false;
            return at + 1;
        }
        let Some(found) = memchr2(b'"', b'\\', &part[at..]) else {
            return part.len();
        };
        self.text = part[at + found] == b'\\';
        self.escaped = self.text;
        at + found + 1
    }

    fn add(&mut self, rest: &[u8], events: &mut Vec<u8>) {
        events.extend_from_slice(ADDED);
        let begin = events.len();
        events.append(&mut self.item);
        events.extend_from_slice(rest);
        // Outside of texts, where they mean nothing; but the next line is the next event.
        for byte in &mut events[begin..] {
            if *byte == b'\n' {
                *byte = b' ';
            }
        }
        events.extend_from_slice(b"}\n");
    }

    /// The list, or this page of it, has ended.
    pub(super) fn end(self) -> io::Result<Envelope> {
        let List { metadata } = serde_json::from_slice(&self.envelope)?;
        if metadata.resource_version.is_empty() {
            return Err(malformed("it has no version"));
        }
        Ok(Envelope {
            version: metadata.resource_version,
            token: Some(metadata.token).filter(|token| !token.is_empty()),
        })
    }
}

/// Whether the list that has just begun at the end of the envelope is that of the objects.
fn names_items(envelope: &[u8]) -> bool {
    let name = envelope.strip_suffix(b"[").map(<[u8]>::trim_ascii_end);
    let name = name
        .and_then(|name| name.strip_suffix(b":"))
        .map(<[u8]>::trim_ascii_end);
    name.and_then(|name| name.strip_suffix(b"\"items\""))
        .is_some_and(|before| !before.ends_with(b"\\"))
}

fn malformed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the list cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// What comes of a list that comes in parts of these sizes, in turn.
    fn read(list: &str, sizes: &[usize]) -> io::Result<(Vec<Value>, Envelope)> {
        let (mut items, mut events) = (Items::default(), Vec::new());
        let mut rest = list.as_bytes();
        for size in sizes.iter().cycle() {
            let (part, left) = rest.split_at((*size).min(rest.len()));
            items.read(part, &mut events)?;
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        let events = String::from_utf8(events).expect("it was UTF-8");
        let objects = events.lines().map(|line| {
            let event: Value = serde_json::from_str(line).expect("each line is an event");
            assert_eq!(event["type"], "ADDED");
            event["object"].clone()
        });
        Ok((objects.collect(), items.end()?))
    }

    #[test]
    fn objects_are_found_wherever_they_stand() {
        let first = json!({"metadata": {"name": "a\"]}\\", "items": [[{}], "x"]}, "data": {"{": "[\u{e9}"}});
        let whole = json!({"kind": "L", "items": [first, {}], "metadata": {"resourceVersion": "7", "continue": ""}});
        let end = |token: Option<&str>| Envelope {
            version: "7".to_owned(),
            token: token.map(str::to_owned),
        };
        for list in [
            whole.to_string(),
            serde_json::to_string_pretty(&whole).expect("it is JSON"),
        ] {
            for size in [1, 2, 7, 10_000] {
                let (objects, envelope) = read(&list, &[size]).expect("it is a list");
                assert_eq!(json!(objects), whole["items"], "{size}");
                assert_eq!(envelope, end(None));
            }
        }
        let none = r#"{"items":null,"metadata":{"resourceVersion":"7","continue":"more"}}"#;
        assert_eq!(read(none, &[3]).expect("it is a list"), (vec![], end(Some("more"))));
        let other = r#"{"x\"items":[{}],"items" : [ ],"metadata":{"resourceVersion":"7","y":{"items":[{}]}}}"#;
        assert_eq!(read(other, &[3]).expect("it is a list"), (vec![], end(None)));
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for list in [
            "",
            "{}",
            "[]",
            "}",
            r#"{"items":[]}"#,
            r#"{"items":[1],"metadata":{"resourceVersion":"7"}}"#,
            r#"{"items":[[]],"metadata":{"resourceVersion":"7"}}"#,
            r#"{"items":[{}],"metadata":{"resourceVersion":""}}"#,
            // Broken off.
            r#"{"metadata":{"resourceVersion":"7"},"items":["#,
            r#"{"metadata":{"resourceVersion":"7"},"items":[{"a":"#,
            r#"{"metadata":{"resourceVersion":"7"},"items":[{}]"#,
        ] {
            assert!(read(list, &[3]).is_err(), "{list}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[a\"\\\\{}\\[\\],:\n\u{e9}]{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a\"\\\\{}\\[\\]]{0,3}|items", inner, 0..4)
                    .prop_map(|fields| json!(fields)),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_has_the_objects_of_the_list_however_it_comes(
            objects in prop::collection::vec(prop::collection::btree_map("[a-c\"{]{0,2}", any_json(), 0..4), 0..5),
            more in any_json(),
            sizes in prop::collection::vec(1..40_usize, 1..5),
            pretty in any::<bool>(),
        ) {
            let list = json!({"a": more, "items": objects, "metadata": {"resourceVersion": "7", "z": more}});
            let text = if pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) };
            let (found, envelope) = read(&text.expect("it is JSON"), &sizes).expect("it is a list");
            prop_assert_eq!(json!(found), list["items"].clone());
            prop_assert_eq!(envelope.version, "7");
        }
    }
}
