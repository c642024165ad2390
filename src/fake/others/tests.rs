//! Every system gives a token for the right request, takes it in the right place, and refuses what
//! is nearly right.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::testing::{sign, thumbprint};
use super::*;
use crate::fake::client::{Client, Reply};
use crate::fake::clock;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

struct Stage {
    kind: Kind,
    other: Other,
    key: ClientKey,
    client: Client,
}

/// A request that can be spoiled.
#[derive(Clone)]
struct Fetch {
    path: String,
    fields: Vec<(String, String)>,
    body: Body,
}

#[derive(Clone)]
enum Body {
    None,
    Json(Value),
    Form(Vec<(&'static str, String)>),
}

async fn stage(kind: Kind) -> Stage {
    let authority = Authority::new().unwrap();
    let key = ClientKey::rsa().unwrap();
    let other = Other::start(kind, Some(&authority), Some(&key.certificate_pem))
        .await
        .unwrap();
    let client = Client::trusting(&authority, other.hosts()[0], other.server().address());
    Stage {
        kind,
        other,
        key,
        client,
    }
}

impl Stage {
    fn known(&self, name: &str) -> String {
        let value = self.other.credential(name);
        assert!(!value.is_empty(), "{name}");
        value.to_owned()
    }

    /// Header and claims of the assertion that the system wants.
    fn assertion(&self) -> (Value, Value) {
        let now = clock::unix_now();
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        let mut claims = json!({ "iat": now - 60, "exp": now + 240 });
        let members = match self.kind {
            Kind::GitHub => json!({ "iss": self.known("app_id") }),
            Kind::Google => json!({
                "iss": self.known("client_email"),
                "aud": "https://oauth2.googleapis.com/token",
                "scope": "https://www.googleapis.com/auth/devstorage.read_only",
            }),
            Kind::Salesforce => json!({
                "iss": self.known("client_id"),
                "sub": self.known("username"),
                "aud": "https://login.salesforce.com",
            }),
            Kind::Docusign => json!({
                "iss": self.known("integration_key"),
                "sub": self.known("user_id"),
                "aud": "account-d.docusign.com",
                "scope": "signature impersonation",
            }),
            _ => {
                header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint(&self.key) });
                json!({
                    "iss": self.known("client_id"),
                    "sub": self.known("client_id"),
                    "aud": format!("https://login.microsoftonline.com/{}/oauth2/v2.0/token", self.known("tenant")),
                    "jti": fastrand::u64(..).to_string(),
                })
            }
        };
        for (name, value) in members.as_object().unwrap() {
            claims[name] = value.clone();
        }
        (header, claims)
    }

    fn right(&self) -> Fetch {
        let (header, claims) = match self.kind {
            Kind::GitHub | Kind::Google | Kind::Salesforce | Kind::Docusign | Kind::Entra => {
                self.assertion()
            }
            _ => Default::default(),
        };
        self.with_assertion(&sign(&self.key, &header, &claims))
    }

