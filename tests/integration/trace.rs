//! Spans: what a collector gets, in OTLP's own terms, and what becomes of requests when there is none.

use std::time::Duration;

use http::{Method, StatusCode};
use pillion::fake::{Fault, Upstream};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::stage::{SECRET, Stage, full, request};

/// `ExportTraceServiceRequest` in the JSON encoding of protobuf: nothing else may be in it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Export {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResourceSpans {
    resource: Resource,
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
    name: String,
    #[serde(rename = "version")]
    _version: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Span {
    trace_id: String,
    span_id: String,
    parent_span_id: Option<String>,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    code: Option<u8>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attribute {
    key: String,
    value: AnyValue,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum AnyValue {
    StringValue(String),
    IntValue(String),
}

impl Span {
    fn attribute(&self, key: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|it| it.key == key)?;
        let (AnyValue::StringValue(text) | AnyValue::IntValue(text)) = &found.value;
        Some(text)
    }

    fn took(&self) -> u64 {
        let at = |text: &str| text.parse::<u64>().unwrap();
        at(&self.end_time_unix_nano) - at(&self.start_time_unix_nano)
    }
}

/// A collector: it keeps what it is sent.
struct Collector(Upstream);

impl Collector {
    async fn start() -> Self {
        Self(Upstream::open(None).await.unwrap())
    }

    /// A stage that sends its spans here.
    async fn traced(&self, more: &str) -> Stage {
        let table = format!("[trace]\notlp = \"http://{}\"\n{more}", self.0.address());
        Stage::set().top(&table).start().await
    }

    fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for export in self.0.requests() {
            assert_eq!(
                (export.method.as_str(), export.path()),
                ("POST", "/v1/traces")
            );
            assert_eq!(export.field("content-type"), Some("application/json"));
            let export: Export = serde_json::from_slice(&export.body).unwrap();
            for resource in export.resource_spans {
                let service = &resource.resource.attributes[0];
                assert_eq!(service.key, "service.name");
                for scope in resource.scope_spans {
                    assert_eq!(scope.scope.name, "pillion");
                    spans.extend(scope.spans);
                }
            }
        }
        spans
    }

    /// Waits for so many spans.
    async fn expect(&self, count: usize) -> Vec<Span> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let spans = self.spans();
            if spans.len() >= count {
                return spans;
            }
            assert!(Instant::now() < deadline, "{spans:#?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut named = spans.iter().filter(|span| span.name == name);
    named
        .next()
        .unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[tokio::test]
async fn a_request_its_replay_and_the_fetches_are_spans() {
    let collector = Collector::start().await;
    let stage = collector.traced("").await;
    stage.get("/api/").await.expect_ok();
    stage.identity_provider.revoke_all();
    let post = request(Method::POST, "/api/CNRY-path?CNRY-query")
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("tracestate", "a=b");
    stage
        .send(post.body(full("CNRY-body")).unwrap())
        .await
        .expect_ok();
    let sent = stage.upstream.last_request().unwrap();
    let spans = collector.expect(5).await;
    assert_eq!(spans.len(), 5, "{spans:#?}");

    let span = named(&spans, "POST api");
    assert_eq!(
        (&*span.trace_id, span.parent_span_id.as_deref()),
        (TRACE, Some(PARENT))
    );
    assert_eq!(span.kind, 2, "SPAN_KIND_SERVER");
    assert_eq!(span.attribute("http.request.method"), Some("POST"));
    assert_eq!(span.attribute("http.route"), Some("api"));
    assert_eq!(span.attribute("http.response.status_code"), Some("200"));
    assert_eq!(span.attribute("server.address"), Some("127.0.0.1"));
    assert_eq!(span.attribute("pillion.unauthorized"), Some("replayed"));
    assert_eq!(span.status.code, None);
    // The upstream's spans are below ours.
    let told = format!("00-{TRACE}-{}-01", span.span_id);
    assert_eq!(sent.field("traceparent"), Some(&*told));
    assert_eq!(sent.field("tracestate"), Some("a=b"));

    let replay = named(&spans, "replay");
    assert_eq!(replay.trace_id, TRACE);
    assert_eq!(replay.parent_span_id.as_ref(), Some(&span.span_id));
    assert_eq!(replay.attribute("pillion.replay"), Some("recovered"));
    assert!(replay.took() > 0 && replay.took() <= span.took());

    let fetches: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "fetch idp")
        .collect();
    let reasons = fetches
        .iter()
        .map(|span| span.attribute("pillion.reason").unwrap());
    assert_eq!(reasons.collect::<Vec<_>>(), ["startup", "unauthorized"]);
    assert!(
        fetches
            .iter()
            .all(|span| span.kind == 3 && span.parent_span_id.is_none())
    );
    assert!(named(&spans, "GET api").parent_span_id.is_none());

    let token = sent.field("authorization").unwrap().replace("Bearer ", "");
    let told = format!("{spans:?}");
    for secret in ["CNRY", SECRET, &token] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
    let sent = "pillion_trace_spans_total{outcome=\"sent\"}";
    stage.expect_metric(sent, 5.0).await;
}

#[tokio::test]
async fn a_failure_is_a_span_that_failed_with_the_id_of_its_problem() {
    let collector = Collector::start().await;
    let stage = collector.traced("").await;
    let down = Fault::status(StatusCode::SERVICE_UNAVAILABLE);
    stage.identity_provider.faults().once(down);
    let reply = stage
        .get("/api/")
        .await
        .expect_problem(503, "token-unavailable");
    let spans = collector.expect(2).await;
    let span = named(&spans, "GET api");
    assert_eq!(reply.json()["request_id"], span.trace_id);
    assert_eq!(span.attribute("error.type"), Some("token-unavailable"));
    assert_eq!(span.status.code, Some(2), "STATUS_CODE_ERROR");
    let fetch = named(&spans, "fetch idp");
    assert_eq!(fetch.attribute("pillion.outcome"), Some("unavailable"));
    assert_eq!(fetch.status.code, Some(2));
}

#[tokio::test]
async fn the_app_decides_what_is_sampled_and_the_file_what_begins_here() {
    let collector = Collector::start().await;
    let stage = collector.traced("sample = 0").await;
    for flags in ["00", "01"] {
        let get = request(Method::GET, "/api/")
            .header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"));
        stage.send(get.body(full("")).unwrap()).await.expect_ok();
        let sent = stage.upstream.last_request().unwrap();
        let traceparent = sent.field("traceparent").unwrap();
        assert!(
            traceparent.starts_with(&format!("00-{TRACE}-")),
            "{traceparent}"
        );
        assert!(traceparent.ends_with(flags), "{traceparent}");
    }
    stage.get("/api/").await.expect_ok();
    let sent = stage.upstream.last_request().unwrap();
    assert!(sent.field("traceparent").unwrap().ends_with("-00"));
    let invalid = request(Method::GET, "/api/")
        .header("traceparent", "00-nonsense")
        .header("tracestate", "a=b");
    stage
        .send(invalid.body(full("")).unwrap())
        .await
        .expect_ok();
    let sent = stage.upstream.last_request().unwrap();
    assert_eq!(sent.field("traceparent").unwrap().len(), 55);
    assert_eq!(
        sent.field("tracestate"),
        None,
        "of a trace that there is not"
    );
    let spans = collector.expect(1).await;
    assert_eq!((spans.len(), &*spans[0].trace_id), (1, TRACE));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let table = "[trace]\notlp = \"http://127.0.0.1:9\"";
    let stage = Stage::set().top(table).start().await;
    for _ in 0..3 {
        stage.get("/api/").await.expect_ok();
    }
    let dropped = "pillion_trace_spans_total{outcome=\"dropped\"}";
    stage.until_metric(dropped, |dropped| dropped >= 4.0).await;
    assert_eq!(
        stage
            .metric("pillion_trace_spans_total{outcome=\"sent\"}")
            .await,
        0.0
    );
}

#[tokio::test]
async fn what_is_left_is_delivered_at_the_end() {
    let collector = Collector::start().await;
    let stage = collector.traced("").await;
    let mut client = stage.client().await;
    client.get("/api/").await.expect_ok();
    drop(client);
    stage.running.drain().await;
    assert_eq!(collector.spans().len(), 2);
}
