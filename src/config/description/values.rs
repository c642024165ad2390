//! What values of more than one table can be, and the small tables in them.

use super::{Key, Kind, Of, Table};

pub(super) const DURATION: Kind =
    Kind::Text("duration", "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$");
pub(super) const SIZE: Kind = Kind::Either(&[
    Kind::Integer(0, 1 << 40),
    Kind::Text("size", "^[0-9]+([KMG]i?)?B$"),
]);
pub(super) const COUNT: Kind = Kind::Integer(1, 10_000_000);
pub(super) const STRING: Kind = Kind::Text("string", "");
pub(super) const ADDRESS: Kind = Kind::Text(
    "address and port",
    "^([0-9.]+|\\[[0-9a-fA-F:.]+\\]):[0-9]+$",
);
pub(super) const URL: Kind = Kind::Text("URL", "^https?://[^@#]+$");
pub(super) const FILE_PATH: Kind = Kind::Text("absolute path", "^/");
pub(super) const NAME: Kind = Kind::Text("name", "^[A-Za-z0-9_-]{1,64}$");
pub(super) const HOST: Kind = Kind::Text("host", "^([A-Za-z0-9_.-]+|\\[[0-9a-fA-F:.]+\\])$");
pub(super) const HEADER: Kind = Kind::Text("header name", "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$");
pub(super) const POINTER: Kind = Kind::Text("JSON pointer", "^/");
pub(super) const TEMPLATE: Kind = Kind::Text("template", "^[^\\u0000-\\u001f\\u007f]*$");
pub(super) const TEMPLATES: Kind = Kind::Names("name", &TEMPLATE);
pub(super) const HEADERS: Kind = Kind::Names("header name", &TEMPLATE);
pub(super) const REFERENCE: Kind = Kind::Table(&SECRET);
pub(super) const STRING_OR_REFERENCE: Kind = Kind::Either(&[STRING, REFERENCE]);
pub(super) const SCOPE: Kind = Kind::Either(&[STRING, Kind::List(&STRING)]);
pub(super) const IDENTIFIER: Kind = Kind::Text("string", "^[!-~]+$");
pub(super) const EXPECTATIONS: Kind = Kind::Names("JSON pointer", &EXPECTATION);
pub(super) const EGRESS: Kind = Kind::Either(&[
    Kind::Text("URL", "^http://[^@#]+$"),
    Kind::Table(&EGRESS_PROXY),
    Kind::Just(false),
]);

/// What an answer is held against.
const SCALAR: Kind = Kind::Either(&[STRING, Kind::Boolean, Kind::Number]);
pub(super) const VALUES: Kind = Kind::Either(&[SCALAR, Kind::List(&SCALAR)]);
const EXPECTATION: Kind = Kind::Either(&[VALUES, Kind::Table(&EXPECTED)]);

pub(super) static SECRET: Table = Table {
    name: "reference",
    written: r#"{ env = "NAME" }, { file = "/path" }"#,
    about: "Where a secret is kept. The file never holds one: a reference can be \
             read again when the secret is rotated, and kept in a repository. It \
             is read when it is used.",
    keys: &[
        Key::new(
            "env",
            Kind::Text(
                "name of an environment variable",
                "^[A-Za-z_][A-Za-z0-9_]*$",
            ),
            r#""CLIENT_SECRET""#,
            "The environment variable that has it.",
        )
        .or_else("there is `file`"),
        Key::new(
            "file",
            FILE_PATH,
            r#""/run/secrets/client_secret""#,
            "The file that has it; one line break at its end is cut.",
        )
        .or_else("there is `env`"),
    ],
    of: Of::One(&["env", "file"]),
};

const ALGORITHMS: Kind = Kind::Choice(&[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
]);
const SHARED_ALGORITHMS: Kind = Kind::Choice(&["HS256", "HS384", "HS512"]);
pub(super) const ANY_ALGORITHM: Kind = Kind::Choice(&[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256",
    "HS384", "HS512",
]);

