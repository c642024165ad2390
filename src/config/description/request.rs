//! What is sent to a provider, and how its answer is read: the keys that several types have in common.

use super::values::{
    COUNT, DOCUMENT, DURATION, EGRESS, EXPECTATIONS, EXPIRY, HEADERS, NAME, POINTER, REFERENCE,
    SINGLE_USE, TEMPLATE, TEMPLATES, TLS, TOKEN_PLACE, VALUES,
};
use super::{Key, Kind, Of, Table};

const PLACES: Kind = Kind::List(&Kind::Table(&EXPIRY));
const TOKEN_PLACES: Kind = Kind::Either(&[POINTER, Kind::Table(&TOKEN_PLACE)]);
const USES: Kind = Kind::Either(&[Kind::Boolean, Kind::Table(&SINGLE_USE)]);
const RULES_OF_INPUTS: Kind = Kind::List(&Kind::Table(&RULE));

// A request.
pub(super) const METHOD: Key = Key::new(
    "method",
    Kind::Text("method", "^[A-Z][A-Z0-9-]*$"),
    r#""POST""#,
    "The method.",
)
.or(r#""POST""#);
pub(super) const HEADERS_SENT: Key = Key::new(
    "headers",
    HEADERS,
    r#"{ Accept = "application/json" }"#,
    "Headers; a credential in them is a placeholder, like `Authorization \
             = \"Bearer {parent}\"`.",
)
.or("{}");
pub(super) const QUERY_SENT: Key = Key::new(
    "query",
    TEMPLATES,
    r#"{ v = "2" }"#,
    "Query parameters, besides those of the URL.",
)
.or("{}");
pub(super) const JSON: Key = Key::new(
    "json",
    Kind::Json,
    r#"{ app = "example" }"#,
    "The content, as JSON. A string that is exactly one placeholder has \
             the type of its value.",
)
.or_else("no content, or `form`");
pub(super) const FORM: Key = Key::new(
    "form",
    TEMPLATES,
    r#"{ app = "example" }"#,
    "The content, as a form.",
)
.or_else("no content, or `json`");

// How an answer is read.
pub(super) const TOKEN: Key = Key::new(
    "token",
    TOKEN_PLACES,
    r#""/access_token""#,
    "Where the token is in the answer.",
);
pub(super) const EXPECT: Key = Key::new(
    "expect",
    EXPECTATIONS,
    r#"{ "/status" = "OK" }"#,
    "What has to be true of an answer, of which anything else is a \
             failure.",
)
.or("{}");
pub(super) const EXPIRY_PLACES: Key = Key::new(
    "expiry",
    PLACES,
    r#"[{ json = "/expires_at", unit = "rfc3339" }, { after = "15m" }]"#,
    "Where the answer may state the lifetime: the first place that does \
             counts. Then the `exp` of a token that is a JWT, else 5 minutes.",
)
.or("[]");
pub(super) const SOFT_EXPIRY: Key = Key::new(
    "soft_expiry",
    PLACES,
    r#"[{ json = "/refresh_in" }]"#,
    "When the provider wants the next one asked for; the token is good \
             until its end all the same.",
)
.or("[]");
pub(super) const MAX_LIFETIME: Key = Key::new(
    "max_lifetime",
    DURATION,
    r#""1h""#,
    "A token is not used for longer than this, whatever the answer says.",
)
.or_else("as the answer says");
pub(super) const REFUSED: Key = Key::new(
    "refused",
    EXPECTATIONS,
    r#"{ "/error" = ["application_cannot_be_found"] }"#,
    "What is true of a refusal: of no use to ask again until a secret \
             changes. Of any status but 408, 429 and 5xx.",
)
.or("{}");
pub(super) const RETRY_AFTER: Key = Key::new(
    "retry_after",
    POINTER,
    r#""/retryAfter""#,
    "Where the answer says how many seconds to stay away, where no \
             `Retry-After` does.",
)
.or_else("no such place");
pub(super) const ERROR: Key = Key::new(
    "error",
    POINTER,
    r#""/error_description""#,
    "Where a failure is described: told in the log, never to the app.",
)
.or_else("no such place");
pub(super) const SINGLE: Key = Key::new(
    "single_use",
    USES,
    r#"{ json = "/usage", equals = "SINGLE_USE" }"#,
    "Whether a token is good for one use only: then it is never kept, \
             never shared, never replayed.",
)
.or("false");

// What all have.
pub(super) const INPUTS: Key = Key::new(
    "inputs",
    Kind::List(&NAME),
    r#"["tenant"]"#,
    "What a route has to supply, by name; there is a token for each \
             distinct value.",
)
.or("[]");
pub(super) const FIELDS: Key = Key::new(
    "fields",
    Kind::Names("name", &POINTER),
    r#"{ merchant = "/merchant_id" }"#,
    "Further members of the answer that are kept: `{field.NAME}` in a \
             route's headers, and beside a token that is handed out.",
)
.or("{}");
pub(super) const HAND_OUT: Key = Key::new(
    "hand_out",
    Kind::Boolean,
    "true",
    "Whether a route may answer with the token itself.",
)
.or("false");
pub(super) const WARM: Key = Key::new(
    "warm",
    Kind::Boolean,
    "true",
    "Whether it is fetched at start, and `/readyz` waits for it.",
)
.or("false");
pub(super) const TIMEOUT: Key = Key::new(
    "timeout",
    DURATION,
    r#""10s""#,
    "How long one attempt may take, connecting included.",
)
.or(r#""10s""#);
pub(super) const TOKEN_WAIT: Key = Key::new(
    "token_wait",
    DURATION,
    r#""10s""#,
    "How long a request waits for a token; then 504 `token-timeout`.",
)
.or(r#""10s""#);
pub(super) const MAX_ENTRIES: Key = Key::new(
    "max_entries",
    COUNT,
    "10000",
    "Tokens kept; the one unused for longest makes room.",
)
.or("10000");
pub(super) const MAX_IDLE: Key = Key::new(
    "max_idle",
    DURATION,
    r#""1h""#,
    "How long an unused token is kept.",
)
.or(r#""1h""#);
pub(super) const CONNECT: Key = Key::new(
    "tls",
    Kind::Table(&TLS),
    r#"{ ca = "/etc/ssl/private-ca.pem" }"#,
    "How TLS is spoken with it.",
)
.or_else("the system's roots, and no certificate");
pub(super) const WAY: Key = Key::new(
    "egress_proxy",
    EGRESS,
    "false",
    "The way out, in place of the file's.",
)
.or_else("the file's");
pub(super) const ALLOW_PLAINTEXT: Key = Key::new(
    "allow_plaintext",
    Kind::Boolean,
    "true",
    "Whether its URL may be `http://` to another machine.",
)
.or("false");

pub(super) const PARENT: Key = Key::new(
    "parent",
    NAME,
    r#""key""#,
    "The provider whose token authenticates the request: `{parent}`. \
             Inputs of the same name go to it.",
)
.or_else("nobody: secrets do");
pub(super) const WITHIN_PARENT: Key = Key::new(
    "within_parent",
    Kind::Boolean,
    "true",
    "Whether a token is used no longer than its parent's. Wants `parent`.",
)
.or("false");
pub(super) const RULES: Key = Key::new(
    "rules",
    RULES_OF_INPUTS,
    r#"[{ input = "tenant", equals = ["0"], at_most = 0 }]"#,
    "What is needed of inputs beyond their type; else 400 `bad-request`.",
)
.or("[]");
pub(super) const SECRETS: Key = Key::new(
    "secrets",
    Kind::Names("name", &REFERENCE),
    r#"{ app = { env = "APP_SECRET" } }"#,
    "Secrets, by the names that templates use: `{secret.NAME}`.",
)
.or("{}");

pub(super) static RULE: Table = Table {
    name: "rule-of-an-input",
    written: "{ input = \"phones\", pointer = \"/*/primary\", equals = true, \
             at_most = 1 }",
    about: "How many values there may be in an input.",
    keys: &[
        Key::new("input", NAME, r#""tenant""#, "Which input."),
        Key::new(
            "pointer",
            POINTER,
            r#""/*/primary""#,
            "Where in it, `*` for any element.",
        )
        .or_else("the whole of it"),
        Key::new("equals", VALUES, r#"["0"]"#, "What counts.").or_else("everything"),
        Key::new(
            "at_most",
            Kind::Integer(0, u64::MAX),
            "1",
            "How many there may be.",
        )
        .or_else("any number"),
        Key::new(
            "at_least",
            Kind::Integer(0, u64::MAX),
            "1",
            "How many there must be.",
        )
        .or_else("none"),
    ],
    of: Of::Some(&["at_most", "at_least"]),
};

pub(super) static REFRESH: Table = Table {
    name: "refresh",
    written: "[provider.NAME.refresh]",
    about: "How the next token is asked for with what came with the last one: \
             `{refresh_token}`. Refused, it begins anew.",
    keys: &[
        Key::new(
            "token",
            POINTER,
            r#""/refresh_token""#,
            "Where the refresh token is, in the answer to either request.",
        ),
        Key::new(
            "url",
            TEMPLATE,
            r#""https://api.example.com/refresh""#,
            "Where it goes.",
        )
        .or_else("where the first request goes"),
        METHOD,
        HEADERS_SENT,
        QUERY_SENT,
        JSON,
        FORM,
        Key::new(
            "expiry",
            PLACES,
            r#"[{ after = "24h" }]"#,
            "Where the answer may state the lifetime of the refresh token.",
        )
        .or("[]"),
    ],
    of: Of::Any,
};

pub(super) const VARIABLES: Kind = DOCUMENT;
