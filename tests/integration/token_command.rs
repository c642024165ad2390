//! `pillion token` tells how a fetch goes, and what to do where it does not.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use pillion::cli::run::Overlay;
use pillion::cli::token::{TokenRefusal, Wanted, tell};
use pillion::fake::Fault;
use pillion::provider::secret::Secrets;
use serde_json::{Value, json};

use crate::stage::{SECRET, Setting, Stage, pillion};

#[tokio::test]
async fn every_step_is_told_and_what_came_but_no_token() {
    let stage = Stage::set().tls().provider("scope = [\"read\"]");
    let stage = stage
        .rules(|rules| rules.scopes = vec!["read".to_owned()])
        .start()
        .await;
    let told = told(&stage, &wanted("idp", &[])).await;
    let steps = [
        "idp",
        "connected",
        "TLS agreed",
        "asked",
        "answered",
        "token fetched",
    ];
    let at = steps.map(|step| told.find(step).unwrap_or_else(|| panic!("{step}: {told}")));
    assert!(at.is_sorted(), "{told}");
    for part in [
        "TLSv1_3",
        "POST",
        "200",
        "good for 1h, until ",
        "the next one is fetched after ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(
        told.contains("type      Bearer\nscope     read, as asked for\n"),
        "{told}"
    );
    let is_token = |word: &str| stage.identity_provider.is_good(word).is_good();
    assert!(
        !told.split_whitespace().any(is_token) && !told.contains(SECRET),
        "{told}"
    );
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn the_token_itself_is_shown_to_who_asks_for_it() {
    let stage = Stage::new().await;
    let wanted = Wanted {
        show: true,
        ..wanted("idp", &[])
    };
    let told = told(&stage, &wanted).await;
    let last = told.lines().last().unwrap();
    assert!(stage.identity_provider.is_good(last).is_good(), "{told}");
}

#[tokio::test]
async fn a_token_is_not_shown_to_a_pipe_and_not_even_fetched() {
    let stage = Stage::new().await;
    let output = pillion()
        .args(["token", "idp", "--show", "-c"])
        .arg(config(&stage))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("pillion: a token is shown on a terminal only\nhint: "),
        "{said}"
    );
    assert_eq!(stage.identity_provider.fetches(), 0);
}

#[tokio::test]
async fn a_parent_is_told_first() {
    let stage = Stage::set().more(CHILD).start().await;
    let told = told(&stage, &wanted("child", &["card=pc_1", "minutes:=60"])).await;
    let lines: Vec<&str> = told.lines().collect();
    let at = |line: &str| lines.iter().position(|it| *it == line).unwrap();
    let fetched: Vec<usize> = (0..lines.len())
        .filter(|index| lines[*index].ends_with("token fetched"))
        .collect();
    assert_eq!(fetched.len(), 2, "{told}");
    assert!(at("idp") < fetched[0] && fetched[0] < at("child") && at("child") < fetched[1]);
    assert!(told.contains("fields    echoed, minutes\n"), "{told}");
    assert!(!told.contains("pc_1"), "{told}");
    let sent = stage.upstream.last_request().unwrap().json().unwrap();
    assert_eq!(sent, json!({"card": "pc_1", "minutes": 60}));
}

const CHILD: &str = r#"
[provider.child]
type = "http"
parent = "idp"
inputs = ["card", "minutes"]
url = "UPSTREAM/echo"
headers = { Authorization = "Bearer {parent}" }
json = { card = "{input.card}", minutes = "{input.minutes}" }
token = "/card"
fields = { echoed = "/card", minutes = "/minutes" }
expiry = [{ after = "10m" }]

[[route]]
path = "/child/{card}"
upstream = "UPSTREAM"
provider = "child"
inputs = { card = "{path.card}", minutes = "5" }
"#;

#[tokio::test]
async fn the_claims_of_a_jwt_are_told_with_their_times_as_dates() {
    let stage = Stage::new().await;
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let jwt = format!(
        "{}.{}.c2ln",
        part(&json!({"alg": "RS256", "kid": "1"})),
        part(
            &json!({"aud": ["a", "b"], "exp": 4_102_444_800_u64, "sub": "x\u{1b}[31m", "iat": 1e30})
        )
    );
    let token = jwt.clone();
    stage.identity_provider.amend_answers(move |answer| {
        answer.insert("access_token".to_owned(), token.as_str().into());
        answer.insert("scope".to_owned(), "more\u{1b}[31m".into());
    });
    let told = told(&stage, &wanted("idp", &[])).await;
    assert!(
        told.contains("header    alg  \"RS256\"\n          kid  \"1\"\n"),
        "{told}"
    );
    assert!(
        told.contains("exp  4102444800, Fri, 01 Jan 2100 00:00:00 GMT\n"),
        "{told}"
    );
    assert!(told.contains("aud  [\"a\",\"b\"]\n"), "{told}");
    assert!(told.contains("more [31m; none was asked for"), "{told}");
    assert!(!told.contains('\u{1b}') && !told.contains(&jwt), "{told}");
}

