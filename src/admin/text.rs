//! The status as text, for curl.

use std::fmt::Write as _;

use super::words::{Overview, ProviderWords, TokenWords};

/// The overview as lines whose columns stand below each other.
#[must_use]
pub(super) fn render(overview: &Overview) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "pillion {}: {}\nup {}, listening on {}",
        overview.version, overview.headline, overview.uptime, overview.listening
    );
    if let Some(error) = &overview.config_error {
        let _ = writeln!(
            text,
            "\nTHE CONFIGURATION ON DISK IS NOT LOADED, the one before stays in use"
        );
        for line in error.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    heading(&mut text, "PROVIDERS");
    if overview.providers.is_empty() {
        let _ = writeln!(text, "  none is configured");
    }
    table(&mut text, provider_rows(overview));
    more(&mut text, overview.more_providers.as_deref());
    for provider in &overview.providers {
        details(&mut text, provider);
    }
    heading(&mut text, &format!("ROUTES {}", overview.window));
    if overview.routes.is_empty() {
        let _ = writeln!(text, "  none is configured");
    } else {
        table(&mut text, route_rows(overview));
    }
    more(&mut text, overview.more_routes.as_deref());
    heading(&mut text, "EVENTS, the latest first");
    if overview.events.is_empty() {
        let _ = writeln!(text, "  nothing has happened yet");
    }
    let rows = overview.events.iter().map(|event| {
        let age = format!("{} ago", event.age);
        let columns = [age.as_str(), event.kind, &event.whose, &event.told];
        columns.map(str::to_owned).to_vec()
    });
    table(&mut text, rows.collect());
    text
}

fn provider_rows(overview: &Overview) -> Vec<Vec<String>> {
    let head = ["", "STATE", "GENERATION", "LIFE", "NEXT RENEWAL", "ABOUT"];
    let rows = overview.providers.iter().map(|provider| {
        let own = provider.tokens.first();
        let own = own.filter(|token| token.subject.is_none());
        let of = |part: fn(&TokenWords) -> String| own.map_or_else(String::new, part);
        vec![
            provider.name.clone(),
            of(|token| token.state.to_owned()) + if own.is_none() { provider.state } else { "" },
            of(|token| token.generation.clone()),
            of(|token| format!("{}{}", bar(token), token.life)),
            of(|token| token.renewal.clone()),
            provider.about.clone(),
        ]
    });
    with_head(&head, rows.collect())
}

fn details(text: &mut String, provider: &ProviderWords) {
    let Some(summary) = &provider.summary else {
        for token in &provider.tokens {
            trouble(text, &provider.name, token);
        }
        return;
    };
    let _ = writeln!(text, "\n  {}: {summary}", provider.name);
    let rows = provider.tokens.iter().map(|token| {
        vec![
            format!("  {}", token.subject.as_deref().unwrap_or_default()),
            token.state.to_owned(),
            token.generation.clone(),
            format!("{}{}", bar(token), token.life),
            token.renewal.clone(),
        ]
    });
    table(text, rows.collect());
    more(text, provider.more_tokens.as_deref());
    for token in &provider.tokens {
        trouble(text, token.subject.as_deref().unwrap_or_default(), token);
    }
}

fn trouble(text: &mut String, whose: &str, token: &TokenWords) {
    if let Some(trouble) = &token.trouble {
        let _ = writeln!(
            text,
            "\n  {whose} ({}): {}\n    What to do: {}\n    {}",
            token.health.as_str(),
            trouble.error,
            trouble.advice,
            trouble.backoff
        );
    }
}

fn bar(token: &TokenWords) -> String {
    let Some(bar) = token.bar else {
        return String::new();
    };
    let filled = usize::from(bar.left.div_ceil(10));
    format!("[{}{}] ", "#".repeat(filled), ".".repeat(10 - filled))
}

fn route_rows(overview: &Overview) -> Vec<Vec<String>> {
    let head = [
        "", "RATE", "ERRORS", "P99", "REPLAYS", "PROVIDER", "UPSTREAM",
    ];
    let rows = overview.routes.iter().map(|route| {
        vec![
            route.name.clone(),
            route.rate.clone(),
            route.errors.clone(),
            route.p99.clone(),
            route.replays.clone(),
            route.provider.clone().unwrap_or_default(),
            route.upstream.clone(),
        ]
    });
    with_head(&head, rows.collect())
}

fn with_head(head: &[&str], rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    if rows.is_empty() {
        return rows;
    }
    let head = head.iter().map(|word| (*word).to_owned()).collect();
    std::iter::once(head).chain(rows).collect()
}

fn heading(text: &mut String, words: &str) {
    let _ = writeln!(text, "\n{words}");
}

fn more(text: &mut String, words: Option<&str>) {
    if let Some(words) = words {
        let _ = writeln!(text, "  {words}");
    }
}

/// Rows with an indent, every column as wide as its widest cell.
fn table(text: &mut String, rows: Vec<Vec<String>>) {
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (at, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(at) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line = cells.fold(String::new(), |line, (cell, width)| {
            format!("{line}  {cell:width$}")
        });
        let _ = writeln!(text, "{}", line.trim_end());
    }
}
