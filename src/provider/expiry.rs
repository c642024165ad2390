//! Where a lifetime is stated, in which unit, and in which order the places are tried.

use std::time::{Duration, SystemTime};

use http::HeaderName;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::exchange::Answer;
use super::extract::{self, jwt_expiry, number, seconds, unix_seconds};
use super::pointer::Pointer;
use super::{Lifetime, Subject};

/// One place where a lifetime may be stated.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Expiry {
    /// A value of the answer's JSON.
    Json(Pointer, Unit),
    /// A field of the answer.
    Header(HeaderName, Unit),
    /// The `exp` claim of the token, behind the prefix that ends with this text, if it has one.
    Jwt {
        /// `"_"` for `sandbox_eyJ...`
        strip_prefix: Option<String>,
    },
    /// `expires_in` of a token response (RFC 6749 §5.1) or the `exp` of a token that is a JWT, whichever comes sooner.
    ExpiresIn,
    /// What was asked for: the provider's input of this index.
    Input(usize, Unit),
    /// Always this long.
    After(Duration),
}

/// What a number or a text says about an end.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Unit {
    /// Seconds from now.
    Seconds,
    /// Minutes from now.
    Minutes,
    /// Milliseconds from now.
    Milliseconds,
    /// Seconds since 1970.
    Epoch,
    /// Milliseconds since 1970.
    EpochMilliseconds,
    /// A date and a time with an offset.
    Rfc3339,
}

/// What a lifetime is read from.
#[derive(Clone, Copy, Debug)]
pub struct Stated<'a> {
    /// The answer's fields.
    pub answer: &'a Answer,
    /// Its content, if that is JSON.
    pub document: Option<&'a Value>,
    /// The token.
    pub token: &'a str,
    /// Whose token it is.
    pub subject: &'a Subject,
    /// The time, by our clock.
    pub now: SystemTime,
}

impl Stated<'_> {
    /// The lifetime of what ends at this second since 1970: by the clock of whoever says so, if the answer has its time.
    /// By ours if it has none, or one that makes no sense of the end.
    fn until(&self, end: f64) -> Lifetime {
        let by = |clock| seconds(end - unix_seconds(clock));
        let ours = by(self.now);
        let theirs = self.answer.date().map(by);
        [theirs, Some(ours)]
            .into_iter()
            .flatten()
            .find(|life| matches!(life, Lifetime::For(_)))
            .unwrap_or(ours)
    }
}

/// The lifetime that the first usable place states.
#[must_use]
pub fn stated(places: &[Expiry], stated: &Stated<'_>) -> Option<Lifetime> {
    places.iter().find_map(|place| place.read(stated))
}

/// The same; else the JWT's own `exp`, else five minutes.
#[must_use]
pub fn lifetime(places: &[Expiry], from: &Stated<'_>) -> Lifetime {
    let own = Expiry::Jwt { strip_prefix: None };
    stated(places, from)
        .or_else(|| own.read(from))
        .unwrap_or(Lifetime::For(UNKNOWN))
}

/// The life of a token of which nothing is known.
const UNKNOWN: Duration = Duration::from_mins(5);

impl Expiry {
    fn read(&self, from: &Stated<'_>) -> Option<Lifetime> {
        match self {
            Self::Json(pointer, unit) => unit.read(pointer.first(from.document?)?, from),
            Self::Header(name, unit) => {
                let value = from.answer.headers.get(name)?.to_str().ok()?;
                unit.read(&Value::from(value), from)
            }
            Self::Jwt { strip_prefix } => {
                let token = behind_prefix(from.token, strip_prefix.as_deref());
                jwt_expiry(token).map(|end| from.until(end))
            }
            Self::ExpiresIn => {
                let expires_in = from.document.and_then(|it| it.get("expires_in"));
                extract::lifetime(expires_in, from.token, |end| from.until(end))
            }
            Self::Input(index, unit) => {
                let value = Value::from(from.subject.input(*index));
                unit.read(&value, from)
            }
            Self::After(after) => Some(Lifetime::For(*after)),
        }
    }
}

// Base64url may itself hold what a prefix ends with: a token that begins as a JWT has no prefix.
fn behind_prefix<'a>(token: &'a str, end: Option<&str>) -> &'a str {
    match end {
        Some(end) if !token.starts_with("eyJ") => {
            token.split_once(end).map_or(token, |(_, token)| token)
        }
        _ => token,
    }
}

