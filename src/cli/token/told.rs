//! A fetch in words.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::advice::advice;
use super::steps::Step;
use crate::cli::sheet::{Sheet, columns};
use crate::clock::Moment;
use crate::provider::Source;
use crate::provider::jwt::claims::Claims;
use crate::provider::secret::Secret;
use crate::token::life::Token;
use crate::token::{TokenError, Tokens};

/// A fetch that is being told.
pub(super) struct Story<'a, W> {
    out: &'a mut W,
    tokens: &'a Tokens,
    before: Moment,
    /// Which provider is being asked.
    asked: Option<String>,
    /// What went well last there.
    last: Option<String>,
    granted: Option<Step>,
}

impl<'a, W: Write> Story<'a, W> {
    pub(super) const fn begin(out: &'a mut W, tokens: &'a Tokens, now: Moment) -> Self {
        Self {
            out,
            tokens,
            before: now,
            asked: None,
            last: None,
            granted: None,
        }
    }

    pub(super) fn step(&mut self, step: Step) -> io::Result<()> {
        let took = step.at - self.before;
        self.before = step.at;
        match step.message.as_str() {
            "fetching" => {
                (self.last, self.granted) = (None, None);
                self.asked = Some(step.values());
                writeln!(self.out, "{}", step.values())
            }
            "granted" => {
                self.granted = Some(step);
                Ok(())
            }
            "token fetched" => self.line(took, "token fetched"),
            "token fetch failed" => {
                if step.field("provider") != self.asked.as_deref() {
                    // For want of its parent's token, of which all is said.
                    return Ok(());
                }
                let error = step.field("error").unwrap_or_default();
                self.line(took, &format!("failed: {error}"))?;
                let said = step
                    .field("said")
                    .map(|said| format!("{:>12}  it says: {said}", ""));
                said.map_or(Ok(()), |said| writeln!(self.out, "{said}"))
            }
            message => {
                let line = format!("{message:<14}  {}", step.values());
                self.last = Some(step.message.clone());
                self.line(took, line.trim_end())
            }
        }
    }

    fn line(&mut self, took: Duration, text: &str) -> io::Result<()> {
        let ms = took.as_secs_f64() * 1000.0;
        writeln!(self.out, "{ms:>9.1} ms  {text}")
    }

    /// What came.
    pub(super) fn good(&mut self, token: &Token, show: bool) -> io::Result<()> {
        let mut sheet = Sheet::default();
        sheet.section("token", life(token, self.granted.as_ref()));
        sheet.section("type", self.said("token_type"));
        sheet.section("scope", scope(self.tokens, self.granted.as_ref()));
        let names: Vec<&str> = token
            .fields()
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        sheet.section("fields", (!names.is_empty()).then(|| names.join(", ")));
        if let Some(claims) = Claims::of(token.secret()) {
            sheet.section("header", columns(members(&claims.header)));
            sheet.section("claims", columns(members(&claims.payload)));
        }
        write!(self.out, "\n{}", sheet.into_text())?;
        if show {
            writeln!(self.out, "\n{}", text(token.secret()))?;
        }
        Ok(())
    }

    /// What to do about it.
    pub(super) fn bad(&mut self, error: &TokenError) -> io::Result<()> {
        let mut sheet = Sheet::default();
        sheet.section("no token", [error.to_string()]);
        sheet.section("hint", [advice(error, self.last.as_deref())]);
        write!(self.out, "\n{}", sheet.into_text())
    }

    fn said(&self, field: &str) -> Option<String> {
        let said = self.granted.as_ref()?.field(field)?;
        Some(said.to_owned())
    }
}

/// Its scopes, as far as there is something to say about them.
pub(in crate::cli) fn scope(tokens: &Tokens, granted: Option<&Step>) -> Option<String> {
    let Source::OAuth2(source) = &tokens.provider().source else {
        return None;
    };
    let asked = source.scope.join(" ");
    Some(
        match (granted.and_then(|step| step.field("scope")), asked.as_str()) {
            (None, "") => return None,
            // RFC 6749 §5.1: what is not said is as it was asked for.
            (None, asked) => format!("{asked}, as asked for: the answer does not say"),
            (Some(granted), asked) if is_same(granted, asked) => format!("{granted}, as asked for"),
            (Some(granted), "") => format!("{granted}; none was asked for"),
            (Some(granted), asked) => format!("{granted}, where {asked} was asked for"),
        },
    )
}

fn is_same(granted: &str, asked: &str) -> bool {
    let set = |text: &str| -> std::collections::BTreeSet<String> {
        text.split_whitespace().map(str::to_owned).collect()
    };
    set(granted) == set(asked)
}

/// How long a token is good.
pub(in crate::cli) fn good_for(token: &Token) -> String {
    let life = token.life();
    let Some(end) = life.ends_at else {
        return "good until it is changed".to_owned();
    };
    let issued = life.issued.duration_since(SystemTime::UNIX_EPOCH);
    let length = end - life.issued_at;
    let until = date(issued.unwrap_or_default() + length);
    format!("good for {}, until {until}", span(length))
}

fn life(token: &Token, granted: Option<&Step>) -> Vec<String> {
    let life = token.life();
    let mut lines = vec![good_for(token)];
    if token.is_single_use() {
        lines.push("good for one use".to_owned());
    }
    if life.ends_at.is_some() {
        let due = span(life.due_at - life.issued_at);
        lines.push(format!("the next one is fetched after {due}"));
    }
    if let Some(expires_in) = granted.and_then(|step| step.field("expires_in")) {
        lines.push(format!("the answer says expires_in {expires_in}"));
    }
    lines
}

fn members(object: &Map<String, Value>) -> Vec<(String, String)> {
    let rows = object.iter().map(|(name, value)| {
        let is_time = TIMES.contains(&name.as_str());
        let told = match value.as_u64().filter(|_| is_time) {
            Some(seconds) => format!("{value}, {}", date(Duration::from_secs(seconds))),
            None => value.to_string(),
        };
        (printable(name), printable(&told))
    });
    rows.collect()
}

/// Claims that are times (RFC 7519 §4.1, OpenID Connect Core §2).
const TIMES: [&str; 4] = ["exp", "nbf", "iat", "auth_time"];

fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// So long after the beginning of 1970. A date has four digits for the year.
pub(in crate::cli) fn date(since_1970: Duration) -> String {
    if since_1970.as_secs() >= YEAR_10000 {
        return "for ever".to_owned();
    }
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since_1970)
}

const YEAR_10000: u64 = 253_402_300_800;

/// A length in days, hours, minutes and seconds.
pub(in crate::cli) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if parts.is_empty() {
        "0s".to_owned()
    } else {
        parts.join(" ")
    }
}

// For whoever asked to see it, on a terminal.
fn text(token: &Secret) -> &str {
    token.reveal()
}
