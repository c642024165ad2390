//! What an upstream answers to whom it lets in.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, SET_COOKIE, TRAILER,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::fake::answer::{self, Answer};
use crate::fake::digest::sha256_hex;
use crate::fake::{HangUp, Received};

/// One chunk of `/stream/{n}`.
const CHUNK: Bytes = Bytes::from_static(&[b'x'; 1024]);

/// The longest frame of `/bytes/{n}`.
const FRAME: Bytes = Bytes::from_static(&[b'x'; 16 * 1024]);

/// The page that was asked for; a description of the request, if there is none.
pub(super) fn page(request: &Received) -> Answer {
    let path = request.path();
    let (name, argument) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path.trim_start_matches('/'), ""));
    let page = match name {
        "status" => argument
            .parse()
            .ok()
            .filter(|code| (200..600).contains(code))
            .and_then(status),
        "bytes" => argument.parse().ok().map(bytes),
        "stream" => argument
            .parse()
            .ok()
            .map(|chunks| chunked(chunks, every(request))),
        "trailers" => Some(trailers()),
        "redirect" => Some(redirect()),
        "cookies" => Some(cookies()),
        "echo" => Some(echo(request)),
        _ => None,
    };
    page.unwrap_or_else(|| answer::json(StatusCode::OK, &describe(request)))
}

fn describe(request: &Received) -> Value {
    json!({
        "method": request.method.as_str(),
        "target": request.target,
        "headers": request.fields,
        "body_length": request.body.len(),
        "body_sha256": sha256_hex(&request.body),
        "trailers": request.trailers,
    })
}

fn status(code: u16) -> Option<Answer> {
    StatusCode::from_u16(code).ok().map(answer::empty)
}

fn bytes(length: usize) -> Answer {
    let frames = stream::unfold(length, |left| async move {
        let frame = FRAME.slice(..left.min(FRAME.len()));
        (left > 0).then(|| (Ok(Frame::data(frame)), left.saturating_sub(FRAME.len())))
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    answer
}

fn chunked(chunks: usize, every: Option<Duration>) -> Answer {
    let frames = stream::iter(0..chunks).then(move |number| async move {
        if let Some(every) = every.filter(|_| number > 0) {
            tokio::time::sleep(every).await;
        }
        Ok(Frame::data(CHUNK))
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    answer
}

fn every(request: &Received) -> Option<Duration> {
    request
        .query()?
        .strip_prefix("every=")?
        .parse()
        .ok()
        .map(Duration::from_millis)
}

fn trailers() -> Answer {
    let mut fields = HeaderMap::new();
    fields.insert(
        HeaderName::from_static("x-checksum"),
        HeaderValue::from_static("abc"),
    );
    let frames = [Ok(Frame::data(CHUNK)), Ok(Frame::trailers(fields))];
    let mut answer = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
    answer
        .headers_mut()
        .insert(TRAILER, HeaderValue::from_static("x-checksum"));
    answer
}

fn redirect() -> Answer {
    let mut answer = answer::empty(StatusCode::TEMPORARY_REDIRECT);
    answer.headers_mut().insert(
        LOCATION,
        HeaderValue::from_static("https://elsewhere.example/"),
    );
    answer
}

fn cookies() -> Answer {
    let mut answer = answer::empty(StatusCode::OK);
    answer
        .headers_mut()
        .append(SET_COOKIE, HeaderValue::from_static("one=1"));
    answer
        .headers_mut()
        .append(SET_COOKIE, HeaderValue::from_static("two=2"));
    answer
}

fn echo(request: &Received) -> Answer {
    let content_type = request
        .field("content-type")
        .and_then(|value| HeaderValue::from_str(value).ok());
    let mut answer = Response::new(answer::full(request.body.clone()));
    answer
        .headers_mut()
        .extend(content_type.map(|value| (CONTENT_TYPE, value)));
    answer
}

/// The body, as it comes.
pub(super) fn echo_stream(request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let mut answer = Response::new(body.map_err(|_| HangUp).boxed_unsync());
    answer.headers_mut().extend(
        head.headers
            .get(CONTENT_TYPE)
            .map(|value| (CONTENT_TYPE, value.clone())),
    );
    answer
}
