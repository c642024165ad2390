//! The file itself, and its tables about the process as a whole.

use super::values::{ADDRESS, COUNT, DURATION, EGRESS, FILE_PATH, HEADER, HOST, NAME, SIZE, URL};
use super::{Key, Kind, Of, PROVIDERS, Table, route};

/// The file itself.
pub static FILE: Table = Table {
    name: "file",
    written: "proxy.toml",
    about: "The keys outside of all tables, and the tables.",
    keys: &[
        Key::new(
            "resolve",
            Kind::Names("host and port", &ADDRESS),
            r#"{ "api.example.com:443" = "127.0.0.1:9443" }"#,
            "Connects elsewhere than the name of the host says; curl's \
             `--resolve`. TLS is verified for the name all the same.",
        )
        .or("{}"),
        Key::new(
            "egress_proxy",
            EGRESS,
            r#""http://proxy.example.com:3128""#,
            "The HTTP proxy through which connections leave; a provider and a \
             route may say otherwise, and the nearest wins as a whole. \
             `HTTP_PROXY` and the like are ignored.",
        )
        .or_else("directly"),
        Key::new(
            "listen",
            Kind::Table(&LISTEN),
            r#"{ address = "127.0.0.1:8080" }"#,
            "Where the app calls.",
        )
        .or("{}"),
        Key::new(
            "admin",
            Kind::Table(&ADMIN),
            r#"{ address = "127.0.0.1:9901" }"#,
            "Where the SRE looks.",
        )
        .or("{}"),
        Key::new(
            "limits",
            Kind::Table(&LIMITS),
            "{ connections = 1000 }",
            "Everything that could grow.",
        )
        .or("{}"),
        Key::new(
            "log",
            Kind::Table(&LOG),
            r#"{ level = "debug" }"#,
            "What is told on stderr.",
        )
        .or("{}"),
        Key::new(
            "trace",
            Kind::Table(&TRACE),
            r#"{ otlp = "http://127.0.0.1:4318" }"#,
            "Where spans go.",
        )
        .or_else("nothing is traced"),
        Key::new(
            "provider",
            Kind::Names("name", &PROVIDER),
            r#"{ key = { type = "static", secret = { env = "API_KEY" } } }"#,
            "Where tokens come from: `[provider.NAME]`, up to 64 letters, digits, \
             `-` and `_`.",
        )
        .or("{}"),
        Key::new(
            "route",
            Kind::List(&Kind::Table(&route::ROUTE)),
            "[]",
            "Which requests carry which token, and where to: `[[route]]`, and the \
             first that matches takes the request.",
        )
        .or("[]"),
    ],
    of: Of::Any,
};

const PROVIDER: Kind = Kind::Either(&[
    Kind::Table(PROVIDERS[0].1),
    Kind::Table(PROVIDERS[1].1),
    Kind::Table(PROVIDERS[2].1),
    Kind::Table(PROVIDERS[3].1),
    Kind::Table(PROVIDERS[4].1),
]);

const PLACE: Kind = Kind::Either(&[ADDRESS, Kind::Text("Unix socket", "^unix:/")]);

