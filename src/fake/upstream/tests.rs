//! The upstream is as its table says.

use http::StatusCode;
use serde_json::json;

use super::*;
use crate::fake::client::Client;
use crate::fake::{Fault, Rules};

#[tokio::test]
async fn it_says_what_it_received() {
    let upstream = Upstream::open(None).await.unwrap();
    let client = Client::plain(upstream.address());
    let answer = client
        .send(
            "POST",
            "/a/b?c=d",
            &[("x-one", "1"), ("x-two", "2"), ("x-one", "3")],
            "abc",
        )
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let document = answer.json();
    assert_eq!(document["method"], "POST");
    assert_eq!(document["target"], "/a/b?c=d");
    assert_eq!(document["body_length"], 3);
    assert_eq!(
        document["body_sha256"],
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    let headers = document["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["x-one", "1"])) && headers.contains(&json!(["x-one", "3"])));
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn only_a_good_token_may_enter() {
    let issuer = TokenEndpoint::new(Rules::by_the_book("id", "secret"));
    let upstream = Upstream::guarded_by(None, &issuer).await.unwrap();
    let client = Client::plain(upstream.address());
    let answer = client.send("GET", "/", &[], "").await.unwrap();
    assert_eq!(
        (answer.status, answer.field("www-authenticate")),
        (401, Some("Bearer realm=\"upstream\""))
    );
    let answer = client
        .send("GET", "/", &[("authorization", "Bearer made-up")], "")
        .await
        .unwrap();
    assert_eq!(
        answer.field("www-authenticate"),
        Some("Bearer realm=\"upstream\", error=\"invalid_token\"")
    );
    assert_eq!(upstream.refusals(), 2);
}

#[tokio::test]
async fn lengths_and_streams_are_as_long_as_asked() {
    let upstream = Upstream::open(None).await.unwrap();
    let client = Client::plain(upstream.address());
    let whole = client.send("GET", "/bytes/40000", &[], "").await.unwrap();
    assert_eq!(
        (whole.body.len(), whole.field("content-length")),
        (40_000, Some("40000"))
    );
    let chunked = client
        .send("GET", "/stream/5?every=1", &[], "")
        .await
        .unwrap();
    assert_eq!(
        (chunked.body.len(), chunked.field("transfer-encoding")),
        (5 * 1024, Some("chunked"))
    );
    let empty = client.send("GET", "/stream/0", &[], "").await.unwrap();
    assert_eq!(empty.body.len(), 0);
}

#[tokio::test]
async fn the_small_pages_answer() {
    let upstream = Upstream::open(None).await.unwrap();
    let client = Client::plain(upstream.address());
    assert_eq!(
        client
            .send("GET", "/status/418", &[], "")
            .await
            .unwrap()
            .status,
        418
    );
    assert_eq!(
        client
            .send("GET", "/redirect", &[], "")
            .await
            .unwrap()
            .field("location"),
        Some("https://elsewhere.example/")
    );
    let echo = client
        .send("POST", "/echo", &[("content-type", "text/plain")], "hello")
        .await
        .unwrap();
    assert_eq!(
        (&echo.body[..], echo.field("content-type")),
        (&b"hello"[..], Some("text/plain"))
    );
    let echo = client
        .send("POST", "/echo/stream", &[], "hello")
        .await
        .unwrap();
    assert_eq!(&echo.body[..], b"hello");
    let trailers = client
        .send("GET", "/trailers", &[("te", "trailers")], "")
        .await
        .unwrap();
    assert_eq!(trailers.trailer("x-checksum"), Some("abc"));
}

#[tokio::test]
async fn faults_come_in_the_order_they_were_ordered() {
    let upstream = Upstream::open(None).await.unwrap();
    let client = Client::plain(upstream.address());
    upstream
        .faults()
        .always(Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    upstream.faults().once(Fault::Reset);
    upstream.faults().once(Fault::raw("text/html", "<html>"));
    upstream.faults().once(Fault::CutShort);
    upstream.faults().once(Fault::Unauthorized);
    client.send("GET", "/", &[], "").await.unwrap_err();
    assert_eq!(
        client
            .send("GET", "/", &[], "")
            .await
            .unwrap()
            .field("content-type"),
        Some("text/html")
    );
    client.send("GET", "/", &[], "").await.unwrap_err();
    assert_eq!(client.send("GET", "/", &[], "").await.unwrap().status, 401);
    assert_eq!(client.send("GET", "/", &[], "").await.unwrap().status, 503);
    upstream.faults().clear();
    assert_eq!(client.send("GET", "/", &[], "").await.unwrap().status, 200);
}

#[tokio::test]
async fn an_early_refusal_does_not_wait_for_the_body() {
    let upstream = Upstream::guarded(None, |_| false).await.unwrap();
    upstream.refuse_early(true);
    let client = Client::plain(upstream.address());
    let answer = client
        .send("POST", "/", &[("content-length", "100000")], "")
        .await
        .unwrap();
    assert_eq!(answer.status, 401);
}
