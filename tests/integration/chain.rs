//! Tokens made from tokens: parents, refresh tokens, tokens of one use. Over real sockets.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use pillion::clock::Moment;
use pillion::config;
use pillion::config::compile::{Surroundings, compile};
use pillion::fake::{Answer, Fault, Forage, Server};
use pillion::metrics::Metrics;
use pillion::provider::secret::{SecretRef, Secrets};
use pillion::provider::{FetchError, Input, Subject};
use pillion::proxy::Plan;
use pillion::token::cache::slot::Rejected;
use pillion::token::life::{Freshness, Token};
use pillion::token::{TokenError, Tokens};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::stage::Stage;

/// A plan for a file in which `HOST` is the address of a server.
fn plan(file: &str, server: &Server, secrets: Secrets) -> Plan {
    let file = file.replace("HOST", &format!("http://{}", server.address()));
    let (file, report) =
        config::read("proxy.toml", &file).unwrap_or_else(|report| panic!("{}", report.to_plain()));
    let surroundings = Surroundings {
        metrics: Metrics::new(1).unwrap(),
        runtime: Handle::current(),
        secrets,
        resolve: [].into(),
        trust: Vec::new(),
    };
    compile(&file, report, &surroundings, None).unwrap_or_else(|it| panic!("{}", it.to_plain()))
}

fn tokens(plan: &Plan, name: &str) -> Arc<Tokens> {
    let mut all = plan.providers.iter();
    let tokens = all.find(|tokens| &*tokens.provider().name == name);
    Arc::clone(tokens.unwrap())
}

fn whose(inputs: &[&str]) -> Subject {
    Subject::new(inputs.iter().map(|input| Input::Text(input)))
}

async fn get(tokens: &Tokens, inputs: &[&str]) -> Result<Arc<Token>, TokenError> {
    tokens.get(&whose(inputs), Moment::now()).await
}

fn text(token: &Token) -> &str {
    token.secret().reveal()
}

const FORAGE: &str = r#"
[provider.forage-auth]
type = "oauth2"
token_endpoint = "HOST/o/token/"
client_id = { env = "FORAGE_CLIENT_ID" }
client_secret = { env = "FORAGE_CLIENT_SECRET" }
scope = ["pinpad_only"]

[provider.forage-session]
type = "http"
parent = "forage-auth"
inputs = ["merchant"]
url = "HOST/api/session_token/"
headers = { Authorization = "Bearer {parent}", Merchant-Account = "{input.merchant}" }
token = "/token"
expiry = [ { jwt = true, strip_prefix = "_" }, { after = "15m" } ]
"#;

async fn forage() -> (Forage, Plan) {
    forage_with(FORAGE).await
}

async fn forage_with(file: &str) -> (Forage, Plan) {
    let forage = Forage::start(None).await.unwrap();
    let (id, secret) = (
        forage.client_id().to_owned(),
        forage.client_secret().to_owned(),
    );
    let secrets = Secrets::supplied(move |reference| match reference {
        SecretRef::Env(name) if name.ends_with("ID") => Some(id.clone()),
        _ => Some(secret.clone()),
    });
    let plan = plan(file, forage.server(), secrets);
    (forage, plan)
}

#[tokio::test]
async fn a_session_token_is_made_for_each_merchant_from_one_authentication_token() {
    let (forage, plan) = forage().await;
    let sessions = tokens(&plan, "forage-session");
    forage.set_session_lifetime(Duration::from_secs(700));
    let one = get(&sessions, &["1234567"]).await.unwrap();
    let other = get(&sessions, &["mid/123ab45c67"]).await.unwrap();
    let again = get(&sessions, &["1234567"]).await.unwrap();
    assert_ne!(text(&one), text(&other));
    assert!(Arc::ptr_eq(&one, &again));
    assert!(text(&one).starts_with("sandbox_eyJ"));
    assert_eq!(
        (forage.token_endpoint().fetches(), forage.session_fetches()),
        (1, 2)
    );
    // The JWT's own, not the fifteen minutes.
    let life = one.life().expires_at.unwrap() - one.life().issued_at;
    assert!((680..700).contains(&life.as_secs()), "{life:?}");
}

