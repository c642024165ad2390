//! The log: which fields a line has, by what a request is known, and how the level changes while pillion runs.

use http::{Method, StatusCode};
use pillion::fake::Fault;
use serde_json::{Value, json};

use crate::stage::{Client, Process, Reply, Stage, full, request};

const DEBUG: &str = "[log]\nlevel = \"debug\"";

async fn line(process: &mut Process, part: &str) -> Value {
    serde_json::from_str(&process.line(part).await).unwrap()
}

async fn ask(process: &Process, method: Method, path: &str) -> Reply {
    let mut client = Client::connect(process.admin).await;
    client
        .send(request(method, path).body(full("")).unwrap())
        .await
}

#[tokio::test]
async fn a_request_is_one_line_in_the_words_of_opentelemetry() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, DEBUG).await;
    let mut client = Client::connect(process.address).await;
    let post = request(Method::POST, "/api/CNRY-path?CNRY-query").header("x-request-id", "order-7");
    client.send(post.body(full("")).unwrap()).await.expect_ok();
    let told = line(&mut process, "\"request\"").await;
    assert_eq!(told["http.request.method"], "POST");
    assert_eq!(told["http.route"], "api");
    assert_eq!(told["http.response.status_code"], 200);
    assert_eq!(told["server.address"], "127.0.0.1");
    assert_eq!(told["request_id"], "order-7");
    assert!(told["http.server.request.duration"].as_f64().unwrap() > 0.0);
    assert!(!told.to_string().contains("CNRY"), "{told}");
    assert!(
        told.get("error").is_none() && told.get("replay").is_none(),
        "{told}"
    );

    let reply = client.get("/nowhere").await.expect_problem(404, "no-route");
    let told = line(&mut process, "\"request\"").await;
    assert_eq!(told["error.type"], "no-route");
    assert_eq!(told["error"], "no route takes this request");
    assert_eq!(told["request_id"], reply.json()["request_id"]);
    stage.identity_provider.revoke_all();
    client.get("/api/").await.expect_ok();
    let told = line(&mut process, "\"request\"").await;
    assert_eq!(
        (&told["unauthorized"], &told["replay"]),
        (&json!("replayed"), &json!("recovered"))
    );
}

#[tokio::test]
async fn what_happens_to_a_token_is_a_line_each() {
    let lines = "inputs = [\"merchant\"]\nparams = { merchant = \"{input.merchant}\" }";
    let route = "path = \"/api/{merchant}\"\ninputs = { merchant = \"{path.merchant}\" }";
    let stage = Stage::set().provider(lines).route(route).start().await;
    let mut process = Process::start(&stage, "").await;
    let mut client = Client::connect(process.address).await;
    client.get("/api/CNRY-merchant/x").await.expect_ok();
    let told = line(&mut process, "token fetched").await;
    assert_eq!(
        (&told["level"], &told["provider"]),
        (&json!("INFO"), &json!("idp"))
    );
    assert_eq!(
        (&told["reason"], &told["outcome"]),
        (&json!("startup"), &json!("ok"))
    );
    assert_eq!(told["server.address"], "127.0.0.1");
    let subject = told["subject"].clone();
    assert_eq!(subject.as_str().unwrap().len(), 16);
    let page = request(Method::GET, "/status").header("accept", "application/json");
    let mut admin = Client::connect(process.admin).await;
    let status = admin.send(page.body(full("")).unwrap()).await.json();
    assert_eq!(status["providers"][0]["tokens"][0]["subject"], subject);
    stage.identity_provider.revoke_all();
    client.get("/api/CNRY-merchant/x").await.expect_ok();
    for part in ["token refused by its upstream", "token fetched"] {
        assert_eq!(line(&mut process, part).await["subject"], subject);
    }
    let down = Fault::status(StatusCode::SERVICE_UNAVAILABLE);
    stage.identity_provider.faults().once(down);
    client.get("/api/CNRY-other/x").await.expect_status(503);
    let told = line(&mut process, "token fetch failed").await;
    assert_eq!(
        (&told["level"], &told["outcome"]),
        (&json!("WARN"), &json!("unavailable"))
    );
}

