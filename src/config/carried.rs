//! What a route carries besides its own provider's token: other providers' tokens, and fields of the answer.

use super::check::{inputs_of, provider_of};
use super::file::template::references;
use super::file::{File, ProviderFile, RouteFile};
use super::parents::parent_name;
use super::report::{Diagnostic, Report};
use super::span::Spanned;
use super::suggest::did_you_mean;
use crate::provider::template::Reference;
use crate::proxy::verdict::Renew;

/// The names of `{token.NAME}` in a route, each once, without its own provider's.
pub(super) fn other_providers(route: &RouteFile) -> Vec<&str> {
    let mut names = Vec::new();
    for (_, template) in &route.headers {
        for reference in template.references() {
            if let Reference::TokenOf(name) = reference
                && *name != route.provider.value
                && !names.contains(&name.as_str())
            {
                names.push(name.as_str());
            }
        }
    }
    names
}

/// Whether the route's requests carry a token of this provider.
pub(super) fn carries(route: &RouteFile, provider: &str) -> bool {
    route.provider.value == provider || other_providers(route).contains(&provider)
}

/// The inputs that all of the route's providers need.
pub(super) fn wanted_inputs<'a>(route: &RouteFile, file: &'a File) -> Vec<&'a Spanned<String>> {
    let carried = |provider: &&ProviderFile| carries(route, &provider.name.value);
    let providers = file.providers.iter().filter(carried);
    providers.flat_map(inputs_of).collect()
}

pub(super) fn other_providers_exist(route: &RouteFile, declared: &[String], report: &mut Report) {
    let mut unknown = Vec::new();
    for (_, template) in &route.headers {
        for reference in references(template, report.source()) {
            if let Reference::TokenOf(name) = reference.value
                && !declared.contains(name)
            {
                unknown.push((name, reference.span));
            }
        }
    }
    for (name, span) in unknown {
        let diagnostic = Diagnostic::error(format!("unknown provider `{name}`"), span);
        report.push(
            match did_you_mean(name, declared.iter().map(String::as_str)) {
                Some(meant) => diagnostic.hint(format!("did you mean `{{token.{meant}}}`?")),
                None => diagnostic.hint(format!("add a table [provider.{name}]")),
            },
        );
    }
}

pub(super) fn inputs_of_others_are_supplied(route: &RouteFile, file: &File, report: &mut Report) {
    let others = other_providers(route);
    let is_other = |provider: &&ProviderFile| others.contains(&provider.name.value.as_str());
    for provider in file.providers.iter().filter(is_other) {
        super::check::inputs_are_supplied(route, provider, report);
    }
}

pub(super) fn fields_exist(route: &RouteFile, provider: &ProviderFile, report: &mut Report) {
    let known: Vec<&str> = provider
        .fields
        .iter()
        .map(|(name, _)| name.value.as_str())
        .collect();
    let mut unknown = Vec::new();
    for (_, template) in &route.headers {
        for reference in references(template, report.source()) {
            if let Reference::Field(name) = reference.value
                && !known.contains(&name.as_str())
            {
                unknown.push((name, reference.span));
            }
        }
    }
    for (name, span) in unknown {
        let owner = &provider.name.value;
        let diagnostic = Diagnostic::error(format!("`{owner}` has no field `{name}`"), span)
            .also(provider.name.span.clone(), "the provider");
        report.push(match did_you_mean(name, known.iter().copied()) {
            Some(meant) => diagnostic.hint(format!("did you mean `{{field.{meant}}}`?")),
            None => diagnostic.hint(format!(
                "say where it is in the token response: `fields = {{ {name} = \"/{name}\" }}` in [provider.{owner}]"
            )),
        });
    }
}

/// `renew = "parent"` needs one.
pub(super) fn there_is_a_parent(route: &RouteFile, file: &File, report: &mut Report) {
    let Some(provider) = provider_of(route, file) else {
        return;
    };
    if parent_name(provider).is_some() {
        return;
    }
    for renew in route
        .unauthorized
        .iter()
        .flatten()
        .filter_map(|rule| rule.renew.as_ref())
        .filter(|renew| renew.value == Renew::Parent)
    {
        let name = &provider.name.value;
        report.push(
            Diagnostic::error(
                format!("`{name}` has no parent to renew"),
                renew.span.clone(),
            )
            .also(provider.name.span.clone(), "the provider")
            .hint("leave `renew` out: the token itself is renewed"),
        );
    }
}
