//! The description as a JSON Schema (draft 2020-12), by which editors complete, explain and check a file.

use serde_json::{Map, Value, json};

use super::{Absent, FILE, Key, Kind, Of, TABLES, Table};

/// The schema of the file.
///
/// It knows keys, types and words, and not what one place of the file says about another: that is `pillion check`.
#[must_use]
pub fn schema() -> Value {
    let definitions: Map<_, _> = TABLES
        .iter()
        .filter(|table| table.name != FILE.name)
        .map(|table| (table.name.to_owned(), of_table(table)))
        .collect();
    let mut schema = of_table(&FILE);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("proxy.toml of pillion");
    schema["$defs"] = Value::Object(definitions);
    schema
}

fn of_table(table: &Table) -> Value {
    let properties: Map<_, _> = table
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), of_key(key)))
        .collect();
    let required: Vec<_> = table
        .keys
        .iter()
        .filter(|key| key.absent == Absent::Never && key.only_with.is_none())
        .map(|key| key.name)
        .collect();
    let mut schema = json!({
        "type": "object",
        "description": table.about,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let any_of = |keys: &[&str]| {
        keys.iter()
            .map(|key| json!({ "required": [key] }))
            .collect()
    };
    match table.of {
        Of::Any => {}
        Of::One(keys) => schema["oneOf"] = any_of(keys),
        Of::Some(keys) => schema["anyOf"] = any_of(keys),
    }
    let conditions: Vec<_> = table.keys.iter().flat_map(conditions).collect();
    if !conditions.is_empty() {
        schema["allOf"] = Value::Array(conditions);
    }
    schema
}

/// What ties a key to the value of another one, in both directions.
fn conditions(key: &Key) -> Vec<Value> {
    let Some((other, values)) = key.only_with else {
        return Vec::new();
    };
    let is_with = json!({ "properties": { other: { "enum": values } }, "required": [other] });
    let is_there = json!({ "required": [key.name] });
    let mut conditions = vec![json!({ "if": is_there, "then": is_with })];
    if key.absent == Absent::Never {
        conditions.push(json!({ "if": is_with, "then": is_there }));
    }
    conditions
}

fn of_key(key: &Key) -> Value {
    let mut schema = of_kind(&key.kind);
    let mut about = format!(
        "{}\n\nExample: `{} = {}`",
        key.about,
        toml_key(key.name),
        key.example
    );
    match key.absent {
        Absent::Never => {}
        // Editors show and insert it; what is not JSON is told in words.
        Absent::Same(value) => match serde_json::from_str::<Value>(value) {
            Ok(default) => schema["default"] = default,
            Err(_) => about.push_str(&format!("\n\nIf left out: `{value}`")),
        },
        Absent::Words(words) => about.push_str(&format!("\n\nIf left out: {words}")),
    }
    schema["description"] = json!(about);
    schema
}

/// A key as TOML writes it: in quotes if it must be.
fn toml_key(name: &str) -> String {
    let is_bare = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if is_bare {
        name.to_owned()
    } else {
        format!("\"{name}\"")
    }
}

fn of_kind(kind: &Kind) -> Value {
    match *kind {
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Just(value) => json!({ "const": value }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Whole => json!({ "type": "integer" }),
        Kind::Integer(least, u64::MAX) => json!({ "type": "integer", "minimum": least }),
        Kind::Integer(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Choice(choices) => json!({ "type": "string", "enum": choices }),
        Kind::Text(_, "") => json!({ "type": "string" }),
        Kind::Text(_, pattern) => json!({ "type": "string", "minLength": 1, "pattern": pattern }),
        Kind::Table(table) => json!({ "$ref": format!("#/$defs/{}", table.name) }),
        Kind::Names(_, values) => {
            json!({ "type": "object", "additionalProperties": of_kind(values) })
        }
        Kind::List(elements) => json!({ "type": "array", "items": of_kind(elements) }),
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(of_kind).collect::<Vec<_>>() }),
        Kind::Json => json!({}),
    }
}
