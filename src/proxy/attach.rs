//! From the head that the app sent to the head that the upstream gets.
//!
//! In this order, and nothing runs after it: what belongs to the app's connection is removed, then everything that could
//! pass for a field which pillion sets, then each of those is set exactly once.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;
use smallvec::SmallVec;

use super::inputs::{InputRule, Inputs, RequestPart};
use super::problem::ProxyError;
use crate::provider::FetchError;
use crate::provider::template::{Filter, FilterError, Template};
use crate::token::TokenError;
use crate::token::life::Token;

/// What a route writes on a request, and what it takes off.
#[derive(Debug)]
pub struct Attach {
    /// Fields that are set.
    pub fields: Vec<SetField>,
    /// Fields that are removed besides.
    pub remove: Vec<HeaderName>,
    /// What happens to a field that is set and that the app sent itself.
    pub on_conflict: OnConflict,
}

/// A field that a route sets.
#[derive(Debug)]
pub struct SetField {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: FieldValue,
}

/// From what a field's value is made.
#[derive(Debug)]
pub enum FieldValue {
    /// `Bearer TOKEN`, rendered once a token.
    Bearer,
    /// Always the same.
    Fixed(HeaderValue),
    /// Filled in for each request.
    Template(Template<Value>),
}

/// What a field's template can name.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Value {
    /// The token.
    Token,
    /// The token of the route's other provider of this index.
    Other(usize),
    /// A further member of the answer that brought the token.
    Field(String),
    /// The route's input of this index.
    Input(usize),
}

/// What happens to a field that a route sets and that the app sent itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnConflict {
    /// pillion's replaces it.
    #[default]
    Overwrite,
    /// The app's stays.
    Keep,
    /// The request is refused.
    Reject,
}

/// The tokens that one attempt carries: of each provider one generation, whatever is fetched meanwhile.
#[derive(Debug)]
pub struct Carried {
    /// Of the route's own provider.
    pub own: Arc<Token>,
    /// Of its other providers, in its order.
    pub others: Vec<Arc<Token>>,
}

impl Carried {
    /// An upstream has taken them.
    pub fn accept(&self) {
        self.own.accept();
        self.others.iter().for_each(|token| token.accept());
    }
}

/// A head without anything that the app's connection or pillion owns, but its `Host`: on it, ours is written.
pub struct Stripped {
    headers: HeaderMap,
    /// Fields that the route sets and that stay as the app sent them.
    kept: Vec<HeaderName>,
    /// The app sent a field that the route sets.
    pub conflict: bool,
    /// The token is not on the request, because the app's own field is kept.
    pub keeps_authorization: bool,
}

impl fmt::Debug for Stripped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stripped")
            .field("kept", &self.kept)
            .field("conflict", &self.conflict)
            .field("keeps_authorization", &self.keeps_authorization)
            .finish_non_exhaustive()
    }
}

impl Stripped {
    /// What is left of the head.
    #[must_use]
    pub fn into_headers(self) -> HeaderMap {
        self.headers
    }
}

/// Writes heads with these tokens, one for each time that a request is sent.
#[derive(Clone, Copy, Debug)]
pub struct Writing<'a> {
    /// What is written.
    pub attach: &'a Attach,
    /// On what.
    pub stripped: &'a Stripped,
    /// The `Host` of the upstream.
    pub host: &'a HeaderValue,
    /// The tokens.
    pub carried: &'a Carried,
    /// The values of the route's inputs.
    pub inputs: &'a Inputs,
}

/// A head in parts, none of them copied: together, each field of the route is there exactly once.
pub struct Written<'a> {
    /// The `Host` of the upstream.
    pub host: &'a HeaderValue,
    /// What the app sent, its own `Host` included.
    pub sent: &'a HeaderMap,
    /// What the route sets, and the app's head does not have.
    pub set: SmallVec<[(&'a HeaderName, Cow<'a, HeaderValue>); 1]>,
}