#[tokio::test]
async fn waiting_for_its_parent_takes_nothing_from_a_childs_life() {
    let (forage, plan) = forage().await;
    let slow = Fault::Delay(Duration::from_secs(2));
    forage.token_endpoint().faults().once(slow);
    let asked_at = Moment::now();
    let session = get(&tokens(&plan, "forage-session"), &["1234567"]).await;
    assert!(session.unwrap().life().issued_at >= asked_at + Duration::from_secs(2));
}

#[tokio::test]
async fn a_parent_that_is_revoked_is_renewed_once_for_a_hundred_children() {
    let (forage, plan) = forage().await;
    let sessions = tokens(&plan, "forage-session");
    let merchants: Vec<String> = (0..100).map(|number| format!("{number:07}")).collect();
    let all = || {
        join_all(
            merchants
                .iter()
                .map(async |it| get(&sessions, &[it]).await.unwrap()),
        )
    };
    let dead = all().await;
    assert_eq!(
        (forage.token_endpoint().fetches(), forage.session_fetches()),
        (1, 100)
    );
    forage.token_endpoint().revoke_all();
    let renewed = join_all(merchants.iter().zip(&dead).map(async |(merchant, dead)| {
        let subject = whose(&[merchant]);
        match sessions.reject_parent(&subject, dead, Moment::now()) {
            Rejected::Renewing(flight) => sessions.renewed(&subject, flight, dead).await,
            other => panic!("{other:?}"),
        }
    }));
    for (token, dead) in renewed.await.iter().zip(&dead) {
        assert_ne!(text(token.as_ref().unwrap()), text(dead));
    }
    assert_eq!(
        (forage.token_endpoint().fetches(), forage.session_fetches()),
        (2, 200)
    );
}

#[tokio::test]
async fn a_mint_that_is_refused_renews_the_parent_once_and_is_tried_once_more() {
    let (forage, plan) = forage().await;
    let sessions = tokens(&plan, "forage-session");
    get(&sessions, &["0000000"]).await.unwrap();
    forage.token_endpoint().revoke_all();
    let merchants: Vec<String> = (1..=100).map(|number| format!("{number:07}")).collect();
    let all = join_all(merchants.iter().map(async |it| get(&sessions, &[it]).await)).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(forage.token_endpoint().fetches(), 2);
    // One, and for each of the hundred a refused one and a good one at the most.
    assert!(
        forage.session_fetches() <= 201,
        "{}",
        forage.session_fetches()
    );
}

#[tokio::test]
async fn a_renewed_parent_makes_its_children_due() {
    let (forage, plan) = forage().await;
    let (parents, sessions) = (
        tokens(&plan, "forage-auth"),
        tokens(&plan, "forage-session"),
    );
    let child = get(&sessions, &["1234567"]).await.unwrap();
    assert_eq!(child.freshness(Moment::now()), Freshness::Fresh);
    parents
        .force(&Subject::default(), Moment::now())
        .await
        .unwrap();
    assert_eq!(child.freshness(Moment::now()), Freshness::Due);
    assert_eq!(forage.session_fetches(), 1, "not before somebody wants it");
}

#[tokio::test]
async fn a_child_within_its_parent_ends_with_it_whatever_its_own_answer_says() {
    for (line, is_within) in [("within_parent = true", true), ("", false)] {
        let file = FORAGE.replace("[\"merchant\"]", &format!("[\"merchant\"]\n{line}"));
        let (forage, plan) = forage_with(&file).await;
        forage
            .token_endpoint()
            .set_lifetime(Duration::from_secs(100));
        forage.set_session_lifetime(Duration::from_secs(700));
        let child = get(&tokens(&plan, "forage-session"), &["1234567"])
            .await
            .unwrap();
        let parent = get(&tokens(&plan, "forage-auth"), &[]).await.unwrap();
        let end = |token: &Token| token.life().expires_at.unwrap();
        assert_eq!(end(&child) <= end(&parent), is_within);
        let before = end(&parent) - end(&child);
        assert!(
            before < Duration::from_secs(20),
            "no sooner than it must: {before:?}"
        );
    }
}

