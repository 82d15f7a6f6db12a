//! Objects of the API server while they are read: they borrow from the text that they came in, since little of them is
//! kept and none is changed.

pub use serde_json_borrow::Value as Json;

/// The value at a path of names of members; `Null` if there is none.
pub fn at<'a>(value: &'a Json<'_>, path: &[&str]) -> &'a Json<'a> {
    path.iter()
        .fold(value, |value, name| get(value, name).unwrap_or(&Json::Null))
}

/// A member of an object.
pub(crate) fn get<'a>(value: &'a Json<'_>, name: &str) -> Option<&'a Json<'a>> {
    value.as_object()?.get(name)
}

/// The text at a path of names of members, if there is one.
pub fn text<'a>(value: &'a Json<'_>, path: &[&str]) -> Option<&'a str> {
    at(value, path).as_str()
}

/// The items of the list at a path of names of members; none if there is no list.
pub(crate) fn items<'a>(value: &'a Json<'_>, path: &[&str]) -> &'a [Json<'a>] {
    at(value, path).as_array().unwrap_or_default()
}