pub(super) const KEY: Key = Key::new(
    "key",
    REFERENCE,
    r#"{ file = "/run/secrets/client.pem" }"#,
    "The private key, as PEM (PKCS #8, PKCS #1 or SEC 1); its certificate \
             may be beside it in the same file.",
);
const ALG: Key = Key::new(
    "alg",
    ALGORITHMS,
    r#""RS256""#,
    "How it is signed (RFC 7518 §3.1).",
);
pub(super) const KID: Key = Key::new(
    "kid",
    STRING,
    r#""auto""#,
    "Which key it is. `\"auto\"` is the upper-case SHA-1 fingerprint of \
             the certificate beside the key.",
)
.or_else("no `kid`");
pub(super) const X5T: Key = Key::new(
    "x5t",
    Kind::Boolean,
    "true",
    "Whether the header has the SHA-1 thumbprint of the certificate (RFC \
             7515 §4.1.7).",
)
.or("false");
pub(super) const X5T_S256: Key = Key::new(
    "x5t#S256",
    Kind::Boolean,
    "true",
    "Whether the header has the SHA-256 thumbprint of the certificate \
             (RFC 7515 §4.1.8).",
)
.or("false");
pub(super) const X5C: Key = Key::new(
    "x5c",
    Kind::Boolean,
    "true",
    "Whether the header has the certificate itself (RFC 7515 §4.1.6).",
)
.or("false");
pub(super) const HEADER_FIELDS: Key = Key::new(
    "header",
    DOCUMENT,
    r#"{ cty = "example" }"#,
    "Further fields of the header.",
)
.or("{}");
pub(super) const CLAIMS: Key = Key::new(
    "claims",
    DOCUMENT,
    "{ tenant = 7 }",
    "Claims besides `iat`, `nbf`, `exp` and `jti`, which are set anew \
             whenever it is signed; `{input.NAME}` and `{key.sha256}` in them. Of \
             a client's assertion `iss`, `sub` and `aud` are set, too, unless \
             they are here.",
)
.or("{}");
pub(super) const DOCUMENT: Kind = Kind::Names("name", &Kind::Json);
const AUDIENCE: Key = Key::new(
    "audience",
    STRING,
    r#""https://login.example.com""#,
    "For whom it is: the claim `aud`.",
)
.or_else("the token endpoint");
const ASSERTION_LIFETIME: Key = Key::new(
    "lifetime",
    DURATION,
    r#""60s""#,
    "From `iat`, which lies 10 s in the past because clocks differ, to \
             `exp`.",
)
.or(r#""60s""#);

pub(super) static ASSERTION: Table = Table {
    name: "assertion",
    written: r#"{ key = { file = "/path" }, alg = "RS256" }"#,
    about: "A JWT that a private key signs, anew for every attempt (RFC 7523).",
    keys: &[
        ALG,
        KEY,
        KID,
        X5T,
        X5T_S256,
        X5C,
        HEADER_FIELDS,
        CLAIMS,
        ASSERTION_LIFETIME,
        AUDIENCE,
    ],
    of: Of::Any,
};

pub(super) static SHARED_ASSERTION: Table = Table {
    name: "shared-assertion",
    written: r#"{ alg = "HS256" }"#,
    about: "A JWT that the client's secret signs: `client_auth = \
             \"client_secret_jwt\"`. The table may be left out.",
    keys: &[
        Key::new(
            "alg",
            SHARED_ALGORITHMS,
            r#""HS384""#,
            "How it is signed (RFC 7518 §3.1).",
        )
        .or(r#""HS256""#),
        Key::new("kid", STRING, r#""key-1""#, "Which secret it is.").or_else("no `kid`"),
        HEADER_FIELDS,
        CLAIMS,
        ASSERTION_LIFETIME,
        AUDIENCE,
    ],
    of: Of::Any,
};

pub(super) static TLS: Table = Table {
    name: "tls",
    written: r#"{ ca = "/path", cert = "/path", key = "/path" }"#,
    about: "How TLS is spoken with a server. `cert` and `key` belong together.",
    keys: &[
        Key::new(
            "ca",
            FILE_PATH,
            r#""/etc/ssl/private-ca.pem""#,
            "Roots to trust in place of the system's, as PEM.",
        )
        .or_else("the system's roots"),
        Key::new(
            "cert",
            FILE_PATH,
            r#""/run/secrets/client.crt""#,
            "The certificate to show to a server that asks for one, as PEM. \
             Renewed files are taken up without a restart.",
        )
        .or_else("no certificate is shown"),
        Key::new(
            "key",
            FILE_PATH,
            r#""/run/secrets/client.key""#,
            "The key of that certificate, as PEM.",
        )
        .or_else("no certificate is shown"),
    ],
    of: Of::Any,
};

pub(super) static EGRESS_PROXY: Table = Table {
    name: "egress-proxy",
    written: r#"{ url = "http://proxy.example.com:3128", .. }"#,
    about: "An HTTP proxy that is asked for tunnels (`CONNECT`), where its URL \
             alone does not say everything.",
    keys: &[
        Key::new(
            "url",
            Kind::Text("URL", "^http://[^@#]+$"),
            r#""http://proxy.example.com:3128""#,
            "Where it is, with its port.",
        ),
        Key::new(
            "username",
            STRING_OR_REFERENCE,
            r#""svc""#,
            "Who asks; `password` belongs to it.",
        )
        .or_else("nobody in particular"),
        Key::new(
            "password",
            REFERENCE,
            r#"{ file = "/run/secrets/proxy_password" }"#,
            "Read for each connection.",
        )
        .or_else("nobody in particular"),
        Key::new(
            "no_proxy",
            Kind::Either(&[STRING, Kind::List(&STRING)]),
            r#"["api.internal", ".corp.example", "10.0.0.0/8"]"#,
            "What is connected to directly all the same: a host, all hosts below \
             a domain, a network.",
        )
        .or("[]"),
    ],
    of: Of::Any,
};

const UNIT: Key = Key::new(
    "unit",
    Kind::Choice(&["s", "min", "ms", "epoch", "epoch_ms", "rfc3339"]),
    r#""epoch""#,
    "What the value is: seconds, minutes or milliseconds from now, \
             seconds or milliseconds since 1970, or a date (RFC 3339). With \
             `json`, `header` and `input`.",
)
.or(r#""s""#);

pub(super) static EXPIRY: Table = Table {
    name: "place-of-a-lifetime",
    written: r#"{ json = "/expires_on", unit = "epoch" }"#,
    about: "One place where a lifetime may be stated: an element of `expiry` and \
             `soft_expiry`.",
    keys: &[
        Key::new(
            "json",
            POINTER,
            r#""/expires_on""#,
            "A value in the answer.",
        )
        .or_else("another place"),
        Key::new(
            "header",
            HEADER,
            r#""X-Expires-In""#,
            "A header of the answer.",
        )
        .or_else("another place"),
        Key::new(
            "jwt",
            Kind::Just(true),
            "true",
            "The `exp` of the token itself.",
        )
        .or_else("another place"),
        Key::new(
            "input",
            NAME,
            r#""minutes""#,
            "An input: what was asked for.",
        )
        .or_else("another place"),
        Key::new(
            "after",
            DURATION,
            r#""5m""#,
            "So long after the answer; nothing comes behind it.",
        )
        .or_else("another place"),
        UNIT,
        Key::new(
            "strip_prefix",
            STRING,
            r#""_""#,
            "With `jwt`: the JWT begins behind the first of these.",
        )
        .or_else("the token is the JWT"),
    ],
    of: Of::One(&["json", "header", "jwt", "input", "after"]),
};

pub(super) static TOKEN_PLACE: Table = Table {
    name: "place-of-a-token",
    written: r#"{ header = "X-Auth-Token" }"#,
    about: "Where an answer has the token, if not in its JSON.",
    keys: &[
        Key::new(
            "json",
            POINTER,
            r#""/access_token""#,
            "The same as the pointer alone.",
        )
        .or_else("another place"),
        Key::new(
            "header",
            HEADER,
            r#""X-Auth-Token""#,
            "A header of the answer.",
        )
        .or_else("another place"),
        Key::new("body", Kind::Just(true), "true", "The body is the token.")
            .or_else("another place"),
    ],
    of: Of::One(&["json", "header", "body"]),
};

pub(super) static EXPECTED: Table = Table {
    name: "expectation",
    written: "{ exists = true }",
    about: "What a value has to be, in `expect` and `refused`.",
    keys: &[
        Key::new(
            "equals",
            VALUES,
            r#"["OK", "DONE"]"#,
            "One of these; the same as the values alone.",
        )
        .or_else("another expectation"),
        Key::new(
            "exists",
            Kind::Just(true),
            "true",
            "It is there, and not `null`.",
        )
        .or_else("another expectation"),
        Key::new("absent", Kind::Just(true), "true", "It is not there.")
            .or_else("another expectation"),
    ],
    of: Of::One(&["equals", "exists", "absent"]),
};

pub(super) static SINGLE_USE: Table = Table {
    name: "single-use",
    written: r#"{ json = "/usage", equals = "SINGLE_USE" }"#,
    about: "The answer says whether its token is good for one use.",
    keys: &[
        Key::new("json", POINTER, r#""/usage""#, "Where it says so."),
        Key::new("equals", VALUES, r#""SINGLE_USE""#, "What it says then."),
    ],
    of: Of::Any,
};
