//! Highnote's shapes: errors inside of 200, tokens for one card, tokens for one use.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::fake::client::{Client, Reply};

const CARD: &str = "mutation($input: GeneratePaymentCardClientTokenInput!) { generatePaymentCardClientToken(input: $input) { __typename ... on ClientToken { value expirationDate usage } ... on UserError { errors { code description errorPath } } ... on AccessDeniedError { message } } }";
const DETAILS: &str = "query($id: ID!) { node(id: $id) { ... on PaymentCard { restrictedDetails { __typename ... on PaymentCardRestrictedDetails { number cvv } ... on AccessDeniedError { message } } } } }";
const SET_PIN: &str = "mutation($input: SetPinForPaymentCardInput!) { setPinForPaymentCard(input: $input) { __typename ... on UserError { errors { code } } } }";

struct Stage {
    highnote: Highnote,
    client: Client,
}

async fn stage() -> Stage {
    let authority = Authority::new().unwrap();
    let highnote = Highnote::start(Some(&authority)).await.unwrap();
    let client = Client::trusting(&authority, Highnote::HOST, highnote.server().address());
    Stage { highnote, client }
}

impl Stage {
    async fn send(&self, authorization: &str, document: &Value) -> Reply {
        let fields = [
            ("content-type", "application/json"),
            ("authorization", authorization),
        ];
        self.client
            .send("POST", "/graphql", &fields, &document.to_string())
            .await
            .unwrap()
    }

    async fn ask(&self, query: &str, variables: Value) -> Reply {
        let basic = STANDARD.encode(format!("{}:", self.highnote.api_key()));
        let document = json!({ "query": query, "variables": variables });
        self.send(&format!("Basic {basic}"), &document).await
    }

    async fn card_token(&self, card: &str, permissions: Value) -> Value {
        let input = json!({ "paymentCardId": card, "permissions": permissions });
        let reply = self.ask(CARD, json!({ "input": input })).await;
        assert_eq!(reply.status, 200);
        reply.json()["data"]["generatePaymentCardClientToken"].clone()
    }

    async fn with_token(&self, token: &Value, query: &str, variables: Value) -> Reply {
        let authorization = format!("Bearer {}", token["value"].as_str().unwrap());
        let document = json!({ "query": query, "variables": variables });
        self.send(&authorization, &document).await
    }

    async fn set_pin(&self, token: &Value, card: &str, pin: &str) -> Reply {
        let input = json!({ "paymentCardId": card, "newPin": pin });
        self.with_token(token, SET_PIN, json!({ "input": input }))
            .await
    }
}

fn pin_outcome(reply: &Reply) -> (u16, Value) {
    let outcome = &reply.json()["data"]["setPinForPaymentCard"]["__typename"];
    (reply.status, outcome.clone())
}

#[tokio::test]
async fn a_client_token_is_a_jwt_with_an_expiry_and_a_usage() {
    let stage = stage().await;
    let token = stage
        .card_token("pc_1", json!(["SET_PAYMENT_CARD_PIN"]))
        .await;
    let value = token["value"].as_str().unwrap();
    assert!(value.starts_with("eyJ"));
    assert_eq!(value.split('.').count(), 3);
    assert_eq!(
        (&token["__typename"], &token["usage"]),
        (&json!("ClientToken"), &json!("UNTIL_EXPIRATION"))
    );
    assert!(token["expirationDate"].as_str().unwrap().ends_with('Z'));
    stage.highnote.state_expiration(false);
    // A single permission is a list of one.
    let token = stage
        .card_token("pc_1", json!("SET_PAYMENT_CARD_PIN"))
        .await;
    assert_eq!(token["expirationDate"], Value::Null);
    let highnote = &stage.highnote;
    assert_eq!(
        (
            highnote.fetches(),
            highnote.fetches_by("generatePaymentCardClientToken"),
            highnote.granted()
        ),
        (2, 2, 2)
    );
}

#[tokio::test]
async fn the_answer_has_what_was_selected_and_the_extensions() {
    let stage = stage().await;
    let reply = stage
        .ask(
            "mutation M { pin: generatePaymentCardClientToken(input: {paymentCardId: \"pc_1\", permissions: [SET_PAYMENT_CARD_PIN]}) { ...t } } fragment t on ClientToken { usage }",
            Value::Null,
        )
        .await;
    let answer = reply.json();
    assert_eq!(
        answer["data"],
        json!({ "pin": { "usage": "UNTIL_EXPIRATION" } })
    );
    assert_eq!(
        answer["extensions"]["requestId"].as_str().unwrap().len(),
        36
    );
    assert_eq!(answer["extensions"]["rateLimit"]["count"]["limit"], 200);
}