impl Unit {
    /// The lifetime that a value states. None for what is no number, or no date.
    fn read(self, value: &Value, from: &Stated<'_>) -> Option<Lifetime> {
        Some(match self {
            Self::Rfc3339 => {
                let end = OffsetDateTime::parse(value.as_str()?.trim(), &Rfc3339).ok()?;
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a date is far from where it begins"
                )]
                let end = end.unix_timestamp() as f64 + f64::from(end.nanosecond()) / 1e9;
                from.until(end)
            }
            Self::Seconds => seconds(number(value)?),
            Self::Minutes => seconds(number(value)? * 60.0),
            Self::Milliseconds => seconds(number(value)? / 1000.0),
            Self::Epoch => from.until(number(value)?),
            Self::EpochMilliseconds => from.until(number(value)? / 1000.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};
    use serde_json::json;

    use super::*;
    use crate::provider::Input;

    const NOW: u64 = 1_767_225_600; // 2026-01-01T00:00:00Z

    fn at(places: &[Expiry], document: &Value, token: &str) -> Option<Lifetime> {
        told_at(None, places, document, token)
    }

    fn told_at(
        date: Option<&str>,
        places: &[Expiry],
        document: &Value,
        token: &str,
    ) -> Option<Lifetime> {
        let mut headers = HeaderMap::new();
        if let Some(date) = date {
            headers.insert("date", HeaderValue::from_str(date).unwrap());
        }
        headers.insert("x-expires", HeaderValue::from_static("120"));
        let answer = Answer {
            status: StatusCode::OK,
            headers,
            body: Bytes::new(),
        };
        let subject = Subject::new([Input::Text("1440")]);
        let from = Stated {
            answer: &answer,
            document: Some(document),
            token,
            subject: &subject,
            now: UNIX_EPOCH + Duration::from_secs(NOW),
        };
        stated(places, &from)
    }

    fn json(unit: Unit) -> Vec<Expiry> {
        vec![Expiry::Json(Pointer::parse("/e").unwrap(), unit)]
    }

    fn secs(seconds: u64) -> Option<Lifetime> {
        Some(Lifetime::For(Duration::from_secs(seconds)))
    }

    #[test]
    fn every_unit_says_when() {
        for (unit, value, life) in [
            (Unit::Seconds, json!(900), secs(900)),
            (Unit::Seconds, json!("86398"), secs(86398)),
            (Unit::Minutes, json!(15), secs(900)),
            (Unit::Milliseconds, json!(90_000), secs(90)),
            (Unit::Epoch, json!(NOW + 60), secs(60)),
            (Unit::Epoch, json!((NOW + 60).to_string()), secs(60)),
            (Unit::EpochMilliseconds, json!((NOW + 60) * 1000), secs(60)),
            (Unit::Rfc3339, json!("2026-01-01T00:10:00Z"), secs(600)),
            (Unit::Rfc3339, json!("2026-01-01T02:10:00+02:00"), secs(600)),
            (Unit::Rfc3339, json!("2026-01-01T00:10:00.000Z"), secs(600)),
            (Unit::Rfc3339, json!("05/18/2021 11:44 AM"), None),
            (Unit::Rfc3339, json!(null), None),
            (Unit::Rfc3339, json!(600), None),
            (Unit::Seconds, json!("5 days, 0:00:00"), None),
        ] {
            let read = at(&json(unit), &json!({ "e": value }), "opaque");
            assert_eq!(read, life, "{unit:?} {value}");
        }
    }

    #[test]
    fn an_end_that_is_over_is_clamped() {
        let over = at(
            &json(Unit::Rfc3339),
            &json!({"e": "2025-12-31T00:00:00Z"}),
            "t",
        );
        assert_eq!(over, Some(Lifetime::Clamped(Duration::from_secs(1))));
    }

    #[test]
    fn an_end_is_by_the_clock_of_whoever_says_so_unless_that_makes_no_sense() {
        let ends = json!({ "e": "2026-01-01T00:10:00Z" });
        for (date, life) in [
            ("Thu, 01 Jan 2026 00:04:00 GMT", secs(360)),
            ("Wed, 31 Dec 2025 23:10:00 GMT", secs(3600)),
            ("Thu, 01 Jan 2026 01:00:00 GMT", secs(600)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", secs(600)),
            ("yesterday", secs(600)),
        ] {
            let read = told_at(Some(date), &json(Unit::Rfc3339), &ends, "t");
            assert_eq!(read, life, "{date}");
        }
    }

    #[test]
    fn the_first_usable_place_counts() {
        let mut places = json(Unit::Rfc3339);
        places.push(Expiry::After(Duration::from_mins(10)));
        let null = json!({ "e": null });
        assert_eq!(at(&places, &null, "t"), secs(600));
        assert_eq!(
            at(&places, &json!({"e": "2026-01-01T00:01:00Z"}), "t"),
            secs(60)
        );
        places.insert(0, Expiry::Input(0, Unit::Minutes));
        assert_eq!(at(&places, &null, "t"), secs(86_400));
        let name = HeaderName::from_static("x-expires");
        places.insert(0, Expiry::Header(name, Unit::Seconds));
        assert_eq!(at(&places, &null, "t"), secs(120));
    }

    #[test]
    fn the_exp_of_a_jwt_is_found_behind_a_prefix() {
        // `??>` makes an underscore in base64url.
        let claims = json!({ "exp": NOW + 900, "x": "???>>>???" }).to_string();
        let claims = URL_SAFE_NO_PAD.encode(claims);
        assert!(claims.contains('_'));
        let jwt = format!("eyJhbGciOiJIUzI1NiJ9.{claims}.s_g");
        let place = [Expiry::Jwt {
            strip_prefix: Some("_".to_owned()),
        }];
        let none = json!({});
        assert_eq!(at(&place, &none, &format!("sandbox_{jwt}")), secs(900));
        assert_eq!(at(&place, &none, &jwt), secs(900));
        assert_eq!(at(&place, &none, "sandbox_opaque"), None);
    }
}