#[tokio::test]
async fn what_the_app_says_about_its_trace_is_passed_on_as_it_is() {
    let stage = Stage::new().await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let get = request(Method::GET, "/api/")
        .header("traceparent", traceparent)
        .header("tracestate", "a=b")
        .header("x-request-id", "order-7");
    stage.send(get.body(full("")).unwrap()).await.expect_ok();
    let received = stage.upstream.last_request().unwrap();
    assert_eq!(received.field("traceparent"), Some(traceparent));
    assert_eq!(received.field("tracestate"), Some("a=b"));
    assert_eq!(received.field("x-request-id"), Some("order-7"));
    stage.get("/api/").await.expect_ok();
    let received = stage.upstream.last_request().unwrap();
    for name in ["traceparent", "x-request-id"] {
        assert_eq!(received.field(name), None, "nobody asked for it");
    }
}

#[tokio::test]
async fn the_level_changes_while_it_runs_and_goes_back_with_the_file() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, "").await;
    let reply = ask(&process, Method::GET, "/log").await.expect_ok();
    assert_eq!(reply.body, "info\n");
    for method in [Method::PUT, Method::POST] {
        let reply = ask(&process, method, "/log?level=debug").await.expect_ok();
        assert_eq!(reply.body, "debug\n");
    }
    let mut client = Client::connect(process.address).await;
    client.get("/api/").await.expect_ok();
    process.line("\"request\"").await;
    for path in [
        "/log",
        "/log?level=CNRY",
        "/log?level=",
        "/log?level=debug&x",
    ] {
        ask(&process, Method::PUT, path).await.expect_status(400);
    }
    ask(&process, Method::DELETE, "/log")
        .await
        .expect_status(405);
    let mut admin = Client::connect(process.admin).await;
    let foreign = request(Method::PUT, "/log?level=trace").header("origin", "http://localhost:1");
    let reply = admin.send(foreign.body(full("")).unwrap()).await;
    reply.expect_status(403);
    process.signal("HUP");
    process.line("configuration loaded").await;
    let reply = ask(&process, Method::GET, "/log").await;
    assert_eq!(reply.body, "info\n");
    let louder = process
        .config
        .replace("[listen]", "[log]\nlevel = \"debug\"\n[listen]");
    process.directory.write("proxy.toml", &louder);
    process.line("configuration loaded").await;
    let reply = ask(&process, Method::GET, "/log").await;
    assert_eq!(reply.body, "debug\n");
}

#[tokio::test]
async fn how_lines_look_changes_with_the_file() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, "").await;
    for format in ["text", "json"] {
        let config = process.config.replace(
            "[listen]",
            &format!("[log]\nformat = \"{format}\"\n[listen]"),
        );
        process.directory.replace("proxy.toml", &config);
        let line = process.line("configuration loaded").await;
        let is_json = serde_json::from_str::<Value>(&line).is_ok();
        assert_eq!(is_json, format == "json", "{line}");
        assert!(!line.contains('\x1b'), "colour where there is no terminal");
    }
    process.signal("TERM");
    let rest = process.rest().await;
    assert!(!rest.contains("next start"), "{rest}");
}

#[tokio::test]
async fn what_a_change_of_the_file_does_not_reach_is_told() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, "").await;
    let trace = "[trace]\notlp = \"http://127.0.0.1:9\"\n[listen]";
    let config = process.config.replace("[listen]", trace);
    process.directory.replace("proxy.toml", &config);
    let told = line(&mut process, "next start").await;
    assert_eq!(told["level"], "WARN");
    assert!(
        told["message"].as_str().unwrap().contains("[trace]"),
        "{told}"
    );
}

#[tokio::test]
async fn libraries_are_silent_at_every_level() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage, "[log]\nlevel = \"trace\"").await;
    Client::connect(process.address)
        .await
        .get("/api/")
        .await
        .expect_ok();
    process.signal("TERM");
    for line in process.rest().await.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let target = line["target"].as_str().unwrap();
        assert!(target.starts_with("pillion"), "{line}");
    }
}