#[tokio::test]
async fn every_kind_of_token_can_be_made() {
    let stage = stage().await;
    for (kind, input) in [
        ("TokenizeAccountHolder", None),
        ("TokenizeAuthorizedUser", None),
        (
            "DocumentUpload",
            Some(
                json!({ "documentUploadSessionId": "du_1", "permissions": ["MANAGE_DOCUMENT_UPLOAD_SESSION"] }),
            ),
        ),
        (
            "DirectDepositDetail",
            Some(
                json!({ "directDepositDetailId": "dd_1", "permissions": ["READ_RESTRICTED_DETAILS"] }),
            ),
        ),
        (
            "ExternalBankAccountDetail",
            Some(
                json!({ "externalBankAccountDetailId": "eb_1", "permissions": ["READ_RESTRICTED_DETAILS"] }),
            ),
        ),
        (
            "InitiateSecureDeposit",
            Some(
                json!({ "fromFinancialAccountId": "ac_1", "toFinancialAccountId": "ac_2", "permissions": ["INITIATE_SECURE_DEPOSIT"] }),
            ),
        ),
        (
            "PaymentMethodTokenization",
            Some(json!({ "permissions": ["TOKENIZE_PAYMENT_METHOD"] })),
        ),
    ] {
        let name = format!("generate{kind}ClientToken");
        let selection = "{ __typename ... on ClientToken { value usage } }";
        let reply = match input {
            None => {
                stage
                    .ask(&format!("mutation {{ {name} {selection} }}"), json!({}))
                    .await
            }
            Some(input) => {
                let query = format!(
                    "mutation($input: Generate{kind}ClientTokenInput!) {{ {name}(input: $input) {selection} }}"
                );
                stage.ask(&query, json!({ "input": input })).await
            }
        };
        assert_eq!(reply.status, 200, "{name}: {}", reply.json());
        assert_eq!(
            reply.json()["data"][&name]["__typename"],
            "ClientToken",
            "{name}"
        );
        assert_eq!(stage.highnote.fetches_by(&name), 1);
    }
}

#[tokio::test]
async fn what_the_schema_does_not_allow_is_a_400() {
    let stage = stage().await;
    let input = json!({ "paymentCardId": "pc_1", "permissions": ["SET_PAYMENT_CARD_PIN"] });
    let right = json!({ "input": input });
    for (query, variables) in [
        (CARD, json!({})),
        (
            CARD,
            json!({ "input": { "permissions": ["SET_PAYMENT_CARD_PIN"] } }),
        ),
        (CARD, json!({ "input": { "paymentCardId": "pc_1" } })),
        (
            CARD,
            json!({ "input": { "paymentCardId": null, "permissions": [] } }),
        ),
        (
            CARD,
            json!({ "input": { "paymentCardId": ["pc_1"], "permissions": [] } }),
        ),
        (
            CARD,
            json!({ "input": { "paymentCardId": "pc_1", "permissions": ["READ"] } }),
        ),
        (
            CARD,
            json!({ "input": { "paymentCardId": "pc_1", "permissions": [], "usage": "X" } }),
        ),
        (CARD, json!({ "input": input.to_string() })),
        (
            "mutation { generatePaymentCardClientToken { __typename } }",
            json!({}),
        ),
        (&CARD.replace("TokenInput!", "TokenInput"), right.clone()),
        (&CARD.replace("$input: Gen", "$input: Regen"), right.clone()),
        (&CARD.replace("usage", "usage usageLimit"), right.clone()),
        (&CARD.replace("__typename", "value"), right.clone()),
        (
            &CARD.replace("on UserError", "on PaymentCard"),
            right.clone(),
        ),
        (&CARD.replace("ClientToken(", "CientToken("), right.clone()),
        (CARD.trim_end_matches('}'), right.clone()),
        (
            "mutation { generateTokenizeAccountHolderClientToken(input: {}) { __typename } }",
            json!({}),
        ),
        (
            "mutation { generateTokenizeAccountHolderClientToken }",
            json!({}),
        ),
        ("", right),
    ] {
        let reply = stage.ask(query, variables).await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.json());
        assert!(reply.json()["errors"][0]["message"].is_string());
        assert!(reply.json().get("data").is_none());
    }
    assert_eq!(stage.highnote.granted(), 0);
}