#[tokio::test]
async fn a_secret_that_the_provider_repeats_is_not_told() {
    let stage = Stage::new().await;
    stage.identity_provider.amend_answers(|answer| {
        answer.insert("scope".to_owned(), format!("read {SECRET}").into());
    });
    let told = told(&stage, &wanted("idp", &[])).await;
    assert!(
        told.contains("scope     read ***; none was asked for"),
        "{told}"
    );
    assert!(!told.contains(SECRET), "{told}");
}

/// What is wrong, what is told about it, and what there is to do.
const FAILURES: [(&str, &str, &str); 9] = [
    (
        "secret",
        "the provider refused: invalid_client",
        "check `client_id`",
    ),
    (
        "scope",
        "the provider refused: invalid_scope",
        "check `scope`",
    ),
    (
        "missing",
        "environment variable NOT_SET is not set",
        "set NOT_SET in",
    ),
    (
        "throttled",
        "the provider is throttling us",
        "nothing is wrong with the file: try again in 7s",
    ),
    ("down", "it answered 503", "nothing is wrong with the file"),
    (
        "page",
        "it is not JSON",
        "compare what the provider documents",
    ),
    (
        "hang",
        "no token within 1s",
        "it was asked and did not answer",
    ),
    ("refused", "Connection refused", "nobody answers there"),
    ("unknown", "dns error", "the name was not found"),
];

#[tokio::test]
async fn a_failure_is_told_with_what_to_do_about_it() {
    for (what, error, hint) in FAILURES {
        let stage = wrong(what, Stage::set()).start().await;
        let faults = stage.identity_provider.faults();
        match what {
            "throttled" => faults.always(
                Fault::status(StatusCode::TOO_MANY_REQUESTS)
                    .with_field(RETRY_AFTER, HeaderValue::from_static("7")),
            ),
            "down" => faults.always(Fault::status(StatusCode::SERVICE_UNAVAILABLE)),
            "page" => faults.always(Fault::raw("text/html", "<html>CNRY")),
            "hang" => faults.always(Fault::Hang),
            _ => {}
        }
        let told = not_told(&stage, &wanted("idp", &[])).await;
        let (steps, end) = told.split_once("\nno token  ").unwrap();
        let (_, advised) = end.split_once("\nhint      ").unwrap();
        assert!(
            steps.starts_with("idp\n") && steps.contains(error),
            "{what}: {told}"
        );
        assert!(advised.starts_with(hint), "{what}: {told}");
        assert!(!told.contains("CNRY"), "{what}: {told}");
    }
}

