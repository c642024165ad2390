//! graphql-yoga, whose every answer is a 200: a session is minted by a mutation, and wanted by queries.

use http::Method;
use serde_json::{Value, json};

use crate::node::Server;
use crate::stage::{Reply, Stage, full, request};

const KEY: &str = "CNRY-long-lived-key";

/// A server whose owner has this key, and the proxy between it and the app.
async fn start(key: &str) -> (Server, Stage) {
    let server = Server::start("graphql-yoga.mjs", &json!({ "key": key })).await;
    let tables = PROXY.replace("GRAPHQL", server.said("graphql"));
    let stage = Stage::set().more(&tables).start().await;
    (server, stage)
}

const PROXY: &str = r#"
[provider.key]
type = "static"
secret = { env = "KEY" }

[provider.session]
type = "graphql"
parent = "key"
inputs = ["account"]
url = "GRAPHQL"
headers = { Authorization = "Basic {parent|basic}" }
query = """mutation Mint($account: ID!, $minutes: Int!) {
  mint(account: $account, minutes: $minutes) {
    __typename
    ... on ClientToken { value expiresAt }
    ... on UserError { errors { code description } }
  }
}"""
variables = { account = "{input.account}", minutes = 60 }
operation_name = "Mint"
token = "/data/mint/value"
expiry = [{ json = "/data/mint/expiresAt", unit = "rfc3339" }]

[[route]]
path = "/accounts/{account}"
upstream = "GRAPHQL"
provider = "session"
inputs = { account = "{path.account}" }
unauthorized = [{ status = 200, json = "/errors/*/extensions/code", equals = ["UNAUTHENTICATED"] }]
"#;

async fn ask(stage: &Stage, account: &str, query: &str) -> Reply {
    let content = json!({ "query": query }).to_string();
    let asked = request(Method::POST, &format!("/accounts/{account}"))
        .header("content-type", "application/json")
        .body(full(content));
    stage.send(asked.unwrap()).await
}

async fn data(stage: &Stage, account: &str, query: &str) -> Value {
    ask(stage, account, query).await.expect_ok().json()["data"].clone()
}

#[tokio::test]
async fn a_session_is_minted_for_each_account_and_kept() {
    let (server, stage) = start(KEY).await;
    for account in ["ac_1", "ac_2", "ac_1"] {
        let me = data(&stage, account, "{ me { id } }").await;
        assert_eq!(me, json!({ "me": { "id": account } }));
    }
    assert_eq!(server.seen().await["minted"], 2);
}

#[tokio::test]
async fn a_200_that_says_unauthenticated_is_renewed_and_asked_again() {
    let (server, stage) = start(KEY).await;
    data(&stage, "ac_1", "{ me { id } }").await;
    server.revoke().await;
    let me = data(&stage, "ac_1", "{ me { id } }").await;
    assert_eq!(me, json!({ "me": { "id": "ac_1" } }));
    server.revoke().await;
    let paid = data(&stage, "ac_1", "mutation { pay(amount: 3) }").await;
    assert_eq!(paid, json!({ "pay": 3 }));
    let seen = server.seen().await;
    assert_eq!(
        seen,
        json!({ "minted": 3, "mistakes": 0, "refused": 2, "payments": 1 })
    );
}

#[tokio::test]
async fn a_200_with_data_beside_the_error_is_the_answer_and_the_next_one_is_good() {
    let (server, stage) = start(KEY).await;
    data(&stage, "ac_1", "{ me { id } }").await;
    server.revoke().await;
    let query = "{ greeting nickname }";
    let answer = data(&stage, "ac_1", query).await;
    assert_eq!(answer, json!({ "greeting": "hello", "nickname": null }));
    let answer = data(&stage, "ac_1", query).await;
    assert_eq!(answer, json!({ "greeting": "hello", "nickname": "ac_1" }));
    let seen = server.seen().await;
    assert_eq!(
        seen,
        json!({ "minted": 2, "mistakes": 0, "refused": 1, "payments": 0 })
    );
}

#[tokio::test]
async fn a_user_error_is_the_configurations_fault_and_not_asked_for_again() {
    let (server, stage) = start(KEY).await;
    let reply = ask(&stage, "nobody", "{ me { id } }").await;
    let problem = reply.expect_problem(502, "token-refused").json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("UserError"), "{detail}");
    let again = ask(&stage, "nobody", "{ me { id } }").await;
    again.expect_problem(503, "token-unavailable");
    // Others are not kept waiting by it.
    data(&stage, "ac_1", "{ me { id } }").await;
    let seen = server.seen().await;
    assert_eq!((&seen["mistakes"], &seen["minted"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_wrong_key_is_told_as_unauthenticated() {
    let (server, stage) = start("quite another key").await;
    let reply = ask(&stage, "ac_1", "{ me { id } }").await;
    let problem = reply.expect_problem(502, "token-refused").json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("UNAUTHENTICATED"), "{detail}");
    assert_eq!(server.seen().await["minted"], 0);
}
