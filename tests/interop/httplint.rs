//! httplint, which judges answers by the specifications of HTTP: what it notes of an answer through pillion is what it notes
//! of the answer itself.

use std::io::Write as _;
use std::process::Stdio;

use crate::python;
use crate::stage::{Raw, Stage};

#[tokio::test]
async fn nothing_is_noted_of_an_answer_that_is_not_the_upstreams() {
    for answer in ANSWERS {
        let upstream = Raw::answering(answer).await;
        let stage = Stage::set().upstream_at(upstream.url()).start().await;
        let mut wire = stage.wire().await;
        wire.write("GET /api/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let (_, content) = answer.split_once("\r\n\r\n").unwrap();
        let head = wire.read_head().await;
        let content = wire.read_bytes(content.len()).await;
        let through = [head.as_bytes(), &content].concat();
        let (expected, noted) = (notes(answer.as_bytes()), notes(&through));
        assert!(expected.contains("* ["), "{answer}");
        assert_eq!(noted, expected, "{head}");
    }
}

fn notes(answer: &[u8]) -> String {
    let mut lint = python::program("httplint")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    lint.stdin.take().unwrap().write_all(answer).unwrap();
    let output = lint.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

const ANSWERS: [&str; 9] = [
    "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 09:06:17 GMT\r\nContent-Type: application/json\r\n\
     Cache-Control: max-age=60, private\r\nETag: W/\"abc\"\r\nVary: Accept, Accept-Encoding\r\n\
     Set-Cookie: a=b; Path=/; HttpOnly\r\nSet-Cookie: c=d; Expires=never\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 09:06:17 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n\
     Last-Modified: Sat, 21 Nov 2026 09:06:17 GMT\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    // What is wrong stays as wrong as it is.
    "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 09:06:17 GMT\r\nContent-Type: text\r\n\
     Cache-Control: max-age=60, max-age=90, no-store=\"x\"\r\nPragma: no-cache\r\nExpires: 0\r\n\
     Last-Modified: yesterday\r\nETag: abc\r\nAge: -1\r\nX-XSS-Protection: 1\r\nServer: \r\n\
     Location: /somewhere\r\nP3P: policyref=\"/p3p.xml\"\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 301 Moved Permanently\r\nDate: Sun, 22 Nov 2026 09:06:17 GMT\r\n\
     Location: https://api.example/elsewhere?a=b\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 206 Partial Content\r\nDate: Sun, 22 Nov 2026 09:06:17 GMT\r\nContent-Range: bytes 0-3/10\r\n\
     Accept-Ranges: bytes\r\nContent-Type: application/octet-stream\r\nContent-Length: 4\r\n\r\n0123",
    "HTTP/1.1 304 Not Modified\r\nDate: Sun, 22 Nov 2026 09:06:17 GMT\r\nETag: \"abc\"\r\n\
     Cache-Control: public, max-age=60\r\n\r\n",
    "HTTP/1.1 404 Not Found\r\nDate: Sun, 22 Nov 2026 09:06:17 GMT\r\n\
     Content-Type: application/problem+json\r\nLink: </help>; rel=help\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 429 Too Many Requests\r\nDate: Sun, 22 Nov 2026 09:06:17 GMT\r\nRetry-After: 5\r\n\
     Content-Type: text/html\r\nContent-Length: 4\r\n\r\nslow",
    "HTTP/1.1 503 Service Unavailable\r\nDate: Sun, 22 Nov 2026 09:06:17 GMT\r\nRetry-After: later\r\n\
     Strict-Transport-Security: max-age=5\r\nAlt-Svc: h2=\":443\"\r\nContent-Length: 0\r\n\r\n",
];