#[tokio::test]
async fn a_parent_without_a_token_is_named_to_nobody_but_the_log() {
    let forage = Forage::start(None).await.unwrap();
    let secrets = Secrets::supplied(|_| Some("wrong".to_owned()));
    let plan = plan(FORAGE, forage.server(), secrets);
    let error = get(&tokens(&plan, "forage-session"), &["1234567"])
        .await
        .unwrap_err();
    assert!(
        matches!(error, TokenError::Fetch(FetchError::Refused { .. })),
        "{error}"
    );
    assert_eq!(forage.session_fetches(), 0);
}

#[tokio::test]
async fn a_corrected_secret_of_the_parent_brings_the_child_back_at_once() {
    let forage = Forage::start(None).await.unwrap();
    let kept = Arc::new(Mutex::new("wrong".to_owned()));
    let (id, place) = (forage.client_id().to_owned(), Arc::clone(&kept));
    let secrets = Secrets::supplied(move |reference| match reference {
        SecretRef::Env(name) if name.ends_with("ID") => Some(id.clone()),
        _ => Some(place.lock().unwrap().clone()),
    });
    let plan = plan(FORAGE, forage.server(), secrets);
    let sessions = tokens(&plan, "forage-session");
    get(&sessions, &["1234567"]).await.unwrap_err();
    get(&sessions, &["1234567"]).await.unwrap_err();
    assert_eq!(forage.token_endpoint().fetches(), 1, "a minute's back-off");
    forage.client_secret().clone_into(&mut kept.lock().unwrap());
    // A look at the secrets a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    get(&sessions, &["1234567"]).await.unwrap();
}

/// A provider that answers by the book of its test, and remembers what it was asked.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    answers: VecDeque<(u16, Value)>,
    asked: Vec<Asked>,
}

#[derive(Clone, Debug)]
struct Asked {
    target: String,
    headers: HeaderMap,
    body: Value,
}

impl Book {
    async fn start() -> (Self, Server) {
        let book = Self::default();
        let own = book.clone();
        let server = Server::start(None, move |request| {
            let book = own.clone();
            async move { Ok(book.answer(request).await) }
        });
        (book, server.await.unwrap())
    }

    async fn open(file: &str) -> (Self, Server, Plan) {
        let (book, server) = Self::start().await;
        let secrets = Secrets::supplied(|_| Some("KEPT".to_owned()));
        let plan = plan(file, &server, secrets);
        (book, server, plan)
    }

    fn will(&self, status: u16, body: Value) {
        self.0.lock().unwrap().answers.push_back((status, body));
    }

    fn asked(&self) -> Vec<Asked> {
        self.0.lock().unwrap().asked.clone()
    }

    /// The answers in their order; the last again and again.
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let mut pages = self.0.lock().unwrap();
        pages.asked.push(Asked {
            target: head.uri.to_string(),
            headers: head.headers,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        });
        let number = pages.asked.len();
        let (status, body) = if pages.answers.len() > 1 {
            pages.answers.pop_front().unwrap()
        } else {
            pages.answers[0].clone()
        };
        let body = body.to_string().replace("NUMBER", &number.to_string());
        let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {});
        let mut answer = Response::new(body.boxed_unsync());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        answer
    }
}

const LOGIN: &str = r#"
[provider.login]
type = "http"
url = "HOST/auth/getToken"
secrets = { app_id = { env = "APP_ID" }, app_secret = { env = "APP_SECRET" } }
json = { grant_type = "password", username = "{secret.app_id}", password = "{secret.app_secret}" }
token = "/access_token"
expiry = [ { json = "/expires_in", unit = "s" }, { after = "30m" } ]
[provider.login.refresh]
json = { grant_type = "refresh_token", refresh_token = "{refresh_token}" }
token = "/refresh_token"
expiry = [ { json = "/refresh_expires_in", unit = "s" }, { after = "24h" } ]
"#;

