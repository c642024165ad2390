//! Answers of every shape, right and wrong, from an upstream over a real connection.

use std::sync::Arc;

use http::Method;
use serde::Deserialize;

use crate::stage::{Raw, Stage, full, request};

/// `tests/corpus/answers.toml`, which says what the fields mean.
#[derive(Deserialize)]
struct Corpus {
    answer: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    bytes: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    closes: bool,
    status: Option<u16>,
    body: Option<String>,
    #[serde(default)]
    trailers: Vec<String>,
    again: Option<bool>,
    broken: Option<String>,
}

/// An upstream that gives the answer of this index to `/api/INDEX`, and to everything else one that is well.
async fn upstream(corpus: &Arc<Corpus>) -> Raw {
    let corpus = Arc::clone(corpus);
    Raw::start(move |mut peer| {
        let corpus = Arc::clone(&corpus);
        async move {
            while let Some(head) = peer.read_head().await {
                let path = head.split(' ').nth(1).unwrap();
                let index = path.trim_start_matches('/').parse::<usize>();
                let Ok(index) = index else {
                    peer.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell")
                        .await;
                    continue;
                };
                let case = &corpus.answer[index];
                peer.write(&case.bytes).await;
                if case.closes {
                    return;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_is_passed_on_as_the_corpus_says_or_not_at_all() {
    let text = include_str!("../../corpus/answers.toml");
    let corpus: Arc<Corpus> = Arc::new(toml::from_str(text).unwrap());
    let upstream = upstream(&corpus).await;
    // One worker, so that there is one pool.
    let setting = Stage::set().top("[listen]\nworkers = 1");
    let stage = setting.upstream_at(upstream.url()).start().await;
    for (index, case) in corpus.answer.iter().enumerate() {
        let name = &case.name;
        let method = case.to.parse().unwrap_or(Method::GET);
        let ask = request(method, &format!("/api/{index}"))
            .header("te", "trailers")
            .header("connection", "te");
        let reply = stage
            .client()
            .await
            .try_send(ask.body(full("")).unwrap())
            .await;
        match case.broken.as_deref() {
            Some("head") => {
                reply.unwrap().expect_problem(502, "upstream-unreachable");
            }
            Some(_) => assert!(reply.is_err(), "{name}: {reply:?}"),
            None => {
                let reply = reply.unwrap();
                assert_eq!(Some(reply.status), case.status, "{name}");
                assert_eq!(
                    str::from_utf8(&reply.body).ok(),
                    case.body.as_deref(),
                    "{name}"
                );
                // The app's own server passes on what was announced.
                if case.bytes.contains("trailer:") {
                    assert_eq!(reply.trailers.len(), case.trailers.len(), "{name}");
                }
            }
        }
        let before = upstream.connections();
        stage.get("/api/well").await.expect_ok();
        let is_reused = upstream.connections() == before;
        assert_eq!(is_reused, case.again == Some(true), "{name}");
    }
}