    fn with_assertion(&self, jwt: &str) -> Fetch {
        let known = |name: &str| self.known(name);
        let grant = || {
            Body::Form(vec![
                ("grant_type", jwt::JWT_BEARER.to_owned()),
                ("assertion", jwt.to_owned()),
            ])
        };
        let (path, fields, body): (&str, Vec<(&str, String)>, Body) = match self.kind {
            Kind::Aeropay => (
                "/token",
                vec![],
                Body::Json(
                    json!({ "api_key": known("api_key"), "api_secret": known("api_secret"), "id": known("id"), "scope": "merchant" }),
                ),
            ),
            Kind::Auth0 => (
                "/oauth/token",
                vec![],
                Body::Json(
                    json!({ "grant_type": "client_credentials", "client_id": known("client_id"), "client_secret": known("client_secret"), "audience": known("audience") }),
                ),
            ),
            Kind::Docusign => ("/oauth/token", vec![], grant()),
            Kind::Entra => (
                &format!("/{}/oauth2/v2.0/token", known("tenant")),
                vec![],
                Body::Form(vec![
                    ("grant_type", "client_credentials".to_owned()),
                    ("client_id", known("client_id")),
                    ("scope", "https://graph.microsoft.com/.default".to_owned()),
                    (
                        "client_assertion_type",
                        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned(),
                    ),
                    ("client_assertion", jwt.to_owned()),
                ]),
            ),
            Kind::GitHub => (
                "/app/installations/42/access_tokens",
                vec![
                    ("authorization", format!("Bearer {jwt}")),
                    ("user-agent", "test".to_owned()),
                ],
                Body::Json(
                    json!({ "repositories": ["hello"], "permissions": { "contents": "read" } }),
                ),
            ),
            Kind::Google => ("/token", vec![], grant()),
            Kind::Marqeta => (
                "/v3/users/auth/clientaccesstoken",
                vec![(
                    "authorization",
                    basic(&known("application_token"), &known("admin_token")),
                )],
                Body::Json(json!({ "card_token": "card-1" })),
            ),
            Kind::Salesforce => ("/services/oauth2/token", vec![], grant()),
            Kind::Shopify => (
                "/admin/oauth/access_token",
                vec![],
                Body::Form(vec![
                    ("grant_type", "client_credentials".to_owned()),
                    ("client_id", known("client_id")),
                    ("client_secret", known("client_secret")),
                ]),
            ),
            Kind::Square => (
                "/oauth2/token",
                vec![("square-version", "2025-01-23".to_owned())],
                Body::Json(
                    json!({ "grant_type": "refresh_token", "client_id": known("client_id"), "client_secret": known("client_secret"), "refresh_token": known("refresh_token") }),
                ),
            ),
            Kind::SumUp => (
                "/v0.1/merchants/MC0001/tokens",
                vec![("authorization", format!("Bearer {}", known("api_key")))],
                Body::Json(json!({ "actions": ["checkout"] })),
            ),
            Kind::Vault => (
                "/v1/auth/approle/login",
                vec![],
                Body::Json(json!({ "role_id": known("role_id"), "secret_id": known("secret_id") })),
            ),
            Kind::Vipps => (
                "/accesstoken/get",
                vec![
                    ("client_id", known("client_id")),
                    ("client_secret", known("client_secret")),
                    (
                        "ocp-apim-subscription-key",
                        known("Ocp-Apim-Subscription-Key"),
                    ),
                ],
                Body::None,
            ),
            Kind::Xoms => (
                "/auth/getToken",
                vec![
                    ("x-username", known("username")),
                    ("x-password", known("password")),
                ],
                Body::None,
            ),
        };
        Fetch {
            path: path.to_owned(),
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            body,
        }
    }

    async fn send(&self, fetch: &Fetch) -> Reply {
        let mut fields: Vec<(&str, &str)> = fetch
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let body = match &fetch.body {
            Body::None => String::new(),
            Body::Json(document) => {
                fields.push(("content-type", JSON));
                document.to_string()
            }
            Body::Form(pairs) => {
                fields.push(("content-type", FORM));
                form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(pairs)
                    .finish()
            }
        };
        self.client
            .send("POST", &fetch.path, &fields, &body)
            .await
            .unwrap()
    }

    async fn call(&self, token: &str) -> Reply {
        let bearer = format!("Bearer {token}");
        let basic = basic(self.other.credential("application_token"), token);
        let (key, number) = (
            self.other.credential("Ocp-Apim-Subscription-Key"),
            self.other.credential("Merchant-Serial-Number"),
        );
        let fields = match self.kind {
            Kind::Marqeta => vec![("authorization", basic.as_str())],
            Kind::Shopify => vec![("x-shopify-access-token", token)],
            Kind::Vault => vec![("x-vault-token", token)],
            Kind::Xoms => vec![("x-auth-token", token)],
            Kind::Vipps => vec![
                ("authorization", bearer.as_str()),
                ("ocp-apim-subscription-key", key),
                ("merchant-serial-number", number),
            ],
            _ => vec![("authorization", bearer.as_str())],
        };
        self.client
            .send("GET", "/anything", &fields, "")
            .await
            .unwrap()
    }