impl<'a> Writing<'a> {
    /// The head: each field of the route set exactly once, `Host` from the upstream.
    ///
    /// # Errors
    ///
    /// When a value cannot be a field value.
    pub fn write(&self) -> Result<Written<'a>, ProxyError> {
        let (carried, inputs) = (self.carried, self.inputs);
        self.attach.write_with(self.stripped, self.host, |field| {
            field.render(carried, inputs)
        })
    }
}

impl fmt::Debug for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}

impl Written<'_> {
    /// The same in one piece.
    #[must_use]
    pub fn to_headers(&self) -> HeaderMap {
        let mut headers = self.sent.clone();
        headers.insert(HOST, self.host.clone());
        for (name, value) in &self.set {
            headers.insert((*name).clone(), value.clone().into_owned());
        }
        headers
    }
}

impl Attach {
    /// Removes what must not be forwarded. `upgrade` is the protocol that the upstream is asked for, if it is.
    ///
    /// # Errors
    ///
    /// [`ProxyError::HeaderConflict`] where the route wants that.
    pub fn strip(
        &self,
        mut headers: HeaderMap,
        inputs: &[InputRule],
        upgrade: Option<&HeaderValue>,
    ) -> Result<Stripped, ProxyError> {
        // Of most heads nothing is the connection's: one look tells.
        let mut wants_trailers = false;
        if headers
            .keys()
            .any(|name| is_connection_field(name) || *name == TRAILER)
        {
            wants_trailers = accepts_trailers(&headers);
            strip_connection_fields(&mut headers);
            strip_trailer_names(&mut headers, self);
        }
        remove_all(&mut headers, is_not_for_upstreams);
        for input in inputs {
            for part in input.value.references() {
                if let RequestPart::Header(name) = part {
                    remove_with_twins(&mut headers, name);
                }
            }
        }
        for name in &self.remove {
            remove_with_twins(&mut headers, name);
        }
        let mut kept = Vec::new();
        let mut conflict = false;
        for field in &self.fields {
            let own = (self.on_conflict == OnConflict::Keep)
                .then(|| headers.get(&field.name).cloned())
                .flatten();
            if !remove_with_twins(&mut headers, &field.name) {
                continue;
            }
            conflict = true;
            if self.on_conflict == OnConflict::Reject {
                return Err(ProxyError::HeaderConflict(field.name.clone()));
            }
            if let Some(own) = own {
                kept.push((field.name.clone(), own));
            }
        }
        let keeps_authorization = kept.iter().any(|(name, _)| self.carries_token(name));
        if !self.sets(&AUTHORIZATION) {
            remove_with_twins(&mut headers, &AUTHORIZATION);
        }
        let mut names = Vec::new();
        for (name, value) in kept {
            headers.insert(name.clone(), value);
            names.push(name);
        }
        // Ours to say, because the connection is ours (RFC 9110 §10.1.4, §7.8).
        if let Some(upgrade) = upgrade {
            headers.insert(UPGRADE, upgrade.clone());
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        } else if wants_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        Ok(Stripped {
            headers,
            kept: names,
            conflict,
            keeps_authorization,
        })
    }

    /// The head without a token: [`MASK`] stands for whatever a fetch brings.
    ///
    /// # Errors
    ///
    /// When a value cannot be a field value.
    pub fn preview(
        &self,
        stripped: &Stripped,
        host: &HeaderValue,
        inputs: &Inputs,
    ) -> Result<HeaderMap, ProxyError> {
        let written = self.write_with(stripped, host, |field| field.preview(inputs));
        written.map(|written| written.to_headers())
    }

