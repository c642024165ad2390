//! JSON pointers (RFC 6901), with `*` for any element.

use std::fmt;

use serde_json::Value;

/// Where in a document something is. Empty: the document itself.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Pointer(Vec<Step>);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Step {
    /// The member of this name, or the element of this index.
    Key(String),
    /// Every element, every member.
    Any,
}

/// What is wrong with a pointer, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct PointerError {
    /// First byte of the mistake.
    pub offset: usize,
    /// Its length in bytes.
    pub length: usize,
    /// What is wrong.
    pub message: &'static str,
    /// What to write instead.
    pub hint: &'static str,
}

impl Pointer {
    /// Reads a pointer, like `/errors/*/code`.
    ///
    /// # Errors
    ///
    /// When it does not begin with a slash, or has a `~` that stands for nothing.
    pub fn parse(text: &str) -> Result<Self, PointerError> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let Some(inside) = text.strip_prefix('/') else {
            return Err(PointerError {
                offset: 0,
                length: text.chars().next().map_or(0, char::len_utf8),
                message: "a pointer begins with `/`",
                hint: "write it like `/errors/*/code`",
            });
        };
        let mut offset = 1;
        let mut steps = Vec::new();
        for step in inside.split('/') {
            steps.push(read(step, offset)?);
            offset += step.len() + 1;
        }
        Ok(Self(steps))
    }

    /// The pointer to the member of this name.
    #[must_use]
    pub fn member(name: &str) -> Self {
        Self(vec![Step::Key(name.to_owned())])
    }

    /// The first value that it points at, in the document's order.
    #[must_use]
    pub fn first<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.find(document).into_iter().next()
    }

    /// Everything that it points at, in the document's order.
    #[must_use]
    pub fn find<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![document];
        for step in &self.0 {
            found = found.into_iter().flat_map(|it| step.take(it)).collect();
        }
        found
    }

    /// Whether it can point at several values.
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.0.contains(&Step::Any)
    }
}

fn read(step: &str, offset: usize) -> Result<Step, PointerError> {
    if step == "*" {
        return Ok(Step::Any);
    }
    let mut key = String::with_capacity(step.len());
    let mut rest = step;
    while let Some((before, after)) = rest.split_once('~') {
        key.push_str(before);
        key.push(match after.as_bytes().first() {
            Some(b'0') => '~',
            Some(b'1') => '/',
            _ => {
                return Err(PointerError {
                    offset: offset + step.len() - after.len() - 1,
                    length: 1,
                    message: "`~` stands for nothing here",
                    hint: "write `~0` for `~` and `~1` for `/`",
                });
            }
        });
        rest = after.get(1..).unwrap_or_default();
    }
    key.push_str(rest);
    Ok(Step::Key(key))
}

impl Step {
    fn take<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Key(key), Value::Object(members)) => members.get(key).into_iter().collect(),
            (Self::Key(key), Value::Array(elements)) => {
                let index = index(key).and_then(|index| elements.get(index));
                index.into_iter().collect()
            }
            (Self::Any, Value::Object(members)) => members.values().collect(),
            (Self::Any, Value::Array(elements)) => elements.iter().collect(),
            (_, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => Vec::new(),
        }
    }
}

// RFC 6901 §4: no sign, no leading zero.
fn index(key: &str) -> Option<usize> {
    let plain = key.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = key == "0" || !key.starts_with('0');
    (plain && canonical).then(|| key.parse().ok()).flatten()
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| match step {
            Step::Key(key) => write!(f, "/{}", key.replace('~', "~0").replace('/', "~1")),
            Step::Any => f.write_str("/*"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pointer_finds_what_rfc_6901_says() {
        let document = json!({
            "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "m~n": 8, " ": 7,
        });
        for (pointer, found) in [
            ("/foo", json!(["bar", "baz"])),
            ("/foo/0", json!("bar")),
            ("/", json!(0)),
            ("/a~1b", json!(1)),
            ("/c%d", json!(2)),
            ("/m~0n", json!(8)),
            ("/ ", json!(7)),
        ] {
            let read = Pointer::parse(pointer).unwrap();
            assert_eq!(read.find(&document), [&found], "{pointer}");
            assert_eq!(read.to_string(), pointer);
        }
        assert_eq!(Pointer::parse("").unwrap().find(&document), [&document]);
        for pointer in ["/foo/2", "/foo/00", "/foo/-", "/foo/+1", "/bar", "/ /x"] {
            let found = Pointer::parse(pointer).unwrap();
            assert!(found.find(&document).is_empty(), "{pointer}");
        }
    }

    #[test]
    fn a_star_is_any_element_and_any_member() {
        let document = json!({"errors": [{"code": "A"}, {"other": 1}, {"code": "B"}]});
        let pointer = Pointer::parse("/errors/*/code").unwrap();
        assert!(pointer.has_any());
        assert_eq!(pointer.find(&document), [&json!("A"), &json!("B")]);
        let members = Pointer::parse("/*/0/code").unwrap();
        assert_eq!(members.find(&document), [&json!("A")]);
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        assert_eq!(Pointer::parse("errors").unwrap_err().offset, 0);
        assert_eq!(Pointer::parse("/a/b~2").unwrap_err().offset, 4);
        assert_eq!(Pointer::parse("/~").unwrap_err().offset, 1);
    }
}