    fn token(&self, reply: &Reply) -> String {
        if self.kind == Kind::Xoms {
            assert!(reply.body.is_empty());
            return reply.field("x-auth-token").unwrap().to_owned();
        }
        let pointer = match self.kind {
            Kind::Aeropay | Kind::GitHub | Kind::Marqeta => "/token",
            Kind::Vault => "/auth/client_token",
            _ => "/access_token",
        };
        let answer = reply.json();
        let token = answer.pointer(pointer).and_then(Value::as_str);
        token.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    fn refused(&self, reply: &Reply) -> bool {
        match self.kind {
            Kind::Aeropay => reply.status == 200 && reply.json()["success"] == false,
            _ => (400..500).contains(&reply.status),
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Every way to spoil one thing: each field and each member, missing and changed.
fn spoiled(right: &Fetch) -> Vec<Fetch> {
    let mut all = Vec::new();
    for at in 0..right.fields.len() {
        let mut missing = right.clone();
        missing.fields.remove(at);
        all.push(missing);
        let mut changed = right.clone();
        changed.fields[at].1.push('x');
        all.push(changed);
    }
    match &right.body {
        Body::None => {}
        Body::Json(document) => {
            for name in document.as_object().unwrap().keys() {
                let mut missing = document.clone();
                missing.as_object_mut().unwrap().remove(name);
                let mut changed = document.clone();
                changed[name] = json!("x");
                for body in [missing, changed] {
                    all.push(Fetch {
                        body: Body::Json(body),
                        ..right.clone()
                    });
                }
            }
        }
        Body::Form(pairs) => {
            for at in 0..pairs.len() {
                let mut missing = pairs.clone();
                missing.remove(at);
                let mut changed = pairs.clone();
                changed[at].1.push('x');
                let mut twice = pairs.clone();
                twice.push(pairs[at].clone());
                for body in [missing, changed, twice] {
                    all.push(Fetch {
                        body: Body::Form(body),
                        ..right.clone()
                    });
                }
            }
        }
    }
    all
}

#[tokio::test]
async fn the_right_request_gets_a_token_and_the_api_takes_it() {
    for kind in Kind::ALL {
        let stage = stage(kind).await;
        let reply = stage.send(&stage.right()).await;
        let status = if matches!(kind, Kind::GitHub | Kind::Marqeta) {
            201
        } else {
            200
        };
        assert_eq!(reply.status, status, "{kind:?} {:?}", reply.body);
        let token = stage.token(&reply);
        let reply = stage.call(&token).await;
        assert_eq!(reply.json()["made_up"], true, "{kind:?}");
        assert!(stage.refused(&stage.call("x").await), "{kind:?}");
        stage.other.revoke_all();
        assert!(stage.refused(&stage.call(&token).await), "{kind:?}");
        assert_eq!((stage.other.fetches(), stage.other.granted()), (1, 1));
        assert_eq!(stage.other.api_requests().len(), 3);
    }
}

#[tokio::test]
async fn what_is_nearly_right_is_refused() {
    for kind in Kind::ALL {
        let stage = stage(kind).await;
        for wrong in spoiled(&stage.right()) {
            // What may be left out, or may be anything.
            let optional = match kind {
                Kind::GitHub => {
                    matches!(&wrong.body, Body::Json(body) if *body != json!({ "repositories": ["hello"], "permissions": { "contents": "read" } }))
                        || wrong
                            .fields
                            .iter()
                            .any(|(name, value)| name == "user-agent" && value == "testx")
                }
                Kind::Marqeta => {
                    matches!(&wrong.body, Body::Json(body) if body["card_token"] == "x")
                }
                Kind::Square => wrong.fields.is_empty(),
                _ => false,
            };
            if optional {
                continue;
            }
            let reply = stage.send(&wrong).await;
            assert!(
                stage.refused(&reply),
                "{kind:?} {:?} {:?}",
                wrong.fields,
                reply.body
            );
        }
        assert_eq!(stage.other.granted(), 0, "{kind:?}");
    }
}

#[tokio::test]
async fn an_assertion_is_judged_claim_by_claim() {
    for kind in [
        Kind::GitHub,
        Kind::Google,
        Kind::Salesforce,
        Kind::Docusign,
        Kind::Entra,
    ] {
        let stage = stage(kind).await;
        let (header, claims) = stage.assertion();
        let now = clock::unix_now();
        let mut wrong = vec![
            sign(&ClientKey::rsa().unwrap(), &header, &claims),
            sign(&stage.key, &json!({ "alg": "none" }), &claims),
            "x.y.z".to_owned(),
        ];
        for name in claims
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| *name != "jti")
        {
            let mut changed = claims.clone();
            changed[name] = match name.as_str() {
                "exp" => json!(now - 60),
                "iat" => json!(now + 3600),
                "scope" => json!(""),
                _ => json!("other"),
            };
            wrong.push(sign(&stage.key, &header, &changed));
        }
        let mut late = claims.clone();
        late["exp"] = json!(now + 100_000);
        wrong.push(sign(&stage.key, &header, &late));
        for jwt in wrong {
            let reply = stage.send(&stage.with_assertion(&jwt)).await;
            assert!(stage.refused(&reply), "{kind:?} {:?}", reply.body);
        }
        assert_eq!(stage.other.granted(), 0, "{kind:?}");
    }
}

#[tokio::test]
async fn entra_takes_an_assertion_once_and_wants_the_thumbprint() {
    let stage = stage(Kind::Entra).await;
    let right = stage.right();
    let answer = stage.send(&right).await.json();
    assert_eq!(
        (&answer["expires_in"], &answer["refresh_in"]),
        (&json!(86_399), &json!(43_199))
    );
    assert_eq!(
        stage.send(&right).await.json()["error_codes"],
        json!([700_025])
    );
    let (_, claims) = stage.assertion();
    let jwt = sign(
        &stage.key,
        &json!({ "alg": "PS256", "typ": "JWT" }),
        &claims,
    );
    let reply = stage.send(&stage.with_assertion(&jwt)).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]),
        (401, &json!("invalid_client"))
    );
}

