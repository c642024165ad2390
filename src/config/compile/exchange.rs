//! Compiles `type = "http"` and `type = "graphql"`.

use std::convert::Infallible;

use super::index_of;
use crate::config::file::{
    BodyFile, ExpectedFile, ExpiryFile, HttpFile, ReadingFile, RequestFile, SingleUseFile,
    TokenPlaceFile,
};
use crate::config::span::Spanned;
use crate::provider::expiry::Expiry;
use crate::provider::inputs::{InputCheck, Need, Rule};
use crate::provider::pointer::Pointer;
use crate::provider::reading::{Expected, Reading, RefreshPlace, SingleUse, TokenPlace};
use crate::provider::request::{Body, Part, RequestParts};
use crate::provider::template::{Reference, Template};

/// What is sent, with names resolved.
pub(super) fn request(
    request: &RequestFile,
    path: &Spanned<Template>,
    file: &HttpFile,
) -> RequestParts {
    let fill = |template: &Spanned<Template>| resolve(template, file);
    RequestParts {
        method: request.method.clone(),
        path: fill(path),
        query: request
            .query
            .iter()
            .map(|(name, template)| (name.value.clone(), fill(template)))
            .collect(),
        headers: request
            .headers
            .iter()
            .map(|(name, template)| (name.value.clone(), fill(template)))
            .collect(),
        body: match &request.body {
            BodyFile::None => Body::None,
            BodyFile::Json(document) => Body::Json(document.map(&mut |text| fill(text))),
            BodyFile::Form(params) => Body::Form(
                params
                    .iter()
                    .map(|(name, template)| (name.value.clone(), fill(template)))
                    .collect(),
            ),
        },
    }
}

fn resolve(template: &Template, file: &HttpFile) -> Template<Part> {
    let inputs = names(file);
    let Ok(template) = template.resolve(|reference| {
        Ok::<_, Infallible>(match reference {
            Reference::Secret(name) => {
                let mut secrets = file.secrets.iter();
                let place = secrets.position(|(known, _)| known.value == *name);
                Part::Secret(place.unwrap_or(usize::MAX))
            }
            Reference::Parent => Part::Parent,
            Reference::RefreshToken => Part::RefreshToken,
            other => Part::Input(index_of(other, &inputs)),
        })
    });
    template
}

fn names(file: &HttpFile) -> Vec<String> {
    file.inputs
        .iter()
        .map(|input| input.value.clone())
        .collect()
}

/// How an answer is read.
pub(super) fn reading(file: &HttpFile, fields: Vec<(String, Pointer)>) -> Reading {
    let inputs = names(file);
    let refresh = file.refresh.as_ref().map(|refresh| RefreshPlace {
        token: refresh.token.clone(),
        expiry: places(&refresh.expiry, &inputs),
    });
    Reading {
        refresh,
        ..reading_of(&file.reading, fields, &inputs)
    }
}

/// How a token response (RFC 6749 §5.1) is read: `after` is for one that does not say itself how long it lives.
pub(super) fn token_response(
    file: &ReadingFile,
    fields: Vec<(String, Pointer)>,
    inputs: &[String],
) -> Reading {
    let mut reading = reading_of(file, fields, inputs);
    let is_stated = |place: &&Expiry| !matches!(place, Expiry::After(_));
    let stated = reading.expiry.iter().take_while(is_stated).count();
    reading.expiry.insert(stated, Expiry::ExpiresIn);
    reading
}

fn reading_of(file: &ReadingFile, fields: Vec<(String, Pointer)>, inputs: &[String]) -> Reading {
    let ReadingFile {
        refused,
        expect,
        token,
        expiry,
        soft_expiry,
        single_use,
        retry_after,
        error,
    } = file;
    Reading {
        refused: expected(refused),
        expect: expected(expect),
        token: match token {
            TokenPlaceFile::Json(pointer) => TokenPlace::Json(pointer.clone()),
            TokenPlaceFile::Header(name) => TokenPlace::Header(name.clone()),
            TokenPlaceFile::Body => TokenPlace::Body,
        },
        expiry: places(expiry, inputs),
        soft_expiry: places(soft_expiry, inputs),
        fields,
        single_use: match single_use {
            SingleUseFile::No => SingleUse::No,
            SingleUseFile::Yes => SingleUse::Yes,
            SingleUseFile::When(pointer, values) => {
                SingleUse::When(pointer.clone(), values.clone())
            }
        },
        retry_after: retry_after.clone(),
        error: error.clone(),
        refresh: None,
    }
}

fn expected(file: &[(Pointer, ExpectedFile)]) -> Vec<(Pointer, Expected)> {
    let compiled = file.iter().map(|(pointer, expected)| {
        let expected = match expected {
            ExpectedFile::OneOf(values) => Expected::OneOf(values.clone()),
            ExpectedFile::Present => Expected::Present,
            ExpectedFile::Absent => Expected::Absent,
        };
        (pointer.clone(), expected)
    });
    compiled.collect()
}

fn places(file: &[ExpiryFile], inputs: &[String]) -> Vec<Expiry> {
    file.iter().map(|it| place(it, inputs)).collect()
}

fn place(place: &ExpiryFile, inputs: &[String]) -> Expiry {
    match place {
        ExpiryFile::Json(pointer, unit) => Expiry::Json(pointer.clone(), *unit),
        ExpiryFile::Header(name, unit) => Expiry::Header(name.clone(), *unit),
        ExpiryFile::Jwt(prefix) => Expiry::Jwt {
            strip_prefix: prefix.clone(),
        },
        ExpiryFile::Input(name, unit) => Expiry::Input(
            index_of(&Reference::Input(name.value.clone()), inputs),
            *unit,
        ),
        ExpiryFile::After(after) => Expiry::After(*after),
    }
}

/// What the places need to which inputs go, and what the rules say.
pub(super) fn checks(requests: &[&RequestParts], file: &HttpFile) -> Vec<InputCheck> {
    let mut checks = Vec::new();
    let mut add = |template: &Template<Part>, place: Option<Need>| {
        for (part, filters) in template.uses() {
            let Part::Input(input) = *part else { continue };
            if !filters.is_empty() {
                let need = Need::Filters(filters.to_vec());
                checks.push(InputCheck { input, need });
            }
            if let Some(need) = place.clone() {
                checks.push(InputCheck { input, need });
            }
        }
    };
    for request in requests {
        add(&request.path, Some(Need::Segment));
        for (_, template) in &request.headers {
            add(template, Some(Need::FieldValue));
        }
        for (_, template) in &request.query {
            add(template, None);
        }
        match &request.body {
            Body::None => {}
            Body::Json(document) => document
                .texts()
                .into_iter()
                .for_each(|text| add(text, None)),
            Body::Form(params) => params.iter().for_each(|(_, text)| add(text, None)),
        }
    }
    let inputs = names(file);
    for rule in &file.rules {
        let input = index_of(&Reference::Input(rule.input.value.clone()), &inputs);
        let need = Need::Rule(Rule {
            pointer: rule.pointer.clone(),
            equals: rule.equals.clone(),
            at_least: rule.at_least,
            at_most: rule.at_most,
        });
        checks.push(InputCheck { input, need });
    }
    checks
}