#[tokio::test]
async fn an_unknown_card_and_a_restricted_one_are_errors_in_a_200() {
    let stage = stage().await;
    stage.highnote.forget("pc_gone");
    stage.highnote.restrict("pc_secret");
    for card in ["pc_gone", "dd_1", "nonsense"] {
        let error = stage
            .card_token(card, json!(["SET_PAYMENT_CARD_PIN"]))
            .await;
        assert_eq!(
            error,
            json!({ "__typename": "UserError", "errors": [{ "code": "INVALID_ID", "description": "Card not found", "errorPath": ["input", "paymentCardId"] }] })
        );
    }
    let error = stage
        .card_token("pc_secret", json!(["SET_PAYMENT_CARD_PIN"]))
        .await;
    assert_eq!(
        error,
        json!({ "__typename": "AccessDeniedError", "message": "Forbidden" })
    );
}

#[tokio::test]
async fn only_the_key_with_its_colon_is_let_in() {
    let stage = stage().await;
    let document = json!({ "query": "{ ping }" });
    let key = stage.highnote.api_key();
    let right = format!("Basic {}", STANDARD.encode(format!("{key}:")));
    let reply = stage.send(&right, &document).await;
    assert_eq!(
        (reply.status, &reply.json()["data"]),
        (200, &json!({ "ping": "pong" }))
    );
    for wrong in [
        format!("Basic {}", STANDARD.encode(key)),
        format!("Basic {}", STANDARD.encode(format!(":{key}"))),
        format!("Bearer {key}"),
        STANDARD.encode(format!("{key}:")),
        format!("Basic {}", STANDARD.encode("sk_test_other:")),
    ] {
        assert_eq!(stage.send(&wrong, &document).await.status, 401, "{wrong}");
    }
}

#[tokio::test]
async fn a_token_is_for_its_card_and_its_permission() {
    let stage = stage().await;
    let pin = stage
        .card_token("pc_1", json!(["SET_PAYMENT_CARD_PIN"]))
        .await;
    let view = stage
        .card_token("pc_1", json!(["READ_RESTRICTED_DETAILS"]))
        .await;
    assert_eq!(
        pin_outcome(&stage.set_pin(&pin, "pc_1", "1234").await),
        (200, json!("PaymentCard"))
    );
    assert_eq!(
        pin_outcome(&stage.set_pin(&pin, "pc_1", "12345").await),
        (200, json!("UserError"))
    );
    for (token, card) in [(&pin, "pc_2"), (&view, "pc_1")] {
        assert_eq!(
            pin_outcome(&stage.set_pin(token, card, "1234").await),
            (200, json!("AccessDeniedError"))
        );
    }
    let details = stage
        .with_token(&view, DETAILS, json!({ "id": "pc_1" }))
        .await
        .json();
    assert_eq!(
        details["data"]["node"]["restrictedDetails"],
        json!({ "__typename": "PaymentCardRestrictedDetails", "number": "4242000000000009", "cvv": "123" })
    );
    let denied = stage
        .with_token(&pin, DETAILS, json!({ "id": "pc_1" }))
        .await
        .json();
    assert_eq!(
        denied["data"]["node"]["restrictedDetails"],
        json!({ "__typename": "AccessDeniedError", "message": "Forbidden" })
    );
    assert_eq!(stage.highnote.uses(), 6);
}

#[tokio::test]
async fn the_key_does_not_see_restricted_details_and_a_token_mints_nothing() {
    let stage = stage().await;
    let details = stage.ask(DETAILS, json!({ "id": "pc_1" })).await.json();
    assert_eq!(
        details["data"]["node"]["restrictedDetails"]["__typename"],
        "AccessDeniedError"
    );
    let token = stage
        .card_token("pc_1", json!(["SET_PAYMENT_CARD_PIN"]))
        .await;
    let input = json!({ "paymentCardId": "pc_1", "permissions": ["SET_PAYMENT_CARD_PIN"] });
    let minted = stage
        .with_token(&token, CARD, json!({ "input": input }))
        .await
        .json();
    assert_eq!(
        minted["data"]["generatePaymentCardClientToken"]["__typename"],
        "AccessDeniedError"
    );
}

