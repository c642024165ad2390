//! Tenants: whoever asks, and whatever happens meanwhile, a request carries its own tenant's token and no other.
//!
//! Names that are easily confused, in paths, queries, headers and JSON, call through five providers at once, while tokens
//! are renewed, refused and thrown out for want of room, and the configuration is loaded again and again. Every token
//! names its owner: what the provider was asked for. Every request names the owner that it should have. The upstream
//! compares the two, and the client finds its own number in each answer.

mod cast;
mod client;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use self::cast::Cast;
use self::client::{Cases, Tally};
use crate::report::{Report, size};
use crate::stage::Stage;

const REQUESTS: usize = size(40_000, 1_000_000);
const CLIENTS: usize = 16;
/// Tokens that a provider may keep, of a few hundred tenants.
const MAX_ENTRIES: usize = 128;
const BETWEEN_RELOADS: Duration = Duration::from_millis(200);

#[tokio::test]
async fn no_request_carries_another_tenants_token() {
    let mut report =
        Report::of("Tenants: confusable names under renewal, refusal, eviction and reload").await;
    let cast = Cast::start().await;
    let stage = Stage::set()
        .provider_at(cast.mint_url("form"))
        .upstream_at(cast.upstream_url())
        .more(&configuration(&cast))
        .start()
        .await;
    let cases = Arc::new(Cases::all());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (address, cases) = (stage.address(), Arc::clone(&cases));
            std::thread::spawn(move || client::run(address, &cases, number, REQUESTS / CLIENTS))
        })
        .collect();
    let mut reloads = 0;
    while clients.iter().any(|client| !client.is_finished()) {
        sleep(BETWEEN_RELOADS).await;
        reloads += 1;
        let version = format!("VERSION{reloads}");
        let changed = stage.config.replace("VERSION0", &version);
        stage.directory.replace("proxy.toml", &changed);
    }
    let tally: Tally = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();

    let seen = &cast.seen;
    let foreign = seen.foreign.load(Ordering::Relaxed);
    assert_eq!(foreign, 0, "{:?}", seen.examples());
    assert_eq!(tally.foreign, 0, "a token that was handed out is another's");

    let fetched = |reason: &str| {
        let series = format!("pillion_token_fetches_total{{reason=\"{reason}\",outcome=\"ok\"}}");
        let stage = &stage;
        async move { stage.metric(&series).await as usize }
    };
    // First fetches beyond one for each owner: there had been a token, and it has made room.
    let evictions = fetched("startup")
        .await
        .saturating_sub(cast.owners() + reloads);
    let renewals = fetched("scheduled").await;
    let loaded = stage
        .metric("pillion_config_reloads_total{outcome=\"ok\"}")
        .await as usize;
    let replays = stage
        .metric("pillion_replays_total{outcome=\"recovered\"}")
        .await as usize;
    let refused = seen.refused.load(Ordering::Relaxed);
    let figures = [
        (
            "requests that carried another tenant's token",
            foreign + tally.foreign,
            0,
        ),
        (
            "requests that got their own answer",
            tally.answered,
            REQUESTS,
        ),
        (
            "  of them with a token handed out",
            tally.handed_out,
            REQUESTS / 50,
        ),
        (
            "  of them refused, for a name that is no input",
            tally.not_taken,
            REQUESTS / 1000,
        ),
        ("tenants, all of whom called", cast.owners(), 500),
        ("tokens made", cast.minted(), size(500, 10_000)),
        (
            "tokens thrown out for want of room",
            evictions,
            size(50, 5000),
        ),
        ("tokens renewed ahead", renewals, size(50, 200)),
        ("401s thrown in", refused, size(20, 100)),
        ("requests sent again after a 401", replays, size(20, 100)),
        ("401s passed on: refused twice", tally.unauthorized, 0),
        ("configurations loaded meanwhile", loaded, size(10, 20)),
    ];
    for (what, count, _) in figures {
        report.figure(what, count);
    }
    for (what, count, least) in figures {
        assert!(
            count >= least,
            "{what}: {count}, which is less than {least}"
        );
    }
    assert!(tally.unauthorized <= refused / 10, "{tally:?}");
}

/// Five providers, and a route to each for every place where a name can stand.
fn configuration(cast: &Cast) -> String {
    let mint = |name: &str| cast.mint_url(name);
    let upstream = cast.upstream_url();
    let http = |name: &str, inputs: &str, rest: &str| {
        format!(
            "[provider.{name}]\ntype = \"http\"\nurl = \"{}\"\ninputs = {inputs}\n{rest}\n\
             token = \"/access_token\"\nexpiry = [{{ json = \"/expires_in\", unit = \"s\" }}]\n\
             max_entries = {MAX_ENTRIES}\n",
            mint(name)
        )
    };
    let route = |path: &str, provider: &str, inputs: &str| {
        format!(
            "[[route]]\npath = \"/{path}\"\nprovider = \"{provider}\"\nupstream = \"{upstream}\"\n\
             inputs = {{ {inputs} }}\n"
        )
    };
    [
        format!(
            "[provider.form]\ntype = \"oauth2\"\ntoken_endpoint = \"{}\"\nclient_id = \"app\"\n\
             client_secret = {{ env = \"SECRET\" }}\nscope = [\"read\"]\ninputs = [\"tenant\"]\n\
             params = {{ tenant = \"{{input.tenant}}\" }}\nmax_entries = {MAX_ENTRIES}\n",
            mint("form")
        ),
        http("pair", "[\"a\", \"b\"]", "json = { a = \"{input.a}\", b = \"{input.b}\" }"),
        http("typed", "[\"who\"]", "hand_out = true\njson = { who = \"{input.who}\" }"),
        http(
            "child",
            "[\"tenant\"]",
            "parent = \"form\"\nheaders = { Authorization = \"Bearer {parent}\" }\njson = { tenant = \"{input.tenant}\" }",
        ),
        // The one that changes with every reload.
        http("own", "[]", "json = { version = \"VERSION0\" }"),
        route("path/{tenant}", "form", "tenant = \"{path.tenant}\""),
        route("query", "form", "tenant = \"{query.tenant}\""),
        route("header", "form", "tenant = \"{header.X-Tenant}\""),
        route("scoped", "form", "tenant = \"{query.tenant}\"") + "scope = [\"write\"]\n",
        route("pair/{a}/{b}", "pair", "a = \"{path.a}\", b = \"{path.b}\""),
        route("pair", "pair", "a = \"{query.a}\", b = \"{query.b}\""),
        route("child", "child", "tenant = \"{query.tenant}\""),
        "[[route]]\npath = \"/own\"\nprovider = \"own\"\n".to_owned()
            + &format!("upstream = \"{upstream}\"\nheaders = {{ X-Version = \"VERSION0\" }}\n"),
        "[[route]]\npath = \"/typed\"\nprovider = \"typed\"\nhand_out = true\n\
         inputs = { who = \"{body./who}\" }\n"
            .to_owned(),
    ]
    .concat()
}
