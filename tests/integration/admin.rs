//! The admin listener: what it shows, what it may be asked, and that no secret is in it.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use pillion::fake::Fault;
use serde_json::json;
use tokio::time::timeout;

use crate::stage::{Client, Reply, SECRET, Stage, full, request};

#[tokio::test]
async fn readiness_waits_for_the_first_token_and_never_goes_back() {
    let setting = Stage::set().provider("warm = true");
    let stage = setting
        .provider_at("http://127.0.0.1:9/token")
        .start()
        .await;
    stage.admin(Method::GET, "/livez").await.expect_ok();
    let reply = stage.admin(Method::GET, "/readyz").await.expect_status(503);
    assert_eq!(reply.body, "waiting for the first token of idp\n");

    let stage = Stage::with_provider("warm = true").await;
    stage
        .expect_metric("pillion_token_ready{provider=\"idp\"}", 1.0)
        .await;
    stage.admin(Method::GET, "/readyz").await.expect_ok();
    stage.identity_provider.server().leave().await.unwrap();
    stage.upstream.server().leave().await.unwrap();
    stage.get("/api/").await.expect_status(502);
    stage.admin(Method::GET, "/readyz").await.expect_ok();

    let stage = Stage::new().await;
    stage.admin(Method::GET, "/readyz").await.expect_ok();
    assert_eq!(
        stage.identity_provider.fetches(),
        0,
        "nobody asked for it to be warm"
    );
}

#[tokio::test]
async fn every_metric_is_there_from_the_start() {
    let stage = Stage::new().await;
    let mut zero = vec![
        "pillion_requests_in_flight".to_owned(),
        "pillion_header_conflicts_total{route=\"api\"}".to_owned(),
    ];
    for class in ["1xx", "2xx", "3xx", "4xx", "5xx"] {
        for route in ["api", "unmatched"] {
            zero.push(format!(
                "pillion_requests_total{{route=\"{route}\",status_class=\"{class}\"}}"
            ));
        }
    }
    for name in ["request_duration_seconds", "upstream_duration_seconds"] {
        zero.push(format!("pillion_{name}_count{{route=\"api\"}}"));
    }
    for name in [
        "expiration_timestamp_seconds",
        "issued_timestamp_seconds",
        "ready",
        "fetch_duration_seconds_count",
        "wait_duration_seconds_count",
        "consecutive_failures",
        "backoff_seconds",
        "last_success_timestamp_seconds",
        "lifetimes_clamped_total",
    ] {
        zero.push(format!("pillion_token_{name}{{provider=\"idp\"}}"));
    }
    zero.push("pillion_tokens{provider=\"idp\"}".to_owned());
    for reason in [
        "startup",
        "scheduled",
        "expired",
        "unauthorized",
        "forced",
        "reload",
    ] {
        for outcome in [
            "ok",
            "refused",
            "throttled",
            "unavailable",
            "timeout",
            "malformed",
        ] {
            zero.push(format!(
                "pillion_token_fetches_total{{provider=\"idp\",reason=\"{reason}\",outcome=\"{outcome}\"}}"
            ));
        }
    }
    for action in [
        "replayed",
        "newer_generation",
        "not_replayable",
        "guarded",
        "ignored",
    ] {
        zero.push(format!(
            "pillion_unauthorized_total{{route=\"api\",action=\"{action}\"}}"
        ));
    }
    for outcome in ["recovered", "still_unauthorized", "error"] {
        zero.push(format!(
            "pillion_replays_total{{route=\"api\",outcome=\"{outcome}\"}}"
        ));
    }
    for outcome in ["ok", "error"] {
        zero.push(format!(
            "pillion_config_reloads_total{{outcome=\"{outcome}\"}}"
        ));
    }
    for series in zero {
        assert_eq!(stage.metric(&series).await, 0.0, "{series}");
    }
    assert_eq!(
        stage.metric("pillion_config_last_reload_successful").await,
        1.0
    );
    let version = format!(
        "pillion_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(stage.metric(&version).await, 1.0);
    assert!(stage.metric("process_resident_memory_bytes").await > 0.0);
    let reply = stage.admin(Method::GET, "/metrics").await;
    let kind = reply.field("content-type").unwrap();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
}

#[tokio::test]
async fn the_life_of_a_token_is_told() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs_f64();
    let of = |name: &str| format!("pillion_token_{name}{{provider=\"idp\"}}");
    let expires = stage.metric(&of("expiration_timestamp_seconds")).await;
    assert!((now + 3590.0..now + 3601.0).contains(&expires), "{expires}");
    for name in ["issued_timestamp_seconds", "last_success_timestamp_seconds"] {
        let issued = stage.metric(&of(name)).await;
        assert!((now - 10.0..=now).contains(&issued), "{name} {issued}");
    }
    assert_eq!(stage.metric(&of("ready")).await, 1.0);
    assert_eq!(stage.metric("pillion_tokens").await, 1.0);

    let stage = Stage::new().await;
    let down = Fault::status(StatusCode::SERVICE_UNAVAILABLE);
    stage.identity_provider.faults().always(down);
    stage.get("/api/").await.expect_status(503);
    assert_eq!(stage.metric(&of("consecutive_failures")).await, 1.0);
    assert!(stage.metric(&of("backoff_seconds")).await > 0.0);
    assert_eq!(stage.metric(&of("ready")).await, 0.0);
    let status = stage.status().await;
    let token = &status["providers"][0]["tokens"][0];
    assert_eq!(token["state"], "none");
    assert_eq!(token["consecutive_failures"], 1);
    assert_eq!(token["last_error"], "the provider failed: it answered 503");
}