    fn write_with<'a>(
        &'a self,
        stripped: &'a Stripped,
        host: &'a HeaderValue,
        render: impl Fn(&'a SetField) -> Result<Cow<'a, HeaderValue>, ProxyError>,
    ) -> Result<Written<'a>, ProxyError> {
        let mut set = SmallVec::new();
        for field in &self.fields {
            if !stripped.kept.contains(&field.name) {
                set.push((&field.name, render(field)?));
            }
        }
        Ok(Written {
            host,
            sent: &stripped.headers,
            set,
        })
    }

    /// Whether the route sets this field, in any spelling.
    #[must_use]
    pub fn sets(&self, name: &HeaderName) -> bool {
        self.fields
            .iter()
            .any(|field| field.name == *name || are_twins(field.name.as_str(), name.as_str()))
    }

    /// Removes from trailers what the route sets, and what no trailer may be (RFC 9110 §6.5.1).
    pub fn strip_trailers(&self, trailers: &mut HeaderMap) {
        let names: Vec<HeaderName> = trailers.keys().cloned().collect();
        for name in names {
            if !self.may_be_trailer(&name) {
                trailers.remove(&name);
            }
        }
    }

    fn may_be_trailer(&self, name: &HeaderName) -> bool {
        !(self.sets(name)
            || self
                .remove
                .iter()
                .any(|removed| are_twins(removed.as_str(), name.as_str()))
            || are_twins(name.as_str(), AUTHORIZATION.as_str())
            || is_connection_field(name)
            || *name == CONTENT_LENGTH
            || *name == HOST)
    }

    fn carries_token(&self, name: &HeaderName) -> bool {
        self.fields.iter().any(|field| {
            field.name == *name
                && match &field.value {
                    FieldValue::Bearer => true,
                    FieldValue::Fixed(_) => false,
                    FieldValue::Template(template) => {
                        template.references().any(|value| *value == Value::Token)
                    }
                }
        })
    }
}

/// Why a placeholder cannot be filled in.
enum Unfilled {
    Filter(FilterError),
    NoField(String),
}

impl From<FilterError> for Unfilled {
    fn from(error: FilterError) -> Self {
        Self::Filter(error)
    }
}

impl Carried {
    fn fill_in<'a>(&'a self, value: &Value, inputs: &'a Inputs) -> Result<Cow<'a, str>, Unfilled> {
        Ok(match value {
            Value::Token => Cow::Borrowed(self.own.secret().reveal()),
            Value::Other(index) => match self.others.get(*index) {
                Some(token) => Cow::Borrowed(token.secret().reveal()),
                // Resolved when compiled: there is one.
                None => Cow::Borrowed(""),
            },
            Value::Field(name) => match self.own.field(name) {
                Some(Json::String(text)) => Cow::Borrowed(text),
                Some(other) => Cow::Owned(other.to_string()),
                None => return Err(Unfilled::NoField(name.clone())),
            },
            Value::Input(index) => Cow::Borrowed(inputs.get(*index)),
        })
    }
}

impl SetField {
    fn render<'a>(
        &'a self,
        carried: &'a Carried,
        inputs: &Inputs,
    ) -> Result<Cow<'a, HeaderValue>, ProxyError> {
        match &self.value {
            FieldValue::Bearer => Ok(Cow::Borrowed(carried.own.bearer())),
            FieldValue::Fixed(value) => Ok(Cow::Borrowed(value)),
            FieldValue::Template(template) => {
                let text = template.render(|value| carried.fill_in(value, inputs));
                let text = text.map_err(|error| match error {
                    Unfilled::Filter(error) => self.bad(error.to_string()),
                    Unfilled::NoField(name) => {
                        let error = format!("it has no field `{name}`");
                        ProxyError::Token(TokenError::Fetch(FetchError::malformed(error)))
                    }
                })?;
                self.value_of(&text)
            }
        }
    }

    fn preview(&self, inputs: &Inputs) -> Result<Cow<'_, HeaderValue>, ProxyError> {
        match &self.value {
            FieldValue::Bearer => Ok(Cow::Owned(MASKED_BEARER)),
            FieldValue::Fixed(value) => Ok(Cow::Borrowed(value)),
            FieldValue::Template(template) => {
                let text = template.fill(|value, filters| match value {
                    Value::Input(index) => Filter::apply_all(filters, inputs.get(*index).into()),
                    Value::Token | Value::Other(_) | Value::Field(_) => Ok(MASK.into()),
                });
                let text = text.map_err(|error| self.bad(error.to_string()))?;
                self.value_of(&text)
            }
        }
    }

    fn value_of(&self, text: &str) -> Result<Cow<'_, HeaderValue>, ProxyError> {
        let mut value = HeaderValue::from_str(text)
            .map_err(|_| self.bad("cannot be a header's value".to_owned()))?;
        value.set_sensitive(true);
        Ok(Cow::Owned(value))
    }

    fn bad(&self, reason: String) -> ProxyError {
        ProxyError::BadInput {
            input: self.name.as_str().to_owned(),
            reason,
        }
    }
}

