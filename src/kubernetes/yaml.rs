//! YAML, read for what it says and added to where it stands: what people have written around it stays as it is.

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Value};

use super::patch::{Add, apply};

/// A text that cannot be read, or not be added to.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// It is no YAML.
    #[error("line {line}: {said}")]
    Syntax {
        /// Where.
        line: usize,
        /// What is wrong.
        said: String,
    },
    /// It is written with an anchor, an alias or a merge key where something has to be added.
    #[error(
        "line {line}: `{path}` cannot be added to here: write it out, without anchors, aliases and merge keys"
    )]
    Place {
        /// Where.
        line: usize,
        /// What should be added.
        path: String,
    },
}

/// What the documents of a text say.
///
/// # Errors
///
/// When it is no YAML.
pub fn values(text: &str) -> Result<Vec<Value>, YamlError> {
    Ok(load(text)?.iter().map(value).collect())
}

/// The text with these additions, a list for each of its documents. What comes out is read again and compared with what
/// it should say.
///
/// # Errors
///
/// When it is no YAML, or an addition has no place in it.
pub fn add(text: &str, patches: &[Vec<Add>]) -> Result<String, YamlError> {
    let documents = load(text)?;
    let source = Source::of(text);
    let mut edits = Vec::new();
    let mut wanted = Vec::new();
    for (document, adds) in documents.iter().zip(patches) {
        let mut value = value(document);
        apply(&mut value, adds);
        wanted.push(value);
        for add in adds {
            edits.push(
                source
                    .edit(document, add)
                    .ok_or_else(|| place(document, add))?,
            );
        }
    }
    // Stable: additions to one place stay in their order.
    edits.sort_by_key(|edit| edit.from);
    let mut result = String::with_capacity(text.len());
    let mut copied = 0;
    for edit in edits {
        result.push_str(text.get(copied..edit.from).unwrap_or_default());
        result.push_str(&edit.text);
        copied = edit.to;
    }
    result.push_str(text.get(copied..).unwrap_or_default());
    if values(&result).is_ok_and(|said| said == wanted) {
        return Ok(result);
    }
    let first = documents
        .iter()
        .zip(patches)
        .find_map(|(document, adds)| Some((document, adds.first()?)));
    first.map_or(Ok(result), |(document, add)| Err(place(document, add)))
}

fn place(document: &MarkedYaml<'_>, add: &Add) -> YamlError {
    let mut node = document;
    for step in add.path.split('/').skip(1) {
        node = child(node, step).map_or(node, |(_, value)| value);
    }
    YamlError::Place {
        line: node.span.start.line(),
        path: add.path.clone(),
    }
}

fn load(text: &str) -> Result<Vec<MarkedYaml<'_>>, YamlError> {
    MarkedYaml::load_from_str(text).map_err(|error| YamlError::Syntax {
        line: error.marker().line(),
        said: error.info().to_owned(),
    })
}

fn value(node: &MarkedYaml<'_>) -> Value {
    match &node.data {
        YamlData::Value(scalar) => match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(is) => Value::Bool(*is),
            Scalar::Integer(number) => Value::from(*number),
            Scalar::FloatingPoint(number) => Value::from(number.into_inner()),
            Scalar::String(text) => Value::from(text.as_ref()),
        },
        YamlData::Sequence(items) => items.iter().map(value).collect(),
        YamlData::Mapping(fields) => {
            let mut map = Map::new();
            for (key, field) in fields {
                let key = match value(key) {
                    Value::String(key) => key,
                    key => key.to_string(),
                };
                map.insert(key, value(field));
            }
            Value::Object(map)
        }
        YamlData::Tagged(_, node) => value(node),
        YamlData::Representation(text, ..) => Value::from(text.as_ref()),
        YamlData::Alias(_) | YamlData::BadValue => Value::Null,
    }
}

/// The child of this name or number, and its key.
fn child<'a, 'i>(
    node: &'a MarkedYaml<'i>,
    step: &str,
) -> Option<(Option<&'a MarkedYaml<'i>>, &'a MarkedYaml<'i>)> {
    if let Some(items) = node.data.as_sequence() {
        return Some((None, items.get(step.parse::<usize>().ok()?)?));
    }
    let mut fields = node.data.as_mapping()?.iter();
    let (key, value) = fields.find(|(key, _)| key.data.as_str() == Some(step))?;
    Some((Some(key), value))
}