#[tokio::test]
async fn the_status_tells_what_is_going_on() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    let status = stage.status().await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["config"], json!({ "loaded": true }));
    assert_eq!(status["listening"][0], stage.address().to_string());
    assert_eq!(status["providers"][0]["name"], "idp");
    let token = &status["providers"][0]["tokens"][0];
    assert_eq!(token["state"], "fresh");
    assert_eq!(token["generation"], 1);
    let route = &status["routes"][0];
    assert_eq!(
        (&route["name"], &route["provider"]),
        (&json!("api"), &json!("idp"))
    );
    assert_eq!(route["upstream"], stage.upstream.address().to_string());
}

#[tokio::test]
async fn a_token_is_renewed_when_somebody_asks() {
    let stage = Stage::new().await;
    stage.get("/api/").await.expect_ok();
    let renewal = "/tokens/idp/renew";
    stage.admin(Method::POST, renewal).await.expect_ok();
    assert_eq!(stage.identity_provider.fetches(), 2);
    let forced = "pillion_token_fetches_total{reason=\"forced\",outcome=\"ok\"}";
    stage.expect_metric(forced, 1.0).await;
    stage.admin(Method::GET, renewal).await.expect_status(405);
    stage
        .admin(Method::POST, "/tokens/other/renew")
        .await
        .expect_status(404);
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn only_a_post_of_nobodys_web_page_ends_the_process() {
    let stage = Stage::new().await;
    let quit = stage.running.quit.clone();
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
        stage
            .admin(method, "/quitquitquit")
            .await
            .expect_status(405);
    }
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let mut client = Client::connect(stage.running.admin).await;
        let post = request(Method::POST, "/quitquitquit").header(name, value);
        client
            .send(post.body(full("")).unwrap())
            .await
            .expect_status(403);
    }
    let mut client = Client::connect(stage.running.admin).await;
    let post = http::Request::post("/quitquitquit").header("host", "evil.example");
    client
        .send(post.body(full("")).unwrap())
        .await
        .expect_status(403);
    let asked = timeout(Duration::from_millis(50), quit.notified()).await;
    assert!(asked.is_err(), "nobody has asked yet");
    stage.admin(Method::POST, "/quitquitquit").await.expect_ok();
    timeout(Duration::from_secs(5), quit.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_two_listeners_serve_nothing_of_each_other() {
    let stage = Stage::new().await;
    for path in ["/metrics", "/status", "/livez", "/readyz", "/quitquitquit"] {
        stage.get(path).await.expect_problem(404, "no-route");
        stage.admin(Method::POST, path).await;
    }
    stage.admin(Method::GET, "/api/").await.expect_status(404);
    stage
        .admin(Method::POST, "/metrics")
        .await
        .expect_status(405);
    assert_eq!(stage.upstream.server().requests(), 0);
}

#[tokio::test]
async fn whatever_callers_say_there_is_no_new_series_and_there_are_few() {
    let stage = Stage::set()
        .provider("inputs = [\"tenant\"]\nparams = { tenant = \"{input.tenant}\" }")
        .route("path = \"/api/{tenant}\"\ninputs = { tenant = \"{path.tenant}\" }")
        .start()
        .await;
    let before = series(&stage).await;
    let mut client = stage.client().await;
    let mut statuses = HashSet::new();
    for number in 0..200 {
        let odd = Method::from_bytes(format!("ODD{number}").as_bytes()).unwrap();
        let host = format!("host-{number}.example");
        let status = 200 + 2 * number;
        for asked in [
            request(
                Method::GET,
                &format!("/api/tenant-{number}/x?query={number}"),
            ),
            request(Method::GET, &format!("/api/tenant-0/status/{status}")),
            request(Method::GET, &format!("/nowhere-{number}")),
            request(odd, "/api/tenant-0/x").header(format!("x-{number}"), "1"),
            http::Request::get("/api/tenant-0/x").header("host", host),
        ] {
            let reply = client.try_send(asked.body(full("")).unwrap()).await;
            match reply {
                Ok(reply) if reply.field("connection") != Some("close") => {
                    statuses.insert(reply.status);
                }
                ended => {
                    statuses.extend(ended.map(|reply| reply.status));
                    client = stage.client().await;
                }
            }
        }
    }
    assert!(statuses.len() > 100, "{statuses:?}");
    let new: Vec<_> = series(&stage).await.difference(&before).cloned().collect();
    assert!(new.is_empty(), "{new:#?}");
    // One route, one provider, and what matches no route.
    assert!(before.len() <= 3 * 200, "{}", before.len());
}

/// All series of the exposition: names and labels, without values.
async fn series(stage: &Stage) -> HashSet<String> {
    let reply = stage.admin(Method::GET, "/metrics").await.expect_ok();
    let text = std::str::from_utf8(&reply.body).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
        .collect()
}

/// Every secret of a busy hour, in every shape, in everything that anybody but upstream and provider can see.
#[tokio::test]
async fn no_secret_is_shown_anywhere() {
    let stage = Stage::set()
        .provider("inputs = [\"card\"]\nparams = { card = \"{input.card}\" }")
        .route("path = \"/api/{card}\"\ninputs = { card = \"{path.card}\" }")
        .start()
        .await;
    let mut seen: Vec<Reply> = Vec::new();
    let mut secrets = vec![
        SECRET.to_owned(),
        "CNRY-subject".to_owned(),
        "CNRY-query".to_owned(),
    ];
    let target = "/api/CNRY-subject/status/204?q=CNRY-query";
    seen.push(stage.get(target).await.expect_status(204));
    let received = stage.upstream.last_request().unwrap();
    let token = received.field("authorization").unwrap();
    secrets.push(token["Bearer ".len()..].to_owned());
    stage.identity_provider.revoke_all();
    seen.push(stage.post(target, "CNRY-body").await.expect_status(204));
    let received = stage.upstream.last_request().unwrap();
    secrets.push(received.field("authorization").unwrap()["Bearer ".len()..].to_owned());

    stage.upstream.faults().times(3, &Fault::Reset);
    seen.push(stage.post(target, "CNRY-body").await.expect_status(502));
    let said = json!({ "error": "CNRY-code", "error_description": "CNRY-words", "access_token": "CNRY t" });
    for status in [200, 302, 400, 401, 429, 500] {
        let fault = Fault::json(StatusCode::from_u16(status).unwrap(), &said);
        stage.identity_provider.faults().once(fault);
        seen.push(stage.get(&format!("/api/CNRY-{status}/x")).await);
    }
    for path in ["/CNRY-path", "/api/CNRY/../x", "/api/CNRY%2f"] {
        seen.push(stage.get(path).await);
    }
    let own = request(Method::TRACE, "/api/CNRY-subject/x").header("cookie", "CNRY-cookie");
    seen.push(stage.send(own.body(full("")).unwrap()).await);
    for path in [
        "/metrics",
        "/status",
        "/readyz",
        "/CNRY",
        "/tokens/CNRY/renew",
    ] {
        seen.push(stage.admin(Method::POST, path).await);
        for accept in ["*/*", "text/html", "application/json"] {
            let mut client = Client::connect(stage.running.admin).await;
            let get = request(Method::GET, path).header("accept", accept);
            seen.push(client.send(get.body(full("")).unwrap()).await);
        }
    }
    secrets.push("CNRY".to_owned());
    let encoded = secrets.iter().map(|secret| STANDARD.encode(secret));
    let secrets: Vec<String> = secrets.iter().cloned().chain(encoded).collect();
    for reply in seen {
        let text = format!(
            "{:?} {}",
            reply.headers,
            String::from_utf8_lossy(&reply.body)
        );
        for secret in &secrets {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
