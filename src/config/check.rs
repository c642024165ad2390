//! What needs more than one place of the file to be seen as wrong.

use std::net::{IpAddr, SocketAddr};

use http::Uri;

use super::carried;
use super::file::template::references;
use super::file::{
    Draft, File, HttpFile, JwtFile, OAuth2File, PathPattern, PathSegment, ProviderFile, RouteFile,
    SourceFile, TlsFile,
};
use super::hand_out;
use super::parents;
use super::report::{Diagnostic, Report};
use super::span::Spanned;
use super::suggest::did_you_mean;
use crate::provider::template::{Reference, Template};

/// Holds everything against everything else.
pub(super) fn check(draft: &Draft, report: &mut Report) {
    let file = &draft.file;
    addresses_are_not_shared(file, report);
    for provider in &file.providers {
        match &provider.source {
            SourceFile::OAuth2(oauth2) => {
                params_name_inputs(oauth2, report);
                for assertion in oauth2.assertions() {
                    claims_name_inputs(assertion, &oauth2.inputs, report);
                }
                token_endpoint_is_encrypted(oauth2, file, report);
            }
            SourceFile::Jwt(source) => claims_name_inputs(&source.jwt, &source.inputs, report),
            SourceFile::Static(_) | SourceFile::Http(_) | SourceFile::GraphQl(_) => {}
        }
        if let Some(exchange) = provider.source.exchange() {
            exchange_is_encrypted(exchange, file, report);
        }
    }
    parents::check(file, draft.declared.as_deref(), report);
    hand_out::a_parent_is_not_handed_out(file, report);
    for (index, route) in file.routes.iter().enumerate() {
        let earlier = file.routes.get(..index).unwrap_or_default();
        name_is_new(route, earlier, report);
        can_match(route, earlier, report);
        inputs_name_captures(route, report);
        headers_name_inputs(route, report);
        what_is_set_is_not_removed(route, report);
        upstream_is_encrypted(route, file, report);
        let declared = draft.declared.as_deref();
        if let Some(declared) = declared {
            carried::other_providers_exist(route, declared, report);
        }
        if let Some(declared) = declared.filter(|it| !it.contains(&route.provider.value)) {
            provider_is_unknown(route, declared, report);
        } else if let Some(provider) = provider_of(route, file) {
            inputs_are_supplied(route, provider, report);
            carried::inputs_of_others_are_supplied(route, file, report);
            inputs_are_used(route, file, report);
            scope_has_a_meaning(route, provider, report);
            carried::fields_exist(route, provider, report);
            carried::there_is_a_parent(route, file, report);
            hand_out::provider_agrees(route, provider, report);
        }
    }
    // With a mistake elsewhere, what nothing uses is mostly what the mistake has missed.
    if !report.has_errors() {
        providers_are_used(file, report);
        hand_out::permission_is_used(file, report);
        resolve_is_used(file, report);
    }
}

pub(super) fn provider_of<'a>(route: &RouteFile, file: &'a File) -> Option<&'a ProviderFile> {
    let named = |provider: &&ProviderFile| provider.name.value == route.provider.value;
    file.providers.iter().find(named)
}

pub(super) fn inputs_of(provider: &ProviderFile) -> &[Spanned<String>] {
    match &provider.source {
        SourceFile::OAuth2(oauth2) => &oauth2.inputs,
        SourceFile::Jwt(source) => &source.inputs,
        SourceFile::Static(_) => &[],
        SourceFile::Http(http) | SourceFile::GraphQl(http) => &http.inputs,
    }
}

fn addresses_are_not_shared(file: &File, report: &mut Report) {
    let admin = &file.admin.address;
    let same = |listen: &&Spanned<SocketAddr>| listen.value == admin.value && admin.port() != 0;
    let Some(listen) = file.listen.addresses.iter().find(same) else {
        return;
    };
    let message = "the app and the admin listener would share an address";
    let hint = "give one of them another port";
    report.push(if file.listen.defaulted {
        Diagnostic::error(message, admin.span.clone())
            .hint(hint)
            .note("the app's is the default")
    } else if file.admin.defaulted {
        Diagnostic::error(message, listen.span.clone())
            .hint(hint)
            .note("the admin listener's is the default")
    } else {
        Diagnostic::error(message, admin.span.clone())
            .also(listen.span.clone(), "the app's")
            .hint(hint)
    });
}

