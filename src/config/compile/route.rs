//! The parts of [`compile`](super::compile) that are about which requests a route takes, and what it makes of them.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri};

use super::{Compiler, Way, host_field, index_of};
use crate::config::carried;
use crate::config::file::{
    ConditionFile, OnConflict as OnConflictFile, PathSegment, Replay, RouteFile,
};
use crate::config::span::Spanned;
use crate::provider::pointer::Pointer;
use crate::provider::template::{Reference, Template};
use crate::proxy::attach::{Attach, FieldValue, OnConflict, SetField, Value};
use crate::proxy::inputs::{InputRule, RequestPart};
use crate::proxy::route::{Destination, Matcher, Onward, OtherProvider, Route, Segment, Timeouts};
use crate::proxy::upstream::Upstream;
use crate::proxy::verdict::{Condition, MissedScopes, Renew, Rule, Rules};
use crate::token::Tokens;

impl Compiler<'_> {
    pub(super) fn route(&mut self, file: &RouteFile) -> Option<Arc<Route>> {
        let provider = self
            .file
            .providers
            .iter()
            .find(|provider| *provider.name == *file.provider)?;
        let scope = file.scope.as_ref().map(|scope| {
            let scope: BTreeSet<String> = scope.iter().map(|scope| scope.value.clone()).collect();
            scope.into_iter().collect()
        });
        let tokens = self.tokens(provider, scope)?;
        let inputs: Vec<String> = file
            .inputs
            .iter()
            .map(|(name, _)| name.value.clone())
            .collect();
        let destination = match &file.upstream {
            Some(url) => Destination::Upstream(Box::new(self.onward(file, url, &inputs)?)),
            None => Destination::HandOut,
        };
        let name = route_name(file);
        Some(Arc::new(Route {
            matcher: matcher(file),
            inputs: file
                .inputs
                .iter()
                .map(|(name, template)| input(name, template, file))
                .collect(),
            subject: subject(&tokens, &inputs),
            tokens,
            destination,
            metrics: self.surroundings.metrics.route(&name),
            name,
        }))
    }

    fn onward(
        &mut self,
        file: &RouteFile,
        url: &Spanned<Uri>,
        inputs: &[String],
    ) -> Option<Onward> {
        let timeouts = &file.timeouts;
        let endpoint = self.endpoint(
            url,
            &Way {
                socket: file.socket.as_ref(),
                tls: file.tls.as_ref(),
                egress_proxy: file.egress_proxy.as_ref(),
                allow_plaintext: file.allow_plaintext,
                connect_timeout: timeouts.connect,
            },
        )?;
        let names = carried::other_providers(file);
        let others = names
            .iter()
            .map(|name| self.other_provider(name, inputs))
            .collect::<Option<_>>()?;
        Some(Onward {
            upstream: Upstream {
                endpoint: Arc::new(endpoint),
                host: host_field(url),
                base_path: url.path().trim_end_matches('/').to_owned(),
            },
            attach: attach(file, inputs, &names),
            others,
            unauthorized: rules(file),
            missed: MissedScopes::default(),
            replay_limit: match file.replay {
                Replay::Unauthorized => Some(file.replay_limit_bytes),
                Replay::Never => None,
            },
            timeouts: Timeouts {
                response: timeouts.response,
                idle: timeouts.idle,
            },
        })
    }

    fn other_provider(&mut self, name: &str, inputs: &[String]) -> Option<OtherProvider> {
        let mut providers = self.file.providers.iter();
        let provider = providers.find(|provider| provider.name.value == name)?;
        let tokens = self.tokens(provider, None)?;
        Some(OtherProvider {
            subject: subject(&tokens, inputs),
            tokens,
        })
    }
}

/// Which of a route's inputs make up the subject of these tokens, in the provider's order.
fn subject(tokens: &Tokens, inputs: &[String]) -> Vec<usize> {
    let needed = tokens.provider().inputs.iter();
    needed
        .filter_map(|name| inputs.iter().position(|input| input == name))
        .collect()
}

