//! Answers over real sockets.

use crate::fake::{Fault, IdentityProvider, Rules};
use crate::net::connect::{EndpointSettings, HttpVersion};

use http::header::CONNECTION;

use super::*;

async fn start() -> (IdentityProvider, Target) {
    let rules = Rules::by_the_book("id", "secret");
    let provider = IdentityProvider::start(None, rules).await.unwrap();
    let address = provider.server().address();
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
    let target = Target {
        endpoint: endpoint.unwrap(),
        host: HeaderValue::from_str(&address.to_string()).unwrap(),
        path: "/token".to_owned(),
    };
    (provider, target)
}

fn closing(status: u16, body: &'static str) -> Fault {
    Fault::Answer {
        status: StatusCode::from_u16(status).unwrap(),
        fields: vec![
            (RETRY_AFTER, HeaderValue::from_static("7")),
            (CONNECTION, HeaderValue::from_static("close")),
        ],
        body: Bytes::from_static(body.as_bytes()),
    }
}

#[tokio::test]
async fn an_answer_that_ends_its_connection_is_an_answer() {
    let (provider, target) = start().await;
    for body in ["", "busy"] {
        provider.faults().times(20, &closing(503, body));
        for _ in 0..20 {
            let answer = post_form(&target, None, Bytes::new()).await.unwrap();
            assert_eq!(
                (answer.status.as_u16(), &answer.body[..]),
                (503, body.as_bytes())
            );
            assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_end_of_the_answer_counts_as_not_reached() {
    let (provider, target) = start().await;
    for fault in [Fault::Reset, Fault::CutShort] {
        provider.faults().once(fault);
        let error = post_form(&target, None, Bytes::new()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the provider cannot be reached: the connection broke off before there was an answer"
        );
    }
}

#[tokio::test]
async fn no_more_is_read_than_a_token_can_need() {
    let (provider, target) = start().await;
    let endless = Fault::raw("application/json", vec![b' '; MAX_ANSWER_BYTES + 1]);
    provider.faults().once(endless);
    let error = post_form(&target, None, Bytes::new()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the provider's answer is not usable: the answer is longer than 64 KiB"
    );
}

#[test]
fn retry_after_is_a_number_or_a_date_and_more_than_fits_is_for_ever() {
    let in_a_minute = httpdate::fmt_http_date(SystemTime::now() + Duration::from_mins(1));
    let whole = |said: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(said).unwrap());
        let answer = Answer {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers,
            body: Bytes::new(),
        };
        answer.retry_after().map(|asked| asked.as_secs())
    };
    assert_eq!(whole(" 7 "), Some(7));
    assert!(whole(&in_a_minute).is_some_and(|asked| (50..=60).contains(&asked)));
    assert_eq!(whole("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    assert_eq!(whole("99999999999999999999999"), Some(u64::MAX));
    for nonsense in ["", "soon", "-5", "+5", "1.5"] {
        assert_eq!(whole(nonsense), None, "{nonsense}");
    }
}
