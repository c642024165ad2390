//! `[[route]]`: which requests, which token, where to.

use super::request::{ALLOW_PLAINTEXT, CONNECT, WAY};
use super::values::{
    DURATION, HEADER, HEADERS, HOST, NAME, POINTER, SCOPE, SIZE, STRING, TEMPLATES,
};
use super::{Key, Kind, Of, Table};

const UPSTREAM: Kind = Kind::Either(&[
    Kind::Text("URL", "^https?://[^@#?]+$"),
    Kind::Text("Unix socket", "^unix:/"),
]);

pub(super) static ROUTE: Table = Table {
    name: "route",
    written: "[[route]]",
    about: "Which requests carry which token, and where to. The first route that \
             matches takes the request. One with `hand_out = true` answers with \
             the token itself, and has no `upstream` nor anything about one.",
    keys: &[
        Key::new(
            "name",
            NAME,
            r#""example""#,
            "What it is called in metrics and logs; unique.",
        )
        .or_else("the path"),
        Key::new(
            "path",
            Kind::Text("path", "^/"),
            r#""/example/{tenant}""#,
            "The beginning of the paths that it takes, in whole segments; \
             `{name}` captures one. What matched is cut off, and what follows is \
             appended to the upstream's path.",
        )
        .or(r#""/""#),
        Key::new(
            "host",
            Kind::Either(&[HOST, Kind::List(&HOST)]),
            r#"["pillion.internal"]"#,
            "Hosts that it takes.",
        )
        .or_else("any"),
        Key::new(
            "methods",
            Kind::List(&Kind::Text("method", "^[A-Z][A-Z0-9-]*$")),
            r#"["GET", "POST"]"#,
            "Methods that it takes.",
        )
        .or_else("any"),
        Key::new(
            "upstream",
            UPSTREAM,
            r#""https://api.example.com/v1""#,
            "Where the request goes: never anywhere else, whatever a header or a \
             redirect says.",
        )
        .or_else("`hand_out = true`"),
        Key::new("provider", NAME, r#""p""#, "Whose token it carries."),
        Key::new(
            "inputs",
            TEMPLATES,
            r#"{ tenant = "{path.tenant}" }"#,
            "What the provider's inputs are for a request: `{path.x}`, \
             `{header.x}`, `{query.x}` and text; with `hand_out` also \
             `{body./pointer}` of a JSON body, with its type.",
        )
        .or("{}"),
        Key::new(
            "headers",
            HEADERS,
            r#"{ X-Tenant = "{input.tenant}" }"#,
            "Headers that are set, once: `{token}`, `{token.PROVIDER}`, \
             `{field.NAME}`, `{input.NAME}` and text. `Authorization = \"Bearer \
             {token}\"` is among them unless the token goes elsewhere.",
        )
        .or("{}"),
        Key::new(
            "on_conflict",
            Kind::Choice(&["overwrite", "keep", "reject"]),
            r#""keep""#,
            "What becomes of a header that the route sets and the app sent \
             itself: replaced, kept, or the request is refused (400).",
        )
        .or(r#""overwrite""#),
        Key::new(
            "remove",
            Kind::List(&HEADER),
            r#"["Cookie"]"#,
            "Headers that the upstream does not get to see.",
        )
        .or("[]"),
        Key::new(
            "scope",
            SCOPE,
            r#"["read"]"#,
            "What the token is for, in place of the provider's scope. Of \
             `oauth2`.",
        )
        .or_else("the provider's"),
        Key::new(
            "upgrades",
            Kind::List(&Kind::Text("protocol", "^[^ ]+$")),
            r#"["websocket", "spdy/3.1"]"#,
            "Protocols that may follow HTTP on a connection, after a 101 of the upstream; \
             `[]` allows none.",
        )
        .or(r#"["websocket"]"#),
        Key::new(
            "http_version",
            Kind::Choice(&["auto", "1.1", "2"]),
            r#""auto""#,
            "What is spoken with the upstream: over TLS, `auto` is what both agree on, and \
             without it 1.1. `2` without TLS is for a server on loopback.",
        )
        .or(r#""auto""#),
        Key::new(
            "unauthorized",
            Kind::List(&Kind::Table(&UNAUTHORIZED)),
            "[{ status = 401 }, { status = 403, header = \"X-Auth\", equals = \
             [\"expired\"] }]",
            "Which answers say that the token is no good: it is renewed, and the \
             request sent once more. The first that matches wins.",
        )
        .or_else("`[{ status = 401 }, { grpc_status = 16 }]`"),
        Key::new(
            "replay",
            Kind::Choice(&["401", "never"]),
            r#""never""#,
            "Whether a request is sent once more after such an answer.",
        )
        .or(r#""401""#),
        Key::new(
            "replay_limit",
            SIZE,
            r#""64KiB""#,
            "How much of a body is kept for that; 0 keeps none.",
        )
        .or(r#""64KiB""#),
        Key::new(
            "timeouts",
            Kind::Table(&TIMEOUTS),
            r#"{ connect = "5s", response = "60s", idle = "30s" }"#,
            "How long the upstream may take.",
        )
        .or("{}"),
        Key::new(
            "hand_out",
            Kind::Boolean,
            "false",
            "Whether the answer is the token itself (RFC 6749 §5.1); the provider \
             must say so, too.",
        )
        .or("false"),
        CONNECT,
        WAY,
        ALLOW_PLAINTEXT,
    ],
    of: Of::Some(&["upstream", "hand_out"]),
};

pub(super) static TIMEOUTS: Table = Table {
    name: "timeouts",
    written: "timeouts = { .. }",
    about: "How long the upstream of a route may take.",
    keys: &[
        Key::new(
            "connect",
            DURATION,
            r#""5s""#,
            "Until there is a connection, with TLS and through the egress proxy; \
             then 502 `upstream-unreachable`.",
        )
        .or(r#""5s""#),
        Key::new(
            "response",
            DURATION,
            r#""60s""#,
            "Until there is the head of an answer; then 504 `upstream-timeout`.",
        )
        .or(r#""60s""#),
        Key::new(
            "idle",
            DURATION,
            r#""30s""#,
            "How long the body of the answer may stand still.",
        )
        .or(r#""30s""#),
    ],
    of: Of::Any,
};

const CODE: Kind = Kind::Either(&[STRING, Kind::Boolean, Kind::Whole]);
const CODES: Kind = Kind::Either(&[CODE, Kind::List(&CODE)]);

pub(super) static UNAUTHORIZED: Table = Table {
    name: "unauthorized",
    written: "{ status = 401 }",
    about: "An answer that says that the token is no good: an element of \
             `unauthorized`.",
    keys: &[
        Key::new(
            "status",
            Kind::Integer(200, 599),
            "401",
            "Its status; not 407. Not beside `grpc_status`.",
        )
        .or_else("there is `grpc_status`"),
        Key::new(
            "grpc_status",
            Kind::Integer(1, 16),
            "16",
            "The status that a call of gRPC ends with, before its first message.",
        )
        .or_else("there is `status`"),
        Key::new(
            "json",
            POINTER,
            r#""/errors/*/extensions/code""#,
            "A value in its JSON, `*` for any element; of at most 64 KiB, not \
             compressed.",
        )
        .or_else("the status is enough"),
        Key::new("header", HEADER, r#""X-Auth""#, "A header of it.")
            .or_else("the status is enough"),
        Key::new(
            "equals",
            CODES,
            r#"["UNAUTHENTICATED"]"#,
            "What is there: one of these. With `json` or `header`.",
        )
        .or_else("the status is enough"),
        Key::new(
            "renew",
            Kind::Choice(&["self", "parent"]),
            r#""parent""#,
            "Which token is renewed: the route's own, or the one it is made from.",
        )
        .or_else(r#"`"self"`"#),
    ],
    of: Of::Some(&["status", "grpc_status"]),
};
