//! What a token's life is measured with: the machine sleeps, somebody sets the clock, and the app does not notice.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use pillion::fake::Received;
use serde_json::{Value, json};

use crate::stage::{Client, Directory, Process, Stage, full, request};

#[tokio::test]
async fn a_token_that_died_while_the_machine_slept_is_not_sent() {
    let (stage, clocks) = (Stage::new().await, Clocks::new());
    let process = Process::start_in(&clocks.environment(), &stage, "").await;
    let mut client = Client::connect(process.address).await;
    client.get("/api/").await.expect_ok();
    let first = stage.upstream.last_request().unwrap();
    stage.identity_provider.expire_all();
    clocks.sleep(2 * HOUR);
    client.get("/api/").await.expect_ok();
    let second = stage.upstream.last_request().unwrap();
    assert_ne!(first.field("authorization"), second.field("authorization"));
    assert_eq!(stage.upstream.refusals(), 0);
    assert_eq!(stage.identity_provider.fetches(), 2);
}

#[tokio::test]
async fn a_nap_costs_no_fetch() {
    let (stage, clocks) = (Stage::new().await, Clocks::new());
    let process = Process::start_in(&clocks.environment(), &stage, "").await;
    let mut client = Client::connect(process.address).await;
    client.get("/api/").await.expect_ok();
    clocks.sleep(Duration::from_mins(5));
    client.get("/api/").await.expect_ok();
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn a_wall_clock_that_jumps_by_a_day_or_ten_years_costs_no_request_and_one_fetch_at_most() {
    // Nothing but the token itself says how long it lives, and by the wall clock: the hardest case.
    let stage = Stage::set().guarded(is_alive).start().await;
    stage.identity_provider.amend_answers(|answer| {
        answer.remove("expires_in");
        answer.insert("access_token".to_owned(), an_hour().into());
    });
    let clocks = Clocks::new();
    let process = Process::start_in(&clocks.environment(), &stage, "").await;
    let mut client = Client::connect(process.address).await;
    let mut admin = Client::connect(process.admin).await;
    client.get("/api/").await.expect_ok();
    for (jumps, days) in [1, -1, 3653, -3653, 0].into_iter().enumerate() {
        clocks.set_wall(days);
        client.get("/api/").await.expect_ok();
        assert_eq!(stage.identity_provider.fetches(), 1 + jumps, "{days} days");
        // What is fetched under the wrong time lives as long as any other.
        admin.post("/tokens/idp/renew", "").await.expect_ok();
        for _ in 0..5 {
            client.get("/api/").await.expect_ok();
        }
        assert_eq!(stage.identity_provider.fetches(), 2 + jumps, "{days} days");
        let page = request(Method::GET, "/status").header("accept", "application/json");
        let status = admin.send(page.body(full("")).unwrap()).await;
        let status = status.expect_ok().json();
        let token = &status["providers"][0]["tokens"][0];
        let left = token["expires_in_seconds"].as_f64().unwrap();
        assert!((3500.0..3601.0).contains(&left), "{days} days: {token}");
    }
}

const HOUR: Duration = Duration::from_hours(1);

/// A JWT that ends in an hour, whatever anybody thinks the time is.
fn an_hour() -> String {
    let end = SystemTime::now() + HOUR;
    let claims = json!({ "exp": end.duration_since(UNIX_EPOCH).unwrap().as_secs() });
    format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn is_alive(request: &Received) -> bool {
    let claims = request.field("authorization").unwrap().split('.').nth(1);
    let claims = URL_SAFE_NO_PAD.decode(claims.unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let end = UNIX_EPOCH + Duration::from_secs(claims["exp"].as_u64().unwrap());
    SystemTime::now() < end
}

/// The clocks of a process: ours, and what the test makes of them.
struct Clocks {
    _directory: Directory,
    path: PathBuf,
    off: File,
    library: PathBuf,
}

impl Clocks {
    fn new() -> Self {
        let directory = Directory::new();
        let path = directory.write("clocks", &"\0".repeat(16));
        let library = directory.preload("clocks.c");
        Self {
            off: File::options().write(true).open(&path).unwrap(),
            path,
            _directory: directory,
            library,
        }
    }

    /// What makes a process look at these clocks.
    fn environment(&self) -> [(&str, &str); 2] {
        [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("CLOCKS", self.path.to_str().unwrap()),
        ]
    }

    /// The machine has slept for this long.
    fn sleep(&self, time: Duration) {
        let seconds = i64::try_from(time.as_secs()).unwrap();
        self.off.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    /// The wall clock is off by so many days.
    fn set_wall(&self, days: i64) {
        let seconds = days * 86_400;
        self.off.write_all_at(&seconds.to_ne_bytes(), 8).unwrap();
    }
}
