//! `[provider.NAME]`: its types.

use super::request::{
    ALLOW_PLAINTEXT, CONNECT, ERROR, EXPECT, EXPIRY_PLACES, FIELDS, FORM, HAND_OUT, HEADERS_SENT,
    INPUTS, JSON, MAX_ENTRIES, MAX_IDLE, MAX_LIFETIME, METHOD, PARENT, QUERY_SENT, REFRESH,
    REFUSED, RETRY_AFTER, RULES, SECRETS, SINGLE, SOFT_EXPIRY, TIMEOUT, TOKEN, TOKEN_WAIT,
    VARIABLES, WARM, WAY, WITHIN_PARENT,
};
use super::values::{
    ANY_ALGORITHM, ASSERTION, CLAIMS, DURATION, HEADER_FIELDS, IDENTIFIER, KEY, KID, REFERENCE,
    SCOPE, SECRET, SHARED_ASSERTION, STRING, STRING_OR_REFERENCE, TEMPLATE, TEMPLATES, URL, X5C,
    X5T, X5T_S256,
};
use super::{Key, Kind, Of, Table};

const fn of_type(name: &'static [&'static str], example: &'static str) -> Key {
    Key::new(
        "type",
        Kind::Choice(name),
        example,
        "Where the token comes from.",
    )
}

const PASSWORD: &[&str] = &["password"];
const TOKEN_EXCHANGE: &[&str] = &[
    "token-exchange",
    "urn:ietf:params:oauth:grant-type:token-exchange",
];
const JWT_BEARER: &[&str] = &["jwt-bearer", "urn:ietf:params:oauth:grant-type:jwt-bearer"];

const ANY_ASSERTION: Kind = Kind::Either(&[
    Kind::Table(&ASSERTION),
    Kind::Table(&SHARED_ASSERTION),
    Kind::Table(&SECRET),
]);