#[tokio::test]
async fn a_token_for_one_use_is_burnt_by_its_first_even_if_that_fails() {
    let stage = stage().await;
    stage.highnote.set_usage(Some(Usage::SingleUse));
    let token = stage
        .card_token("pc_1", json!(["SET_PAYMENT_CARD_PIN"]))
        .await;
    assert_eq!(token["usage"], "SINGLE_USE");
    assert_eq!(stage.set_pin(&token, "pc_1", "x").await.status, 200);
    assert_eq!(stage.set_pin(&token, "pc_1", "1234").await.status, 401);
    assert_eq!(stage.highnote.uses(), 1);
}

#[tokio::test]
async fn a_revoked_token_and_an_expired_one_are_a_401() {
    let stage = stage().await;
    let token = stage
        .card_token("pc_1", json!(["SET_PAYMENT_CARD_PIN"]))
        .await;
    stage.highnote.revoke_all();
    assert_eq!(stage.set_pin(&token, "pc_1", "1234").await.status, 401);
    stage.highnote.set_lifetime(Duration::ZERO);
    let token = stage
        .card_token("pc_1", json!(["SET_PAYMENT_CARD_PIN"]))
        .await;
    assert_eq!(stage.set_pin(&token, "pc_1", "1234").await.status, 401);
}

#[tokio::test]
async fn too_many_requests_say_in_the_body_when_to_come_back() {
    let stage = stage().await;
    stage
        .highnote
        .mint_faults()
        .once(Highnote::usage_limit_exceeded(Duration::from_secs(7)));
    let input = json!({ "paymentCardId": "pc_1", "permissions": ["SET_PAYMENT_CARD_PIN"] });
    let reply = stage.ask(CARD, json!({ "input": input })).await;
    assert_eq!((reply.status, reply.field("retry-after")), (429, None));
    assert_eq!(reply.json()["extensions"]["rateLimit"]["retryAfter"], 7.0);
    assert_eq!(stage.highnote.mint_requests().len(), 1);
}

#[tokio::test]
async fn tokenizing_needs_the_token_of_its_kind() {
    let stage = stage().await;
    let mint = |kind: &str| {
        format!(
            "mutation {{ t: generateTokenize{kind}ClientToken {{ ... on ClientToken {{ value }} }} }}"
        )
    };
    let tokenize = "mutation($input: CreateUSPersonAccountHolderInput!) { t: tokenizeUSPersonAccountHolder(input: $input) { __typename } }";
    for (kind, outcome) in [
        ("AccountHolder", "TokenizedDetails"),
        ("AuthorizedUser", "AccessDeniedError"),
    ] {
        let token = stage.ask(&mint(kind), json!({})).await.json()["data"]["t"].clone();
        let input = json!({ "personAccountHolder": { "name": { "givenName": "Ada" } } });
        let reply = stage
            .with_token(&token, tokenize, json!({ "input": input }))
            .await;
        assert_eq!(reply.json()["data"]["t"]["__typename"], outcome, "{kind}");
    }
}

#[tokio::test]
async fn documents_need_the_token_of_their_session() {
    let stage = stage().await;
    let mint = "mutation($input: GenerateDocumentUploadClientTokenInput!) { t: generateDocumentUploadClientToken(input: $input) { ... on ClientToken { value } } }";
    let input = json!({ "documentUploadSessionId": "du_1", "permissions": ["MANAGE_DOCUMENT_UPLOAD_SESSION"] });
    let token = stage.ask(mint, json!({ "input": input })).await.json()["data"]["t"].clone();
    for (session, outcome) in [
        ("du_1", "DocumentUploadSession"),
        ("du_2", "AccessDeniedError"),
    ] {
        for (name, input_type) in [
            (
                "startDocumentUploadSession",
                "StartDocumentUploadSessionInput",
            ),
            ("createDocumentUploadLink", "CreateDocumentUploadLinkInput"),
            ("endDocumentUploadSession", "EndDocumentUploadSessionInput"),
        ] {
            let query = format!(
                "mutation($input: {input_type}!) {{ t: {name}(input: $input) {{ __typename }} }}"
            );
            let input = json!({ "documentUploadSessionId": session });
            let reply = stage
                .with_token(&token, &query, json!({ "input": input }))
                .await;
            assert_eq!(
                reply.json()["data"]["t"]["__typename"],
                outcome,
                "{name} {session}"
            );
        }
    }
}