fn params_name_inputs(oauth2: &OAuth2File, report: &mut Report) {
    let otherwise = "declare it: `inputs = [\"NAME\"]` beside `params`, with that name";
    for (_, template) in &oauth2.params {
        for reference in names_without(template, &oauth2.inputs, report.source()) {
            report.push(unknown_name(&reference, &names(&oauth2.inputs), otherwise));
        }
    }
}

fn claims_name_inputs(jwt: &JwtFile, inputs: &[Spanned<String>], report: &mut Report) {
    let otherwise = "declare it: `inputs = [\"NAME\"]` in this provider, with that name";
    for template in jwt.texts() {
        for reference in names_without(template, inputs, report.source()) {
            report.push(unknown_name(&reference, &names(inputs), otherwise));
        }
    }
}

/// The `{input.NAME}` of a template that are none of these.
fn names_without<'a>(
    template: &'a Spanned<Template>,
    inputs: &[Spanned<String>],
    source: &str,
) -> Vec<Spanned<&'a Reference>> {
    let is_missing = |reference: &Spanned<&Reference>| match reference.value {
        Reference::Input(name) => inputs.iter().all(|input| input.value != *name),
        _ => false,
    };
    references(template, source).filter(is_missing).collect()
}

fn names(all: &[Spanned<String>]) -> Vec<&str> {
    all.iter().map(|name| name.value.as_str()).collect()
}

/// A placeholder whose name does not exist. `otherwise` is the hint if nothing like it does.
fn unknown_name(
    reference: &Spanned<&Reference>,
    candidates: &[&str],
    otherwise: &str,
) -> Diagnostic {
    let (kind, name, message) = match reference.value {
        Reference::Path(name) => ("path", name, "the path of this route captures no"),
        Reference::Input(name) => ("input", name, "there is no input"),
        _ => return Diagnostic::error("unknown name", reference.span.clone()),
    };
    let diagnostic = Diagnostic::error(format!("{message} `{name}`"), reference.span.clone());
    match did_you_mean(name, candidates.iter().copied()) {
        Some(meant) => diagnostic.hint(format!("did you mean `{{{kind}.{meant}}}`?")),
        None => diagnostic.hint(otherwise),
    }
}

fn token_endpoint_is_encrypted(oauth2: &OAuth2File, file: &File, report: &mut Report) {
    tls_has_a_meaning(&oauth2.token_endpoint, oauth2.tls.as_ref(), report);
    if is_plaintext(&oauth2.token_endpoint, file) && !oauth2.allow_plaintext {
        let span = oauth2.token_endpoint.span.clone();
        report.push(
            Diagnostic::error("the client's secret would travel unencrypted", span)
                .hint("write `https://`, or `allow_plaintext = true` beside it if the network may read the secret"),
        );
    }
}

fn exchange_is_encrypted(exchange: &HttpFile, file: &File, report: &mut Report) {
    for url in exchange.requests().filter_map(|it| it.url.as_ref()) {
        tls_has_a_meaning(&url.origin, exchange.tls.as_ref(), report);
        if is_plaintext(&url.origin, file) && !exchange.allow_plaintext {
            report.push(
                Diagnostic::error("tokens would travel unencrypted", url.origin.span.clone())
                    .hint("write `https://`, or `allow_plaintext = true` in the provider if the network may read them"),
            );
        }
    }
}

fn upstream_is_encrypted(route: &RouteFile, file: &File, report: &mut Report) {
    let Some(upstream) = &route.upstream else {
        return;
    };
    if route.socket.is_some() {
        if let Some(place) = route.tls.as_ref().and_then(TlsFile::first_place) {
            report.push(
                Diagnostic::warning("there is no TLS through a Unix socket", place)
                    .hint("leave `tls` out: nothing leaves this machine"),
            );
        }
        return;
    }
    tls_has_a_meaning(upstream, route.tls.as_ref(), report);
    if is_plaintext(upstream, file) && !route.allow_plaintext {
        report.push(
            Diagnostic::error("the token would travel unencrypted", upstream.span.clone())
                .hint("write `https://`, or `allow_plaintext = true` beside it if the network may read the token"),
        );
    }
}

/// Roots and certificates for a connection that has neither: harmless, but hardly meant.
fn tls_has_a_meaning(url: &Uri, tls: Option<&TlsFile>, report: &mut Report) {
    let place = tls.and_then(TlsFile::first_place);
    if let Some(place) = place.filter(|_| url.scheme_str() == Some("http")) {
        report.push(
            Diagnostic::warning("there is no TLS to an `http://` URL", place)
                .hint("write `https://` in the URL, or leave `tls` out"),
        );
    }
}

