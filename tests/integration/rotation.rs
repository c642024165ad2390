//! A refresh token that is good for one use, and whose second use is the end of all that came of it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use pillion::fake::Server;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::stage::{Setting, Stage};

/// An authorization server that rotates: each refresh token is good once.
#[derive(Clone, Default)]
struct Rotating(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What was sent, in order.
    used: Vec<String>,
    /// The family is revoked, because one was used twice.
    is_revoked: bool,
    /// In place of the next answers, beside the new refresh token.
    amended: VecDeque<Value>,
}

/// What the stage keeps at `KEY`.
const FIRST: &str = "CNRY-long-lived-key";

impl Rotating {
    async fn start() -> (Self, Server) {
        let rotating = Self::default();
        let own = rotating.clone();
        let server = Server::start(None, move |request: Request<Incoming>| {
            let own = own.clone();
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let (status, answer) = own.answer(&body);
                // As long as others may come and use the same one.
                sleep(Duration::from_millis(50)).await;
                let body = Full::new(Bytes::from(answer.to_string()));
                let body = body.map_err(|never: Infallible| match never {});
                let mut answer = Response::new(body.boxed_unsync());
                *answer.status_mut() = status;
                Ok(answer)
            }
        });
        (rotating, server.await.unwrap())
    }

    fn answer(&self, form: &[u8]) -> (StatusCode, Value) {
        let mut form = form_urlencoded::parse(form);
        let (_, sent) = form.find(|(name, _)| name == "refresh_token").unwrap();
        let mut state = self.0.lock().unwrap();
        let newest = match state.used.len() {
            0 => FIRST.to_owned(),
            count => format!("refresh-{count}"),
        };
        state.is_revoked |= sent != newest;
        state.used.push(sent.into_owned());
        if state.is_revoked {
            let refusal = json!({ "error": "invalid_grant" });
            return (StatusCode::BAD_REQUEST, refusal);
        }
        let count = state.used.len();
        let access_token = format!("access-{count}");
        let usual = json!({ "access_token": access_token, "expires_in": 3600 });
        let mut answer = state.amended.pop_front().unwrap_or(usual);
        answer["refresh_token"] = format!("refresh-{count}").into();
        (StatusCode::OK, answer)
    }

    /// That so many were used, each once.
    fn expect_used(&self, times: usize) {
        let state = self.0.lock().unwrap();
        assert!(!state.is_revoked, "one was used twice: {:?}", state.used);
        assert_eq!(state.used.len(), times);
    }
}

fn at(server: &Server) -> Setting {
    Stage::set()
        .open()
        .provider_at(format!("http://{}/token", server.address()))
        .provider("grant_type = \"refresh_token\"\nrefresh_token = { env = \"KEY\" }")
}

fn route(path: &str, scope: &str) -> String {
    format!(
        "[[route]]\npath = \"{path}\"\nupstream = \"UPSTREAM\"\nprovider = \"idp\"\nscope = [\"{scope}\"]\n"
    )
}

#[tokio::test]
async fn tokens_of_several_scopes_take_turns_with_the_one_refresh_token() {
    let (rotating, server) = Rotating::start().await;
    let more = route("/read", "read") + &route("/write", "write");
    let stage = at(&server).more(&more).start().await;
    let all = ["/api/", "/read/", "/write/", "/read/", "/api/"];
    for reply in join_all(all.map(|path| stage.get(path))).await {
        reply.expect_ok();
    }
    rotating.expect_used(3);
}

#[tokio::test]
async fn two_providers_with_the_same_first_token_take_turns_too() {
    let (rotating, server) = Rotating::start().await;
    let twin = "[provider.twin]\ntype = \"oauth2\"\ngrant_type = \"refresh_token\"\ntoken_endpoint = \"PROVIDER\"\n\
                client_id = \"app\"\nclient_auth = \"none\"\nrefresh_token = { env = \"KEY\" }\n\
                [[route]]\npath = \"/twin\"\nupstream = \"UPSTREAM\"\nprovider = \"twin\"\n";
    let stage = at(&server).more(twin).start().await;
    for reply in join_all(["/api/", "/twin/"].map(|path| stage.get(path))).await {
        reply.expect_ok();
    }
    rotating.expect_used(2);
}

#[tokio::test]
async fn each_subject_waits_for_its_turn() {
    let (rotating, server) = Rotating::start().await;
    let stage = at(&server)
        .provider("inputs = [\"tenant\"]\nparams = { tenant = \"{input.tenant}\" }")
        .route("path = \"/api/{tenant}\"\ninputs = { tenant = \"{path.tenant}\" }")
        .start()
        .await;
    let tenants = ["/api/a", "/api/b", "/api/c", "/api/d"];
    for reply in join_all(tenants.map(|path| stage.get(path))).await {
        reply.expect_ok();
    }
    rotating.expect_used(4);
}

#[tokio::test]
async fn a_changed_file_goes_on_with_the_newest_refresh_token() {
    let (rotating, server) = Rotating::start().await;
    let stage = at(&server).start().await;
    stage.get("/api/").await.expect_ok();
    let changed = stage.config.replace(
        "grant_type = \"refresh_token\"",
        "grant_type = \"refresh_token\"\nscope = [\"read\"]",
    );
    let changed = changed.replace("path = \"/api\"", "path = \"/new\"");
    stage.directory.write("proxy.toml", &changed);
    let loaded = "pillion_config_reloads_total{outcome=\"ok\"}";
    stage.until_metric(loaded, |seen| seen >= 1.0).await;
    stage.get("/new/").await.expect_ok();
    rotating.expect_used(2);
}

#[tokio::test]
async fn a_refresh_token_is_kept_even_if_the_answer_has_no_usable_token() {
    let (rotating, server) = Rotating::start().await;
    let mac = json!({ "access_token": "x", "token_type": "mac" });
    rotating.0.lock().unwrap().amended.push_back(mac);
    let stage = at(&server).start().await;
    let reply = stage.get("/api/").await;
    reply.expect_problem(502, "token-malformed");
    let renewed = stage.admin(Method::POST, "/tokens/idp/renew").await;
    renewed.expect_ok();
    rotating.expect_used(2);
}
