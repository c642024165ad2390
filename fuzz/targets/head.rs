//! Any request head: what goes to the upstream carries the token once, and nothing that belongs to another connection.

#![no_main]

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use pillion::config::compile::{Surroundings, compile};
use pillion::metrics::Metrics;
use pillion::provider::secret::Secrets;
use pillion::proxy::Plan;
use pillion::proxy::explain::{Course, explain};
use tokio::runtime::{Builder, Runtime};

const CONFIG: &str = r#"
[provider.p]
type = "oauth2"
token_endpoint = "http://127.0.0.1:1/token"
client_id = "app"
client_secret = { env = "SECRET" }
inputs = ["merchant"]

[[route]]
path = "/keep"
provider = "p"
upstream = "http://127.0.0.1:2/base"
inputs = { merchant = "{header.X-Merchant}" }
on_conflict = "keep"

[[route]]
path = "/{merchant}/api"
provider = "p"
upstream = "http://127.0.0.1:2/base"
inputs = { merchant = "{path.merchant}" }
headers = { Authorization = "Bearer {token}", Merchant-Account = "{input.merchant}" }
remove = ["Cookie"]
"#;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let (file, report) = pillion::config::read("proxy.toml", CONFIG).expect("good");
    let surroundings = Surroundings {
        metrics: Metrics::new(1).expect("metrics"),
        runtime: RUNTIME.handle().clone(),
        secrets: Secrets::supplied(|_| Some("secret".to_owned())),
        resolve: HashMap::new(),
        trust: Vec::new(),
    };
    compile(&file, report, &surroundings, None).expect("compiled")
});

fuzz_target!(|received: &[u8]| {
    let Some(request) = parse(received) else {
        return;
    };
    let explained = RUNTIME.block_on(explain(&PLAN, received, request, None, 1 << 20));
    let Ok(Course::Onward(forwarded)) = explained.course else {
        return;
    };
    let target = forwarded.target.to_string();
    assert!(target == "/base" || target.starts_with("/base/") || target.starts_with("/base?"), "{target}");
    let head = &forwarded.head;
    let count = |name: &str| {
        let twins = head.keys().filter(|it| it.as_str().replace('_', "-") == name);
        twins.map(|it| head.get_all(it).iter().count()).sum::<usize>()
    };
    assert_eq!(count("host"), 1);
    assert!(count("authorization") == 1 || forwarded.keeps_authorization);
    if explained.route.is_some_and(|route| !route.inputs.is_empty() && target.is_empty()) {
        assert_eq!(count("merchant-account"), 1);
    }
    for gone in ["keep-alive", "proxy-connection", "proxy-authorization", "upgrade", "content-length", "transfer-encoding", "http2-settings"] {
        assert!(!head.contains_key(gone), "{gone}");
    }
    assert!(head.get("te").is_none_or(|te| te == "trailers"));
});

fn parse(received: &[u8]) -> Option<Request<Full<Bytes>>> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut head = httparse::Request::new(&mut fields);
    head.parse(received).ok()?.is_complete().then_some(())?;
    let mut request = Request::builder().method(head.method?).uri(head.path?);
    for field in &*head.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(field.value).ok()?;
        request = request.header(name, value);
    }
    request.body(Full::default()).ok()
}
