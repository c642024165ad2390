//! Answers with the token itself: the app's own server asks for it, and passes it to a client of its own.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA};
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::answer::AnswerBody;
use super::inputs::{Inputs, Parts, RequestPart};
use super::problem::ProxyError;
use super::route::Route;
use super::verdict::is_json_type;
use crate::clock::Moment;
use crate::token::life::Token;

/// A request for a token.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    /// What of the path the route does not take.
    pub(super) rest: &'a str,
    /// What inputs are made from, without the body.
    pub(super) parts: Parts<'a>,
}

/// The token that a route gives, as a token response (RFC 6749 §5.1). The body may stand still for `body_idle`.
pub(super) async fn answer<B>(
    route: &Route,
    asked: &Asked<'_>,
    body: B,
    body_idle: Duration,
    now: Moment,
) -> Result<Response<AnswerBody>, ProxyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let subject = inputs(route, asked, body, body_idle)
        .await?
        .subject(&route.subject);
    route.tokens.check_inputs(&subject)?;
    let token = if wants_new(asked.parts.headers) {
        route.tokens.replace(&subject, now).await?
    } else {
        route.tokens.get(&subject, now).await?
    };
    Ok(token_response(&token, Moment::now()))
}

/// What such a request says about whose token it wants.
pub(super) async fn inputs<B>(
    route: &Route,
    asked: &Asked<'_>,
    body: B,
    body_idle: Duration,
) -> Result<Inputs, ProxyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if !matches!(asked.rest, "" | "/") {
        return Err(ProxyError::NoRoute);
    }
    if !matches!(*asked.method, Method::GET | Method::POST) {
        return Err(ProxyError::HandOutMethod);
    }
    let document = if reads_body(route) {
        Some(read(asked.parts.headers, body, body_idle).await?)
    } else {
        None
    };
    let parts = Parts {
        body: document.as_ref(),
        ..asked.parts
    };
    Inputs::read(route, &parts)
}

fn token_response(token: &Token, now: Moment) -> Response<AnswerBody> {
    let mut members = Map::new();
    for (name, value) in token.fields() {
        members.insert(name.clone(), value.clone());
    }
    members.insert("access_token".to_owned(), token.secret().reveal().into());
    members.insert("token_type".to_owned(), "Bearer".into());
    // Until when pillion would use it itself: whoever gets it has to bring it to the API in time, too.
    if let Some(end) = token.life().expires_at {
        let left = (end - now).as_secs();
        members.insert("expires_in".to_owned(), left.into());
    }
    let mut response = Response::new(AnswerBody::full(Value::Object(members).to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// `Cache-Control: no-cache` (RFC 9111 §5.2.1.4): not one that is kept.
pub(super) fn wants_new(headers: &HeaderMap) -> bool {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))
}

fn reads_body(route: &Route) -> bool {
    let mut parts = route
        .inputs
        .iter()
        .flat_map(|input| input.value.references());
    parts.any(|part| matches!(part, RequestPart::Body(_)))
}

async fn read<B>(headers: &HeaderMap, mut body: B, idle: Duration) -> Result<Value, ProxyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(is_json_type) {
        return Err(ProxyError::BadBody(
            "this route takes its inputs from a JSON body, and needs `Content-Type: application/json`",
        ));
    }
    let mut content = BytesMut::new();
    loop {
        let frame = timeout(idle, body.frame())
            .await
            .map_err(|_elapsed| ProxyError::RequestIdle)?;
        let Some(frame) = frame else { break };
        let frame =
            frame.map_err(|_error| ProxyError::RequestBody("the request body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if content.len() + data.len() > MAX_BODY_BYTES {
            return Err(ProxyError::RequestBody(
                "the request body is longer than 64 KiB",
            ));
        }
        content.extend_from_slice(&data);
    }
    serde_json::from_slice(&content)
        .map_err(|_error| ProxyError::BadBody("the request body is not JSON"))
}

/// What inputs are made from is small.
const MAX_BODY_BYTES: usize = 64 * 1024;