/// This text in place of what is between two bytes.
struct Edit {
    from: usize,
    to: usize,
    text: String,
}

/// A text, and where its characters are: the parser counts in them.
struct Source<'a> {
    text: &'a str,
    bytes: Vec<usize>,
}

impl<'a> Source<'a> {
    fn of(text: &'a str) -> Self {
        let ends = std::iter::once(text.len());
        let bytes = text.char_indices().map(|(at, _)| at).chain(ends).collect();
        Self { text, bytes }
    }

    fn byte(&self, character: usize) -> Option<usize> {
        self.bytes.get(character).copied()
    }

    /// What is added goes to the beginning of its list or mapping, where no comment can come between what belongs together.
    fn edit(&self, document: &MarkedYaml<'_>, add: &Add) -> Option<Edit> {
        let mut steps: Vec<&str> = add.path.split('/').skip(1).collect();
        let last = steps.pop()?;
        let (mut key, mut parent) = (None, document);
        for step in steps {
            (key, parent) = child(parent, step)?;
            // What is merged into a mapping is not seen here, and a key of its own would take it away.
            if child(parent, "<<").is_some() {
                return None;
            }
        }
        if let Some((Some(key), null)) = child(parent, last).filter(|_| parent.data.is_mapping()) {
            return self.in_place_of(key, null, &add.value);
        }
        let start = self.byte(parent.span.start.index())?;
        if self.text.get(start..)?.starts_with(['{', '[']) {
            return Some(in_flow(parent, start + 1, last, &add.value));
        }
        let (value, indent) = if parent.data.is_sequence() {
            let first = self.byte(parent.data.as_sequence()?.first()?.span.start.index())?;
            let dash = self.text.get(..first)?.trim_end().strip_suffix('-')?;
            (Value::from(vec![add.value.clone()]), column(dash))
        } else {
            let first = parent.data.as_mapping()?.iter().next()?.0;
            let before = self.text.get(..self.byte(first.span.start.index())?)?;
            (
                Map::from_iter([(last.to_owned(), add.value.clone())]).into(),
                column(before),
            )
        };
        let key_end = self.byte(key?.span.end.index())?;
        let from = key_end + self.text.get(key_end..)?.find('\n')? + 1;
        let mut text = String::new();
        write(&mut text, &value, indent);
        Some(Edit {
            from,
            to: from,
            text,
        })
    }

    fn in_place_of(
        &self,
        key: &MarkedYaml<'_>,
        null: &MarkedYaml<'_>,
        value: &Value,
    ) -> Option<Edit> {
        if !matches!(null.data, YamlData::Value(Scalar::Null)) {
            return None;
        }
        let after_key = self.byte(key.span.end.index())? + 1;
        let (start, end) = (
            self.byte(null.span.start.index())?,
            self.byte(null.span.end.index())?,
        );
        let (from, to) = if start < end {
            (start, end)
        } else {
            (after_key, after_key)
        };
        let space = if start < end { "" } else { " " };
        Some(Edit {
            from,
            to,
            text: format!("{space}{value}"),
        })
    }
}

/// Behind the opening bracket of a list or a mapping that is written as in JSON.
fn in_flow(parent: &MarkedYaml<'_>, at: usize, key: &str, value: &Value) -> Edit {
    let key = if parent.data.is_sequence() {
        String::new()
    } else {
        format!("{}: ", Value::from(key))
    };
    let comma = if children(parent) == 0 { "" } else { ", " };
    Edit {
        from: at,
        to: at,
        text: format!("{key}{value}{comma}"),
    }
}

fn children(node: &MarkedYaml<'_>) -> usize {
    let items = node.data.as_sequence().map(Vec::len);
    items
        .or_else(|| Some(node.data.as_mapping()?.len()))
        .unwrap_or_default()
}

/// How many characters there are behind the last line's beginning.
fn column(before: &str) -> usize {
    before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
}