fn rules(file: &RouteFile) -> Rules {
    let Some(rules) = &file.unauthorized else {
        return Rules::default();
    };
    let rules = rules.iter().map(|rule| Rule {
        status: rule.status.value,
        condition: match rule.condition.clone() {
            ConditionFile::None => Condition::None,
            ConditionFile::Header(name, values) => Condition::Header(name, values),
            ConditionFile::Json(pointer, values) => Condition::Json(pointer, values),
        },
        renew: rule.renew.as_ref().map_or(Renew::Own, |renew| renew.value),
    });
    Rules::new(rules.collect())
}

/// What a route is called in metrics and logs: its name, else its host and path.
#[must_use]
pub fn route_name(file: &RouteFile) -> String {
    if let Some(name) = &file.name {
        return name.value.clone();
    }
    let host = file.hosts.first().map_or("", |host| host.value.as_str());
    let mut name = host.to_owned();
    for segment in &file.path.segments {
        name.push('/');
        match segment {
            PathSegment::Literal(text) => name.push_str(text),
            PathSegment::Capture(capture) => {
                name.push('{');
                name.push_str(capture);
                name.push('}');
            }
        }
    }
    if name.is_empty() {
        name.push('/');
    }
    name
}

fn matcher(file: &RouteFile) -> Matcher {
    let segments = file.path.segments.iter().map(|segment| match segment {
        PathSegment::Literal(text) => Segment::Literal(text.clone()),
        PathSegment::Capture(_) => Segment::Capture,
    });
    Matcher {
        segments: segments.collect(),
        hosts: file.hosts.iter().map(|host| host.value.clone()).collect(),
        methods: file
            .methods
            .iter()
            .map(|method| method.value.clone())
            .collect(),
    }
}

fn input(name: &str, template: &Template, file: &RouteFile) -> InputRule {
    let captures: Vec<String> = file
        .path
        .segments
        .iter()
        .filter_map(|segment| match segment {
            PathSegment::Capture(name) => Some(name.clone()),
            PathSegment::Literal(_) => None,
        })
        .collect();
    let Ok(value) = template.resolve(|reference| {
        Ok::<_, Infallible>(match reference {
            Reference::Header(name) => HeaderName::from_bytes(name.as_bytes())
                .map_or_else(|_| RequestPart::Query(name.clone()), RequestPart::Header),
            Reference::Query(name) => RequestPart::Query(name.clone()),
            Reference::Body(pointer) => Pointer::parse(pointer)
                .map_or_else(|_| RequestPart::Query(pointer.clone()), RequestPart::Body),
            other => RequestPart::Path(index_of(other, &captures)),
        })
    });
    InputRule {
        name: name.to_owned(),
        value,
    }
}

fn attach(file: &RouteFile, inputs: &[String], others: &[&str]) -> Attach {
    let fields = file.headers.iter().map(|(name, template)| SetField {
        name: name.value.clone(),
        value: field_value(template, inputs, others),
    });
    Attach {
        fields: fields.collect(),
        remove: file.remove.iter().map(|name| name.value.clone()).collect(),
        on_conflict: match file.on_conflict {
            OnConflictFile::Overwrite => OnConflict::Overwrite,
            OnConflictFile::Keep => OnConflict::Keep,
            OnConflictFile::Reject => OnConflict::Reject,
        },
    }
}

fn field_value(template: &Template, inputs: &[String], others: &[&str]) -> FieldValue {
    if Template::parse("Bearer {token}").as_ref() == Ok(template) {
        return FieldValue::Bearer;
    }
    if let Some(text) = template.as_literal()
        && let Ok(value) = HeaderValue::from_str(text)
    {
        return FieldValue::Fixed(value);
    }
    let Ok(template) = template.resolve(|reference| {
        Ok::<_, Infallible>(match reference {
            Reference::Token => Value::Token,
            // What is not among the others is the route's own.
            Reference::TokenOf(name) => match others.iter().position(|other| other == name) {
                Some(index) => Value::Other(index),
                None => Value::Token,
            },
            Reference::Field(name) => Value::Field(name.clone()),
            other => Value::Input(index_of(other, inputs)),
        })
    });
    FieldValue::Template(template)
}