pub(super) static OAUTH2: Table = Table {
    name: "oauth2",
    written: r#"[provider.NAME] type = "oauth2""#,
    about: "A token endpoint (RFC 6749).",
    keys: &[
        of_type(&["oauth2"], r#""oauth2""#),
        Key::new(
            "token_endpoint",
            URL,
            r#""https://login.example.com/token""#,
            "Where tokens are asked for.",
        ),
        Key::new(
            "grant_type",
            Kind::Choice(&[
                "client_credentials",
                "password",
                "refresh_token",
                "jwt-bearer",
                "token-exchange",
                "urn:ietf:params:oauth:grant-type:jwt-bearer",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ]),
            r#""client_credentials""#,
            "What for: RFC 6749 §4.4, §4.3, §6; RFC 7523 §2.1; RFC 8693.",
        )
        .or(r#""client_credentials""#),
        Key::new(
            "client_auth",
            Kind::Choice(&[
                "client_secret_basic",
                "client_secret_post",
                "client_secret_jwt",
                "private_key_jwt",
                "tls_client_auth",
                "self_signed_tls_client_auth",
                "none",
            ]),
            r#""client_secret_basic""#,
            "How the client proves who it is (RFC 6749 §2.3, RFC 7523, RFC 8705).",
        )
        .or_else(
            "`\"client_secret_basic\"`; `\"none\"` where there is no \
             `client_secret` and the grant says who asks (`jwt-bearer`, \
             `token-exchange`)",
        ),
        Key::new(
            "client_id",
            STRING_OR_REFERENCE,
            r#"{ env = "CLIENT_ID" }"#,
            "Who the client is. Not a secret, but it may be kept where the secret \
             is.",
        )
        .or_else("the grant or the assertion says it; otherwise it must be there"),
        Key::new(
            "client_secret",
            REFERENCE,
            r#"{ file = "/run/secrets/client_secret" }"#,
            "The client's secret, where `client_auth` sends one or signs with it.",
        )
        .or_else("`client_auth` needs none"),
        Key::new(
            "assertion",
            ANY_ASSERTION,
            r#"{ alg = "HS256" }"#,
            "The assertion of the client (`client_auth = \"private_key_jwt\"` or \
             `\"client_secret_jwt\"`), or of the grant `jwt-bearer`; a reference \
             is one that somebody else has signed.",
        )
        .or_else("nothing asserts"),
        Key::new(
            "client_assertion",
            ANY_ASSERTION,
            r#"{ alg = "HS256" }"#,
            "The assertion of the client, where the grant has one of its own.",
        )
        .only_with("grant_type", JWT_BEARER)
        .or_else("nothing asserts"),
        Key::new(
            "scope",
            SCOPE,
            r#"["read", "write"]"#,
            "What the token is for; a route may replace it. A string is split at \
             its spaces.",
        )
        .or("[]"),
        Key::new(
            "resource",
            Kind::Either(&[IDENTIFIER, Kind::List(&IDENTIFIER)]),
            r#"["https://api.example.com/"]"#,
            "Where the token will be used (RFC 8707).",
        )
        .or("[]"),
        Key::new(
            "params",
            TEMPLATES,
            r#"{ audience = "https://api.example.com/" }"#,
            "Further parameters of the token request; `{input.NAME}` in them.",
        )
        .or("{}"),
        Key::new(
            "username",
            STRING_OR_REFERENCE,
            r#""robot""#,
            "Whose password it is.",
        )
        .only_with("grant_type", PASSWORD),
        Key::new(
            "password",
            REFERENCE,
            r#"{ env = "ROBOT_PASSWORD" }"#,
            "Where it is.",
        )
        .only_with("grant_type", PASSWORD),
        Key::new(
            "refresh_token",
            REFERENCE,
            r#"{ file = "/run/secrets/refresh_token" }"#,
            "The first one. What an answer brings is kept in memory, and sent \
             next.",
        )
        .only_with("grant_type", &["refresh_token"]),
        Key::new(
            "subject_token",
            REFERENCE,
            r#"{ file = "/var/run/secrets/tokens/login" }"#,
            "The token of whom the new one is about (RFC 8693 §2.1).",
        )
        .only_with("grant_type", TOKEN_EXCHANGE),
        Key::new(
            "subject_token_type",
            IDENTIFIER,
            r#""urn:ietf:params:oauth:token-type:jwt""#,
            "What it is.",
        )
        .only_with("grant_type", TOKEN_EXCHANGE),
        Key::new(
            "actor_token",
            REFERENCE,
            r#"{ file = "/var/run/secrets/tokens/actor" }"#,
            "The token of whom acts; `actor_token_type` belongs to it.",
        )
        .only_with("grant_type", TOKEN_EXCHANGE)
        .or_else("nobody else acts"),
        Key::new(
            "actor_token_type",
            IDENTIFIER,
            r#""urn:ietf:params:oauth:token-type:jwt""#,
            "What it is.",
        )
        .only_with("grant_type", TOKEN_EXCHANGE)
        .or_else("nobody else acts"),
        Key::new(
            "requested_token_type",
            IDENTIFIER,
            r#""urn:ietf:params:oauth:token-type:access_token""#,
            "What is wanted.",
        )
        .only_with("grant_type", TOKEN_EXCHANGE)
        .or_else("the server decides"),
        Key::new(
            "audience",
            Kind::Either(&[IDENTIFIER, Kind::List(&IDENTIFIER)]),
            r#""https://api.example.com""#,
            "For whom the new one is.",
        )
        .only_with("grant_type", TOKEN_EXCHANGE)
        .or("[]"),
        INPUTS,
        Key::new(
            "expiry",
            EXPIRY_PLACES.kind,
            r#"[{ json = "/expires_on", unit = "epoch" }, { after = "5m" }]"#,
            "Where the answer may state the lifetime: the first place that does \
             counts, then `expires_in`, and `after` last. With nothing: 5 \
             minutes.",
        )
        .or("[]"),
        SOFT_EXPIRY,
        MAX_LIFETIME,
        REFUSED,
        RETRY_AFTER,
        ERROR,
        FIELDS,
        HAND_OUT,
        WARM,
        TIMEOUT,
        TOKEN_WAIT,
        MAX_ENTRIES,
        MAX_IDLE,
        CONNECT,
        WAY,
        ALLOW_PLAINTEXT,
    ],
    of: Of::Any,
};

pub(super) static HTTP: Table = Table {
    name: "http",
    written: r#"[provider.NAME] type = "http""#,
    about: "Any exchange whose answer has a token in it. Placeholders of its \
             templates: `{input.NAME}`, `{secret.NAME}`, `{parent}`.",
    keys: &[
        of_type(&["http"], r#""http""#),
        Key::new(
            "url",
            TEMPLATE,
            r#""https://api.example.com/{input.tenant}/session""#,
            "Where the request goes; placeholders stand behind the host.",
        ),
        METHOD,
        HEADERS_SENT,
        QUERY_SENT,
        JSON,
        FORM,
        PARENT,
        WITHIN_PARENT,
        INPUTS,
        RULES,
        SECRETS,
        TOKEN,
        EXPECT,
        EXPIRY_PLACES,
        SOFT_EXPIRY,
        MAX_LIFETIME,
        SINGLE,
        REFUSED,
        RETRY_AFTER,
        ERROR,
        FIELDS,
        Key::new(
            "refresh",
            Kind::Table(&REFRESH),
            "{ token = \"/refresh_token\", form = { refresh_token = \
             \"{refresh_token}\" } }",
            "How the next one is asked for.",
        )
        .or_else("as the first"),
        HAND_OUT,
        WARM,
        TIMEOUT,
        TOKEN_WAIT,
        MAX_ENTRIES,
        MAX_IDLE,
        CONNECT,
        WAY,
        ALLOW_PLAINTEXT,
    ],
    of: Of::Any,
};

pub(super) static GRAPHQL: Table = Table {
    name: "graphql",
    written: r#"[provider.NAME] type = "graphql""#,
    about: "The same with a GraphQL operation. `errors`, a `UserError` or an \
             `AccessDeniedError` in a 200 is a failure.",
    keys: &[
        of_type(&["graphql"], r#""graphql""#),
        Key::new(
            "url",
            TEMPLATE,
            r#""https://api.example.com/graphql""#,
            "Where the request goes; placeholders stand behind the host.",
        ),
        HEADERS_SENT,
        Key::new(
            "query",
            STRING,
            r#""mutation($id: ID!) { mint(id: $id) { value } }""#,
            "The operation. It has no placeholders: values belong in its \
             variables.",
        ),
        Key::new(
            "variables",
            VARIABLES,
            r#"{ id = "{input.tenant}" }"#,
            "The values of its variables. A string that is exactly one \
             placeholder has the type of its value.",
        )
        .or_else("it has none"),
        Key::new(
            "operation_name",
            STRING,
            r#""Mint""#,
            "Which operation of several.",
        )
        .or_else("there is one"),
        PARENT,
        WITHIN_PARENT,
        INPUTS,
        RULES,
        SECRETS,
        TOKEN,
        EXPECT,
        EXPIRY_PLACES,
        SOFT_EXPIRY,
        MAX_LIFETIME,
        SINGLE,
        REFUSED,
        RETRY_AFTER,
        ERROR,
        FIELDS,
        Key::new(
            "refresh",
            Kind::Table(&REFRESH),
            "{ token = \"/refresh_token\", form = { refresh_token = \
             \"{refresh_token}\" } }",
            "How the next one is asked for.",
        )
        .or_else("as the first"),
        HAND_OUT,
        WARM,
        TIMEOUT,
        TOKEN_WAIT,
        MAX_ENTRIES,
        MAX_IDLE,
        CONNECT,
        WAY,
        ALLOW_PLAINTEXT,
    ],
    of: Of::Any,
};

pub(super) static STATIC: Table = Table {
    name: "static",
    written: r#"[provider.NAME] type = "static""#,
    about: "A long-lived key. Nothing is fetched.",
    keys: &[
        of_type(&["static"], r#""static""#),
        Key::new(
            "secret",
            REFERENCE,
            r#"{ env = "API_KEY" }"#,
            "Where the key is.",
        ),
        HAND_OUT,
        WARM,
    ],
    of: Of::Any,
};

pub(super) static JWT: Table = Table {
    name: "jwt",
    written: r#"[provider.NAME] type = "jwt""#,
    about: "A JWT that is signed here is the token: GitHub Apps, Snowflake. \
             Nobody is asked.",
    keys: &[
        of_type(&["jwt"], r#""jwt""#),
        Key::new(
            "alg",
            ANY_ALGORITHM,
            r#""RS256""#,
            "How it is signed (RFC 7518 §3.1). With `HS256` and the like `key` is \
             the shared secret, and there is no certificate.",
        ),
        KEY,
        KID,
        X5T,
        X5T_S256,
        X5C,
        HEADER_FIELDS,
        Key::new(
            "claims",
            CLAIMS.kind,
            r#"{ iss = "12345" }"#,
            "Claims besides `iat`, `nbf`, `exp` and `jti`, which are set anew \
             whenever it is signed; `{input.NAME}` and `{key.sha256}` in them.",
        )
        .or("{}"),
        Key::new(
            "lifetime",
            DURATION,
            r#""10m""#,
            "From `iat`, which lies 10 s in the past because clocks differ, to \
             `exp`.",
        )
        .or(r#""10m""#),
        INPUTS,
        FIELDS,
        HAND_OUT,
        WARM,
        MAX_ENTRIES,
        MAX_IDLE,
    ],
    of: Of::Any,
};
