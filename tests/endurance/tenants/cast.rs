//! The two servers of the story: a mint whose tokens name their owner, and an upstream that reads the name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use pillion::fake::{Answer, HangUp, Server};
use serde_json::{Value, json};
use tokio::time::Instant;

/// How long tokens live: renewed after 1.8 to 2.4 s.
const LIFETIME_SECONDS: u64 = 5;
/// From this age on, every other token of an owner is refused, at every request that carries it: the one after it is good.
const REFUSED_FROM: Duration = Duration::from_millis(1100);

/// The owner of a token: the provider, and everything that it was asked with. In hex, which nothing can be confused in.
pub(super) fn owner(provider: &str, inputs: &[Value]) -> String {
    let mut owner = provider.to_owned();
    for input in inputs {
        owner.push('.');
        for byte in input.to_string().bytes() {
            owner.push_str(&format!("{byte:02x}"));
        }
    }
    owner
}

pub(super) struct Cast {
    mint: Server,
    upstream: Server,
    ledger: Arc<Ledger>,
    pub(super) seen: Arc<Seen>,
}

/// What the mint has made.
struct Ledger {
    opened: Instant,
    /// How many tokens each owner has had.
    owners: Mutex<HashMap<String, usize>>,
}

/// What the upstream has seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) foreign: AtomicUsize,
    pub(super) refused: AtomicUsize,
    examples: Mutex<Vec<String>>,
}

impl Seen {
    /// Some of the requests that should not have been.
    pub(super) fn examples(&self) -> Vec<String> {
        self.examples.lock().unwrap().clone()
    }
}

impl Cast {
    pub(super) async fn start() -> Self {
        let ledger = Arc::new(Ledger {
            opened: Instant::now(),
            owners: Mutex::default(),
        });
        let seen = Arc::<Seen>::default();
        let minting = Arc::clone(&ledger);
        let mint = Server::start(None, move |request| {
            let ledger = Arc::clone(&minting);
            async move { ledger.mint(request).await }
        });
        let (opened, seeing) = (ledger.opened, Arc::clone(&seen));
        let upstream = Server::start(None, move |request| {
            let seen = Arc::clone(&seeing);
            async move { seen.answer(request, opened).await }
        });
        Self {
            mint: mint.await.unwrap(),
            upstream: upstream.await.unwrap(),
            ledger,
            seen,
        }
    }

    pub(super) fn mint_url(&self, provider: &str) -> String {
        format!("http://{}/{provider}", self.mint.address())
    }

    pub(super) fn upstream_url(&self) -> String {
        format!("http://{}", self.upstream.address())
    }

    /// How many different owners have had a token.
    pub(super) fn owners(&self) -> usize {
        self.ledger.owners.lock().unwrap().len()
    }

    pub(super) fn minted(&self) -> usize {
        self.ledger.owners.lock().unwrap().values().sum()
    }
}

impl Ledger {
    /// A token for whom the request is about: `OWNER~SERIAL~AGE`.
    async fn mint(&self, request: Request<Incoming>) -> Result<Answer, HangUp> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| HangUp)?.to_bytes();
        let owner = match head.uri.path() {
            "/form" => {
                let form: HashMap<_, _> = form_urlencoded::parse(&body).into_owned().collect();
                owner("form", &[json!(form["tenant"]), json!(form["scope"])])
            }
            path => {
                let asked: Value = serde_json::from_slice(&body).unwrap();
                match path {
                    "/pair" => owner("pair", &[asked["a"].clone(), asked["b"].clone()]),
                    "/typed" => owner("typed", &[asked["who"].clone()]),
                    // Whatever parent it came with is part of what it is.
                    "/child" => {
                        let parent = head.headers[AUTHORIZATION].to_str().unwrap();
                        let parent = owner_of(parent.trim_start_matches("Bearer "));
                        owner("child", &[asked["tenant"].clone(), json!(parent)])
                    }
                    _ => owner("own", &[]),
                }
            }
        };
        let serial = {
            let mut owners = self.owners.lock().unwrap();
            let count = owners.entry(owner.clone()).or_default();
            *count += 1;
            *count
        };
        let token = format!("{owner}~{serial}~{}", self.opened.elapsed().as_millis());
        let document = json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": LIFETIME_SECONDS,
        });
        Ok(answer(StatusCode::OK, document.to_string().into()))
    }
}

impl Seen {
    /// The owner that the path names must be the token's; the body must be the request's number. Answers with both.
    async fn answer(&self, request: Request<Incoming>, opened: Instant) -> Result<Answer, HangUp> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| HangUp)?.to_bytes();
        let number = head.headers.get("x-request").cloned();
        let named = head.uri.path().trim_start_matches('/');
        let token = head.headers.get(AUTHORIZATION);
        let token = token.and_then(|it| it.to_str().ok()?.strip_prefix("Bearer "));
        let token = token.unwrap_or_default();
        if owner_of(token) != named || number.as_ref().is_none_or(|it| it.as_bytes() != body) {
            self.foreign.fetch_add(1, Ordering::Relaxed);
            let mut examples = self.examples.lock().unwrap();
            if examples.len() < 10 {
                examples.push(format!("{named} with {token}"));
            }
        }
        let mut answer = if is_refused(token, opened) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            answer(StatusCode::UNAUTHORIZED, Bytes::new())
        } else {
            answer(StatusCode::OK, body)
        };
        if let Some(number) = number {
            answer.headers_mut().insert("x-request", number);
        }
        Ok(answer)
    }
}

pub(super) fn owner_of(token: &str) -> &str {
    token.split('~').next().unwrap_or_default()
}

fn is_refused(token: &str, opened: Instant) -> bool {
    let mut parts = token.split('~').skip(1).map(str::parse::<u64>);
    let (Some(Ok(serial)), Some(Ok(made_at))) = (parts.next(), parts.next()) else {
        return true;
    };
    !serial.is_multiple_of(2) && opened.elapsed() > Duration::from_millis(made_at) + REFUSED_FROM
}

fn answer(status: StatusCode, body: Bytes) -> Answer {
    let body = Full::new(body).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}
