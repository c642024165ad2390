//! Requests that carry tokens of several providers, and fields of a token response.

use pillion::fake::Received;
use serde_json::json;

use crate::stage::{Setting, Stage};

const OTHER: &str = "[provider.other]\ntype = \"oauth2\"\ntoken_endpoint = \"PROVIDER\"\nclient_id = \"app\"\n\
                     client_secret = { env = \"SECRET\" }\nscope = [\"write\"]\n";

/// A route that carries `idp` in Authorization and `other` in X-Other.
fn carrying_both() -> Setting {
    Stage::set().more(OTHER).route(
        "headers = { X-Other = \"Token {token.other}\", Authorization = \"Bearer {token.idp}\" }",
    )
}

fn tokens(request: &Received) -> (String, String) {
    let field = |name, scheme| {
        let value: &str = request.field(name).unwrap();
        value.strip_prefix(scheme).unwrap().to_owned()
    };
    (
        field("authorization", "Bearer "),
        field("x-other", "Token "),
    )
}

#[tokio::test]
async fn each_header_carries_the_token_of_its_provider() {
    let stage = carrying_both().start().await;
    stage.get("/api/").await.expect_ok();
    stage.get("/api/").await.expect_ok();
    assert_eq!(stage.identity_provider.fetches(), 2);
    let (own, other) = tokens(&stage.upstream.last_request().unwrap());
    assert!(!stage.identity_provider.is_good(&own).allows("write"));
    assert!(stage.identity_provider.is_good(&other).allows("write"));
}

#[tokio::test]
async fn the_own_token_by_its_name_goes_where_the_route_says_and_nowhere_else() {
    let stage = Stage::set().route("headers = { X-Key = \"{token.idp}\" }");
    let stage = stage.open().start().await;
    stage.get("/api/").await.expect_ok();
    let sent = stage.upstream.last_request().unwrap();
    assert_eq!(sent.field("authorization"), None);
    let token = sent.field("x-key").unwrap();
    assert!(stage.identity_provider.is_good(token).is_good());
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn a_401_renews_the_routes_own_token_and_leaves_the_other() {
    let stage = carrying_both().start().await;
    stage.get("/api/").await.expect_ok();
    let (own, other) = tokens(&stage.upstream.last_request().unwrap());
    stage.identity_provider.revoke(&own);
    stage.post("/api/", "body").await.expect_ok();
    let (new_own, same_other) = tokens(&stage.upstream.last_request().unwrap());
    assert_ne!(new_own, own);
    assert_eq!(same_other, other);
    assert_eq!(stage.identity_provider.fetches(), 3);
}

#[tokio::test]
async fn the_replay_carries_every_token_as_it_is_then() {
    let stage = carrying_both().start().await;
    stage.get("/api/").await.expect_ok();
    let (own, other) = tokens(&stage.upstream.last_request().unwrap());
    // Whoever else renews it: here somebody at the admin listener.
    stage.admin(http::Method::POST, "/tokens/other/renew").await;
    stage.identity_provider.revoke(&own);
    stage.post("/api/", "body").await.expect_ok();
    let (_, new_other) = tokens(&stage.upstream.last_request().unwrap());
    assert_ne!(new_other, other);
}

#[tokio::test]
async fn another_provider_gets_its_inputs_from_the_same_route() {
    let stage = Stage::set()
        .more(OTHER)
        .more("inputs = [\"tenant\"]\nparams = { tenant = \"{input.tenant}\" }")
        .route("path = \"/api/{tenant}\"\ninputs = { tenant = \"{path.tenant}\" }")
        .route("headers = { X-Other = \"{token.other}\" }")
        .start()
        .await;
    for (path, fetches) in [("/api/a", 2), ("/api/b", 3), ("/api/a", 3)] {
        stage.get(path).await.expect_ok();
        assert_eq!(stage.identity_provider.fetches(), fetches, "{path}");
    }
    let asked = stage.identity_provider.last_request().unwrap().form();
    assert!(asked.contains(&("tenant".to_owned(), "b".to_owned())));
}

#[tokio::test]
async fn an_other_token_that_cannot_be_had_is_told_like_the_own_one() {
    let stage = Stage::set()
        .more(&OTHER.replace("\"app\"", "\"nobody\""))
        .route("headers = { X-Other = \"{token.other}\" }")
        .start()
        .await;
    let reply = stage.get("/api/").await;
    reply.expect_problem(502, "token-refused");
    assert_eq!(stage.upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_field_of_the_token_response_is_written_and_changes_with_the_token() {
    let stage = Stage::set()
        .provider("fields = { merchant = \"/merchant/id\", level = \"/level\" }")
        .route("headers = { Merchant-Account = \"mid/{field.merchant}\", X-Level = \"{field.level}\" }")
        .start()
        .await;
    let amend = |id: &'static str| {
        stage.identity_provider.amend_answers(move |members| {
            members.insert("merchant".to_owned(), json!({"id": id}));
            members.insert("level".to_owned(), json!(3));
        });
    };
    amend("1");
    stage.get("/api/").await.expect_ok();
    let first = stage.upstream.last_request().unwrap();
    assert_eq!(first.field("merchant-account"), Some("mid/1"));
    assert_eq!(first.field("x-level"), Some("3"));
    amend("2");
    stage.identity_provider.revoke_all();
    stage.get("/api/").await.expect_ok();
    let replayed = stage.upstream.last_request().unwrap();
    assert_eq!(replayed.field("merchant-account"), Some("mid/2"));
}

#[tokio::test]
async fn a_field_that_the_answer_does_not_have_is_the_providers_fault() {
    let stage = Stage::set()
        .provider("fields = { merchant = \"/merchant\" }")
        .route("headers = { Merchant-Account = \"{field.merchant}\" }")
        .start()
        .await;
    let reply = stage.get("/api/").await;
    let reply = reply.expect_problem(502, "token-malformed");
    assert!(reply.json()["detail"].to_string().contains("`merchant`"));
    assert_eq!(stage.upstream.requests().len(), 0);
}
