//! Any text as a template: a text without braces is itself, and what is filled in is never read as a template again.

#![no_main]

use std::borrow::Cow;
use std::cell::Cell;

use libfuzzer_sys::fuzz_target;
use pillion::provider::template::{FilterError, Template};

fuzz_target!(|text: &str| {
    let has_braces = text.contains(['{', '}']);
    let Ok(template) = Template::parse(text) else {
        assert!(has_braces, "a text without braces is a template");
        return;
    };
    if !has_braces {
        assert_eq!(template.as_literal(), Some(text));
    }
    let placed = Cell::new(0);
    let value = |_: &_| Ok::<_, FilterError>(Cow::Borrowed("{input.x}"));
    let rendered = template.render_placed(value, |text| {
        placed.set(placed.get() + 1);
        text
    });
    if rendered.is_ok() {
        assert_eq!(placed.get(), template.references().count());
    }
});