fn wrong(what: &str, setting: Setting) -> Setting {
    match what {
        "secret" => setting.rules(|rules| rules.client_secret = "another".to_owned()),
        "scope" => setting.provider("scope = [\"too-much\"]"),
        "missing" => setting.provider("client_secret = { env = \"NOT_SET\" }"),
        "hang" => setting.provider("timeout = \"1s\""),
        // A port that nobody is given: what somebody has just left may be another's in the next moment.
        "refused" => setting.provider_at("http://127.0.0.1:9/"),
        "unknown" => setting.provider_at("https://no-such-host.invalid/"),
        _ => setting,
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_told_as_such() {
    let stage = Stage::set().tls().start().await;
    for (overlay, hint) in [
        (
            Overlay {
                trust: Vec::new(),
                ..overlay(&stage)
            },
            "TLS: nobody whom this machine trusts vouches for the certificate",
        ),
        (
            // Where the upstream answers, with its own certificate.
            Overlay {
                resolve: vec![(("login.example".to_owned(), 443), stage.upstream.address())],
                ..overlay(&stage)
            },
            "TLS: the certificate is another host's",
        ),
    ] {
        let (told, is_good) = tell_all(&stage, &wanted("idp", &[]), overlay)
            .await
            .unwrap();
        assert!(!is_good && told.contains(hint), "{told}");
        assert!(
            told.contains("connected") && !told.contains("asked"),
            "{told}"
        );
    }
    assert_eq!(stage.identity_provider.fetches(), 0);
}

#[tokio::test]
async fn a_parent_that_fails_is_told_once() {
    let stage = Stage::set().more(CHILD).start().await;
    stage
        .identity_provider
        .faults()
        .always(Fault::status(StatusCode::BAD_GATEWAY));
    let told = not_told(&stage, &wanted("child", &["card=pc_1", "minutes:=60"])).await;
    assert!(
        told.starts_with("idp\n") && !told.contains("child\n"),
        "{told}"
    );
    assert_eq!(told.matches("ms  failed: ").count(), 1, "{told}");
}

#[tokio::test]
async fn what_cannot_be_fetched_is_refused_with_what_to_type() {
    let stage = Stage::set().more(CHILD).start().await;
    for (provider, inputs, message, hint) in [
        (
            "ipd",
            vec![],
            "there is no provider `ipd`",
            "did you mean `idp`?",
        ),
        (
            "other",
            vec![],
            "there is no provider `other`",
            "there are idp, child",
        ),
        (
            "child",
            vec!["card=1"],
            "it needs the input `minutes`",
            CHILD_USAGE,
        ),
        (
            "child",
            vec!["card=1", "card=2"],
            "the input `card` is given twice",
            CHILD_USAGE,
        ),
        (
            "child",
            vec!["cart=1"],
            "it has no input `cart`",
            CHILD_USAGE,
        ),
        (
            "child",
            vec!["card:=CNRY"],
            "the input `card` is not JSON",
            CHILD_USAGE,
        ),
        (
            "child",
            vec!["CNRY"],
            "an input is written NAME=VALUE",
            CHILD_USAGE,
        ),
    ] {
        let refused = tell_all(&stage, &wanted(provider, &inputs), overlay(&stage)).await;
        let Err(TokenRefusal::Wanted {
            message: told,
            hint: advised,
        }) = refused
        else {
            panic!("{provider} {inputs:?}");
        };
        assert_eq!((told.as_str(), advised.as_str()), (message, hint));
    }
    assert_eq!(stage.identity_provider.fetches(), 0);
}

const CHILD_USAGE: &str = "write `pillion token child card=... minutes=...`; `name:=...` for JSON";

#[tokio::test]
async fn a_refresh_token_that_may_be_good_once_is_not_used_up_unasked() {
    let refreshing = "grant_type = \"refresh_token\"\nrefresh_token = { env = \"KEY\" }";
    let stage = Stage::with_provider(refreshing).await;
    let refused = tell_all(&stage, &wanted("idp", &[]), overlay(&stage)).await;
    assert!(
        matches!(refused, Err(TokenRefusal::Wanted { hint, .. }) if hint.starts_with("`--spend`"))
    );
    assert_eq!(stage.identity_provider.fetches(), 0);
    let spending = Wanted {
        spend: true,
        ..wanted("idp", &[])
    };
    tell_all(&stage, &spending, overlay(&stage)).await.unwrap();
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn its_exit_code_tells_whether_there_is_a_token() {
    let stage = Stage::new().await;
    let exit_code = |provider: &'static str| {
        let mut command = pillion();
        command.args(["token", provider, "-c"]).arg(config(&stage));
        // The stage goes on while it runs.
        tokio::task::spawn_blocking(move || command.output().unwrap().status.code())
    };
    assert_eq!(exit_code("idp").await.unwrap(), Some(0));
    assert_eq!(exit_code("nobody").await.unwrap(), Some(2));
    let refusal = Fault::status(StatusCode::BAD_REQUEST);
    stage.identity_provider.faults().always(refusal);
    assert_eq!(exit_code("idp").await.unwrap(), Some(1));
}

fn wanted(provider: &str, inputs: &[&str]) -> Wanted {
    Wanted {
        provider: provider.to_owned(),
        inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
        ..Wanted::default()
    }
}

fn config(stage: &Stage) -> PathBuf {
    stage.directory.path().join("proxy.toml")
}

fn overlay(stage: &Stage) -> Overlay {
    let login = ("login.example".to_owned(), 443);
    Overlay {
        secrets: Secrets::supplied(|place| {
            (!place.to_string().contains("NOT_SET")).then(|| SECRET.to_owned())
        }),
        resolve: vec![(login, stage.identity_provider.server().address())],
        trust: vec![stage.authority.certificate_der()],
        ..Overlay::default()
    }
}

async fn tell_all(
    stage: &Stage,
    wanted: &Wanted,
    overlay: Overlay,
) -> Result<(String, bool), TokenRefusal> {
    let mut out = Vec::new();
    let is_good = tell(&config(stage), overlay, wanted, &mut out).await?;
    Ok((String::from_utf8(out).unwrap(), is_good))
}

async fn told(stage: &Stage, wanted: &Wanted) -> String {
    let (told, is_good) = tell_all(stage, wanted, overlay(stage)).await.unwrap();
    assert!(is_good, "{told}");
    told
}

async fn not_told(stage: &Stage, wanted: &Wanted) -> String {
    let (told, is_good) = tell_all(stage, wanted, overlay(stage)).await.unwrap();
    assert!(!is_good, "{told}");
    told
}
