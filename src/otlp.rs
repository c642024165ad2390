//! Spans on their way to a collector: OTLP/HTTP in its JSON encoding. A collector that is away costs spans, nothing else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::metrics::Metrics;
use crate::metrics::spans::{Span, SpanKind, SpanValue};
use crate::provider::FetchError;
use crate::provider::exchange::{self, Ask, JSON, Target};

/// Takes spans out of their queue and to the collector.
#[derive(Debug)]
pub struct Exporter {
    /// The collector.
    pub collector: Target,
    /// `service.name`
    pub service: String,
    /// Where spans are counted.
    pub metrics: Metrics,
}

impl Exporter {
    /// Delivers spans in batches until `stop` says so; then what is left, if the collector takes it at once.
    pub async fn run(self, mut spans: Receiver<Span>, mut stop: watch::Receiver<bool>) {
        let (mut batch, mut failures) = (Vec::new(), 0);
        loop {
            if spans.recv_many(&mut batch, BATCH_MOST).await == 0 {
                return;
            }
            tokio::select! {
                () = sleep(pause(failures)) => {}
                // Nothing more comes: what waits still goes out, without a pause.
                _ = stop.wait_for(|stop| *stop) => spans.close(),
            }
            while batch.len() < BATCH_MOST
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
            match self.deliver(&batch).await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!("spans reach the collector again");
                    }
                    failures = 0;
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(error, "spans do not reach the collector, and are dropped");
                    }
                    failures += 1;
                }
            }
            self.count(batch.len(), failures == 0);
            batch.clear();
            if failures > 0 && spans.is_closed() {
                return;
            }
        }
    }

    fn count(&self, batch: usize, is_sent: bool) {
        let batch = batch as u64;
        let overflow = self.metrics.spans().map_or(0, |spans| spans.take_dropped());
        let (sent, dropped) = if is_sent { (batch, 0) } else { (0, batch) };
        self.metrics.spans_sent(sent);
        self.metrics.spans_dropped(dropped + overflow);
    }

    async fn deliver(&self, batch: &[Span]) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, JSON);
        let ask = Ask {
            method: Method::POST,
            headers,
            body: Bytes::from(document(batch, &self.service).to_string()),
        };
        let Target {
            endpoint,
            host,
            path,
        } = &self.collector;
        let sending = exchange::send(endpoint, host, path, ask);
        match timeout(PATIENCE, sending).await {
            Ok(Ok(answer)) if answer.status.is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("it answered {}", answer.status.as_u16())),
            Ok(Err(FetchError::Unreachable { detail, .. })) => Err(detail.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err(format!("no answer within {PATIENCE:?}")),
        }
    }
}

/// `ExportTraceServiceRequest`, in the JSON encoding of OTLP: ids in hexadecimal, 64-bit numbers as strings.
fn document(batch: &[Span], service: &str) -> Value {
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let version = env!("CARGO_PKG_VERSION");
    let resource = [
        text("service.name", service),
        text("telemetry.sdk.name", "pillion"),
        text("telemetry.sdk.language", "rust"),
        text("telemetry.sdk.version", version),
    ];
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{
            "scope": { "name": "pillion", "version": version },
            "spans": batch.iter().map(span).collect::<Vec<_>>(),
        }],
    }] })
}

fn span(span: &Span) -> Value {
    let attributes = span.attributes.iter().map(|(key, value)| match value {
        SpanValue::Text(text) => json!({ "key": key, "value": { "stringValue": text } }),
        SpanValue::Number(number) => {
            json!({ "key": key, "value": { "intValue": number.to_string() } })
        }
    });
    let kind = match span.kind {
        SpanKind::Server => 2,
        SpanKind::Client => 3,
    };
    let own = span.place.own;
    let mut value = json!({
        "traceId": format!("{:032x}", own.trace),
        "spanId": format!("{:016x}", own.span),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": nanoseconds(span.began),
        "endTimeUnixNano": nanoseconds(span.began + span.took),
        "attributes": attributes.collect::<Vec<_>>(),
        "status": if span.failed { json!({ "code": 2 }) } else { json!({}) },
    });
    if let (Some(parent), Some(fields)) = (span.place.parent(), value.as_object_mut()) {
        fields.insert("parentSpanId".to_owned(), format!("{parent:016x}").into());
    }
    value
}

fn nanoseconds(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().to_string()
}

/// Between two batches: while the collector is away, longer and longer.
fn pause(failures: u32) -> Duration {
    (PAUSE * (1 << failures.min(8))).min(PAUSE_MOST)
}

/// Spans of one request to the collector.
const BATCH_MOST: usize = 512;
/// So long a batch is collected.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// A collector that takes longer is away.
const PATIENCE: Duration = Duration::from_secs(5);
