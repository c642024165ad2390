//! Parents: they exist, none is its own, and they get their inputs.

use super::check::inputs_of;
use super::file::{File, ProviderFile};
use super::report::{Diagnostic, Report};
use super::span::Spanned;
use super::suggest::did_you_mean;

/// Holds every `parent` against the other providers. `declared` are the names of all of them, also of the broken ones.
pub(super) fn check(file: &File, declared: Option<&[String]>, report: &mut Report) {
    for (index, provider) in file.providers.iter().enumerate() {
        let Some(parent) = parent_name(provider) else {
            continue;
        };
        let Some(found) = of_name(&parent.value, file) else {
            if let Some(declared) = declared.filter(|all| !all.contains(&parent.value)) {
                is_unknown(parent, declared, report);
            }
            continue;
        };
        if let Some(path) = cycle(provider, file) {
            // Told once, at the first of its providers.
            let earlier = file.providers.get(..index).unwrap_or_default();
            if !earlier
                .iter()
                .any(|it| path.contains(&it.name.value.as_str()))
            {
                report.push(
                    Diagnostic::error(
                        format!("a provider is its own parent: {}", path.join(" -> ")),
                        parent.span.clone(),
                    )
                    .hint("one of them has to get its token without the others"),
                );
            }
            continue;
        }
        gets_its_inputs(provider, found, report);
    }
}

/// Whether another provider's tokens are made from this one's.
pub(super) fn is_parent(provider: &ProviderFile, file: &File) -> bool {
    let children = file.providers.iter().filter_map(parent_name);
    children
        .into_iter()
        .any(|name| name.value == provider.name.value)
}

/// What `parent` says.
pub(super) fn parent_name(provider: &ProviderFile) -> Option<&Spanned<String>> {
    provider.source.exchange()?.parent.as_ref()
}

/// The provider of this name.
pub(super) fn of_name<'a>(name: &str, file: &'a File) -> Option<&'a ProviderFile> {
    file.providers.iter().find(|it| it.name.value == name)
}

/// The names from the provider back to itself.
fn cycle<'a>(provider: &'a ProviderFile, file: &'a File) -> Option<Vec<&'a str>> {
    let mut path = vec![provider.name.value.as_str()];
    let mut at = provider;
    loop {
        at = of_name(&parent_name(at)?.value, file)?;
        let name = at.name.value.as_str();
        if path.first() == Some(&name) {
            path.push(name);
            return Some(path);
        }
        // A cycle further up: another's mistake.
        if path.contains(&name) {
            return None;
        }
        path.push(name);
    }
}

fn is_unknown(name: &Spanned<String>, declared: &[String], report: &mut Report) {
    let message = format!("unknown provider `{}`", name.value);
    let diagnostic = Diagnostic::error(message, name.span.clone());
    report.push(
        match did_you_mean(name, declared.iter().map(String::as_str)) {
            Some(meant) => diagnostic.hint(format!("did you mean \"{meant}\"?")),
            None => diagnostic.hint(format!("add a table [provider.{}]", name.value)),
        },
    );
}

fn gets_its_inputs(child: &ProviderFile, parent: &ProviderFile, report: &mut Report) {
    let has = |name: &str| inputs_of(child).iter().any(|input| input.value == name);
    for input in inputs_of(parent) {
        if has(&input.value) {
            continue;
        }
        let Some(place) = parent_name(child) else {
            continue;
        };
        let (name, input_name) = (&parent.name.value, &input.value);
        report.push(
            Diagnostic::error(
                format!("`{name}` needs the input `{input_name}`, and this provider has none of that name"),
                place.span.clone(),
            )
            .also(input.span.clone(), "needed here")
            .hint(format!("add \"{input_name}\" to `inputs` of this provider")),
        );
    }
}
