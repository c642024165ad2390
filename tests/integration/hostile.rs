//! Token endpoints that answer wrongly in every way we know of: what the app sees of each, how often each is asked, and that
//! pillion is well again with the first good answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use http::Method;
use pillion::fake::{Authority, Upstream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::stage::{Client, Directory, Hostile, Process, Reply, Stage, Wrong, full, request, sum};

/// One way to be wrong, and what pillion promises of it.
struct Row {
    /// The name of its provider and of its route, and a part of its canary.
    name: &'static str,
    wrong: Wrong,
    promise: Promise,
}

/// What requests that want a token get.
#[derive(Clone, Copy, Debug)]
enum Promise {
    /// An answer: the token is good, for so many seconds.
    Life(f64),
    /// This problem, and 503 while the provider is in back-off.
    Problem(u16, &'static str, Class),
}

/// How soon a provider that is well again has given a token.
#[derive(Clone, Copy, Debug)]
enum Class {
    /// The attempt cost it nothing: 2 s.
    Connection,
    /// It answered, or may have worked on an answer: 10 s.
    Answer,
    /// When it said, this many seconds after its answer at the soonest.
    Asked(u64),
    /// When somebody changes something.
    Configuration,
}

use Class::{Answer, Asked, Configuration, Connection};
use Promise::{Life, Problem};

const MALFORMED: Promise = Problem(502, "token-malformed", Answer);
const UNREACHABLE: Promise = Problem(503, "token-unavailable", Connection);
const UNAVAILABLE: Promise = Problem(503, "token-unavailable", Answer);
const TIMEOUT: Promise = Problem(504, "token-timeout", Answer);
const REFUSED: Promise = Problem(502, "token-refused", Configuration);

const fn throttled(seconds: u64) -> Promise {
    Problem(503, "token-unavailable", Asked(seconds))
}

#[tokio::test]
async fn a_token_endpoint_may_answer_anything_and_pillion_is_well_with_its_first_good_answer() {
    let elsewhere = Upstream::open(None).await.unwrap();
    let directory = Directory::new();
    let authority = Authority::new().unwrap();
    let ca = directory.write("ca.pem", authority.certificate_pem());
    let mut tables = String::new();
    let mut zoo = Vec::new();
    for row in rows(&elsewhere) {
        let tls = (row.name == NOT_TLS).then(|| authority.server_config(&["127.0.0.1"]).unwrap());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let hostile = Hostile::start(tls, row.wrong, &canary("healed")).await;
        let mut lines = String::new();
        if row.name == NOT_TLS {
            lines += &format!("tls = {{ ca = \"{}\" }}\n", ca.display());
        }
        if let Problem(504, ..) = row.promise {
            lines += "timeout = \"1s\"\n";
        }
        tables += &format!(
            "[provider.{name}]\ntype = \"oauth2\"\ntoken_endpoint = \"{scheme}://{}/token\"\n\
             client_id = \"app\"\nclient_secret = {{ env = \"SECRET\" }}\n{lines}\
             [[route]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"{name}\"\nupstream = \"UPSTREAM\"\n",
            hostile.address(),
            name = row.name,
        );
        zoo.push((row.name, row.promise, hostile));
    }
    let setting = Stage::set().open().top("[log]\nlevel = \"debug\"");
    let stage = setting.more(&tables).start().await;
    let mut process = Process::start_in(&[], &stage, "drain_delay = \"0s\"").await;
    let began = Instant::now();
    let cages = zoo.into_iter().map(async |(name, promise, hostile)| Cage {
        name,
        promise,
        hostile,
        client: Client::connect(process.address).await,
        began,
    });
    let mut cages: Vec<_> = join_all(cages).await;
    assert!(cages.len() >= 60);

    join_all(cages.iter_mut().map(Cage::suffer)).await;
    let metrics = sweep(&process).await;
    cages.iter().for_each(|cage| cage.expect_life(&metrics));
    join_all(cages.iter_mut().map(Cage::recover)).await;
    cages.iter().for_each(Cage::expect_patience);
    expect_counted(&process, &cages).await;
    sweep(&process).await;

    assert_eq!(
        elsewhere.server().connections(),
        0,
        "a redirect was followed"
    );
    // Their endpoints stay until it is gone: it may still be asking.
    let _endpoints: Vec<_> = cages.into_iter().map(|cage| cage.hostile).collect();
    process.signal("TERM");
    let log = process.rest().await;
    assert!(log.contains("token fetch failed"), "{log}");
    expect_silence("the log", &log);
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(process.end().await, Some(0));
}

/// One of the zoo, and an app that wants a token of it all the time.
struct Cage {
    name: &'static str,
    promise: Promise,
    hostile: Hostile,
    client: Client,
    began: Instant,
}

impl Cage {
    /// The wrong answer, for a while.
    async fn suffer(&mut self) {
        let first = self.want().await;
        let promised = match self.promise {
            Life(_) => 200,
            Problem(status, ..) => status,
        };
        assert_eq!(first.status, promised, "{}", self.name);
        while self.began.elapsed() < WRONG_FOR {
            let is_good = self.want().await.status == 200;
            assert_eq!(is_good, matches!(self.promise, Life(_)), "{}", self.name);
            sleep(PAUSE).await;
        }
        self.expect_rate();
    }

    /// The good answer, and that it is enough.
    async fn recover(&mut self) {
        let short = matches!(self.promise, Life(seconds) if seconds < 10.0);
        let most = match self.promise {
            Life(_) if short => Some(2),
            Problem(_, _, Connection) => Some(2),
            Problem(_, _, Answer) => Some(10),
            Problem(_, _, Asked(seconds)) if seconds < 10 => Some(seconds + 1),
            // Not today.
            Life(_) | Problem(_, _, Asked(_) | Configuration) => None,
        };
        self.hostile.heal();
        let healed_at = Instant::now();
        if let Some(most) = most {
            while self.good_attempts() == 0 || self.want().await.status != 200 {
                let elapsed = healed_at.elapsed();
                let late = Duration::from_secs(most) + SLACK;
                assert!(elapsed < late, "{} is ill after {elapsed:?}", self.name);
                self.want().await;
                sleep(PAUSE).await;
            }
        }
        for _ in 0..20 {
            let is_good = self.want().await.status == 200;
            assert_eq!(is_good, most.is_some() || matches!(self.promise, Life(_)));
            sleep(PAUSE).await;
        }
        self.expect_rate();
        let expected = usize::from(most.is_some());
        assert_eq!(self.good_attempts(), expected, "{}", self.name);
    }

    /// A request, and that its answer is one of those that the app may get.
    async fn want(&mut self) -> Reply {
        let wanted_at = Instant::now();
        let reply = loop {
            let reply = self.client.get(&format!("/{}/status/200", self.name)).await;
            expect_silence(self.name, &format!("{reply:?}"));
            if !self.came_too_late(&reply) || wanted_at.elapsed() > SLACK {
                break reply;
            }
            sleep(PAUSE).await;
        };
        match (reply.status, self.promise) {
            (200, _) => reply,
            (_, Life(_)) => panic!("{}: {reply:?}", self.name),
            (503, Problem(_, _, class)) => {
                let reply = reply.expect_problem(503, "token-unavailable");
                let most = match class {
                    Connection => 2,
                    Answer => 10,
                    Asked(seconds) => seconds + 1,
                    Configuration => 60,
                };
                let wait: u64 = reply.field("retry-after").unwrap().parse().unwrap();
                assert!((1..=most).contains(&wait), "{}: {reply:?}", self.name);
                reply
            }
            (_, Problem(status, kind, _)) => reply.expect_problem(status, kind),
        }
    }

    /// A busy machine may take longer over an answer than the second that its token lives.
    fn came_too_late(&self, reply: &Reply) -> bool {
        let told = String::from_utf8_lossy(&reply.body);
        matches!(self.promise, Life(seconds) if seconds < 10.0)
            && told.contains("life was over before it came")
    }

    /// The life that its token got.
    fn expect_life(&self, metrics: &str) {
        let Life(seconds) = self.promise else { return };
        let metric = |what: &str| {
            let series = format!(
                "pillion_token_{what}_timestamp_seconds{{provider=\"{}\"}}",
                self.name
            );
            sum(metrics, &series)
        };
        let life = metric("expiration") - metric("issued");
        assert!((life - seconds).abs() < 0.01, "{}: {life}", self.name);
    }

    /// What it was asked, and how much of its answers was taken.
    fn expect_patience(&self) {
        let attempts = self.hostile.attempts();
        let count = attempts.len();
        match self.promise {
            Life(seconds) if seconds < 10.0 => assert!(count > 2, "{}: {count}", self.name),
            Life(_) | Problem(_, _, Configuration) => assert_eq!(count, 1, "{}", self.name),
            Problem(_, _, Asked(seconds)) => {
                for pair in attempts.windows(2) {
                    let apart = pair[1].at - pair[0].at;
                    assert!(
                        apart >= Duration::from_secs(seconds),
                        "{}: {apart:?}",
                        self.name
                    );
                }
            }
            Problem(_, _, Connection | Answer) => assert!(count > 1, "{}", self.name),
        }
        // What the system's buffers hold has been taken, but not read.
        let most = count * (8 << 20);
        assert!(
            self.hostile.bytes() < most,
            "{}: {} bytes",
            self.name,
            self.hostile.bytes()
        );
    }

    /// No more than one attempt a second.
    fn expect_rate(&self) {
        let (count, elapsed) = (self.hostile.attempts().len(), self.began.elapsed());
        let most = elapsed.as_secs() + 1;
        assert!(
            count as u64 <= most,
            "{}: {count} in {elapsed:?}",
            self.name
        );
    }

    fn good_attempts(&self) -> usize {
        let attempts = self.hostile.attempts();
        attempts.iter().filter(|attempt| attempt.healed).count()
    }
}

/// What the admin listener tells holds nothing of any answer. Returns the metrics.
async fn sweep(process: &Process) -> String {
    let mut admin = Client::connect(process.admin).await;
    for accept in ["application/json", "text/html"] {
        let status = request(Method::GET, "/status").header("accept", accept);
        let status = admin.send(status.body(full("")).unwrap()).await.expect_ok();
        expect_silence("/status", &String::from_utf8_lossy(&status.body));
    }
    let metrics = admin.get("/metrics").await.expect_ok();
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    expect_silence("/metrics", &metrics);
    metrics
}

/// Every attempt is in the metrics, and no other.
async fn expect_counted(process: &Process, cages: &[Cage]) {
    let deadline = Instant::now() + SLACK;
    loop {
        let metrics = sweep(process).await;
        let differs = cages.iter().find_map(|cage| {
            let series = format!("pillion_token_fetches_total{{provider=\"{}\"}}", cage.name);
            let (counted, attempts) = (sum(&metrics, &series), cage.hostile.attempts().len());
            ((counted - attempts as f64).abs() > 0.5).then_some((cage.name, counted, attempts))
        });
        if differs.is_none() {
            return;
        }
        assert!(Instant::now() < deadline, "{differs:?}");
        sleep(PAUSE).await;
    }
}

#[track_caller]
fn expect_silence(place: &str, text: &str) {
    let found = text.find("CNRY").map(|at| &text[at.saturating_sub(200)..]);
    assert_eq!(found, None, "{place}");
}

/// How long the answers are wrong.
const WRONG_FOR: Duration = Duration::from_secs(4);
/// Between two requests of one app.
const PAUSE: Duration = Duration::from_millis(50);
/// For an attempt that has begun, and a machine that is busy.
const SLACK: Duration = Duration::from_secs(5);

fn rows(elsewhere: &Upstream) -> Vec<Row> {
    let mut rows = lives();
    rows.extend(documents());
    rows.extend(answers(elsewhere));
    rows.extend(connections());
    rows
}

/// What `expires_in` may be. The token is good, whatever stands there.
fn lives() -> Vec<Row> {
    let says = |name, expires_in: Value, seconds| {
        let mut document = good(name);
        document["expires_in"] = expires_in;
        row(name, document.to_string(), Life(seconds))
    };
    let mut absent = good("absent");
    absent.as_object_mut().unwrap().remove("expires_in");
    vec![
        says("nought", json!(0), 1.0),
        says("one", json!(1), 1.0),
        says("two", json!(2), 2.0),
        says("negative", json!(-5), 1.0),
        says("text", json!("3600"), 3600.0),
        says("text-and-more", json!("3600abc"), 300.0),
        says("fraction", json!(3599.5), 3599.5),
        says("null", json!(null), 300.0),
        row("absent", absent.to_string(), Life(300.0)),
        says("absurd", json!(1e17), 86_400.0),
        says("true", json!(true), 300.0),
        says("list", json!([]), 300.0),
        says("empty-text", json!(""), 300.0),
        says("text-nan", json!("NaN"), 300.0),
    ]
}

/// Bodies of a 200.
fn documents() -> Vec<Row> {
    let text = |name| good(name).to_string();
    let token = |name, token: String| {
        let mut document = good(name);
        document["access_token"] = token.into();
        row(name, document.to_string(), MALFORMED)
    };
    let mut mac = good("mac");
    mac["token_type"] = "mac".into();
    let wide = text("utf-16");
    let utf16 = wide.encode_utf16().flat_map(u16::to_le_bytes);
    vec![
        row(
            "nan",
            r#"{"access_token":"CNRY-nan","expires_in":NaN}"#,
            MALFORMED,
        ),
        row(
            "infinite",
            r#"{"access_token":"CNRY-infinite","expires_in":1e999}"#,
            MALFORMED,
        ),
        row("empty", "", MALFORMED),
        row("truncated", &text("truncated")[..30], MALFORMED),
        row(
            "byte-order-mark",
            format!("\u{feff}{}", text("byte-order-mark")),
            MALFORMED,
        ),
        row("utf-16", utf16.collect::<Vec<_>>(), MALFORMED),
        row("two-documents", text("two-documents").repeat(2), MALFORMED),
        row(
            "duplicate-keys",
            r#"{"access_token":"CNRY-one","access_token":"CNRY-other","expires_in":3600}"#,
            // The last one counts, as with most readers of JSON.
            Life(3600.0),
        ),
        row(
            "list-of-one",
            json!([good("list-of-one")]).to_string(),
            MALFORMED,
        ),
        row("deep", "[".repeat(50_000), MALFORMED),
        row(
            "error-in-200",
            r#"{"error":"CNRY-error-in-200"}"#,
            MALFORMED,
        ),
        row("number-token", r#"{"access_token":7}"#, MALFORMED),
        row("mac", mac.to_string(), MALFORMED),
        token("empty-token", String::new()),
        token("line-breaks", "CNRY\r\nX-Evil: CNRY".to_owned()),
        token("trailing-newline", "CNRY\n".to_owned()),
        token("nul", "CNRY\0".to_owned()),
        token("long-token", "CNRY".repeat(5 << 10)),
    ]
}

/// Answers that are HTTP, but not those of a token endpoint.
fn answers(elsewhere: &Upstream) -> Vec<Row> {
    let page = "<html>CNRY firewall</html>";
    let html = "content-type: text/html\r\n";
    let says = |name, status, fields: &str, body: &str, promise| Row {
        name,
        wrong: Wrong::says(answer(status, fields, body)),
        promise,
    };
    let location = format!("location: http://{}/token\r\n", elsewhere.address());
    let redirects = |name, status| says(name, status, &location, "CNRY", MALFORMED);
    let in_four_seconds = || {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(4));
        answer("429 X", &format!("retry-after: {date}\r\n"), "CNRY")
    };
    let gzip = "content-encoding: gzip\r\n";
    let refusal = r#"{"error":"invalid_client","error_description":"CNRY"}"#;
    let with_token = good("500-with-token").to_string();
    vec![
        says("html", "200 X", html, page, MALFORMED),
        says("204", "204 X", "x-cnry: CNRY\r\n", "", MALFORMED),
        says("404", "404 X", html, page, MALFORMED),
        redirects("302", "302 X"),
        redirects("307", "307 X"),
        Row {
            name: "gzip",
            wrong: Wrong::says([head("200 X", gzip, GZIP.len()), GZIP.to_vec()].concat()),
            promise: MALFORMED,
        },
        says("firewall", "403 X", html, page, UNAVAILABLE),
        says("500-with-token", "500 CNRY", "", &with_token, UNAVAILABLE),
        says("503", "503 CNRY", html, page, UNAVAILABLE),
        says("408", "408 X", "", "CNRY", UNAVAILABLE),
        says("429", "429 X", "", "CNRY", UNAVAILABLE),
        says(
            "429-seconds",
            "429 X",
            "retry-after: 3\r\n",
            "CNRY",
            throttled(3),
        ),
        Row {
            name: "429-date",
            wrong: Wrong::Says(Arc::new(in_four_seconds)),
            promise: throttled(3), // a date has no fractions
        },
        says(
            "503-seconds",
            "503 X",
            "retry-after: 3\r\n",
            "CNRY",
            throttled(3),
        ),
        says(
            "429-absurd",
            "429 X",
            "retry-after: 99999999999999999999\r\n",
            "CNRY",
            throttled(3600),
        ),
        says(
            "429-nonsense",
            "429 X",
            "retry-after: CNRY\r\n",
            "CNRY",
            UNAVAILABLE,
        ),
        says("refusal", "400 X", "", refusal, REFUSED),
        says(
            "401",
            "401 X",
            "www-authenticate: CNRY\r\n",
            "CNRY",
            REFUSED,
        ),
    ]
}

/// What is no answer, or no HTTP, or never ends.
fn connections() -> Vec<Row> {
    let wrong = |name, wrong, promise| Row {
        name,
        wrong,
        promise,
    };
    let endless = |first: Vec<u8>, again: &[u8], pause| Wrong::Endless {
        first,
        again: again.to_vec(),
        pause: Duration::from_millis(pause),
    };
    let cut_short = head("200 X", "", 1000);
    let two_lengths = "content-length: 3\r\n";
    vec![
        wrong(
            "flood",
            endless(head("200 X", "", 100 << 20), &b"CNRY".repeat(16 << 10), 0),
            MALFORMED,
        ),
        wrong(
            "slow-drip",
            endless(head("200 X", "", 1000), b"C", 50),
            TIMEOUT,
        ),
        wrong(
            "slow-head",
            endless(b"HTTP/1.1 200 X\r\n".to_vec(), b"x-cnry: CNRY\r\n", 50),
            TIMEOUT,
        ),
        wrong(
            "endless-1xx",
            endless(Vec::new(), b"HTTP/1.1 103 X\r\nx-cnry: CNRY\r\n\r\n", 1),
            TIMEOUT,
        ),
        wrong("silent", Wrong::Silent, TIMEOUT),
        wrong(
            "long-head",
            Wrong::says(answer(
                "200 X",
                &format!("x: {}\r\n", "CNRY".repeat(32 << 10)),
                "",
            )),
            MALFORMED,
        ),
        wrong(
            "two-lengths",
            Wrong::says(answer("200 X", two_lengths, "CNRY")),
            MALFORMED,
        ),
        wrong("not-http", Wrong::says("SSH-2.0-CNRY\r\n"), MALFORMED),
        wrong("nothing", Wrong::says(""), UNREACHABLE),
        wrong(
            "cut-short",
            Wrong::says([cut_short, b"CNRY".to_vec()].concat()),
            UNREACHABLE,
        ),
        wrong("reset", Wrong::Resets, UNREACHABLE),
        wrong(
            NOT_TLS,
            Wrong::Greets(b"HTTP/1.1 400 CNRY\r\n\r\n"),
            UNREACHABLE,
        ),
    ]
}

/// The one that should speak TLS.
const NOT_TLS: &str = "not-tls";

const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xabVJLNN-.\x8e/\xc9\xcfN\xcdS\xb2Rr\xf6\x0b\x8a\xd4M\xaf\xca,P\xd2Q\x02\x8b\xc5\x97T\x16\xa4\x02%\x9cR\x13\x8bR\x8b\x80\xa2\xa9\x15\x05\x99E\xa9\xc5\xf1\x99@\xe5\xc6f\x06\x06\xb5\x00\x8d\xfeh`D\x00\x00\x00";

/// A token response without a mistake.
fn good(name: &str) -> Value {
    json!({ "access_token": canary(name), "token_type": "Bearer", "expires_in": 3600 })
}

fn canary(name: &str) -> String {
    format!("CNRY-{name}")
}

fn row(name: &'static str, body: impl Into<Vec<u8>>, promise: Promise) -> Row {
    let body = body.into();
    let head = head("200 X", "content-type: application/json\r\n", body.len());
    let wrong = Wrong::says([head, body].concat());
    Row {
        name,
        wrong,
        promise,
    }
}

fn answer(status: &str, fields: &str, body: &str) -> Vec<u8> {
    [head(status, fields, body.len()), body.as_bytes().to_vec()].concat()
}

fn head(status: &str, fields: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{fields}content-length: {length}\r\n\r\n").into_bytes()
}
