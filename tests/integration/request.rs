//! The request on its way: what is refused, what is taken off, what is passed on byte for byte.

use http::Method;
use pillion::fake::Upstream;
use tokio::io::AsyncWriteExt as _;

use crate::stage::{Stage, full, request};

/// Framing that two readers could read in two ways (RFC 9112).
#[tokio::test]
async fn doubtful_framing_is_refused_and_the_connection_closed() {
    let post = |fields: &str| format!("POST /api/x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let table = [
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + chunks),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") + chunks),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n") + "hello"),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n") + "hello!"),
        (post("Content-Length: 5, 5\r\n") + "hello"),
        (post("Content-Length: +5\r\n") + "hello"),
        (post("Content-Length: -5\r\n") + "hello"),
        (post("Content-Length: 0x5\r\n") + "hello"),
        (post("Content-Length: 5 5\r\n") + "hello"),
        (post("Content-Length: five\r\n") + "hello"),
        (post("Content-Length:\r\n") + "hello"),
        (post("Content-Length: 99999999999999999999\r\n") + "hello"),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n") + chunks),
        (post("Transfer-Encoding: chunked, chunked\r\n") + chunks),
        (post("Transfer-Encoding: gzip, chunked\r\n") + chunks),
        (post("Transfer-Encoding: gzip\r\n") + chunks),
        (post("Transfer-Encoding: identity\r\n") + chunks),
        (post("Transfer-Encoding: xchunked\r\n") + chunks),
        (post("Transfer-Encoding: \"chunked\"\r\n") + chunks),
        (post("Transfer-Encoding : chunked\r\n") + chunks),
        (post("Transfer-Encoding: chunked\r\n").replace("1.1", "1.0") + chunks),
        (post("Content-Length : 5\r\n") + "hello"),
        (post("X-Folded: a\r\n b\r\n")),
        (post(" X-Folded: a\r\n")),
        (post("X-Bare: a\rb\r\n")),
        (post("X-Nul: a\0b\r\n")),
        (post("X Space: a\r\n")),
        (post("X-Space : a\r\n")),
        (post(": a\r\n")),
        (post("no colon\r\n")),
        (post("Host: localhost\r\n")),
        (post("Host: evil.example\r\n")),
        "GET /api/x HTTP/1.1\r\n\r\n".to_owned(),
        "GET /api/x HTTP/1.1\r\nHost:\r\n\r\n".to_owned(),
        "GET /api/x HTTP/1.1\r\nHost: a@localhost\r\n\r\n".to_owned(),
        "GET /api/x HTTP/1.1\r\nHost: local host\r\n\r\n".to_owned(),
        "GET /api/x HTTP/1.1\r\nHost: localhost/x\r\n\r\n".to_owned(),
        "GET /api/x HTTP/1.1\r\nHost: localhost, localhost\r\n\r\n".to_owned(),
        "GET  /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /api/x HTTP/1.1 \r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /api/x\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /api/x HTTP/2.0\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /api/x\0 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "G\0T /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
    ];
    let stage = Stage::new().await;
    let mut wrong = Vec::new();
    for sent in table {
        // A second request rides behind: it must not be answered either.
        let smuggled = "GET /api/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answer = stage.exchange(format!("{sent}{smuggled}")).await;
        let is_refused = answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 ");
        if !is_refused || answer.matches("HTTP/1.").count() != 1 {
            wrong.push((sent, answer));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(stage.upstream.server().requests(), 0);
    assert_eq!(stage.identity_provider.fetches(), 0);
}

#[tokio::test]
async fn a_chunk_that_is_none_is_the_apps_mistake_and_ends_the_connection() {
    for chunk in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
    ] {
        let stage = Stage::new().await;
        let head = "POST /api/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let smuggled = "GET /api/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answer = stage.exchange(format!("{head}{chunk}{smuggled}")).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{chunk:?}: {answer}"
        );
        assert!(!answer.contains("smuggled"));
        assert!(stage.upstream.requests().is_empty(), "{chunk:?}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_passed_on_as_whole() {
    for (framing, body) in [
        ("Content-Length: 10", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
    ] {
        let stage = Stage::new().await;
        stage.get("/api/").await.expect_ok();
        stage.upstream.forget_requests();
        let mut wire = stage.wire().await;
        wire.write(format!(
            "POST /api/x HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n{body}"
        ))
        .await;
        stage
            .until(|stage| stage.upstream.server().requests() == 2)
            .await;
        drop(wire);
        stage
            .until(|stage| stage.running.metrics.requests_in_flight() == 0)
            .await;
        stage.get("/api/next").await.expect_ok();
        let seen = stage.upstream.requests();
        assert!(
            seen.iter().all(|request| request.target == "/next"),
            "{seen:?}"
        );
    }
}

/// A path that a reader behind us could take for another one.
#[tokio::test]
async fn a_path_with_two_meanings_is_refused_before_anybody_is_asked_for_a_token() {
    let stage = Stage::new().await;
    for path in [
        "/api/../admin",
        "/api/..",
        "/api/.",
        "/api/./x",
        "/api/%2e%2e/admin",
        "/api/%2E%2e/admin",
        "/api/.%2e/admin",
        "/api/%252e%252e/admin",
        "/api/..;/admin",
        "/api/..;x=1/admin",
        "/api/%2e%2e;/admin",
        "/api//admin",
        "//api/x",
        "//evil.example/x",
        "/api\\admin",
        "/api/..\\admin",
        "/api/%5cadmin",
        "/api%2fadmin",
        "/api/a%2Fb",
        "/api/a%252fb",
        "/api/%00",
        "/api/%0d%0ax:y",
        "/api/%7f",
        "/api/%",
        "/api/%2",
        "/api/%zz",
        "/%61pi/x",
        "/api/%c0%ae%c0%ae/x",
        "/api/x#fragment",
        "/api/\u{e9}",
        "*",
        "api/x",
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = stage.exchange(head).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    assert_eq!(stage.identity_provider.fetches(), 0);
    assert_eq!(stage.upstream.server().requests(), 0);
    let unmatched = "pillion_requests_total{route=\"unmatched\",status_class=\"4xx\"}";
    assert!(stage.metric(unmatched).await > 20.0);
}

#[tokio::test]
async fn a_request_that_no_route_takes_is_told_so_and_nobody_is_asked() {
    let stage = Stage::with_route("methods = [\"GET\"]").await;
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/apix"),
        (Method::GET, "/API/x"),
        (Method::POST, "/api/x"),
    ] {
        let request = request(method, path).body(full("")).unwrap();
        stage.send(request).await.expect_problem(404, "no-route");
    }
    assert_eq!(stage.identity_provider.fetches(), 0);
}

#[tokio::test]
async fn the_target_is_passed_on_byte_for_byte() {
    let stage = Stage::new().await;
    for (sent, seen) in [
        ("/api", "/"),
        ("/api/", "/"),
        ("/api?", "/?"),
        ("/api/a", "/a"),
        ("/api/a/", "/a/"),
        ("/api/a%20b/%E2%82%AC%7e", "/a%20b/%E2%82%AC%7e"),
        ("/api/a%25b", "/a%25b"),
        (
            "/api/a;v=1/b:c@d!$&'()*+,=~-_.",
            "/a;v=1/b:c@d!$&'()*+,=~-_.",
        ),
        ("/api/a?", "/a?"),
        ("/api/a?b=c&b=d&&e", "/a?b=c&b=d&&e"),
        (
            "/api/a?x=%2F%2f+%00/../&y=?z//",
            "/a?x=%2F%2f+%00/../&y=?z//",
        ),
        (
            "/api/a?url=https://evil.example/",
            "/a?url=https://evil.example/",
        ),
    ] {
        stage.get(sent).await.expect_ok();
        assert_eq!(stage.upstream.last_request().unwrap().target, seen);
    }
}

#[tokio::test]
async fn a_base_path_is_joined_with_the_rest() {
    for (base, sent, seen) in [
        ("/base", "/api", "/base"),
        ("/base", "/api/", "/base/"),
        ("/base", "/api/a?b", "/base/a?b"),
        ("/base/", "/api/a", "/base/a"),
        ("/base/deep", "/api/a", "/base/deep/a"),
        ("/", "/api", "/"),
        ("/", "/api/a", "/a"),
    ] {
        let upstream = Upstream::open(None).await.unwrap();
        let url = format!("http://{}{base}", upstream.address());
        let stage = Stage::set().upstream_at(url).start().await;
        stage.get(sent).await.expect_ok();
        let target = upstream.last_request().unwrap().target;
        assert_eq!(target, seen, "{base} {sent}");
    }
}

#[tokio::test]
async fn nothing_in_a_request_chooses_the_upstream() {
    let evil = Upstream::open(None).await.unwrap();
    let stage = Stage::set()
        .top("[listen]\nhosts = [\"evil.example\"]")
        .start()
        .await;
    let (evil_at, own) = (evil.address(), stage.upstream.address().to_string());
    for (target, host) in [
        ("/api/x".to_owned(), "localhost".to_owned()),
        ("/api/x".to_owned(), evil_at.to_string()),
        ("/api/x".to_owned(), "evil.example".to_owned()),
        (format!("http://{evil_at}/api/x"), "localhost".to_owned()),
        (
            "http://evil.example/api/x".to_owned(),
            "localhost".to_owned(),
        ),
        (
            "http://localhost/api/x".to_owned(),
            "evil.example".to_owned(),
        ),
    ] {
        let answer = stage
            .exchange(format!(
                "GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(
            answer.starts_with("HTTP/1.1 200 "),
            "{target} {host}: {answer}"
        );
        let seen = stage.upstream.last_request().unwrap();
        assert_eq!(seen.target, "/x");
        assert_eq!(seen.field("host"), Some(own.as_str()));
    }
    assert_eq!(evil.server().connections(), 0);
}

#[tokio::test]
async fn the_token_is_on_the_request_once_whatever_the_app_sends() {
    let stage = Stage::with_route(
        "headers = { Authorization = \"Bearer {token}\", Merchant-Account = \"1234567\" }\n\
         remove = [\"Cookie\", \"X-Internal\"]",
    )
    .await;
    let sent = "GET /api/x HTTP/1.1\r\nHost: localhost\r\n\
        Authorization: Basic ZXZpbA==\r\nauthorization: Bearer evil\r\nAUTHORIZATION: evil\r\n\
        Merchant-Account: 7\r\nmerchant_account: 7\r\nMERCHANT_ACCOUNT: 7\r\n\
        Proxy-Authorization: Basic ZXZpbA==\r\nCookie: a=b\r\nx-internal: 1\r\nx_internal: 1\r\n\
        Connection: authorization, merchant-account, x-mine, close\r\n\
        Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
        X-Mine: gone\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\
        X-Kept: one\r\nx-kept: two\r\nX_Kept: three\r\nAccept: */*\r\n\r\n";
    let answer = stage.exchange(sent).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = stage.upstream.last_request().unwrap();
    let token = seen.field("authorization").unwrap();
    assert!(token.starts_with("Bearer ") && !token.contains("evil"));
    assert_eq!(seen.field("merchant-account"), Some("1234567"));
    let mut names: Vec<&str> = seen.fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "authorization",
            "host",
            "merchant-account",
            "x-kept",
            "x-kept",
            "x_kept"
        ]
    );
    let kept: Vec<&str> = seen.values("x-kept").collect();
    assert_eq!(kept, ["one", "two"]);
    let conflicts = "pillion_header_conflicts_total{route=\"api\"}";
    stage.expect_metric(conflicts, 1.0).await;
}

#[tokio::test]
async fn a_conflict_can_be_kept_or_refused() {
    let stage = Stage::set()
        .open()
        .route("on_conflict = \"keep\"")
        .start()
        .await;
    let own = request(Method::GET, "/api/").header("authorization", "Bearer own");
    stage.send(own.body(full("")).unwrap()).await.expect_ok();
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.field("authorization"), Some("Bearer own"));

    let stage = Stage::with_route("on_conflict = \"reject\"").await;
    for name in ["authorization", "Authorization"] {
        let own = request(Method::GET, "/api/").header(name, "Bearer CNRY");
        let reply = stage.send(own.body(full("")).unwrap()).await;
        let reply = reply.expect_problem(400, "bad-request");
        assert!(!format!("{reply:?}").contains("CNRY"));
    }
    assert_eq!(stage.identity_provider.fetches(), 0);
}

#[tokio::test]
async fn trailers_pass_but_never_as_what_the_route_sets() {
    let stage = Stage::new().await;
    let sent = "POST /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
        Transfer-Encoding: chunked\r\nTrailer: X-Sum, Authorization, Host, Content-Length\r\n\r\n\
        5\r\nhello\r\n0\r\nX-Sum: abc\r\nAuthorization: Bearer evil\r\nHost: evil\r\nContent-Length: 9\r\n\r\n";
    let answer = stage.exchange(sent).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.field("trailer"), Some("x-sum"));
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "abc".to_owned())]);
    assert_eq!(seen.body, "hello");
}

#[tokio::test]
async fn methods_that_would_show_or_tunnel_the_token_are_refused() {
    let stage = Stage::new().await;
    for head in [
        "TRACE /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let answer = stage.exchange(head).await;
        let refused = ["HTTP/1.1 405 ", "HTTP/1.1 400 "];
        assert!(refused.iter().any(|it| answer.starts_with(it)), "{answer}");
    }
    let extension = request(Method::from_bytes(b"PROPFIND").unwrap(), "/api/x");
    stage
        .send(extension.body(full("")).unwrap())
        .await
        .expect_ok();
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.method.as_str(), "PROPFIND");
    assert_eq!(stage.upstream.server().requests(), 1);
}

#[tokio::test]
async fn inputs_are_addressed_to_pillion_and_stay_there() {
    let stage = Stage::set()
        .provider("inputs = [\"merchant\", \"card\", \"segment\"]")
        .provider("params = { x = \"{input.merchant}/{input.card}/{input.segment}\" }")
        .route("path = \"/api/{segment}\"")
        .route("inputs = { merchant = \"{header.X-Merchant}\", card = \"{query.card}\", segment = \"{path.segment}\" }")
        .route("headers = { Merchant-Account = \"{input.merchant}\" }")
        .start()
        .await;
    let get = |target: &str, merchant: &[&str]| {
        let mut get = request(Method::GET, target);
        for value in merchant {
            get = get.header("x-merchant", *value);
        }
        get.header("x_merchant", "twin").body(full("")).unwrap()
    };
    let good = get("/api/a%20b/c?d=1&card=4%2B2&e&c%61rd2=x", &["7"]);
    stage.send(good).await.expect_ok();
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.target, "/c?d=1&e&c%61rd2=x");
    assert_eq!(seen.field("merchant-account"), Some("7"));
    assert!(seen.fields.iter().all(|(name, _)| !name.starts_with("x")));
    let form = stage.identity_provider.last_request().unwrap().form();
    assert!(form.contains(&("x".to_owned(), "7/4+2/a b".to_owned())));

    let requests = stage.upstream.server().requests();
    for (target, merchant) in [
        ("/api/a?card=1", &[][..]),
        ("/api/a?card=1", &["CNRY", "8"]),
        ("/api/a?card=1", &[""]),
        ("/api/a", &["7"]),
        ("/api/a?card=CNRY&card=2", &["7"]),
        ("/api/a?card=1&c%61rd=CNRY", &["7"]),
        ("/api/a?card=", &["7"]),
        ("/api/a?card=CNRY%0d%0a", &["7"]),
        ("/api/a?card=CNRY%00", &["7"]),
        ("/api/CNRY%C3%A9?card=1", &["7"]),
    ] {
        let reply = stage.send(get(target, merchant)).await;
        let reply = reply.expect_problem(400, "bad-request");
        assert!(!format!("{reply:?}").contains("CNRY"), "{reply:?}");
    }
    let long = "x".repeat(2000);
    let reply = stage.send(get("/api/a?card=1", &[&long])).await;
    reply.expect_problem(400, "bad-request");
    assert_eq!(stage.upstream.server().requests(), requests);
    assert_eq!(stage.identity_provider.fetches(), 1);
}

#[tokio::test]
async fn a_merchant_with_a_slash_comes_in_a_header_and_goes_out_in_one() {
    let stage = Stage::set()
        .provider("inputs = [\"merchant\"]\nparams = { merchant = \"{input.merchant}\" }")
        .route(
            "inputs = { merchant = \"{header.Merchant}\" }\n\
             headers = { Authorization = \"Bearer {token}\", Merchant-Account = \"{input.merchant}\" }",
        )
        .start()
        .await;
    let asked = request(Method::GET, "/api/").header("merchant", "mid/123ab45c67");
    stage.send(asked.body(full("")).unwrap()).await.expect_ok();
    let seen = stage.upstream.last_request().unwrap();
    assert_eq!(seen.field("merchant-account"), Some("mid/123ab45c67"));
    let form = stage.identity_provider.last_request().unwrap().form();
    let merchant = ("merchant".to_owned(), "mid/123ab45c67".to_owned());
    assert!(form.contains(&merchant), "{form:?}");
}

#[tokio::test]
async fn a_web_page_in_a_browser_does_not_get_through() {
    let stage = Stage::set()
        .top("[listen]\nhosts = [\"pillion.internal\"]")
        .start()
        .await;
    let ask = async |fields: &[(&str, &str)]| {
        let mut get = http::Request::builder().uri("/api/x");
        for (name, value) in fields {
            get = get.header(*name, *value);
        }
        stage.send(get.body(full("")).unwrap()).await
    };
    let local = ("host", "localhost:8080");
    for fields in [
        [("host", "evil.example"), ("accept", "*/*")],
        [("host", "127.0.0.1.nip.io"), ("accept", "*/*")],
        [("host", "localhost.evil.example"), ("accept", "*/*")],
        [("host", "192.0.2.1"), ("accept", "*/*")],
        [local, ("origin", "https://evil.example")],
        [local, ("origin", "http://localhost.evil.example")],
        [local, ("origin", "null")],
        [local, ("origin", "")],
        [local, ("sec-fetch-site", "cross-site")],
    ] {
        ask(&fields).await.expect_problem(403, "forbidden-caller");
    }
    assert_eq!(stage.identity_provider.fetches(), 0);
    assert_eq!(stage.upstream.server().requests(), 0);
    for fields in [
        [local, ("accept", "*/*")],
        [("host", "LOCALHOST"), ("accept", "*/*")],
        [("host", "127.0.0.1:1234"), ("accept", "*/*")],
        [("host", "[::1]:1"), ("accept", "*/*")],
        [("host", "pillion.internal"), ("accept", "*/*")],
        [local, ("origin", "http://localhost:3000")],
        [local, ("sec-fetch-site", "same-origin")],
    ] {
        ask(&fields).await.expect_ok();
    }
}

#[tokio::test]
async fn a_required_header_is_required() {
    let stage = Stage::set()
        .top("[listen]\nrequire_header = \"X-Pillion\"")
        .start()
        .await;
    stage
        .get("/api/x")
        .await
        .expect_problem(403, "forbidden-caller");
    let with = request(Method::GET, "/api/x").header("x-pillion", "1");
    stage.send(with.body(full("")).unwrap()).await.expect_ok();
    assert_eq!(stage.upstream.server().requests(), 1);
}

#[tokio::test]
async fn routes_are_tried_in_order_by_host_method_and_path() {
    let route = |name: &str, lines: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nprovider = \"idp\"\nupstream = \"UPSTREAM/{name}\"\n{lines}\n"
        )
    };
    let more = [
        route("special", "path = \"/x/special\""),
        route("post", "path = \"/x\"\nmethods = [\"POST\"]"),
        route("host", "path = \"/x\"\nhost = \"api.internal\""),
        route("rest", ""),
    ];
    let stage = Stage::set().more(&more.concat()).start().await;
    for (method, host, path, seen) in [
        (Method::POST, "localhost", "/x/special/a", "/special/a"),
        (Method::POST, "localhost", "/x/specials", "/post/specials"),
        (Method::GET, "api.internal", "/x/b", "/host/b"),
        (Method::GET, "localhost", "/x/b", "/rest/x/b"),
        (Method::GET, "localhost", "/", "/rest/"),
        (Method::GET, "localhost", "/api/c", "/c"),
    ] {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header("host", host).body(full("")).unwrap();
        stage.send(request).await.expect_ok();
        assert_eq!(stage.upstream.last_request().unwrap().target, seen);
    }
    for (name, times) in [
        ("special", 1.0),
        ("post", 1.0),
        ("host", 1.0),
        ("rest", 2.0),
    ] {
        let series = format!("pillion_requests_total{{route=\"{name}\",status_class=\"2xx\"}}");
        stage.expect_metric(&series, times).await;
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let stage = Stage::new().await;
    let one = |path: &str, close: &str| {
        format!(
            "POST /api/{path} HTTP/1.1\r\nHost: localhost\r\n{close}Content-Length: 5\r\n\r\n{path}"
        )
    };
    let sent = [
        one("first", ""),
        one("other", ""),
        one("third", "Connection: close\r\n"),
    ];
    let answer = stage.exchange(sent.concat()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answer}");
    let seen = stage.upstream.requests();
    let seen: Vec<_> = seen.iter().map(|it| (it.path(), &it.body[..])).collect();
    let expected: [(&str, &[u8]); 3] = [
        ("/first", b"first"),
        ("/other", b"other"),
        ("/third", b"third"),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_head_over_the_limit_is_told_so() {
    let stage = Stage::set()
        .top("[limits]\nhead_size = \"8KiB\"")
        .start()
        .await;
    let field = format!("x-long: {}\r\n", "x".repeat(10_000));
    let many: String = (0..150)
        .map(|number| format!("x-{number}: 1\r\n"))
        .collect();
    for fields in [field, many] {
        let answer = stage
            .exchange(format!(
                "GET /api/x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let answer = stage
        .exchange(format!(
            "GET /api/{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "x".repeat(10_000)
        ))
        .await;
    let refused = ["HTTP/1.1 431 ", "HTTP/1.1 414 "];
    assert!(refused.iter().any(|it| answer.starts_with(it)), "{answer}");
    assert_eq!(stage.upstream.server().requests(), 0);
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let stage = Stage::set()
        .top("[limits]\nheader_timeout = \"200ms\"")
        .start()
        .await;
    for part in ["", "G", "GET /api/x HTTP/1.1\r\nHost: loc"] {
        let answer = stage.exchange(part).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
            "{answer}"
        );
    }
    assert_eq!(stage.upstream.server().requests(), 0);
}

#[tokio::test]
async fn a_body_that_stands_still_is_not_waited_for() {
    let stage = Stage::set()
        .top("[limits]\nbody_idle = \"200ms\"")
        .start()
        .await;
    let head = "POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello";
    let answer = stage.exchange(head).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(stage.upstream.requests().is_empty());
}

#[tokio::test]
async fn a_connection_over_the_limit_is_told_so_and_closed() {
    let stage = Stage::set().top("[limits]\nconnections = 2").start().await;
    let mut first = stage.client().await;
    let mut second = stage.client().await;
    first.get("/api/").await.expect_ok();
    second.get("/api/").await.expect_ok();
    let answer = stage.wire().await.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("urn:pillion:problem:overloaded"));
    first.get("/api/").await.expect_ok();
}

/// Each sign of a web page is enough, whatever the others say.
#[tokio::test]
async fn no_sign_of_an_app_outweighs_a_sign_of_a_web_page() {
    let stage = Stage::set()
        .top("[listen]\nrequire_header = \"X-Pillion\"")
        .start()
        .await;
    let hosts = [("localhost:8080", true), ("evil.example", false)];
    let marks = [(&["1"][..], true), (&[""], true), (&[], false)];
    let origins = [
        (&[][..], true),
        (&["http://localhost:3000"], true),
        (&["http://127.0.0.1"], true),
        (&["https://evil.example"], false),
        (&["null"], false),
        (&["http://localhost:3000", "https://evil.example"], false),
    ];
    let sites = [
        (&[][..], true),
        (&["none"], true),
        (&["same-origin"], true),
        (&["same-site"], true),
        (&["cross-site"], false),
        (&["Cross-Site"], false),
        (&["none", "cross-site"], false),
    ];
    let mut client = stage.client().await;
    let mut let_in = 0;
    for (host, is_host) in hosts {
        for (mark, is_mark) in marks {
            for (origin, is_origin) in origins {
                for (site, is_site) in sites {
                    let mut get = http::Request::builder().uri("/api/").header("host", host);
                    for (name, values) in [
                        ("x-pillion", mark),
                        ("origin", origin),
                        ("sec-fetch-site", site),
                    ] {
                        for value in values {
                            get = get.header(name, *value);
                        }
                    }
                    let reply = client.send(get.body(full("")).unwrap()).await;
                    if is_host && is_mark && is_origin && is_site {
                        reply.expect_ok();
                        let_in += 1;
                    } else {
                        reply.expect_problem(403, "forbidden-caller");
                    }
                }
            }
        }
    }
    assert_eq!((let_in, stage.upstream.server().requests()), (24, 24));
}

/// Whoever has been answered before it was asked for its body may send it or not: neither is taken for a request.
#[tokio::test]
async fn what_follows_an_expectation_that_was_not_met_is_no_request() {
    let stage = Stage::new().await;
    let head = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 66\r\n\r\n";
    let smuggled = "GET /api/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut wire = stage.wire().await;
    wire.write(head).await;
    let answer = wire.read_head().await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    // The connection may have been closed already.
    wire.stream.write_all(smuggled.as_bytes()).await.ok();
    wire.stream.write_all(smuggled.as_bytes()).await.ok();
    wire.stream.shutdown().await.ok();
    let rest = wire.read_to_end().await;
    assert!(!rest.contains("smuggled"), "{rest}");
    assert!(
        stage
            .upstream
            .requests()
            .iter()
            .all(|it| it.target != "/smuggled")
    );
}
