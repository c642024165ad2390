//! Pointers into JSON documents: RFC 6901, with `*` for any element of an array or any member of an object.

use std::fmt;

use serde_json::Value;

/// A pointer, parsed once.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Pointer(Vec<Step>);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Step {
    Any,
    Name(String),
}

/// Text that is no pointer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PointerError {
    /// It does not begin with `/`.
    #[error("a pointer begins with `/`")]
    NoSlash,
    /// `~` stands before something else than `0` or `1` (RFC 6901 §3).
    #[error("`~` is written `~0` in a pointer, and `/` in a name `~1`")]
    BadEscape,
}

impl Pointer {
    /// Reads a pointer. The empty one is the whole document.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, PointerError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let steps = text.strip_prefix('/').ok_or(PointerError::NoSlash)?;
        steps
            .split('/')
            .map(|step| match step {
                "*" => Ok(Step::Any),
                _ => unescape(step).map(Step::Name),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The first value that it points at, in the order of the document.
    #[must_use]
    pub fn first<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        let mut found = None;
        walk(&self.0, document, &mut |value| {
            found = Some(value);
            true
        });
        found
    }

    /// Every value that it points at.
    #[must_use]
    pub fn all<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        let mut found = Vec::new();
        walk(&self.0, document, &mut |value| {
            found.push(value);
            false
        });
        found
    }
}

/// Calls `stop` with every value until it says so. The recursion is as deep as the pointer is long.
fn walk<'a>(steps: &[Step], value: &'a Value, stop: &mut impl FnMut(&'a Value) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        return stop(value);
    };
    match (step, value) {
        (Step::Any, Value::Array(array)) => array.iter().any(|value| walk(rest, value, stop)),
        (Step::Any, Value::Object(object)) => object.values().any(|value| walk(rest, value, stop)),
        (Step::Name(name), Value::Array(array)) => index(name)
            .and_then(|index| array.get(index))
            .is_some_and(|value| walk(rest, value, stop)),
        (Step::Name(name), Value::Object(object)) => object
            .get(name)
            .is_some_and(|value| walk(rest, value, stop)),
        _ => false,
    }
}

// RFC 6901 §4: no sign, no leading zero.
fn index(name: &str) -> Option<usize> {
    let plain = name == "0" || !name.starts_with('0');
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    (plain && digits).then(|| name.parse().ok()).flatten()
}

fn unescape(step: &str) -> Result<String, PointerError> {
    let mut text = String::with_capacity(step.len());
    let mut rest = step;
    while let Some((before, after)) = rest.split_once('~') {
        text.push_str(before);
        let (escaped, tail) = match (after.strip_prefix('0'), after.strip_prefix('1')) {
            (Some(tail), _) => ('~', tail),
            (None, Some(tail)) => ('/', tail),
            (None, None) => return Err(PointerError::BadEscape),
        };
        text.push(escaped);
        rest = tail;
    }
    text.push_str(rest);
    Ok(text)
}

/// As the user has written it.
impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            match step {
                Step::Any => f.write_str("/*")?,
                Step::Name(name) => write!(f, "/{}", name.replace('~', "~0").replace('/', "~1"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn first(pointer: &str, document: &Value) -> Option<Value> {
        Pointer::parse(pointer).unwrap().first(document).cloned()
    }

    #[test]
    fn it_points_as_the_rfc_has_it() {
        let document =
            json!({"foo": ["bar", "baz"], "": 0, "a/b": 1, "m~n": 8, "*": 9, "0": {"x": 2}});
        for (pointer, value) in [
            ("/foo/0", json!("bar")),
            ("/foo/1", json!("baz")),
            ("/", json!(0)),
            ("/a~1b", json!(1)),
            ("/m~0n", json!(8)),
            ("/0/x", json!(2)),
        ] {
            assert_eq!(first(pointer, &document), Some(value), "{pointer}");
        }
        assert_eq!(first("", &document), Some(document.clone()));
        for nothing in [
            "/foo/2", "/foo/01", "/foo/-", "/foo/+1", "/x", "/foo/0/x", "/m~0n/y",
        ] {
            assert_eq!(first(nothing, &document), None, "{nothing}");
        }
    }

    #[test]
    fn a_star_is_any_element() {
        let document =
            json!({"errors": [{"x": 1}, {"code": "A"}, {"code": "B"}], "o": {"p": {"q": 3}}});
        assert_eq!(first("/errors/*/code", &document), Some(json!("A")));
        let all = Pointer::parse("/errors/*/code").unwrap();
        assert_eq!(all.all(&document), [&json!("A"), &json!("B")]);
        assert_eq!(first("/o/*/q", &document), Some(json!(3)));
        assert_eq!(first("/*/*/q", &json!([])), None);
    }

    #[test]
    fn the_root_may_be_an_array() {
        assert_eq!(first("/0/t", &json!([{"t": "x"}])), Some(json!("x")));
    }

    #[test]
    fn what_is_no_pointer_is_told() {
        assert_eq!(Pointer::parse("token"), Err(PointerError::NoSlash));
        assert_eq!(Pointer::parse("/a~2"), Err(PointerError::BadEscape));
        assert_eq!(Pointer::parse("/a~"), Err(PointerError::BadEscape));
    }

    #[test]
    fn it_is_shown_as_it_was_written() {
        for text in ["", "/", "/a~1b/m~0n", "/errors/*/code"] {
            assert_eq!(Pointer::parse(text).unwrap().to_string(), text);
        }
    }
}
