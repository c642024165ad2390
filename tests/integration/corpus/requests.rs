//! Requests of every shape, right and wrong, to an upstream that reads them by itself.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use crate::stage::{Stage, StrictUpstream, Wire};

/// `tests/corpus/requests.toml`, which says what the fields mean.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    rule: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    says: String,
    /// With a gap, `{}`.
    request: String,
    status: Option<u16>,
    target: Option<String>,
    body: Option<String>,
    #[serde(default)]
    closes: bool,
    #[serde(default)]
    passed: Vec<String>,
    #[serde(default)]
    refused: Vec<String>,
    #[serde(default)]
    declined: Vec<String>,
    #[serde(default)]
    broken: Vec<String>,
}

#[tokio::test]
async fn every_request_is_passed_on_well_formed_or_refused() {
    let text = include_str!("../../corpus/requests.toml");
    let corpus: Corpus = toml::from_str(text).unwrap();
    let upstream = StrictUpstream::start().await;
    // One worker, so that whatever a case leaves on a connection to the upstream meets the next request.
    let stage = Stage::set()
        .top("[listen]\nworkers = 1")
        .upstream_at(format!("http://{}", upstream.address))
        .start()
        .await;
    let (mut cases, mut wrong) = (0, Vec::new());
    for rule in &corpus.rule {
        let fates = [
            (Fate::Passed, &rule.passed),
            (Fate::Refused, &rule.refused),
            (Fate::Declined, &rule.declined),
            (Fate::Broken, &rule.broken),
        ];
        for (fate, gaps) in fates {
            for gap in gaps {
                cases += 1;
                let request = latin1(&rule.request.replace("{}", gap));
                let judged = match fate {
                    Fate::Passed => passed(&stage, &upstream, rule, &request).await,
                    Fate::Refused => refused(&stage, &upstream, rule, &request).await,
                    Fate::Declined => declined(&stage, &upstream, rule, &request).await,
                    Fate::Broken => broken(&stage, &upstream, &request).await,
                };
                let judged = match judged {
                    Ok(()) => sentinel(&stage, &upstream).await,
                    wrong => wrong,
                };
                if let Err(error) = judged {
                    upstream.forget();
                    wrong.push(format!("{}: {gap:?} ({fate:?}): {error}", rule.says));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {cases}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(cases >= 300, "{cases} cases");
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Passed,
    Refused,
    Declined,
    Broken,
}

type Judged = Result<(), String>;

async fn passed(stage: &Stage, upstream: &StrictUpstream, rule: &Rule, request: &[u8]) -> Judged {
    let mut wire = stage.wire().await;
    wire.write(request).await;
    let answer = soon(read_answer(&mut wire)).await?;
    let seen = upstream.take()?;
    let [seen] = &*seen else {
        return Err(format!("{} requests arrived; {answer:?}", seen.len()));
    };
    if !answer.contains(" 200 ") {
        return Err(format!("answered {answer:?}"));
    }
    for (what, wanted, arrived) in [
        ("target", &rule.target, &seen.target),
        ("body", &rule.body, &seen.body),
    ] {
        if wanted.as_ref().is_some_and(|wanted| wanted != arrived) {
            return Err(format!("the {what} arrived as {arrived:?}"));
        }
    }
    if rule.closes {
        let rest = soon(wire.read_to_end()).await?;
        return match &*rest {
            "" => Ok(()),
            _ => Err(format!("after the last answer came {rest:?}")),
        };
    }
    wire.write("GET /api/next HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let next = soon(read_answer(&mut wire)).await?;
    if !next.ends_with("/next") {
        return Err(format!("the next request was answered {next:?}"));
    }
    upstream.take().map(drop)
}

async fn refused(stage: &Stage, upstream: &StrictUpstream, rule: &Rule, request: &[u8]) -> Judged {
    let answer = exchange(stage, request).await?;
    if !has_status(&answer, rule) || answer.matches("HTTP/1.").count() != 1 {
        return Err(format!("answered {answer:?}"));
    }
    match &*upstream.take()? {
        [] => Ok(()),
        seen => Err(format!("{} requests arrived", seen.len())),
    }
}

async fn declined(stage: &Stage, upstream: &StrictUpstream, rule: &Rule, request: &[u8]) -> Judged {
    let mut wire = stage.wire().await;
    wire.write(request).await;
    let answer = soon(read_answer(&mut wire)).await?;
    if !has_status(&answer, rule) {
        return Err(format!("answered {answer:?}"));
    }
    match &*upstream.take()? {
        [] => Ok(()),
        seen => Err(format!("{} requests arrived", seen.len())),
    }
}

fn has_status(answer: &str, rule: &Rule) -> bool {
    let status = rule.status.unwrap_or(400);
    ["HTTP/1.1", "HTTP/1.0"]
        .iter()
        .any(|version| answer.starts_with(&format!("{version} {status} ")))
}

async fn broken(stage: &Stage, upstream: &StrictUpstream, request: &[u8]) -> Judged {
    let answer = exchange(stage, request).await?;
    if !(answer.is_empty() || answer.starts_with("HTTP/1.1 400 ")) {
        return Err(format!("answered {answer:?}"));
    }
    match &*upstream.take()? {
        [] => Ok(()),
        seen => Err(format!("{} whole requests arrived", seen.len())),
    }
}

/// The request with another one behind it, and all that comes back.
async fn exchange(stage: &Stage, request: &[u8]) -> Result<String, String> {
    let smuggled = b"GET /api/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    soon(stage.exchange([request, smuggled].concat())).await
}

/// A connection that says nothing and stays open leaves its caller in the dark.
async fn soon<T>(answer: impl Future<Output = T>) -> Result<T, String> {
    let answer = timeout(PATIENCE, answer).await;
    answer.map_err(|_| "no answer, and the connection stays open".to_owned())
}

const PATIENCE: Duration = Duration::from_secs(5);

/// Another caller gets its own answer.
async fn sentinel(stage: &Stage, upstream: &StrictUpstream) -> Judged {
    let request = "GET /api/sentinel HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = soon(stage.exchange(request)).await?;
    if !answer.ends_with("/sentinel") {
        return Err(format!("the sentinel was answered {answer:?}"));
    }
    upstream.take().map(drop)
}

/// An answer with a declared length.
async fn read_answer(wire: &mut Wire) -> String {
    let head = wire.read_head().await;
    let lower = head.to_lowercase();
    let length = lower.split("content-length: ").nth(1);
    let length = length.and_then(|it| it.lines().next()?.parse().ok());
    let body = wire.read_bytes(length.unwrap_or(0)).await;
    head + &String::from_utf8_lossy(&body)
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|it| u8::try_from(it).unwrap()).collect()
}