/// What stands for a token where one is told of.
pub const MASK: &str = "****";
/// Those of a connection that `http` has no constant for.
static CONNECTION_FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];
const MASKED_BEARER: HeaderValue = HeaderValue::from_static("Bearer ****");

/// Removes what belongs to one connection only: the fields of RFC 9110 §7.6.1 and all that `Connection` names.
pub(super) fn strip_connection_fields(headers: &mut HeaderMap) {
    if !headers.keys().any(is_connection_field) {
        return;
    }
    let values = headers.get_all(CONNECTION).iter();
    let named: Vec<HeaderName> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // Goes in any case, and is what is nearly always named.
        .filter(|name| !name.eq_ignore_ascii_case("keep-alive"))
        .filter_map(|name| name.parse().ok())
        .collect();
    remove_all(headers, |name| {
        is_connection_field(name) || named.contains(name)
    });
}

fn is_connection_field(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TE | TRANSFER_ENCODING | UPGRADE)
        || CONNECTION_FIELDS.contains(name)
}

/// Makes one `Cookie` of the crumbs that HTTP/2 allows (RFC 9113 §8.2.3): HTTP/1.1 knows one only.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() < 2 {
        return;
    }
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

/// Whether a field is told anew to the upstream, or is between the app and pillion.
fn is_not_for_upstreams(name: &HeaderName) -> bool {
    matches!(*name, CONTENT_LENGTH | EXPECT | PROXY_AUTHORIZATION)
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

// An announced trailer that will not come, or must not, is not announced.
fn strip_trailer_names(headers: &mut HeaderMap, attach: &Attach) {
    if !headers.keys().any(|name| *name == TRAILER) {
        return;
    }
    let names: Vec<String> = headers
        .get_all(TRAILER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .filter(|name| attach.may_be_trailer(name))
        .map(|name| name.as_str().to_owned())
        .collect();
    headers.remove(TRAILER);
    if let Ok(value) = HeaderValue::from_str(&names.join(", "))
        && !names.is_empty()
    {
        headers.insert(TRAILER, value);
    }
}

/// Removes a field and whatever a careless reader takes for it (`Merchant_Account`). Says whether there was any.
fn remove_with_twins(headers: &mut HeaderMap, name: &HeaderName) -> bool {
    remove_all(headers, |other| are_twins(other.as_str(), name.as_str()))
}

/// Removes the fields that `is_unwanted` names. Says whether there was any.
///
/// To look at each name that is there costs less than to look for each that should not be: a head has few, and of those
/// hardly ever one.
fn remove_all(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) -> bool {
    let mut was_there = false;
    while let Some(name) = headers.keys().find(|name| is_unwanted(name)).cloned() {
        headers.remove(&name);
        was_there = true;
    }
    was_there
}

/// Names of one meaning to servers that turn both `-` and `_` into the same variable. Field names come in lower case.
fn are_twins(one: &str, other: &str) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.len() == other.len()
        && one
            .bytes()
            .zip(other.bytes())
            .all(|(a, b)| plain(a) == plain(b))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::clock::Moment;
    use crate::metrics::FetchReason;
    use crate::provider::Lifetime;
    use crate::provider::secret::Secret;
    use crate::token::life::Life;

    fn token() -> Token {
        let lifetime = Lifetime::For(Duration::from_secs(3600));
        let life = Life::new(lifetime, None, Moment::now(), SystemTime::UNIX_EPOCH, 0.0);
        Token::new(
            Secret::new("t0ken".to_owned()),
            1,
            FetchReason::Startup,
            life,
        )
        .unwrap()
    }

    fn attach(on_conflict: OnConflict) -> Attach {
        let fields = vec![
            SetField {
                name: AUTHORIZATION,
                value: FieldValue::Bearer,
            },
            SetField {
                name: HeaderName::from_static("merchant-account"),
                value: FieldValue::Fixed(HeaderValue::from_static("1234567")),
            },
        ];
        Attach {
            fields,
            remove: vec![COOKIE],
            on_conflict,
        }
    }

    fn rewrite(
        attach: &Attach,
        sent: &[(&str, &str)],
    ) -> Result<Vec<(String, String)>, ProxyError> {
        let headers: HeaderMap = sent
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let stripped = attach.strip(headers, &[], None)?;
        let host = HeaderValue::from_static("api.example");
        let carried = Carried {
            own: Arc::new(token()),
            others: Vec::new(),
        };
        let writing = Writing {
            attach,
            stripped: &stripped,
            host: &host,
            carried: &carried,
            inputs: &Inputs::default(),
        };
        let written = writing.write()?;
        let doubles = written.set.iter();
        let doubles = doubles.filter(|(name, _)| written.sent.contains_key(*name));
        assert_eq!(doubles.count(), 0);
        let written = written.to_headers();
        let mut pairs: Vec<_> = written
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        pairs.sort();
        Ok(pairs)
    }

    fn expected(more: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = [
            ("authorization", "Bearer t0ken"),
            ("host", "api.example"),
            ("merchant-account", "1234567"),
        ];
        let mut pairs: Vec<_> = own
            .iter()
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        pairs.sort();
        pairs
    }

    #[test]
    fn each_field_of_the_route_is_set_exactly_once_whatever_the_app_sent() {
        let sent = [
            ("host", "evil.example"),
            ("authorization", "Basic evil"),
            ("authorization", "Bearer evil"),
            ("merchant_account", "7654321"),
            ("Merchant-Account", "7654321"),
            ("cookie", "a=b"),
            ("proxy-authorization", "Basic evil"),
            ("x-kept", "yes"),
        ];
        let written = rewrite(&attach(OnConflict::Overwrite), &sent).unwrap();
        assert_eq!(written, expected(&[("x-kept", "yes")]));
    }

    #[test]
    fn what_belongs_to_the_connection_stays_there_and_cannot_take_ours_along() {
        let sent = [
            ("connection", "authorization, x-secret, merchant-account"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("x-secret", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("te", "gzip"),
            ("expect", "100-continue"),
        ];
        let written = rewrite(&attach(OnConflict::Overwrite), &sent).unwrap();
        assert_eq!(written, expected(&[]));
    }

    #[test]
    fn trailers_are_asked_for_and_announced_but_never_ours() {
        let sent = [
            ("te", "trailers"),
            ("trailer", "X-Sum, Authorization, merchant_account, Host"),
        ];
        let written = rewrite(&attach(OnConflict::Overwrite), &sent).unwrap();
        let more = [
            ("te", "trailers"),
            ("connection", "te"),
            ("trailer", "x-sum"),
        ];
        assert_eq!(written, expected(&more));
    }

    #[test]
    fn a_conflict_is_overwritten_kept_or_refused_as_the_route_says() {
        let sent = [("authorization", "Bearer own")];
        let kept = rewrite(&attach(OnConflict::Keep), &sent).unwrap();
        assert!(kept.contains(&("authorization".to_owned(), "Bearer own".to_owned())));
        assert_eq!(kept.len(), 3);
        assert!(matches!(
            rewrite(&attach(OnConflict::Reject), &sent),
            Err(ProxyError::HeaderConflict(_))
        ));
    }
}