/// Writes a list or a mapping as a block.
fn write(out: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    match value {
        Value::Array(items) => {
            for item in items {
                let mut text = String::new();
                write(&mut text, item, indent + 2);
                out.push_str(&pad);
                out.push_str("- ");
                out.push_str(text.trim_start());
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                out.push_str(&format!("{pad}{}:", scalar(&Value::from(key.as_str()))));
                match value {
                    Value::Array(items) if !items.is_empty() => {
                        out.push('\n');
                        write(out, value, indent);
                    }
                    Value::Object(fields) if !fields.is_empty() => {
                        out.push('\n');
                        write(out, value, indent + 2);
                    }
                    value => out.push_str(&format!(" {}\n", scalar(value))),
                }
            }
        }
        value => out.push_str(&format!("{pad}{}\n", scalar(value))),
    }
}

/// As JSON, which YAML takes as well; a text that can be nothing but a text needs no quotes.
fn scalar(value: &Value) -> String {
    let words = [
        "", "true", "false", "null", "yes", "no", "on", "off", "y", "n",
    ];
    let is_plain = |text: &&str| {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
            && text.chars().all(is_inner)
            && !words.contains(&text.to_ascii_lowercase().as_str())
    };
    value
        .as_str()
        .filter(is_plain)
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn added(text: &str, path: &str) -> Result<String, YamlError> {
        let value = if path.ends_with('0') {
            json!({ "name": "é" })
        } else {
            json!([{ "name": "x" }])
        };
        let adds = vec![Add {
            path: path.to_owned(),
            value,
        }];
        let rest = values(text).unwrap().len() - 1;
        add(text, &[vec![adds], vec![Vec::new(); rest]].concat())
    }

    #[test]
    fn what_is_written_around_an_addition_stays_as_it_is() {
        for (text, path, wanted) in [
            (
                "a: # é\n  # of b\n  b:\n  # of c\n  - c: 1\n---\nd: 0644\n",
                "/a/b/0",
                "a: # é\n  # of b\n  b:\n  - name: \"é\"\n  # of c\n  - c: 1\n---\nd: 0644\n",
            ),
            (
                "a:\n  b:\n      -   c\n",
                "/a/b/0",
                "a:\n  b:\n      - name: \"é\"\n      -   c\n",
            ),
            (
                "a:\n    # of b\n    b: 1",
                "/a/c",
                "a:\n    c:\n    - name: x\n    # of b\n    b: 1",
            ),
            (
                "a:\n  b: [1, 2] # c\n",
                "/a/b/0",
                "a:\n  b: [{\"name\":\"é\"}, 1, 2] # c\n",
            ),
            ("a:\n  b: []\n", "/a/b/0", "a:\n  b: [{\"name\":\"é\"}]\n"),
            (
                "{\"a\": {\"b\": 1}}",
                "/a/c",
                "{\"a\": {\"c\": [{\"name\":\"x\"}], \"b\": 1}}",
            ),
            (
                "a:\n  b: # none\n  c: 1\n",
                "/a/b",
                "a:\n  b: [{\"name\":\"x\"}] # none\n  c: 1\n",
            ),
            ("a:\n  b: ~\n", "/a/b", "a:\n  b: [{\"name\":\"x\"}]\n"),
        ] {
            assert_eq!(added(text, path).unwrap(), wanted);
        }
    }

    #[test]
    fn what_stands_in_two_places_is_not_added_to() {
        for text in [
            "x: &x\n  - 1\na:\n  b: *x\n",
            "x: *x\na:\n  b: &x\n  - 1\n",
            "x: &x\n  b: [1]\na:\n  <<: *x\n  b: [2]\n",
        ] {
            let Err(error) = values(text).and_then(|_| added(text, "/a/b/0")) else {
                panic!("{text}");
            };
            let told = error.to_string();
            assert!(
                told.contains("write it out") || told.contains("anchor"),
                "{told}"
            );
        }
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let error = values("a: 1\nb: [\n").unwrap_err();
        assert!(error.to_string().starts_with("line 3"), "{error}");
    }
}