#[tokio::test]
async fn answers_have_their_peculiar_shapes() {
    let fetch = async |kind| {
        let stage = stage(kind).await;
        stage.send(&stage.right()).await.json()
    };
    let salesforce = fetch(Kind::Salesforce).await;
    assert!(salesforce.get("expires_in").is_none());
    assert_eq!(salesforce["issued_at"].as_str().unwrap().len(), 13);
    let vipps = fetch(Kind::Vipps).await;
    assert_eq!(vipps["expires_in"], "86398");
    assert_eq!(vipps["expires_on"].as_str().unwrap().len(), 10);
    for (answer, member) in [
        (fetch(Kind::Square).await, "expires_at"),
        (fetch(Kind::GitHub).await, "expires_at"),
        (fetch(Kind::Marqeta).await, "expires"),
    ] {
        assert!(answer[member].as_str().unwrap().ends_with('Z'), "{answer}");
    }
    assert_eq!(fetch(Kind::Vault).await["auth"]["lease_duration"], 1200);
}

#[tokio::test]
async fn a_marqeta_token_is_good_once_and_a_vault_token_is_renewed() {
    let marqeta = stage(Kind::Marqeta).await;
    let token = marqeta.token(&marqeta.send(&marqeta.right()).await);
    assert_eq!(marqeta.call(&token).await.status, 200);
    assert_eq!(marqeta.call(&token).await.status, 401);
    let vault = stage(Kind::Vault).await;
    let token = vault.token(&vault.send(&vault.right()).await);
    let renew = |token: &str| Fetch {
        path: "/v1/auth/token/renew-self".to_owned(),
        fields: vec![("x-vault-token".to_owned(), token.to_owned())],
        body: Body::None,
    };
    assert_eq!(vault.token(&vault.send(&renew(&token)).await), token);
    assert_eq!(vault.send(&renew("hvs.other")).await.status, 403);
}

#[tokio::test]
async fn a_public_key_is_as_good_as_a_certificate() {
    let key = ClientKey::rsa().unwrap();
    let verifier = Verifier::read(&key.public_key_pem).unwrap();
    for alg in ["RS256", "PS256"] {
        let jwt = sign(&key, &json!({ "alg": alg }), &json!({ "iss": "x" }));
        assert_eq!(verifier.verify(alg, &jwt).unwrap().text("iss"), "x");
        let other = if alg == "RS256" { "PS256" } else { "RS256" };
        assert!(verifier.verify(other, &jwt).is_none());
    }
    assert!(Verifier::read("nothing").is_err());
}