async fn renew(tokens: &Tokens) -> Arc<Token> {
    tokens
        .force(&Subject::default(), Moment::now())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_refresh_token_is_used_and_its_successor_after_it_and_kept_if_there_is_none() {
    let (book, _server, plan) = Book::open(LOGIN).await;
    book.will(200, json!({"access_token": "A1", "refresh_token": "R1"}));
    book.will(200, json!({"access_token": "A2", "refresh_token": "R2"}));
    book.will(200, json!({"access_token": "A3"}));
    let login = tokens(&plan, "login");
    for token in ["A1", "A2", "A3", "A3"] {
        assert_eq!(text(&*renew(&login).await), token);
    }
    let sent: Vec<_> = book.asked().into_iter().map(|asked| asked.body).collect();
    let refresh = |token| json!({"grant_type": "refresh_token", "refresh_token": token});
    assert_eq!(
        sent,
        [
            json!({"grant_type": "password", "username": "KEPT", "password": "KEPT"}),
            refresh("R1"),
            refresh("R2"),
            refresh("R2"),
        ]
    );
}

#[tokio::test]
async fn a_refused_refresh_token_leads_to_a_new_login_within_the_same_fetch() {
    let (book, _server, plan) = Book::open(LOGIN).await;
    book.will(200, json!({"access_token": "A1", "refresh_token": "R1"}));
    book.will(400, json!({"error": "invalid_grant"}));
    book.will(200, json!({"access_token": "A2"}));
    let login = tokens(&plan, "login");
    renew(&login).await;
    assert_eq!(text(&*renew(&login).await), "A2");
    renew(&login).await;
    let grants: Vec<_> = book
        .asked()
        .into_iter()
        .map(|it| it.body["grant_type"].clone())
        .collect();
    assert_eq!(
        grants,
        ["password", "refresh_token", "password", "password"]
    );
}

#[tokio::test]
async fn an_expired_refresh_token_is_not_sent() {
    let (book, _server, plan) = Book::open(LOGIN).await;
    book.will(
        200,
        json!({"access_token": "A", "refresh_token": "R", "refresh_expires_in": 1}),
    );
    let login = tokens(&plan, "login");
    renew(&login).await;
    renew(&login).await; // a second later
    let asked = book.asked();
    assert!(asked.iter().all(|it| it.body["grant_type"] == "password"));
}

const CLIENT: &str = r#"
[provider.key]
type = "static"
secret = { env = "KEY" }
[provider.client]
type = "http"
parent = "key"
inputs = ["phone_hash", "minutes"]
url = "HOST/{input.phone_hash}/token"
headers = { Authorization = "Bearer {parent}" }
json = [ { expires_minutes = "{input.minutes|int(1..518400)}", phones = [ { hash = "{input.phone_hash}", primary = true } ] } ]
token = "/0/client_access_token"
expiry = [ { json = "/0/expires_in", unit = "s" }, { input = "minutes", unit = "min" } ]
"#;

#[tokio::test]
async fn an_array_is_sent_and_read_and_a_lifetime_is_what_was_asked_for() {
    let (book, _server, plan) = Book::open(CLIENT).await;
    book.will(200, json!([{"client_access_token": "C"}]));
    let client = tokens(&plan, "client");
    let token = get(&client, &["a/b", "518400"]).await.unwrap();
    assert_eq!(
        token.life().expires_at.unwrap() - token.life().issued_at,
        Duration::from_secs(31_103_990)
    );
    let asked = &book.asked()[0];
    assert_eq!(asked.target, "/a%2Fb/token");
    assert_eq!(asked.headers["authorization"], "Bearer KEPT");
    let phones = json!([{"hash": "a/b", "primary": true}]);
    assert_eq!(
        asked.body,
        json!([{"expires_minutes": 518_400, "phones": phones}])
    );
}

#[tokio::test]
async fn an_input_that_no_provider_could_take_is_told_before_anything_is_fetched() {
    let (_book, server, plan) = Book::open(CLIENT).await;
    let client = tokens(&plan, "client");
    for inputs in [["x", "0"], ["x", "518401"], ["..", "1"]] {
        let fault = client
            .check_inputs(&whose(&inputs))
            .unwrap_err()
            .to_string();
        assert!(!fault.contains("518401"), "{fault}");
    }
    assert!(client.check_inputs(&whose(&["x", "60"])).is_ok());
    assert_eq!(server.requests(), 0);
}

const PIN: &str = r#"
[provider.key]
type = "static"
secret = { env = "KEY" }
[provider.pin]
type = "graphql"
parent = "key"
inputs = ["card"]
url = "HOST/graphql"
headers = { Authorization = "Basic {parent|basic}" }
query = "mutation($input: I!) { pin(input: $input) { __typename } }"
variables = { input = { paymentCardId = "{input.card}", permissions = ["SET_PAYMENT_CARD_PIN"] } }
expect = { "/data/pin/__typename" = "ClientToken" }
token = "/data/pin/value"
expiry = [ { json = "/data/pin/expirationDate", unit = "rfc3339" }, { after = "10m" } ]
single_use = { json = "/data/pin/usage", equals = "SINGLE_USE" }
retry_after = "/extensions/rateLimit/retryAfter"
"#;

fn pin(usage: &str) -> Value {
    json!({"data": {"pin": {
        "__typename": "ClientToken", "value": "tokenNUMBER", "expirationDate": null, "usage": usage,
    }}})
}

#[tokio::test]
async fn a_mutation_mints_a_token_with_its_inputs_as_variables() {
    let (book, _server, plan) = Book::open(PIN).await;
    book.will(200, pin("UNTIL_EXPIRATION"));
    let pins = tokens(&plan, "pin");
    let token = get(&pins, &["pc_\"1"]).await.unwrap();
    assert_eq!(text(&token), "token1");
    assert_eq!(
        token.life().expires_at.unwrap() - token.life().issued_at,
        Duration::from_secs(590)
    );
    assert!(Arc::ptr_eq(&token, &get(&pins, &["pc_\"1"]).await.unwrap()));
    let asked = &book.asked()[0];
    assert_eq!(asked.headers["authorization"], "Basic S0VQVDo=");
    let input = json!({"paymentCardId": "pc_\"1", "permissions": ["SET_PAYMENT_CARD_PIN"]});
    assert_eq!(asked.body["variables"], json!({"input": input}));
}

#[tokio::test]
async fn a_mutation_with_two_ids_makes_a_token_for_each_pair() {
    let two = PIN
        .replace("[\"card\"]", "[\"card\", \"user\"]")
        .replace("paymentCardId", "userId = \"{input.user}\", paymentCardId");
    let (book, server, plan) = Book::open(&two).await;
    book.will(200, pin("UNTIL_EXPIRATION"));
    let pins = tokens(&plan, "pin");
    for (number, pair) in [["a", "bc"], ["ab", "c"]].into_iter().enumerate() {
        for _ in 0..2 {
            get(&pins, &pair).await.unwrap();
        }
        assert_eq!(server.requests(), number + 1);
        let sent = &book.asked()[number].body["variables"]["input"];
        assert_eq!(
            (&sent["paymentCardId"], &sent["userId"]),
            (&json!(pair[0]), &json!(pair[1]))
        );
    }
}

#[tokio::test]
async fn a_token_of_one_use_is_for_one_request_and_is_not_replaced() {
    let (book, server, plan) = Book::open(PIN).await;
    book.will(200, pin("SINGLE_USE"));
    let pins = tokens(&plan, "pin");
    let began = Moment::now();
    let mut all = join_all((0..50).map(async |_| get(&pins, &["pc_1"]).await.unwrap())).await;
    all.push(get(&pins, &["pc_1"]).await.unwrap());
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "one a second would take as many"
    );
    let mut texts: Vec<_> = all.iter().map(|token| text(token)).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!((texts.len(), server.requests()), (51, 51));
    assert!(all.iter().all(|token| token.is_single_use()));
    let rejected = pins.reject(&whose(&["pc_1"]), &all[0], Moment::now());
    assert!(matches!(rejected, Rejected::NotNow));
}

