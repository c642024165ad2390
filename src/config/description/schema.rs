//! The description as a JSON Schema (draft 2020-12), by which editors complete, explain and check a file.

use serde_json::{Map, Value, json};

use super::{Absent, FILE, Key, Kind, Of, TABLES, Table};

/// An object of the schema.
type Object = Map<String, Value>;

/// The schema of the file.
///
/// It knows keys, types and words, and not what one place of the file says about another: that is `pillion check`.
#[must_use]
pub fn schema() -> Value {
    let others = TABLES.iter().filter(|table| table.name != FILE.name);
    let definitions: Object = others
        .map(|table| (table.name.to_owned(), of_table(table).into()))
        .collect();
    let mut schema = of_table(&FILE);
    let draft = "https://json-schema.org/draft/2020-12/schema";
    schema.insert("$schema".to_owned(), draft.into());
    schema.insert("title".to_owned(), "proxy.toml of pillion".into());
    schema.insert("$defs".to_owned(), definitions.into());
    schema.into()
}

fn of_table(table: &Table) -> Object {
    let keys = table.keys.iter();
    let properties: Object = keys
        .clone()
        .map(|key| (key.name.to_owned(), of_key(key).into()))
        .collect();
    let required: Vec<&str> = keys
        .clone()
        .filter(|key| key.absent == Absent::Never && key.only_with.is_none())
        .map(|key| key.name)
        .collect();
    let mut schema = object([
        ("type", "object".into()),
        ("description", table.about.into()),
        ("properties", properties.into()),
        ("required", required.into()),
        ("additionalProperties", false.into()),
    ]);
    let each = |keys: &[&str]| {
        keys.iter()
            .map(|key| json!({ "required": [key] }))
            .collect()
    };
    match table.of {
        Of::Any => None,
        Of::One(keys) => schema.insert("oneOf".to_owned(), each(keys)),
        Of::Some(keys) => schema.insert("anyOf".to_owned(), each(keys)),
    };
    let conditions: Vec<Value> = keys.flat_map(conditions).collect();
    if !conditions.is_empty() {
        schema.insert("allOf".to_owned(), conditions.into());
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

fn of_key(key: &Key) -> Object {
    let mut schema = of_kind(&key.kind);
    let name = toml_key(key.name);
    let mut about = format!("{}\n\nExample: `{name} = {}`", key.about, key.example);
    match key.absent {
        Absent::Never => {}
        Absent::Same(value) => match serde_json::from_str(value) {
            Ok(default) => {
                schema.insert("default".to_owned(), default);
            }
            // What TOML and JSON do not have in common is told in words.
            Err(_) => about.push_str(&format!("\n\nIf left out: `{value}`")),
        },
        Absent::Words(words) => about.push_str(&format!("\n\nIf left out: {words}")),
    }
    schema.insert("description".to_owned(), about.into());
    schema
}

/// A key as TOML writes it: in quotes if it must be.
fn toml_key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if name.chars().all(is_bare) {
        name.to_owned()
    } else {
        format!("\"{name}\"")
    }
}

fn of_kind(kind: &Kind) -> Object {
    match *kind {
        Kind::Boolean => of_type("boolean"),
        Kind::Number => of_type("number"),
        Kind::Whole => of_type("integer"),
        Kind::Just(value) => object([("const", value.into())]),
        Kind::Integer(least, most) => {
            let mut schema = of_type("integer");
            schema.insert("minimum".to_owned(), least.into());
            if most < u64::MAX {
                schema.insert("maximum".to_owned(), most.into());
            }
            schema
        }
        Kind::Choice(choices) => object([("type", "string".into()), ("enum", choices.into())]),
        Kind::Text(_, "") => of_type("string"),
        Kind::Text(_, pattern) => object([
            ("type", "string".into()),
            ("minLength", 1.into()),
            ("pattern", pattern.into()),
        ]),
        Kind::Table(table) => object([("$ref", format!("#/$defs/{}", table.name).into())]),
        Kind::Names(_, values) => object([
            ("type", "object".into()),
            ("additionalProperties", of_kind(values).into()),
        ]),
        Kind::List(elements) => object([
            ("type", "array".into()),
            ("items", of_kind(elements).into()),
        ]),
        Kind::Either(kinds) => {
            let kinds: Vec<Value> = kinds.iter().map(|kind| of_kind(kind).into()).collect();
            object([("anyOf", kinds.into())])
        }
        Kind::Json => Object::new(),
    }
}

fn of_type(name: &str) -> Object {
    object([("type", name.into())])
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Object {
    let members = members.into_iter();
    members
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
