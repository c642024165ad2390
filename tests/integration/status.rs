//! The status: for people as a page, for programs as JSON, for curl as text; and the button on it.

use http::{Method, StatusCode};
use pillion::fake::Fault;
use serde_json::json;

use crate::stage::{Client, Reply, Stage, full, request};

async fn status(stage: &Stage, accept: &str) -> Reply {
    let mut client = Client::connect(stage.running.admin).await;
    let get = request(Method::GET, "/status").header("accept", accept);
    client.send(get.body(full("")).unwrap()).await.expect_ok()
}

fn words(reply: &Reply) -> String {
    String::from_utf8(reply.body.to_vec()).unwrap()
}

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

#[tokio::test]
async fn browsers_get_a_page_programs_json_and_curl_text() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    for (accept, kind, part) in [
        (BROWSER, "text/html; charset=utf-8", "<!doctype html>"),
        ("application/json", "application/json", "\"providers\": ["),
        ("*/*", "text/plain; charset=utf-8", "PROVIDERS"),
    ] {
        let reply = status(&stage, accept).await;
        assert_eq!(reply.field("content-type"), Some(kind));
        assert_eq!(reply.field("vary"), Some("accept"));
        assert_eq!(reply.field("cache-control"), Some("no-store"));
        assert_eq!(reply.field("x-content-type-options"), Some("nosniff"));
        assert!(words(&reply).contains(part), "{}", words(&reply));
    }
    let reply = stage.admin(Method::GET, "/status").await.expect_ok();
    assert!(words(&reply).starts_with("pillion "), "{}", words(&reply));
}

#[tokio::test]
async fn the_page_takes_nothing_from_elsewhere() {
    let stage = Stage::new().await;
    let reply = status(&stage, BROWSER).await;
    let policy = reply.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
    assert!(!policy.contains("unsafe"), "{policy}");
    let page = words(&reply);
    for outside in ["src=", "@import", "url(", "//cdn", "style=\"", "onclick"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let own = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!own.contains("http://") && !own.contains("https://"));
}