#[tokio::test]
async fn a_user_error_is_not_tried_again_and_says_nothing_to_the_app() {
    let (book, server, plan) = Book::open(PIN).await;
    book.will(
        200,
        json!({"data": {"pin": {
            "__typename": "UserError", "errors": [{"code": "INVALID_ID", "description": "CNRY"}],
        }}}),
    );
    let pins = tokens(&plan, "pin");
    for _ in 0..10 {
        let error = get(&pins, &["pc_1"]).await.unwrap_err().to_string();
        assert_eq!(error, "the provider refused: UserError");
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn how_long_to_stay_away_may_be_in_the_body() {
    let (book, _server, plan) = Book::open(PIN).await;
    let limits = json!({"rateLimit": {"retryAfter": 7}});
    book.will(
        429,
        json!({"data": {}, "errors": [{"message": "x"}], "extensions": limits}),
    );
    book.will(
        200,
        json!({"data": {}, "errors": [{"message": "x"}], "extensions": limits}),
    );
    let pins = tokens(&plan, "pin");
    for card in ["pc_1", "pc_2"] {
        let error = get(&pins, &[card]).await.unwrap_err();
        let TokenError::Fetch(FetchError::Throttled { retry_after }) = error else {
            panic!("{error}");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn a_changed_parent_makes_other_children_and_an_unchanged_one_keeps_them() {
    let forage = Forage::start(None).await.unwrap();
    let metrics = Metrics::new(1).unwrap();
    let compiled = |text: &str, previous: Option<&Plan>| {
        let text = text.replace("HOST", &format!("http://{}", forage.server().address()));
        let (file, report) = config::read("proxy.toml", &text).unwrap();
        let surroundings = Surroundings {
            metrics: metrics.clone(),
            runtime: Handle::current(),
            secrets: Secrets::default(),
            resolve: [].into(),
            trust: Vec::new(),
        };
        compile(&file, report, &surroundings, previous).unwrap()
    };
    let first = compiled(FORAGE, None);
    let same = compiled(FORAGE, Some(&first));
    let other = compiled(&FORAGE.replace("pinpad_only", "reporting"), Some(&first));
    let child = |plan: &Plan| tokens(plan, "forage-session");
    assert!(Arc::ptr_eq(&child(&first), &child(&same)));
    assert!(!Arc::ptr_eq(&child(&first), &child(&other)));
}

const MINUTES: &str = r#"
[provider.child]
type = "http"
parent = "idp"
inputs = ["minutes"]
url = "HOST/mint"
headers = { Authorization = "Bearer {parent}" }
json = { minutes = "{input.minutes|int(1..60)}" }
token = "/token"
single_use = { json = "/once", equals = true }
[[route]]
name = "child"
path = "/child/{minutes}"
upstream = "UPSTREAM"
provider = "child"
inputs = { minutes = "{path.minutes}" }
"#;

#[tokio::test]
async fn a_child_goes_upstream_and_each_fetch_counts_for_the_provider_that_was_asked() {
    let (book, server) = Book::start().await;
    book.will(200, json!({"token": "tNUMBER"}));
    let more = MINUTES.replace("HOST", &format!("http://{}", server.address()));
    let stage = Stage::set().open().more(&more).start().await;
    for path in ["/child/5", "/child/5", "/child/60"] {
        stage.get(path).await.expect_ok();
    }
    for (provider, fetches) in [("idp", 1.0), ("child", 2.0)] {
        let series =
            format!("pillion_token_fetches_total{{provider=\"{provider}\",outcome=\"ok\"}}");
        stage.expect_metric(&series, fetches).await;
    }
    assert!(book.asked()[0].body["minutes"] == 5);
}

#[tokio::test]
async fn an_input_out_of_bounds_is_a_400_that_names_it_and_costs_nothing() {
    let (_book, server) = Book::start().await;
    let more = MINUTES.replace("HOST", &format!("http://{}", server.address()));
    let stage = Stage::set().open().more(&more).start().await;
    for path in ["/child/0", "/child/6100", "/child/x"] {
        let reply = stage.get(path).await.expect_problem(400, "bad-request");
        let detail = reply.json().to_string();
        assert!(detail.contains("the input `minutes`"), "{detail}");
        assert!(!detail.contains("6100"), "{detail}");
    }
    assert_eq!(
        (server.requests(), stage.identity_provider.fetches()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_request_with_a_token_of_one_use_is_never_replayed() {
    let (book, server) = Book::start().await;
    book.will(200, json!({"token": "tNUMBER", "once": true}));
    let more = MINUTES.replace("HOST", &format!("http://{}", server.address()));
    let stage = Stage::set().guarded(|_| false).more(&more).start().await;
    for _ in 0..3 {
        stage.get("/child/5").await.expect_status(401);
    }
    assert_eq!(server.requests(), 3, "one for each request");
}
