//! What a provider needs of its inputs, held against them before anything is fetched: a mistake of the app is the app's.

use std::borrow::Cow;

use serde_json::Value;

use super::pointer::Pointer;
use super::template::Filter;
use super::{Input, Subject};

/// One thing that a provider needs of one input.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct InputCheck {
    /// The input's index.
    pub input: usize,
    /// What it needs.
    pub need: Need,
}

/// What can be needed of an input.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Need {
    /// It goes through these filters.
    Filters(Vec<Filter>),
    /// It is part of a path: neither `.` nor `..`.
    Segment,
    /// It is part of a field value: visible ASCII and spaces.
    FieldValue,
    /// A rule of the configuration.
    Rule(Rule),
}

/// `rules = [ { input, pointer, equals, at_most, at_least } ]`: how many values at a pointer are what.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Rule {
    /// Where to look; the whole input if empty.
    pub pointer: Pointer,
    /// Only these count; all if there are none.
    pub equals: Vec<Value>,
    /// At least so many.
    pub at_least: usize,
    /// At most so many.
    pub at_most: Option<usize>,
}

/// An input that cannot be used. Never holds its value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the input `{input}` {reason}")]
pub struct InputFault {
    /// As in the configuration.
    pub input: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Holds a subject against all checks. `names` are the inputs' names.
pub(super) fn check(
    checks: &[InputCheck],
    subject: &Subject,
    names: &[String],
) -> Result<(), InputFault> {
    for check in checks {
        let Some(input) = subject.inputs().nth(check.input) else {
            continue;
        };
        if let Err(reason) = check.need.check(input) {
            let input = names.get(check.input).cloned().unwrap_or_default();
            return Err(InputFault { input, reason });
        }
    }
    Ok(())
}

impl Need {
    fn check(&self, input: Input<'_>) -> Result<(), String> {
        match self {
            Self::Filters(filters) => {
                let mut value = Cow::Borrowed(input.as_str());
                for filter in filters {
                    value = filter.apply(value).map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            Self::Segment if matches!(input.as_str(), "" | "." | "..") => {
                Err("cannot be part of a path".to_owned())
            }
            Self::FieldValue if !input.as_str().bytes().all(is_field_byte) => {
                Err("has a character that is not printable ASCII".to_owned())
            }
            Self::Segment | Self::FieldValue => Ok(()),
            Self::Rule(rule) => rule.check(input),
        }
    }
}

const fn is_field_byte(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

impl Rule {
    fn check(&self, input: Input<'_>) -> Result<(), String> {
        let document = match input {
            Input::Text(text) => Value::from(text),
            Input::Json(json) => {
                serde_json::from_str(json).map_err(|_| "is not JSON".to_owned())?
            }
        };
        let found = self.pointer.find(&document);
        let count = found
            .into_iter()
            .filter(|value| self.equals.is_empty() || self.equals.contains(value))
            .count();
        let what = if self.equals.is_empty() {
            "values"
        } else {
            "values of that kind"
        };
        let place = if self.pointer == Pointer::default() {
            String::new()
        } else {
            format!(" at `{}`", self.pointer)
        };
        match self.at_most {
            Some(most) if count > most => Err(format!(
                "breaks a rule: it has {count} {what}{place}, at most {most} may be there"
            )),
            _ if count < self.at_least => Err(format!(
                "breaks a rule: it has {count} {what}{place}, at least {} must be there",
                self.at_least
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(need: Need, input: Input<'_>) -> Option<String> {
        let checks = [InputCheck { input: 0, need }];
        let names = ["it".to_owned()];
        let fault = check(&checks, &Subject::new([input]), &names).err();
        fault.map(|fault| fault.to_string())
    }

    fn text(text: &str) -> Input<'_> {
        Input::Text(text)
    }

    #[test]
    fn a_number_out_of_bounds_is_the_apps_mistake() {
        let bounds = Filter::Int {
            min: 1,
            max: 518_400,
        };
        let need = Need::Filters(vec![bounds]);
        assert_eq!(fault(need.clone(), text("518400")), None);
        assert_eq!(
            fault(need, text("518401")).as_deref(),
            Some("the input `it` is not a whole number from 1 to 518400")
        );
    }

    #[test]
    fn what_a_place_cannot_take_is_too() {
        assert!(fault(Need::Segment, text("..")).is_some());
        assert!(fault(Need::Segment, text("a/../b")).is_none());
        assert!(fault(Need::FieldValue, text("a\r\nb")).is_some());
        assert!(fault(Need::FieldValue, Input::Json("\"é\"")).is_some());
        assert!(fault(Need::FieldValue, text("mid/12")).is_none());
    }

    #[test]
    fn a_rule_counts_values_at_a_pointer() {
        let rule = |at_least, at_most| {
            Need::Rule(Rule {
                pointer: Pointer::parse("/*/primary").unwrap(),
                equals: vec![json!(true)],
                at_least,
                at_most,
            })
        };
        let phones = |primary: &[bool]| {
            let phones: Vec<_> = primary.iter().map(|it| json!({ "primary": it })).collect();
            Value::from(phones).to_string()
        };
        assert_eq!(
            fault(rule(0, Some(1)), Input::Json(&phones(&[true, false]))),
            None
        );
        assert_eq!(
            fault(rule(0, Some(1)), Input::Json(&phones(&[true, true]))).as_deref(),
            Some(
                "the input `it` breaks a rule: it has 2 values of that kind at `/*/primary`, at most 1 may be there"
            )
        );
        assert!(fault(rule(1, None), Input::Json(&phones(&[false]))).is_some());
    }
}
