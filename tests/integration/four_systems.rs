//! `proxy.toml`, unmodified, in front of stand-ins of the four systems: what an app sends to each
//! of its routes, and what comes of it.

use std::hash::RandomState;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use http::{Method, StatusCode};
use pillion::cli::run::{self, Overlay, Running};
use pillion::clock::Moment;
use pillion::fake::{ClientKey, Fault, Highnote, Received, Stitch, Systems, Usage};
use pillion::provider::secret::{SecretRef, Secrets};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::stage::{Client, Reply, full, keep_listening, request};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proxy.toml");

/// The four systems, and the proxy between them and the app.
struct Four {
    systems: Systems,
    running: Running,
}

impl Four {
    async fn start() -> Self {
        Self::with_certificate(None).await
    }

    /// The same with a certificate that Stitch knows.
    async fn with_certificate(key: Option<&ClientKey>) -> Self {
        let systems = Systems::start().await.unwrap();
        if let Some(key) = key {
            let token_endpoint = systems.stitch.token_endpoint();
            token_endpoint.also_take_assertions_of(&key.public_key_pem);
        }
        let overlay = overlay(&systems, key);
        let running = run::start(Path::new(FILE), overlay, false).unwrap();
        Self { systems, running }
    }

    async fn client(&self) -> Client {
        Client::connect(self.running.addresses[0]).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.client().await.get(path).await
    }

    async fn post(&self, path: &str, document: &Value) -> Reply {
        let asked = request(Method::POST, path)
            .header("content-type", "application/json")
            .body(full(document.to_string()));
        self.client().await.send(asked.unwrap()).await
    }

    async fn graphql(&self, path: &str, query: &str, variables: Value) -> Reply {
        let document = json!({ "query": query, "variables": variables });
        self.post(&format!("{path}/graphql"), &document).await
    }

    /// What a token for this opens at Highnote.
    async fn details(&self, path: &str, id: &str) -> Reply {
        self.graphql(path, DETAILS, json!({ "id": id })).await
    }

    async fn set_pin(&self, card: &str) -> Reply {
        let input = json!({ "paymentCardId": card, "newPin": "1357" });
        let path = format!("/highnote/pin/{card}");
        self.graphql(&path, SET_PIN, json!({ "input": input }))
            .await
    }

    async fn phones(&self, minutes: impl Into<Value>, phones: &Value) -> Reply {
        let document = json!({ "minutes": minutes.into(), "phones": phones });
        self.post("/tokens/concierge/phones", &document).await
    }

    async fn users(&self) -> Reply {
        self.post("/concierge/api/user/list", &json!({})).await
    }