/// Whether a URL leads out of this machine without TLS.
fn is_plaintext(url: &Uri, file: &File) -> bool {
    if url.scheme_str() != Some("http") {
        return false;
    }
    let host = url.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let place = place_of(url);
    let is_resolved_to_loopback = file
        .resolve
        .iter()
        .any(|line| line.host.value == place && line.address.ip().is_loopback());
    !is_loopback && !is_resolved_to_loopback
}

/// Host and port of a URL, as `resolve` names them.
fn place_of(url: &Uri) -> (String, u16) {
    let port = if url.scheme_str() == Some("http") {
        80
    } else {
        443
    };
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    (host, url.port_u16().unwrap_or(port))
}

fn name_is_new(route: &RouteFile, earlier: &[RouteFile], report: &mut Report) {
    let Some(name) = &route.name else { return };
    let mut names = earlier.iter().filter_map(|route| route.name.as_ref());
    if let Some(first) = names.find(|other| other.value == name.value) {
        report.push(
            Diagnostic::error("two routes have the same name", name.span.clone())
                .also(first.span.clone(), "the first")
                .hint("give one of them another name: metrics are told apart by it"),
        );
    }
}

fn can_match(route: &RouteFile, earlier: &[RouteFile], report: &mut Report) {
    if let Some(taker) = earlier.iter().find(|earlier| takes_all_of(earlier, route)) {
        report.push(
            Diagnostic::error("this route can never match", route.path.span.clone())
                .also(
                    taker.path.span.clone(),
                    "this one takes all of its requests",
                )
                .hint("put the more specific route first: the first match wins"),
        );
    }
}

fn takes_all_of(earlier: &RouteFile, route: &RouteFile) -> bool {
    takes_path(&earlier.path, &route.path)
        && takes_items(&earlier.hosts, &route.hosts)
        && takes_items(&earlier.methods, &route.methods)
}

fn takes_path(earlier: &PathPattern, path: &PathPattern) -> bool {
    let takes = |(earlier, segment): (&PathSegment, &PathSegment)| match earlier {
        PathSegment::Capture(_) => true,
        PathSegment::Literal(_) => earlier == segment,
    };
    earlier.segments.len() <= path.segments.len()
        && earlier.segments.iter().zip(&path.segments).all(takes)
}

/// Whether everything in `items` is in `earlier`, where none at all stands for any.
fn takes_items<T: PartialEq>(earlier: &[Spanned<T>], items: &[Spanned<T>]) -> bool {
    let has = |item: &Spanned<T>| earlier.iter().any(|other| other.value == item.value);
    earlier.is_empty() || (!items.is_empty() && items.iter().all(has))
}

fn inputs_name_captures(route: &RouteFile, report: &mut Report) {
    let captures: Vec<_> = route.path.captures().collect();
    for (_, template) in &route.inputs {
        let unknown: Vec<_> = references(template, report.source())
            .filter_map(|reference| match reference.value {
                Reference::Path(name) if !captures.contains(&name.as_str()) => {
                    let otherwise = format!("capture it, like `path = \"/somewhere/{{{name}}}\"`");
                    Some(unknown_name(&reference, &captures, &otherwise))
                }
                _ => None,
            })
            .collect();
        for diagnostic in unknown {
            report.push(diagnostic);
        }
    }
}

fn headers_name_inputs(route: &RouteFile, report: &mut Report) {
    let otherwise =
        "declare it: `inputs = { NAME = \"{path.NAME}\" }` in this route, with that name";
    let inputs: Vec<_> = route.inputs.iter().map(|(name, _)| name.clone()).collect();
    for (_, template) in &route.headers {
        for reference in names_without(template, &inputs, report.source()) {
            report.push(unknown_name(&reference, &names(&inputs), otherwise));
        }
    }
}

fn what_is_set_is_not_removed(route: &RouteFile, report: &mut Report) {
    for removed in &route.remove {
        let set = route
            .headers
            .iter()
            .find(|(name, _)| name.value == removed.value);
        if let Some((set, _)) = set {
            let is_default = set.span == route.span;
            let label = if is_default {
                "this route sets it"
            } else {
                "it is set here"
            };
            report.push(
                Diagnostic::error("a header is both set and removed", removed.span.clone())
                    .also(set.span.clone(), label)
                    .hint("leave it out here: what a route sets replaces what the app has sent"),
            );
        }
    }
}

