//! How long it takes to find a route among many, and to get a fresh token when several threads want one.
//!
//! `cargo bench --bench hot_path`

#![expect(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on may panic"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::{Method, Uri};
use pillion::clock::Moment;
use pillion::config;
use pillion::config::compile::{Surroundings, compile};
use pillion::fake::{IdentityProvider, Rules};
use pillion::metrics::Metrics;
use pillion::provider::secret::Secrets;
use pillion::provider::{Input, Subject};
use pillion::proxy::Plan;
use pillion::proxy::target::Target;
use pillion::token::Tokens;
use tokio::runtime::{Builder, Runtime};

criterion_group! {
    name = hot_path;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30);
    targets = routes, tokens, subjects
}
criterion_main!(hot_path);

fn routes(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("the last of the routes");
    for count in [1, 100, 1000] {
        let routes: String = (0..count).fold(String::new(), |mut routes, number| {
            write!(routes, "{}", route(&format!("/api-{number}/v1"))).unwrap();
            routes
        });
        let plan = plan(&runtime, &format!("{KEY}{routes}"));
        let uri: Uri = format!("/api-{}/v1/accounts/42", count - 1)
            .parse()
            .unwrap();
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                let target = Target::parse(black_box(&uri)).unwrap();
                let found = plan.routes.find(&Method::GET, "localhost", target);
                black_box(found.unwrap().rest.len())
            });
        });
    }
}

fn tokens(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let rules = Rules::by_the_book("app", SECRET);
    let idp = runtime
        .block_on(IdentityProvider::start(None, rules))
        .unwrap();
    let provider = TENANTS.replace("PROVIDER", &idp.server().address().to_string());
    let plan = plan(&runtime, &provider);
    let tokens = plan.providers.first().unwrap();
    let tenant = |name: &str| {
        let subject = Subject::new([Input::Text(name)]);
        runtime
            .block_on(tokens.get(&subject, Moment::now()))
            .unwrap();
        subject
    };
    let [one, other] = [tenant("one"), tenant("other")];
    let mut group = criterion.benchmark_group("a fresh token");
    for (name, subjects) in [
        ("1 thread", vec![&one]),
        ("2 threads, one subject", vec![&one, &one]),
        ("2 threads, two subjects", vec![&one, &other]),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| together(tokens, &subjects, times));
        });
    }
}

/// With many, what a token's look-up takes is the time until its memory is there.
fn subjects(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let plan = plan(&runtime, SIGNED);
    let tokens = plan.providers.first().unwrap();
    let mut group = criterion.benchmark_group("a fresh token of one of so many subjects");
    for count in [1, 100_000] {
        let subjects: Vec<_> = (0..count)
            .map(|number| Subject::new([Input::Text(&format!("tenant-{number}"))]))
            .collect();
        runtime.block_on(async {
            for subject in &subjects {
                tokens.get(subject, Moment::now()).await.unwrap();
            }
        });
        let now = Moment::now();
        let mut in_turn = subjects.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                let token = tokens.get(in_turn.next().unwrap(), now).now_or_never();
                // As a request does, that writes it.
                black_box(token.unwrap().unwrap().bearer().as_bytes().len())
            });
        });
    }
}

/// How long it takes a thread for each of the subjects to get its token so often, all at the same time.
fn together(tokens: &Arc<Tokens>, subjects: &[&Subject], times: u64) -> Duration {
    let start = Barrier::new(subjects.len());
    let now = Moment::now();
    std::thread::scope(|scope| {
        let threads = subjects.iter().map(|subject| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                let began = Moment::now();
                for _ in 0..times {
                    // Fresh: nothing is waited for.
                    black_box(tokens.get(subject, now).now_or_never())
                        .unwrap()
                        .unwrap();
                }
                began.elapsed()
            })
        });
        let threads: Vec<_> = threads.collect();
        let took = threads.into_iter().map(|thread| thread.join().unwrap());
        took.max().unwrap()
    })
}

fn plan(runtime: &Runtime, text: &str) -> Plan {
    let (file, report) = config::read("bench.toml", text).unwrap();
    let surroundings = Surroundings {
        metrics: Metrics::new(1).unwrap(),
        runtime: runtime.handle().clone(),
        secrets: Secrets::supplied(|_| Some(SECRET.to_owned())),
        resolve: HashMap::new(),
        trust: Vec::new(),
    };
    compile(&file, report, &surroundings, None).unwrap()
}

fn route(path: &str) -> String {
    format!(
        "[[route]]\npath = \"{path}\"\nupstream = \"https://api.example\"\nprovider = \"key\"\n"
    )
}

const SECRET: &str = "secret";

const KEY: &str = "
[provider.key]
type = \"static\"
secret = { env = \"SECRET\" }
";

const TENANTS: &str = r#"
[provider.tenants]
type = "oauth2"
token_endpoint = "http://PROVIDER/token"
client_id = "app"
client_secret = { env = "SECRET" }
inputs = ["tenant"]
params = { tenant = "{input.tenant}" }

[[route]]
path = "/{tenant}"
upstream = "https://api.example"
provider = "tenants"
inputs = { tenant = "{path.tenant}" }
"#;

const SIGNED: &str = r#"
[provider.tenants]
type = "jwt"
alg = "HS256"
key = { env = "SECRET" }
inputs = ["tenant"]
claims = { sub = "{input.tenant}" }
max_entries = 100000

[[route]]
path = "/{tenant}"
upstream = "https://api.example"
provider = "tenants"
inputs = { tenant = "{path.tenant}" }
"#;