    /// Routes of the file that have not yet answered with success.
    async fn unproved(&self) -> Vec<String> {
        let mut admin = Client::connect(self.running.admin).await;
        let page = request(Method::GET, "/status").header("accept", "application/json");
        let page = admin.send(page.body(full("")).unwrap()).await.expect_ok();
        let metrics = admin.get("/metrics").await.expect_ok();
        let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
        let names = page.json()["routes"].as_array().unwrap().clone();
        let written = include_str!("../../proxy.toml").lines();
        let written = written.filter(|line| *line == "[[route]]").count();
        assert_eq!(names.len(), written);
        let names = names
            .iter()
            .map(|route| route["name"].as_str().unwrap().to_owned());
        let good = |name: &String| {
            let series =
                format!("pillion_requests_total{{route=\"{name}\",status_class=\"2xx\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
            line.is_some_and(|count| count != "0")
        };
        names.filter(|name| !good(name)).collect()
    }
}

/// What lets `proxy.toml` find the stand-ins.
pub(crate) fn overlay(systems: &Systems, key: Option<&ClientKey>) -> Overlay {
    keep_listening();
    let resolve = systems.resolve().into_iter().map(|(authority, address)| {
        let (host, port) = authority.rsplit_once(':').unwrap();
        ((host.to_owned(), port.parse().unwrap()), address)
    });
    Overlay {
        secrets: secrets(systems, key),
        resolve: resolve.collect(),
        trust: vec![systems.authority.certificate_der()],
        free_ports: true,
        ..Overlay::default()
    }
}

fn secrets(systems: &Systems, key: Option<&ClientKey>) -> Secrets {
    let env = |name: &str, value: &str| (SecretRef::Env(name.to_owned()), value.to_owned());
    let file = |name: &str, value: &str| {
        let path = Path::new("/run/secrets").join(name);
        (SecretRef::File(path), value.to_owned())
    };
    let mut supply = vec![
        env("HIGHNOTE_API_KEY", systems.highnote.api_key()),
        env("STITCH_CLIENT_ID", systems.stitch.client_id()),
        file("stitch/client_secret", systems.stitch.client_secret()),
        env("FORAGE_CLIENT_ID", systems.forage.client_id()),
        env("FORAGE_CLIENT_SECRET", systems.forage.client_secret()),
        env("CONCIERGE_APP_ID", systems.concierge.app_id()),
        file("concierge/app_secret", systems.concierge.app_secret()),
    ];
    if let Some(key) = key {
        let both = format!("{}{}", key.key_pem, key.certificate_pem);
        supply.push(file("stitch/client.pem", &both));
    }
    Secrets::supplied(move |asked| {
        let found = supply.iter().find(|(reference, _)| reference == asked);
        found.map(|(_, value)| value.clone())
    })
}

const DETAILS: &str = "query($id: ID!) { node(id: $id) { __typename \
    ... on PaymentCard { restrictedDetails { __typename ... on PaymentCardRestrictedDetails { number cvv } } } \
    ... on DirectDepositDetail { restrictedDetails { __typename } } \
    ... on ExternalBankAccountDetail { restrictedDetails { __typename } } } }";
const SET_PIN: &str = "mutation($input: SetPinForPaymentCardInput!) { \
    setPinForPaymentCard(input: $input) { __typename ... on UserError { errors { code } } } }";
const REFUND: &str = "mutation { clientRefundInitiate { refund { id } } }";

const HOLDERS: &str = "/tokens/highnote/tokenize-account-holder";
const MERCHANT: &str = "1234567";

/// The kind of details that a token opened.
fn opened(reply: &Reply) -> Value {
    reply.json()["data"]["node"]["restrictedDetails"]["__typename"].clone()
}

fn pin_set(reply: &Reply) -> Value {
    reply.json()["data"]["setPinForPaymentCard"]["__typename"].clone()
}

/// A token response as RFC 6749 §5.1 has it, with nothing else in it: the token and its seconds.
#[track_caller]
fn handed_out(reply: &Reply) -> (String, u64) {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.field("content-type"), Some("application/json"));
    assert_eq!(reply.field("cache-control"), Some("no-store"));
    assert_eq!(reply.field("pragma"), Some("no-cache"));
    let members = reply.json();
    assert_eq!(members["token_type"], "Bearer");
    assert_eq!(members.as_object().unwrap().len(), 3, "{members}");
    let token = members["access_token"].as_str().unwrap().to_owned();
    (token, members["expires_in"].as_u64().unwrap())
}

/// The problem, of which nothing is what the provider said.
#[track_caller]
fn problem_without(reply: Reply, status: u16, kind: &str, secret: &str) -> Reply {
    let reply = reply.expect_problem(status, kind);
    let body = String::from_utf8(reply.body.to_vec()).unwrap();
    assert!(!body.contains(secret), "{body}");
    reply
}

fn authorization(requests: &[Received]) -> String {
    let last = requests.last().unwrap();
    last.field("authorization").unwrap().to_owned()
}

fn form_of(stitch: &Stitch) -> Vec<(String, String)> {
    stitch.token_endpoint().last_request().unwrap().form()
}

fn member<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = form.iter().find(|(member, _)| member == name);
    found.map(|(_, value)| value.as_str())
}

fn phone(primary: bool) -> Value {
    json!({ "hash": "5f".repeat(32), "primary": primary })
}