pub(super) static LISTEN: Table = Table {
    name: "listen",
    written: "[listen]",
    about: "Where the app calls. `address` and `workers` change at the next \
             start only.",
    keys: &[
        Key::new(
            "address",
            Kind::Either(&[PLACE, Kind::List(&PLACE)]),
            r#"["127.0.0.1:8080", "unix:/run/pillion/proxy.sock"]"#,
            "Where to listen: addresses, and Unix sockets, which are for \
             processes of pillion's own user and of root.",
        )
        .or(r#"["127.0.0.1:8080", "[::1]:8080"]"#),
        Key::new(
            "peer_uids",
            Kind::List(&Kind::Integer(0, 0xffff_ffff)),
            "[1000]",
            "Users whose processes may call through a Unix socket in `address`, besides \
             pillion's own user and root.",
        )
        .or("[]"),
        Key::new("workers", COUNT, "4", "Threads that serve requests.")
            .or_else("as many as there are cores"),
        Key::new(
            "hosts",
            Kind::List(&HOST),
            r#"["pillion.internal"]"#,
            "Names that the `Host` of a request may have, besides localhost and \
             the listener's own address. Else 403 `forbidden-caller`: against web \
             pages that have a name of their own lead to 127.0.0.1.",
        )
        .or("[]"),
        Key::new(
            "require_header",
            HEADER,
            r#""X-Pillion""#,
            "A header that every request must have, else 403 `forbidden-caller`. \
             A web page cannot send it.",
        )
        .or_else("none is required"),
        Key::new(
            "tls",
            Kind::Table(&LISTEN_TLS),
            r#"{ cert = "/etc/pillion/tls.crt", key = "/etc/pillion/tls.key" }"#,
            "TLS for the addresses, not for Unix sockets, with HTTP/2 and HTTP/1.1 to \
             choose from.",
        )
        .or_else("plaintext"),
        Key::new(
            "drain_timeout",
            DURATION,
            r#""25s""#,
            "How long requests under way may take after SIGTERM.",
        )
        .or(r#""25s""#),
        Key::new(
            "drain_delay",
            DURATION,
            r#""1s""#,
            "How long new connections are still accepted after SIGTERM.",
        )
        .or(r#""1s""#),
    ],
    of: Of::Any,
};

pub(super) static LISTEN_TLS: Table = Table {
    name: "listen-tls",
    written: r#"{ cert = "/path", key = "/path" }"#,
    about: "TLS between the app and pillion.",
    keys: &[
        Key::new(
            "cert",
            FILE_PATH,
            r#""/etc/pillion/tls.crt""#,
            "The certificate chain, as PEM. A renewed file is taken up within seconds.",
        ),
        Key::new(
            "key",
            FILE_PATH,
            r#""/etc/pillion/tls.key""#,
            "The key of that certificate, as PEM.",
        ),
    ],
    of: Of::Any,
};

pub(super) static ADMIN: Table = Table {
    name: "admin",
    written: "[admin]",
    about: "Where the SRE looks: probes, metrics, status. It changes at the next \
             start only.",
    keys: &[Key::new(
        "address",
        ADDRESS,
        r#""0.0.0.0:9901""#,
        "Where to listen. Kubelet's probes come from outside of the pod: \
             `\"0.0.0.0:9901\"`.",
    )
    .or(r#""127.0.0.1:9901""#)],
    of: Of::Any,
};

pub(super) static LIMITS: Table = Table {
    name: "limits",
    written: "[limits]",
    about: "Everything that could grow, of the process as a whole. `connections` \
             and `replay_budget` change at the next start only.",
    keys: &[
        Key::new(
            "connections",
            COUNT,
            "1000",
            "Connections of the app, at once; beyond them 503 `overloaded`.",
        )
        .or("10000"),
        Key::new(
            "head_size",
            SIZE,
            r#""64KiB""#,
            "The head of a request, 8 KiB at least.",
        )
        .or(r#""64KiB""#),
        Key::new(
            "header_timeout",
            DURATION,
            r#""10s""#,
            "How long the head of a request may take.",
        )
        .or(r#""10s""#),
        Key::new(
            "body_idle",
            DURATION,
            r#""30s""#,
            "How long the body of a request may stand still.",
        )
        .or(r#""30s""#),
        Key::new(
            "replay_budget",
            SIZE,
            r#""16MiB""#,
            "Bodies kept for a replay, all together; what does not fit is sent, \
             and not replayed.",
        )
        .or(r#""16MiB""#),
        Key::new(
            "waiters",
            COUNT,
            "10000",
            "Requests that wait for one token; beyond them 503 `overloaded`.",
        )
        .or("10000"),
        Key::new(
            "fetches",
            COUNT,
            "64",
            "Tokens of one provider that are fetched at once.",
        )
        .or("64"),
        Key::new(
            "idle_per_upstream",
            COUNT,
            "64",
            "Idle connections that are kept for one upstream.",
        )
        .or("64"),
        Key::new(
            "idle_timeout",
            DURATION,
            r#""15s""#,
            "How long an idle connection is kept.",
        )
        .or(r#""15s""#),
        Key::new(
            "connection_age",
            DURATION,
            r#""5m""#,
            "How old a connection to an upstream may become, so that a change of \
             DNS is noticed.",
        )
        .or(r#""5m""#),
    ],
    of: Of::Any,
};

pub(super) static LOG: Table = Table {
    name: "log",
    written: "[log]",
    about: "What is told on stderr. Tokens and secrets never are.",
    keys: &[
        Key::new(
            "level",
            Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
            r#""debug""#,
            "What is worth a line.",
        )
        .or(r#""info""#),
        Key::new(
            "format",
            Kind::Choice(&["auto", "text", "human", "json"]),
            r#""json""#,
            "For people or for programs; `\"auto\"` is `\"text\"` on a terminal, \
             else `\"json\"`.",
        )
        .or(r#""auto""#),
    ],
    of: Of::Any,
};

pub(super) static TRACE: Table = Table {
    name: "trace",
    written: "[trace]",
    about: "Spans of requests, replays and token fetches, for OpenTelemetry. It changes \
             at the next start only.",
    keys: &[
        Key::new(
            "otlp",
            URL,
            r#""http://127.0.0.1:4318""#,
            "The collector: OTLP/HTTP in JSON, to `/v1/traces` there.",
        ),
        Key::new(
            "sample",
            Kind::Number,
            "0.1",
            "How many are recorded, from 0 to 1, of requests that bring no \
             `traceparent`, and of fetches.",
        )
        .or("1.0"),
        Key::new("service", NAME, r#""pillion""#, "`service.name`.").or(r#""pillion""#),
    ],
    of: Of::Any,
};
