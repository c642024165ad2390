//! What [`Tokens`] promises, with a key that is changed under it; and once with a real token endpoint.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;

use super::*;
use crate::fake::{IdentityProvider, Rules};
use crate::net::connect::{Endpoint, EndpointSettings, HttpVersion};
use crate::provider::client_auth::{ClientAuth, ClientId};
use crate::provider::exchange::Target;
use crate::provider::grant_type::GrantType;
use crate::provider::jwt::{Jwt, JwtSource, KeyHints};
use crate::provider::oauth2::OAuth2;
use crate::provider::pointer::Pointer;
use crate::provider::reading::{Reading, TokenPlace};
use crate::provider::secret::{SecretRef, Secrets};
use crate::provider::signing::Algorithm;
use crate::provider::static_key::StaticKey;
use crate::provider::{Input, Policy, Source};

/// A place for a secret. Clones are the same place.
#[derive(Clone)]
struct Place(Arc<Mutex<String>>);

impl Place {
    fn with(secret: &str) -> Self {
        Self(Arc::new(Mutex::new(secret.to_owned())))
    }

    fn put(&self, secret: &str) {
        secret.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn secrets(&self) -> Secrets {
        let place = Arc::clone(&self.0);
        Secrets::supplied(move |_| {
            let place = place.lock().unwrap_or_else(PoisonError::into_inner);
            Some(place.clone())
        })
    }
}

const POLICY: Policy = Policy {
    timeout: Duration::from_secs(10),
    token_wait: Duration::from_secs(10),
    max_waiters: 1000,
    max_fetches: 64,
    max_entries: 1000,
    max_idle: Duration::from_hours(1),
    max_lifetime: None,
    warm: false,
    within_parent: false,
};

fn tokens_of(source: Source, inputs: &[&str], policy: Policy) -> Arc<Tokens> {
    let provider = Provider {
        name: "it".into(),
        fingerprint: 0,
        inputs: inputs.iter().map(ToString::to_string).collect(),
        checks: Vec::new(),
        source,
        policy,
    };
    Tokens::new(provider, None, Handle::current(), &Metrics::new(1).unwrap())
}

fn key_at(place: &Place, policy: Policy) -> Arc<Tokens> {
    tokens_of(Source::Static(key(place)), &[], policy)
}

fn key(place: &Place) -> StaticKey {
    StaticKey {
        secret: SecretRef::Env("KEY".to_owned()),
        secrets: place.secrets(),
    }
}

async fn get(tokens: &Tokens) -> Result<Arc<Token>, TokenError> {
    tokens.get(&Subject::default(), Moment::now()).await
}

async fn force(tokens: &Tokens) -> Result<Arc<Token>, TokenError> {
    tokens.force(&Subject::default(), Moment::now()).await
}

fn reject(tokens: &Tokens, refused: &Arc<Token>) -> Rejected {
    tokens.reject(&Subject::default(), refused, Moment::now())
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_is_in_use_after_a_minute() {
    let place = Place::with("old");
    let tokens = key_at(&place, POLICY);
    assert!(!tokens.has_had_token());
    assert_eq!(get(&tokens).await.unwrap().secret().reveal(), "old");
    assert!(tokens.has_had_token());
    place.put("new");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(get(&tokens).await.unwrap().secret().reveal(), "old");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(get(&tokens).await.unwrap().bearer(), "Bearer new");
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_is_in_use_after_a_401() {
    let place = Place::with("old");
    let tokens = key_at(&place, POLICY);
    let old = get(&tokens).await.unwrap();
    place.put("new");
    let Rejected::Renewing(flight) = reject(&tokens, &old) else {
        panic!("nothing else is under way");
    };
    let renewed = tokens.renewed(&Subject::default(), flight, &old).await;
    assert_eq!(renewed.unwrap().secret().reveal(), "new");
}

#[tokio::test(start_paused = true)]
async fn the_same_key_after_a_401_is_no_reason_for_a_replay() {
    let tokens = key_at(&Place::with("key"), POLICY);
    let key = get(&tokens).await.unwrap();
    let Rejected::Renewing(flight) = reject(&tokens, &key) else {
        panic!("nothing else is under way");
    };
    let renewed = tokens.renewed(&Subject::default(), flight, &key).await;
    assert!(renewed.is_none());
    assert!(matches!(reject(&tokens, &key), Rejected::Guarded));
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_no_longer_than_its_policy_says() {
    let policy = Policy {
        token_wait: Duration::from_millis(200),
        ..POLICY
    };
    let tokens = key_at(&Place::with("key"), policy);
    get(&tokens).await.unwrap();
    // The next attempt begins a second after the first.
    let began = Moment::now();
    let error = force(&tokens).await.unwrap_err();
    assert_eq!(error.to_string(), "no token within 200ms");
    assert_eq!(began.elapsed(), policy.token_wait);
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_for_a_better_token_gets_the_old_one() {
    let policy = Policy {
        token_wait: Duration::from_millis(200),
        ..POLICY
    };
    let tokens = key_at(&Place::with("key"), policy);
    let old = get(&tokens).await.unwrap();
    assert!(matches!(reject(&tokens, &old), Rejected::Renewing(_)));
    assert!(Arc::ptr_eq(&get(&tokens).await.unwrap(), &old));
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_wait_than_there_are_places() {
    let policy = Policy {
        max_waiters: 1,
        ..POLICY
    };
    let tokens = key_at(&Place::with("key"), policy);
    get(&tokens).await.unwrap();
    let (first, second) = tokio::join!(force(&tokens), force(&tokens));
    assert!(first.is_ok());
    assert!(matches!(second, Err(TokenError::TooManyWaiters)));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_not_there_is_named_and_picked_up_when_it_is() {
    let place = Place::with("");
    let tokens = key_at(&place, POLICY);
    let error = get(&tokens).await.unwrap_err();
    assert_eq!(error.to_string(), "environment variable KEY is empty");
    for _ in 0..100 {
        let _ = force(&tokens).await;
    }
    place.put("key");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(get(&tokens).await.is_ok(), "at once, whatever the back-off");
}

#[tokio::test(start_paused = true)]
async fn a_warm_token_is_fetched_without_anybody_asking() {
    let place = Place::with("old");
    let tokens = key_at(&place, POLICY);
    tokens.keep_warm();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(tokens.has_had_token());
    place.put("new");
    tokio::time::sleep(Duration::from_secs(63)).await;
    let now = Moment::now();
    let warm = tokens.slots.own().fresh(now).unwrap();
    assert_eq!(warm.secret().reveal(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_warm_token_that_nobody_asks_for_does_not_press_a_provider_that_fails() {
    let is_there = Arc::new(AtomicBool::new(true));
    let there = Arc::clone(&is_there);
    let source = JwtSource {
        jwt: Jwt {
            key: SecretRef::Env("KEY".to_owned()),
            algorithm: Algorithm::Hs256,
            hints: KeyHints::default(),
            header: Vec::new(),
            claims: Vec::new(),
            lifetime: Duration::from_mins(2),
        },
        secrets: Secrets::supplied(move |_| there.load(Ordering::Relaxed).then(|| "k".repeat(64))),
    };
    let tokens = tokens_of(Source::Jwt(source), &[], POLICY);
    tokens.keep_warm();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(tokens.has_had_token());
    is_there.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_hours(1)).await;
    // One in half a minute or so; a request would have it tried every 10 s at the least.
    let failures = tokens.slots.own().backoff().unwrap().failures;
    assert!((60..240).contains(&failures), "{failures}");
    is_there.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(tokens.slots.own().fresh(Moment::now()).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_status_tells_everything_but_the_token() {
    let tokens = key_at(&Place::with("CNRY"), POLICY);
    get(&tokens).await.unwrap();
    let status = tokens.status(&RandomState::new(), Moment::now());
    let status = serde_json::to_string(&status).unwrap();
    assert!(
        status.contains(r#""state":"fresh","generation":1"#),
        "{status}"
    );
    assert!(!status.contains("CNRY"));
}

/// The same key for each tenant.
fn key_for_tenants(place: &Place, policy: Policy) -> Arc<Tokens> {
    tokens_of(Source::Static(key(place)), &["tenant"], policy)
}

fn tenant(name: &str) -> Subject {
    Subject::new([Input::Text(name)])
}

#[tokio::test(start_paused = true)]
async fn who_finds_all_places_taken_waits_for_one_as_long_as_for_a_token() {
    let policy = Policy {
        max_entries: 1,
        token_wait: Duration::from_secs(2),
        ..POLICY
    };
    let tokens = key_for_tenants(&Place::with("key"), policy);
    let began = Moment::now();
    assert!(tokens.get(&tenant("a"), began).await.is_ok());
    assert!(tokens.get(&tenant("b"), began).await.is_ok());
    assert_eq!(began.elapsed(), Duration::from_secs(1), "no sooner");
    let _held = tokens.slots.of(&tenant("b"), Moment::now());
    let error = tokens.get(&tenant("c"), Moment::now()).await.unwrap_err();
    assert_eq!(error.to_string(), "no token within 2s");
    assert_eq!(began.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn no_task_is_left_of_tokens_that_a_reload_drops() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let tokens = key_for_tenants(&Place::with("key"), POLICY);
    for name in ["a", "b", "c"] {
        assert!(tokens.get(&tenant(name), Moment::now()).await.is_ok());
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(tasks(), 1, "whatever the number of tenants");
    drop(tokens);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(tasks(), 0);
}

fn client_at(address: SocketAddr, place: &Place) -> Arc<Tokens> {
    let endpoint = Endpoint::new(EndpointSettings {
        fingerprint: 0,
        host: address.ip().to_string(),
        port: address.port(),
        tls: None,
        version: HttpVersion::Http1,
        socket: None,
        resolved: None,
        egress_proxy: None,
        allow_plaintext: false,
        connect_timeout: Duration::from_secs(10),
    });
    let source = OAuth2 {
        token_endpoint: Target {
            endpoint: endpoint.unwrap(),
            host: HeaderValue::from_str(&address.to_string()).unwrap(),
            path: "/token".to_owned(),
        },
        client_auth: ClientAuth::Basic {
            id: ClientId::Literal("id".to_owned()),
            secret: SecretRef::Env("SECRET".to_owned()),
        },
        grant: GrantType::default(),
        scope: Vec::new(),
        resource: Vec::new(),
        params: Vec::new(),
        reading: Reading::new(TokenPlace::Json(Pointer::member("access_token"))),
        secrets: place.secrets(),
    };
    tokens_of(Source::OAuth2(source), &[], POLICY)
}

// A real clock: there are sockets.
#[tokio::test]
async fn a_corrected_client_secret_is_tried_at_once() {
    let rules = Rules::by_the_book("id", "right");
    let provider = IdentityProvider::start(None, rules).await.unwrap();
    let place = Place::with("wrong");
    let tokens = client_at(provider.server().address(), &place);
    let error = get(&tokens).await.unwrap_err();
    assert!(matches!(
        error,
        TokenError::Fetch(FetchError::Refused { .. })
    ));
    place.put("right");
    assert!(get(&tokens).await.is_ok());
}

#[tokio::test]
async fn a_wrong_client_secret_is_not_tried_again() {
    let rules = Rules::by_the_book("id", "right");
    let provider = IdentityProvider::start(None, rules).await.unwrap();
    let tokens = client_at(provider.server().address(), &Place::with("wrong"));
    for _ in 0..100 {
        assert!(get(&tokens).await.is_err());
    }
    assert_eq!(provider.server().requests(), 1);
}

#[tokio::test]
async fn what_the_system_says_of_a_connection_is_for_the_log_and_not_for_the_app() {
    let provider = IdentityProvider::start(None, Rules::by_the_book("id", "secret"))
        .await
        .unwrap();
    let address = provider.server().address();
    drop(provider);
    let tokens = client_at(address, &Place::with("secret"));
    let Err(TokenError::Fetch(error)) = get(&tokens).await else {
        panic!("nobody listens");
    };
    assert_eq!(
        error.to_string(),
        "the provider cannot be reached: cannot connect"
    );
    assert!(error.report().len() > error.to_string().len());
}