#[tokio::test]
async fn every_route_of_the_file_works() {
    let key = ClientKey::rsa().unwrap();
    let four = Four::with_certificate(Some(&key)).await;
    for path in ["/highnote", "/stitch", "/stitch-refunds", "/stitch-cert"] {
        let reply = four.graphql(path, "{ ping }", json!({})).await.expect_ok();
        assert_eq!(reply.json()["errors"], Value::Null, "{path}");
    }
    for (path, id) in [
        ("view-card", "pc_1"),
        ("deposit", "dd_1"),
        ("external-account", "eb_1"),
    ] {
        let reply = four.details(&format!("/highnote/{path}/{id}"), id).await;
        let opened = opened(&reply.expect_ok());
        assert!(
            opened.as_str().unwrap().ends_with("RestrictedDetails"),
            "{opened}"
        );
        four.get(&format!("/tokens/highnote/{path}/{id}"))
            .await
            .expect_ok();
    }
    assert_eq!(pin_set(&four.set_pin("pc_1").await), "PaymentCard");
    for (path, mutation, input) in [
        (
            "tokenize-account-holder",
            "tokenizeUSPersonAccountHolder",
            "CreateUSPersonAccountHolderInput",
        ),
        (
            "tokenize-authorized-user",
            "tokenizeUSPersonAuthorizedUser",
            "CreateUSPersonAuthorizedUserInput",
        ),
        (
            "document/du_1",
            "startDocumentUploadSession",
            "StartDocumentUploadSessionInput",
        ),
    ] {
        let query = format!(
            "mutation($input: {input}!) {{ done: {mutation}(input: $input) {{ __typename }} }}"
        );
        let input = match path {
            "document/du_1" => json!({ "documentUploadSessionId": "du_1" }),
            _ => json!({}),
        };
        let path = format!("/highnote/{path}");
        let reply = four.graphql(&path, &query, json!({ "input": input })).await;
        let done = reply.expect_ok().json()["data"]["done"]["__typename"].clone();
        assert!(
            done == "TokenizedDetails" || done == "DocumentUploadSession",
            "{done}"
        );
    }
    for path in [
        "pin/pc_1",
        "tokenize-account-holder",
        "tokenize-authorized-user",
        "document/du_1",
    ] {
        handed_out(&four.get(&format!("/tokens/highnote/{path}")).await);
    }
    assert_eq!(four.systems.highnote.granted(), 7);
    for path in ["/forage", "/forage-auth"] {
        let path = format!("{path}/{MERCHANT}/api/payment_methods/");
        four.get(&path).await.expect_ok();
    }
    handed_out(&four.get(&format!("/tokens/forage/{MERCHANT}")).await);
    four.users().await.expect_ok();
    handed_out(&four.phones(1440, &json!([phone(true)])).await);
    for (path, inputs) in [
        ("customer", json!({ "minutes": 1440, "customer": "42" })),
        (
            "activation",
            json!({ "minutes": 60, "customer": "42", "token_type": "self" }),
        ),
    ] {
        handed_out(
            &four
                .post(&format!("/tokens/concierge/{path}"), &inputs)
                .await,
        );
    }
    // A request is counted when its answer has gone, not before.
    for _ in 0..1000 {
        if four.unproved().await.is_empty() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("no success on {:?}", four.unproved().await);
}

#[tokio::test]
async fn highnote_the_api_key_goes_as_a_user_without_password() {
    let four = Four::start().await;
    let highnote = &four.systems.highnote;
    let reply = four.graphql("/highnote", "{ ping }", json!({})).await;
    assert_eq!(reply.expect_ok().json()["data"]["ping"], "pong");
    let expected = format!(
        "Basic {}",
        STANDARD.encode(format!("{}:", highnote.api_key()))
    );
    assert_eq!(authorization(&highnote.api_requests()), expected);
    four.get("/tokens/highnote/view-card/pc_1")
        .await
        .expect_ok();
    assert_eq!(authorization(&highnote.mint_requests()), expected);
}

#[tokio::test]
async fn highnote_each_card_has_a_token_of_its_own_for_each_purpose() {
    let four = Four::start().await;
    let highnote = &four.systems.highnote;
    for card in ["pc_1", "pc_2", "pc_1"] {
        let reply = four
            .details(&format!("/highnote/view-card/{card}"), card)
            .await;
        assert_eq!(opened(&reply), "PaymentCardRestrictedDetails", "{card}");
    }
    assert_eq!(highnote.fetches(), 2);
    let reply = four.details("/highnote/view-card/pc_1", "pc_2").await;
    assert_eq!(opened(&reply.expect_ok()), "AccessDeniedError");
    let reply = four.details("/highnote/pin/pc_1", "pc_1").await;
    assert_eq!(opened(&reply.expect_ok()), "AccessDeniedError");
    assert_eq!(pin_set(&four.set_pin("pc_1").await), "PaymentCard");
    assert_eq!(highnote.fetches(), 3);
    let (token, seconds) = handed_out(&four.get("/tokens/highnote/pin/pc_1").await);
    assert_eq!(
        authorization(&highnote.api_requests()),
        format!("Bearer {token}")
    );
    assert!((580..=590).contains(&seconds), "{seconds}");
    assert_eq!(highnote.fetches(), 3);
}

#[tokio::test]
async fn highnote_a_token_for_one_use_is_made_anew_each_time() {
    let four = Four::start().await;
    let highnote = &four.systems.highnote;
    highnote.set_usage(Some(Usage::SingleUse));
    let (first, _) = handed_out(&four.get(HOLDERS).await);
    let (second, _) = handed_out(&four.get(HOLDERS).await);
    assert_ne!(first, second);
    for fetches in 3..=4 {
        assert_eq!(pin_set(&four.set_pin("pc_1").await), "PaymentCard");
        assert_eq!(highnote.fetches(), fetches);
    }
}

#[tokio::test]
async fn highnote_what_it_refuses_is_a_problem_without_its_words() {
    let four = Four::start().await;
    let highnote = &four.systems.highnote;
    highnote.forget("pc_gone");
    highnote.restrict("pc_other");
    for (card, kind) in [("pc_gone", "UserError"), ("pc_other", "AccessDeniedError")] {
        for path in ["/tokens/highnote/pin/", "/highnote/view-card/"] {
            let reply = four.get(&format!("{path}{card}")).await;
            let reply = problem_without(reply, 502, "token-refused", card);
            // Which of its types came is told; the text in it is not.
            let expected = format!("the provider refused: {kind};");
            let detail = reply.json()["detail"].clone();
            assert!(detail.as_str().unwrap().starts_with(&expected), "{detail}");
        }
    }
    assert!(highnote.api_requests().is_empty());
    // One card's refusal is not another's.
    four.get("/tokens/highnote/pin/pc_1").await.expect_ok();
}

#[tokio::test]
async fn highnote_a_token_without_an_expiry_lives_ten_minutes() {
    let four = Four::start().await;
    four.systems.highnote.state_expiration(false);
    let (_, seconds) = handed_out(&four.get("/tokens/highnote/view-card/pc_1").await);
    assert!((580..=590).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn highnote_a_revoked_token_is_replaced_and_the_app_does_not_notice() {
    let four = Four::start().await;
    let highnote = &four.systems.highnote;
    assert_eq!(pin_set(&four.set_pin("pc_1").await), "PaymentCard");
    highnote.revoke_all();
    assert_eq!(pin_set(&four.set_pin("pc_1").await), "PaymentCard");
    assert_eq!(highnote.fetches(), 2);
}

#[tokio::test]
async fn highnote_its_limit_is_obeyed_for_as_long_as_the_body_says() {
    let four = Four::start().await;
    let highnote = &four.systems.highnote;
    let limit = Highnote::usage_limit_exceeded(Duration::from_secs(40));
    highnote.mint_faults().once(limit);
    for _ in 0..2 {
        let reply = four.get(HOLDERS).await;
        let reply = problem_without(reply, 503, "token-unavailable", "Usage limit");
        let seconds: u64 = reply.field("retry-after").unwrap().parse().unwrap();
        assert!((35..=40).contains(&seconds), "{seconds}");
    }
    assert_eq!(highnote.fetches(), 1);
}

#[tokio::test]
async fn stitch_a_client_token_is_asked_for_as_stitch_wants_it() {
    let four = Four::start().await;
    let stitch = &four.systems.stitch;
    for _ in 0..2 {
        let query = "{ client { id } }";
        let reply = four.graphql("/stitch", query, json!({})).await.expect_ok();
        assert_eq!(reply.json()["data"]["client"]["id"], stitch.client_id());
    }
    let form = form_of(stitch);
    assert_eq!(member(&form, "scope"), Some("client_paymentrequest"));
    assert_eq!(member(&form, "audience"), Some(Stitch::TOKEN_ENDPOINT));
    assert_eq!(member(&form, "client_secret"), Some(stitch.client_secret()));
    assert_eq!(stitch.token_endpoint().fetches(), 1);
}

#[tokio::test]
async fn stitch_a_second_set_of_scopes_is_a_second_token() {
    let four = Four::start().await;
    let stitch = &four.systems.stitch;
    let reply = four.graphql("/stitch-refunds", REFUND, json!({})).await;
    assert_eq!(reply.expect_ok().json()["errors"], Value::Null);
    // A missing scope is a 200 with data, and no reason to ask for a token.
    let reply = four.graphql("/stitch", REFUND, json!({})).await.expect_ok();
    assert_eq!(reply.json()["errors"][0]["extensions"]["code"], "FORBIDDEN");
    assert_eq!(stitch.mutations(), 1);
    assert_eq!(stitch.token_endpoint().fetches(), 2);
}

#[tokio::test]
async fn stitch_a_token_that_is_refused_with_401_or_200_is_replaced() {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::OK] {
        let four = Four::start().await;
        let stitch = &four.systems.stitch;
        stitch.answer_unauthenticated_with(status);
        for fetches in 1..=2 {
            let reply = four
                .graphql("/stitch", "{ client { id } }", json!({}))
                .await;
            let reply = reply.expect_ok().json();
            assert_eq!(
                reply["data"]["client"]["id"],
                stitch.client_id(),
                "{status}"
            );
            assert_eq!(stitch.token_endpoint().fetches(), fetches);
            stitch.token_endpoint().revoke_all();
        }
    }
}

#[tokio::test]
async fn stitch_a_certificate_goes_in_place_of_the_secret() {
    let key = ClientKey::rsa().unwrap();
    let four = Four::with_certificate(Some(&key)).await;
    let stitch = &four.systems.stitch;
    for fetches in 1..=2 {
        let reply = four
            .graphql("/stitch-cert", "{ client { id } }", json!({}))
            .await;
        let reply = reply.expect_ok().json();
        assert_eq!(reply["data"]["client"]["id"], stitch.client_id());
        assert_eq!(stitch.token_endpoint().granted(), fetches);
        stitch.token_endpoint().revoke_all();
    }
    let form = form_of(stitch);
    assert_eq!(member(&form, "client_secret"), None);
    let assertion = member(&form, "client_assertion").unwrap();
    let header = assertion.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(header["alg"], "RS256");
    assert!(
        header["kid"].as_str().is_some_and(|kid| !kid.is_empty()),
        "{header}"
    );
}

#[tokio::test]
async fn stitch_a_certificate_that_it_does_not_know_is_refused() {
    let key = ClientKey::rsa().unwrap();
    let four = Four::with_certificate(Some(&key)).await;
    let other = ClientKey::rsa().unwrap();
    let token_endpoint = four.systems.stitch.token_endpoint();
    token_endpoint.also_take_assertions_of(&other.public_key_pem);
    let reply = four.graphql("/stitch-cert", "{ ping }", json!({})).await;
    reply.expect_problem(502, "token-refused");
    // The secret next to it is still good.
    let reply = four.graphql("/stitch", "{ ping }", json!({})).await;
    reply.expect_ok();
}

#[tokio::test]
async fn forage_the_authentication_token_goes_as_it_is() {
    let four = Four::start().await;
    let forage = &four.systems.forage;
    let path = format!("/forage-auth/{MERCHANT}/api/payment_methods/");
    for _ in 0..2 {
        four.get(&path).await.expect_ok();
    }
    let sent = forage.api_requests().pop().unwrap();
    assert_eq!(sent.field("merchant-account"), Some(MERCHANT));
    assert_eq!(sent.path(), "/api/payment_methods/");
    let fetches = (forage.token_endpoint().fetches(), forage.session_fetches());
    assert_eq!(fetches, (1, 0));
    let form = forage.token_endpoint().last_request().unwrap().form();
    assert_eq!(member(&form, "scope"), Some("pinpad_only"));
}

#[tokio::test]
async fn forage_each_merchant_has_a_session_and_all_have_one_parent() {
    let four = Four::start().await;
    let forage = &four.systems.forage;
    for merchant in [MERCHANT, "7654321", MERCHANT] {
        four.get(&format!("/forage/{merchant}/api/payment_methods/"))
            .await
            .expect_ok();
        let sent = forage.api_requests().pop().unwrap();
        assert_eq!(sent.field("merchant-account"), Some(merchant));
    }
    let payment = json!({ "amount": "20.00", "funding_type": "ebt_snap" });
    let path = format!("/forage/{MERCHANT}/api/payments/");
    four.post(&path, &payment).await.expect_status(201);
    assert_eq!(forage.payments(), 1);
    let fetches = (forage.token_endpoint().fetches(), forage.session_fetches());
    assert_eq!(fetches, (1, 2));
}

#[tokio::test]
async fn forage_the_session_token_that_is_handed_out_is_the_one_that_is_carried() {
    let four = Four::start().await;
    let forage = &four.systems.forage;
    let (token, seconds) = handed_out(&four.get(&format!("/tokens/forage/{MERCHANT}")).await);
    assert!(token.starts_with("sandbox_eyJ"));
    // Its own `exp`, in whole seconds.
    assert!((875..=890).contains(&seconds), "{seconds}");
    let path = format!("/forage/{MERCHANT}/api/payment_methods/");
    four.get(&path).await.expect_ok();
    assert_eq!(
        authorization(&forage.api_requests()),
        format!("Bearer {token}")
    );
    let (other, _) = handed_out(&four.get("/tokens/forage/7654321").await);
    assert_ne!(token, other);
    // The parent is never handed out.
    four.get("/tokens/forage-auth")
        .await
        .expect_problem(404, "no-route");
}

#[tokio::test]
async fn forage_the_end_of_a_session_token_comes_from_its_exp() {
    let four = Four::start().await;
    four.systems
        .forage
        .set_session_lifetime(Duration::from_secs(300));
    let (_, seconds) = handed_out(&four.get(&format!("/tokens/forage/{MERCHANT}")).await);
    assert!((275..=290).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn forage_a_revoked_parent_costs_one_fetch_of_it_for_all_merchants() {
    let four = Four::start().await;
    let forage = &four.systems.forage;
    let paths = [MERCHANT, "7654321"].map(|it| format!("/forage/{it}/api/payment_methods/"));
    for path in &paths {
        four.get(path).await.expect_ok();
    }
    forage.token_endpoint().revoke_all();
    for path in &paths {
        four.get(path).await.expect_ok();
    }
    assert_eq!(forage.token_endpoint().fetches(), 2);
    assert_eq!(forage.session_fetches(), 4);
}

#[tokio::test]
async fn forage_a_parent_that_is_revoked_before_a_mint_costs_one_fetch_of_it() {
    let four = Four::start().await;
    let forage = &four.systems.forage;
    handed_out(&four.get(&format!("/tokens/forage/{MERCHANT}")).await);
    forage.token_endpoint().revoke_all();
    handed_out(&four.get("/tokens/forage/7654321").await);
    assert_eq!(forage.token_endpoint().fetches(), 2);
}

#[tokio::test]
async fn forage_a_session_that_is_over_leaves_the_parent_alone() {
    let four = Four::start().await;
    let forage = &four.systems.forage;
    let path = format!("/forage/{MERCHANT}/api/payment_methods/");
    four.get(&path).await.expect_ok();
    forage.expire_sessions();
    four.get(&path).await.expect_ok();
    let fetches = (forage.token_endpoint().fetches(), forage.session_fetches());
    assert_eq!(fetches, (1, 2));
}

#[tokio::test]
async fn concierge_the_second_backend_token_comes_from_the_refresh_token() {
    let four = Four::start().await;
    let concierge = &four.systems.concierge;
    let mut seen = Vec::new();
    for refreshes in 0..=2 {
        assert_eq!(
            four.users().await.expect_ok().json(),
            json!({ "users": [] })
        );
        assert_eq!((concierge.logins(), concierge.refreshes()), (1, refreshes));
        let asked = concierge.token_requests().pop().unwrap().json().unwrap();
        seen.push(asked["refresh_token"].clone());
        concierge.revoke_all();
    }
    // The answer rotates it.
    assert!(seen[1].is_string() && seen[2].is_string() && seen[1] != seen[2]);
    let login = concierge.token_requests().remove(0).json().unwrap();
    let expected = json!({
        "grant_type": "password",
        "username": concierge.app_id(),
        "password": concierge.app_secret(),
    });
    assert_eq!(login, expected);
}

#[tokio::test]
async fn concierge_a_refresh_token_that_is_not_sent_again_is_kept() {
    let four = Four::start().await;
    let concierge = &four.systems.concierge;
    concierge.omit_refresh_token(true);
    for refreshes in 0..=2 {
        four.users().await.expect_ok();
        assert_eq!((concierge.logins(), concierge.refreshes()), (1, refreshes));
        concierge.revoke_all();
    }
}

#[tokio::test]
async fn concierge_without_a_good_refresh_token_it_logs_in_again() {
    let four = Four::start().await;
    let concierge = &four.systems.concierge;
    four.users().await.expect_ok();
    concierge.revoke_all();
    concierge.revoke_refresh_tokens();
    four.users().await.expect_ok();
    assert_eq!((concierge.logins(), concierge.refreshes()), (2, 1));
}

#[tokio::test]
async fn concierge_client_tokens_are_asked_for_with_what_the_app_said() {
    let four = Four::start().await;
    let concierge = &four.systems.concierge;
    let phones = json!([phone(true), { "hash": "0a".repeat(32), "primary": false }]);
    for (path, inputs, asked) in [
        (
            "phones",
            json!({ "minutes": 1440, "phones": phones }),
            json!([{ "expires_minutes": 1440, "phones": phones }]),
        ),
        (
            "customer",
            json!({ "minutes": 90, "customer": "42" }),
            json!([{ "expires_minutes": 90, "client_id": "42" }]),
        ),
        (
            "activation",
            json!({ "minutes": 60, "customer": "42", "token_type": "self" }),
            json!([{ "expires_minutes": 60, "client_id": "42", "token_type": "self" }]),
        ),
    ] {
        let path = format!("/tokens/concierge/{path}");
        let (token, seconds) = handed_out(&four.post(&path, &inputs).await);
        let life = asked[0]["expires_minutes"].as_u64().unwrap() * 60;
        assert!((life - 20..=life - 10).contains(&seconds), "{seconds}");
        let request = concierge.client_token_requests().pop().unwrap();
        assert_eq!(request.json(), Some(asked));
        // The same question has the same answer, as long as that is good.
        assert_eq!(handed_out(&four.post(&path, &inputs).await).0, token);
        four.get(&path).await.expect_problem(404, "no-route");
    }
    assert_eq!(
        (concierge.logins(), concierge.client_token_fetches()),
        (1, 3)
    );
}

#[tokio::test]
async fn concierge_a_token_that_does_not_say_its_end_lives_as_long_as_was_asked() {
    let four = Four::start().await;
    four.systems.concierge.state_client_token_expiry(false);
    let (_, seconds) = handed_out(&four.phones(30, &json!([phone(true)])).await);
    assert!((1780..=1790).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn concierge_two_primary_phones_break_a_rule() {
    let four = Four::start().await;
    let reply = four.phones(60, &json!([phone(true), phone(true)])).await;
    let reply = problem_without(reply, 400, "bad-request", "5f5f");
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    for told in ["phones", "rule", "/*/primary", "at most 1"] {
        assert!(detail.contains(told), "{detail}");
    }
    assert_eq!(four.systems.concierge.client_token_fetches(), 0);
    assert_eq!(four.systems.concierge.logins(), 0);
}

#[tokio::test]
async fn concierge_minutes_are_within_what_it_takes() {
    let four = Four::start().await;
    let phones = json!([phone(true)]);
    for minutes in [
        json!(0),
        json!(518_401),
        json!(-1),
        json!(1.5),
        json!("soon"),
    ] {
        let reply = four.phones(minutes.clone(), &phones).await;
        let reply = problem_without(reply, 400, "bad-request", "5f5f");
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("minutes"), "{minutes}: {detail}");
    }
    assert_eq!(four.systems.concierge.client_token_fetches(), 0);
    for minutes in [1, 518_400] {
        let (_, seconds) = handed_out(&four.phones(minutes, &phones).await);
        assert!(
            seconds <= minutes * 60 && seconds + 20 >= minutes * 60,
            "{seconds}"
        );
    }
}

#[tokio::test]
async fn a_fault_of_one_system_is_invisible_in_the_others() {
    let four = Four::start().await;
    let systems = &four.systems;
    systems
        .stitch
        .token_endpoint()
        .faults()
        .always(Fault::Reset);
    systems.concierge.token_faults().always(Fault::Unauthorized);
    let reply = four.graphql("/stitch", "{ ping }", json!({})).await;
    reply.expect_problem(503, "token-unavailable");
    four.users().await.expect_problem(502, "token-refused");
    four.get(HOLDERS).await.expect_ok();
    handed_out(&four.get(&format!("/tokens/forage/{MERCHANT}")).await);
}

#[tokio::test]
async fn highnote_a_refused_card_is_not_asked_for_again_at_once() {
    let four = Four::start().await;
    let highnote = &four.systems.highnote;
    highnote.forget("pc_gone");
    for (status, kind) in [(502, "token-refused"), (503, "token-unavailable")] {
        let reply = four.get("/tokens/highnote/pin/pc_gone").await;
        let reply = problem_without(reply, status, kind, "pc_gone");
        assert_eq!(reply.field("retry-after").is_some(), status == 503);
    }
    assert_eq!(highnote.fetches(), 1);
}

#[tokio::test]
async fn highnote_a_key_that_is_not_good_costs_two_fetches() {
    let four = Four::start().await;
    let highnote = &four.systems.highnote;
    highnote.mint_faults().always(Fault::Unauthorized);
    four.get(HOLDERS).await.expect_problem(502, "token-refused");
    let reply = four.get(HOLDERS).await;
    reply.expect_problem(503, "token-unavailable");
    assert!(highnote.fetches() <= 2, "{}", highnote.fetches());
    // On a route that carries the key itself, the app hears what Highnote says.
    highnote.api_faults().always(Fault::Unauthorized);
    let reply = four.graphql("/highnote", "{ ping }", json!({})).await;
    reply.expect_status(401);
}

#[tokio::test]
async fn highnote_a_call_with_a_token_for_one_use_is_never_made_twice() {
    let four = Four::start().await;
    let highnote = &four.systems.highnote;
    highnote.set_usage(Some(Usage::SingleUse));
    highnote.api_faults().once(Fault::Unauthorized);
    four.set_pin("pc_1").await.expect_status(401);
    assert_eq!(highnote.api_requests().len(), 1);
    assert_eq!(pin_set(&four.set_pin("pc_1").await), "PaymentCard");
}

#[tokio::test]
async fn stitch_a_200_is_passed_on_where_the_route_does_not_speak_of_it() {
    let four = Four::start().await;
    let stitch = &four.systems.stitch;
    four.graphql("/stitch-refunds", REFUND, json!({})).await;
    stitch.answer_unauthenticated_with(StatusCode::OK);
    stitch.token_endpoint().revoke_all();
    let reply = four.graphql("/stitch-refunds", REFUND, json!({})).await;
    let reply = reply.expect_ok().json();
    assert_eq!(reply["extensions"]["code"], "UNAUTHENTICATED");
    assert_eq!(stitch.token_endpoint().fetches(), 1);
}

#[tokio::test]
async fn concierge_a_backend_token_that_is_revoked_before_a_mint_is_refreshed() {
    let four = Four::start().await;
    let concierge = &four.systems.concierge;
    handed_out(&four.phones(60, &json!([phone(true)])).await);
    concierge.revoke_all();
    handed_out(&four.phones(61, &json!([phone(true)])).await);
    assert_eq!((concierge.logins(), concierge.refreshes()), (1, 1));
}

#[tokio::test]
async fn highnote_a_mutation_without_arguments_sends_no_variables() {
    let four = Four::start().await;
    handed_out(&four.get(HOLDERS).await);
    let sent = four.systems.highnote.mint_requests().pop().unwrap();
    let sent = sent.json().unwrap();
    assert!(sent["query"].is_string());
    assert_eq!(sent.get("variables"), None);
}

#[tokio::test]
async fn stitch_a_token_without_expires_in_lives_five_minutes() {
    let four = Four::start().await;
    let token_endpoint = four.systems.stitch.token_endpoint();
    token_endpoint.amend_answers(|answer| {
        answer.remove("expires_in");
    });
    let reply = four.graphql("/stitch", "{ ping }", json!({})).await;
    reply.expect_ok();
    let plan = four.running.proxy.plan();
    let mut all = plan.providers.iter();
    let tokens = all.find(|it| &*it.provider().name == "stitch").unwrap();
    let status = tokens.status(&RandomState::new(), Moment::now());
    let left = status.tokens[0].expires_in_seconds.unwrap();
    assert!((280.0..=300.0).contains(&left), "{left}");
}

/// Sessions of this many merchants, each used once.
async fn sessions(four: &Four, count: usize) -> Vec<String> {
    let paths = (0..count).map(|number| format!("/forage/{number:07}/api/payment_methods/"));
    let paths: Vec<_> = paths.collect();
    for reply in join_all(paths.iter().map(|path| four.get(path))).await {
        reply.expect_ok();
    }
    paths
}

#[tokio::test]
async fn forage_a_revoked_parent_is_minted_once_and_each_child_once_when_all_are_refused_at_once() {
    let four = Four::start().await;
    let forage = &four.systems.forage;
    let paths = sessions(&four, 20).await;
    let fetches = || (forage.token_endpoint().fetches(), forage.session_fetches());
    assert_eq!(fetches(), (1, 20));
    forage.token_endpoint().revoke_all();
    for reply in join_all(paths.iter().map(|path| four.get(path))).await {
        reply.expect_ok();
    }
    assert_eq!(fetches(), (2, 40));
}

#[tokio::test]
async fn forage_a_401_with_nothing_but_a_detail_renews_the_session() {
    let four = Four::start().await;
    let forage = &four.systems.forage;
    let paths = sessions(&four, 1).await;
    let detail = json!({ "detail": "Authentication credentials were not provided." });
    let refusal = Fault::json(StatusCode::UNAUTHORIZED, &detail);
    forage.api_faults().once(refusal);
    four.get(&paths[0]).await.expect_ok();
    let fetches = (forage.token_endpoint().fetches(), forage.session_fetches());
    assert_eq!(fetches, (1, 2));
}

#[tokio::test]
async fn forage_a_storm_of_429_costs_at_most_a_mint_for_each_merchant_and_leaves_the_parent_alone()
{
    let four = Four::start().await;
    let forage = &four.systems.forage;
    let limit = json!({ "errors": [{ "code": "too_many_requests", "message": "Slow down" }] });
    let limit = Fault::json(StatusCode::TOO_MANY_REQUESTS, &limit);
    forage.session_faults().always(limit);
    let paths: Vec<_> = (0..20)
        .map(|it| format!("/tokens/forage/{it:07}"))
        .collect();
    let began = Instant::now();
    let all = paths.iter().cycle().take(200).map(|path| four.get(path));
    for reply in join_all(all).await {
        problem_without(reply, 503, "token-unavailable", "Slow down");
    }
    assert_eq!(forage.token_endpoint().fetches(), 1);
    // One each, unless its turn comes when others have been refused; and at most one a second where this takes longer.
    let most = 20 * (1 + usize::try_from(began.elapsed().as_secs()).unwrap());
    let mints = forage.session_fetches();
    assert!((1..=most).contains(&mints), "{mints} of {most}");
    forage.session_faults().clear();
    let deadline = Instant::now() + Duration::from_secs(20);
    while four.get(&paths[0]).await.status != 200 {
        assert!(Instant::now() < deadline, "not after the storm");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(forage.token_endpoint().fetches(), 1);
}

#[tokio::test]
async fn concierge_a_refresh_token_that_rotates_is_used_once_by_thirty_requests_at_once() {
    let four = Four::start().await;
    let concierge = &four.systems.concierge;
    concierge.rotate_refresh_tokens(true);
    four.users().await.expect_ok();
    for refreshes in 1..=2 {
        concierge.revoke_all();
        for reply in join_all((0..30).map(|_| four.users())).await {
            reply.expect_ok();
        }
        // A second use would have ended the login.
        assert_eq!((concierge.logins(), concierge.refreshes()), (1, refreshes));
    }
}