fn provider_is_unknown(route: &RouteFile, declared: &[String], report: &mut Report) {
    let name = &route.provider;
    let diagnostic = Diagnostic::error(
        format!("unknown provider `{}`", name.value),
        name.span.clone(),
    );
    report.push(
        match did_you_mean(name, declared.iter().map(String::as_str)) {
            Some(meant) => diagnostic.hint(format!("did you mean \"{meant}\"?")),
            None => diagnostic.hint(format!("add a table [provider.{}]", name.value)),
        },
    );
}

pub(super) fn inputs_are_supplied(route: &RouteFile, provider: &ProviderFile, report: &mut Report) {
    for input in inputs_of(provider) {
        if route
            .inputs
            .iter()
            .any(|(name, _)| name.value == input.value)
        {
            continue;
        }
        let (provider, input_name) = (&provider.name.value, &input.value);
        report.push(
            Diagnostic::error(
                format!("`{provider}` needs the input `{input_name}`, and this route does not supply it"),
                route.provider.span.clone(),
            )
            .also(input.span.clone(), "needed here")
            .hint(format!("add `{input_name} = \"{{path.{input_name}}}\"` to the route's `inputs`, or a {{header.NAME}} or {{query.NAME}}")),
        );
    }
}

fn inputs_are_used(route: &RouteFile, file: &File, report: &mut Report) {
    let wanted = carried::wanted_inputs(route, file);
    for (name, _) in &route.inputs {
        let in_header =
            |it: &Reference| matches!(it, Reference::Input(used) if *used == name.value);
        let is_used = wanted.iter().any(|input| input.value == name.value)
            || route
                .headers
                .iter()
                .any(|(_, template)| template.references().any(in_header));
        if is_used {
            continue;
        }
        let message = format!("nothing uses the input `{}`", name.value);
        let diagnostic = Diagnostic::error(message, name.span.clone());
        let candidates = wanted.iter().map(|input| input.value.as_str());
        report.push(match did_you_mean(name, candidates) {
            Some(meant) => diagnostic.hint(format!("did you mean `{meant}`?")),
            None => diagnostic.hint(format!(
                "leave it out, or use it: `{{input.{}}}` in a header, or in `inputs` of the provider",
                name.value
            )),
        });
    }
}

fn scope_has_a_meaning(route: &RouteFile, provider: &ProviderFile, report: &mut Report) {
    let what = match &provider.source {
        SourceFile::OAuth2(_) => return,
        SourceFile::Static(_) => "a static key has no scope",
        SourceFile::Jwt(_) => "nobody is asked for a scope",
        SourceFile::Http(_) | SourceFile::GraphQl(_) => "this provider has no scope",
    };
    if let Some(scope) = &route.scope {
        report.push(
            Diagnostic::error(what, scope.span.clone())
                .also(provider.name.span.clone(), "the provider")
                .hint("leave `scope` out"),
        );
    }
}

fn providers_are_used(file: &File, report: &mut Report) {
    for provider in &file.providers {
        let name = &provider.name;
        let in_route = file
            .routes
            .iter()
            .any(|route| carried::carries(route, name));
        if !in_route && !parents::is_parent(provider, file) {
            report.push(
                Diagnostic::warning(
                    format!("no route uses the provider `{}`", name.value),
                    name.span.clone(),
                )
                .hint(format!(
                    "write `provider = \"{}\"` in a route, or leave the provider out",
                    name.value
                )),
            );
        }
    }
}

fn resolve_is_used(file: &File, report: &mut Report) {
    let endpoints = file
        .providers
        .iter()
        .flat_map(|provider| match &provider.source {
            SourceFile::OAuth2(oauth2) => vec![&oauth2.token_endpoint.value],
            SourceFile::Static(_) | SourceFile::Jwt(_) => Vec::new(),
            SourceFile::Http(http) | SourceFile::GraphQl(http) => http
                .requests()
                .filter_map(|request| Some(&request.url.as_ref()?.origin.value))
                .collect(),
        });
    let upstreams = file
        .routes
        .iter()
        .filter_map(|route| route.upstream.as_ref());
    let upstreams = upstreams.map(|upstream| &upstream.value);
    let places: Vec<_> = endpoints.chain(upstreams).map(place_of).collect();
    for line in &file.resolve {
        if places.contains(&line.host.value) {
            continue;
        }
        let (host, _) = &line.host.value;
        let other_port = places.iter().find(|(other, _)| other == host);
        let diagnostic = Diagnostic::warning("no URL leads here", line.host.span.clone());
        report.push(match other_port {
            Some((host, port)) => diagnostic.hint(format!("did you mean \"{host}:{port}\"?")),
            None => diagnostic.hint("leave it out"),
        });
    }
}