#[tokio::test]
async fn what_every_part_says_is_told_in_every_form() {
    let stage = Stage::set().provider("scope = [\"read\"]").start().await;
    stage.get("/api/").await.expect_ok();
    stage.identity_provider.revoke_all();
    stage.get("/api/").await.expect_ok();
    stage.get("/nowhere").await.expect_problem(404, "no-route");
    stage
        .expect_metric("pillion_replays_total{route=\"api\"}", 1.0)
        .await;
    let told = stage.status().await;
    let provider = &told["providers"][0];
    assert_eq!(provider["kind"], "oauth2");
    assert_eq!(provider["scope"], json!(["read"]));
    assert_eq!(provider["health"], "good");
    assert_eq!(provider["token_count"], 1);
    assert_eq!(provider["tokens"][0]["generation"], 2);
    let route = &told["routes"][0];
    assert_eq!(
        (&route["requests"], &route["replays"]),
        (&json!(2), &json!(1))
    );
    assert!(route["requests_per_second"].as_f64().unwrap() > 0.0);
    assert!(route["p99_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(told["unmatched"]["client_errors"], 1);
    let events = told["events"].as_array().unwrap().iter();
    let kinds: Vec<_> = events.map(|event| &event["kind"]).collect();
    assert_eq!(kinds, ["renewed", "revoked", "fetched"]);
    for accept in [BROWSER, "*/*"] {
        let told = words(&status(&stage, accept).await);
        for part in [
            "All is well",
            "idp",
            "oauth2 · read",
            "left of 1 h",
            "api",
            "/min",
            "1 × 4xx",
            "renewed",
            "revoked",
            "An upstream refused it",
            env!("CARGO_PKG_VERSION"),
        ] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_with_what_to_do() {
    let stage = Stage::new().await;
    let refusal = Fault::json(
        StatusCode::UNAUTHORIZED,
        &json!({ "error": "invalid_client" }),
    );
    stage.identity_provider.faults().always(refusal);
    stage.get("/api/").await.expect_status(502);
    let told = stage.status().await;
    assert_eq!(told["providers"][0]["health"], "down");
    let advice = told["providers"][0]["tokens"][0]["advice"].clone();
    assert!(advice.as_str().unwrap().contains("`client_secret`"));
    for accept in [BROWSER, "*/*"] {
        let told = words(&status(&stage, accept).await).replace("&#39;", "'");
        for part in [
            "idp gives no token",
            "The provider refused: invalid_client.",
            "Check `client_id`, `client_secret` and `client_auth`",
            "Failed once; asked again in ",
        ] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_loaded_is_told_with_its_mistakes() {
    let stage = Stage::new().await;
    stage
        .directory
        .write("proxy.toml", "[provider.idp]\ntype = \"<b>\"\n");
    stage.running.config.reload();
    stage
        .until(|stage| stage.running.config.last_error().is_some())
        .await;
    let page = words(&status(&stage, BROWSER).await);
    assert!(page.contains("The file on disk is not loaded"), "{page}");
    assert!(page.contains("proxy.toml:2"), "{page}");
    assert!(!page.contains("<b>"), "what the file says is escaped");
    let text = words(&status(&stage, "*/*").await);
    assert!(
        text.contains("THE CONFIGURATION ON DISK IS NOT LOADED"),
        "{text}"
    );
    let told = stage.status().await;
    assert_eq!(told["events"][0]["kind"], "reload_failed");
    assert!(!told["events"][0]["told"].as_str().unwrap().contains("<b>"));
}

#[tokio::test]
async fn many_routes_and_subjects_make_no_endless_page() {
    let mut more = String::new();
    for number in 0..200 {
        more += &format!(
            "[[route]]\nname = \"route-{number}\"\npath = \"/many/{number}\"\nprovider = \"idp\"\n\
             inputs = {{ merchant = \"{number}\" }}\nupstream = \"UPSTREAM\"\n"
        );
    }
    let stage = Stage::set()
        .provider("inputs = [\"merchant\"]\nparams = { merchant = \"{input.merchant}\" }")
        .route("path = \"/api/{merchant}\"\ninputs = { merchant = \"{path.merchant}\" }")
        .more(&more)
        .start()
        .await;
    let mut client = stage.client().await;
    for merchant in 0..250 {
        let reply = client.get(&format!("/api/CNRY-{merchant}/x")).await;
        reply.expect_ok();
    }
    let told = stage.status().await;
    assert_eq!(told["providers"][0]["token_count"], 250);
    assert_eq!(
        told["providers"][0]["tokens"].as_array().unwrap().len(),
        100
    );
    assert_eq!(told["routes"].as_array().unwrap().len(), 201);
    assert_eq!(told["events"].as_array().unwrap().len(), 200);
    for accept in [BROWSER, "*/*"] {
        let reply = status(&stage, accept).await;
        let told = words(&reply);
        assert!(told.contains("250 tokens, one per merchant"), "{told}");
        assert!(told.contains("242 more are not shown"), "{told}");
        assert!(told.contains("151 more are no busier"), "{told}");
        assert!(!told.contains("CNRY"), "subjects are hashed");
        assert!(reply.body.len() < 64 << 10, "{} bytes", reply.body.len());
    }
}

#[tokio::test]
async fn a_token_of_a_subject_that_cannot_be_had_is_told_first() {
    let stage = Stage::set()
        .provider("inputs = [\"merchant\"]\nparams = { merchant = \"{input.merchant}\" }")
        .route("path = \"/api/{merchant}\"\ninputs = { merchant = \"{path.merchant}\" }")
        .start()
        .await;
    for merchant in 0..5 {
        stage.get(&format!("/api/{merchant}/x")).await.expect_ok();
    }
    let down = Fault::status(StatusCode::SERVICE_UNAVAILABLE);
    stage.identity_provider.faults().once(down);
    stage.get("/api/5/x").await.expect_status(503);
    let told = stage.status().await;
    let provider = &told["providers"][0];
    assert_eq!(provider["health"], "down");
    let counts = json!({ "idle": 0, "good": 5, "failing": 0, "down": 1 });
    assert_eq!(provider["counts"], counts);
    assert_eq!(provider["tokens"][0]["health"], "down");
    let page = words(&status(&stage, BROWSER).await);
    assert!(page.contains(" open>"), "what is wrong is shown unasked");
}

#[tokio::test]
async fn the_button_renews_and_leads_back() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    let page = words(&status(&stage, BROWSER).await);
    assert!(page.contains("action=\"/tokens/idp/renew\""), "{page}");
    let host = stage.running.admin.to_string();
    let press = |accept: &'static str, origin: String, site: &'static str| {
        let host = host.clone();
        async move {
            let mut client = Client::connect(host.parse().unwrap()).await;
            let post = http::Request::post("/tokens/idp/renew")
                .header("host", &host)
                .header("accept", accept)
                .header("origin", origin)
                .header("sec-fetch-site", site);
            client.send(post.body(full("")).unwrap()).await
        }
    };
    let own = format!("http://{host}");
    let reply = press(BROWSER, own.clone(), "same-origin").await;
    assert_eq!(reply.expect_status(303).field("location"), Some("/status"));
    assert_eq!(stage.identity_provider.fetches(), 2);
    let reply = press("application/json", own.clone(), "same-origin").await;
    let told = json!({ "provider": "idp", "renewed": true, "detail": "renewed" });
    assert_eq!(reply.expect_ok().json(), told);
    for (origin, site) in [
        ("http://127.0.0.1:1".to_owned(), "same-site"),
        ("http://localhost:3000".to_owned(), "same-origin"),
        ("null".to_owned(), "same-origin"),
        (format!("https://{host}"), "same-origin"),
        (own.clone(), "same-site"),
        (own, "cross-site"),
    ] {
        press(BROWSER, origin, site).await.expect_status(403);
    }
    assert_eq!(stage.identity_provider.fetches(), 3);
}

#[tokio::test]
async fn a_renewal_that_fails_is_told_to_programs_and_on_the_page() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    let down = Fault::status(StatusCode::SERVICE_UNAVAILABLE);
    stage.identity_provider.faults().always(down);
    let mut client = Client::connect(stage.running.admin).await;
    let post = request(Method::POST, "/tokens/idp/renew").header("accept", "application/json");
    let reply = client.send(post.body(full("")).unwrap()).await;
    let told = reply.expect_status(502).json();
    assert_eq!(told["renewed"], false);
    let page = words(&status(&stage, BROWSER).await);
    for part in ["renewal fails", "idp does not give the next token"] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
}
