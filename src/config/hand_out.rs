//! Who may get a token in the hand: both sides have to say so, and a parent's never leaves.

use super::file::{File, ProviderFile, RouteFile};
use super::parents::parent_name;
use super::report::{Diagnostic, Report};

/// A parent's token opens everything that its children's open, and more.
pub(super) fn a_parent_is_not_handed_out(file: &File, report: &mut Report) {
    for provider in &file.providers {
        let Some(word) = &provider.hand_out else {
            continue;
        };
        let mut children = file.providers.iter();
        let is_child = |child: &&ProviderFile| {
            parent_name(child).is_some_and(|parent| parent.value == provider.name.value)
        };
        if let Some(child) = children.find(is_child) {
            report.push(
                Diagnostic::error(
                    "the token of a parent is never handed out",
                    word.span.clone(),
                )
                .also(child.name.span.clone(), "its tokens are made with it")
                .hint("leave it out, and hand out the token of the child"),
            );
        }
    }
}

/// A route hands out what its provider lets it.
pub(super) fn provider_agrees(route: &RouteFile, provider: &ProviderFile, report: &mut Report) {
    if let (Some(word), None) = (&route.hand_out, &provider.hand_out) {
        let name = &provider.name.value;
        report.push(
            Diagnostic::error(
                format!("the token of `{name}` may not be handed out"),
                word.span.clone(),
            )
            .also(provider.name.span.clone(), "the provider")
            .hint(format!(
                "write `hand_out = true` in [provider.{name}], too, if whoever calls this route may have its token"
            )),
        );
    }
}

/// A permission that nobody uses is one too many.
pub(super) fn permission_is_used(file: &File, report: &mut Report) {
    for provider in &file.providers {
        let Some(word) = &provider.hand_out else {
            continue;
        };
        let hands_out = |route: &RouteFile| {
            route.hand_out.is_some() && route.provider.value == provider.name.value
        };
        if !file.routes.iter().any(hands_out) {
            report.push(
                Diagnostic::warning("no route hands this token out", word.span.clone())
                    .hint("leave it out, or write `hand_out = true` in a route"),
            );
        }
    }
}
