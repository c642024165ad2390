//! Highnote: an API key, and client tokens made with it, each for one thing.

use serde_json::{Value, json};

use super::role::{Ask, Role, sampled};
use super::system::System;
use crate::config::file::{BodyFile, HttpFile, SourceFile};
use crate::config::span::Spanned;
use crate::fake::Highnote;
use crate::provider::json::Json;
use crate::provider::template::Template;

/// A kind of client token.
struct Kind {
    /// The mutation that makes it, and the permission that is asked for with it.
    made_by: (&'static str, &'static str),
    /// What it is for: an operation, and its variables.
    query: &'static str,
    variables: fn() -> Value,
    /// The type of what the operation brings.
    brings: &'static str,
}

const DETAILS: &str = "query($id: ID!) { node(id: $id) { \
    ... on PaymentCard { restrictedDetails { __typename } } \
    ... on DirectDepositDetail { restrictedDetails { __typename } } \
    ... on ExternalBankAccountDetail { restrictedDetails { __typename } } } }";

const KINDS: [Kind; 7] = [
    Kind {
        made_by: ("generatePaymentCardClientToken", "READ_RESTRICTED_DETAILS"),
        query: DETAILS,
        variables: || json!({ "id": "pc_1" }),
        brings: "PaymentCardRestrictedDetails",
    },
    Kind {
        made_by: ("generatePaymentCardClientToken", "SET_PAYMENT_CARD_PIN"),
        query: "mutation($input: SetPinForPaymentCardInput!) { \
            setPinForPaymentCard(input: $input) { __typename } }",
        variables: || json!({ "input": { "paymentCardId": "pc_1", "newPin": "1357" } }),
        brings: "PaymentCard",
    },
    Kind {
        made_by: ("generateTokenizeAccountHolderClientToken", ""),
        query: "mutation($input: CreateUSPersonAccountHolderInput!) { \
            tokenizeUSPersonAccountHolder(input: $input) { __typename } }",
        variables: || json!({ "input": {} }),
        brings: "TokenizedDetails",
    },
    Kind {
        made_by: ("generateTokenizeAuthorizedUserClientToken", ""),
        query: "mutation($input: CreateUSPersonAuthorizedUserInput!) { \
            tokenizeUSPersonAuthorizedUser(input: $input) { __typename } }",
        variables: || json!({ "input": {} }),
        brings: "TokenizedDetails",
    },
    Kind {
        made_by: (
            "generateDocumentUploadClientToken",
            "MANAGE_DOCUMENT_UPLOAD_SESSION",
        ),
        query: "mutation($input: StartDocumentUploadSessionInput!) { \
            startDocumentUploadSession(input: $input) { __typename } }",
        variables: || json!({ "input": { "documentUploadSessionId": "du_1" } }),
        brings: "DocumentUploadSession",
    },
    Kind {
        made_by: (
            "generateDirectDepositDetailClientToken",
            "READ_RESTRICTED_DETAILS",
        ),
        query: DETAILS,
        variables: || json!({ "id": "dd_1" }),
        brings: "DirectDepositDetailRestrictedDetails",
    },
    Kind {
        made_by: (
            "generateExternalBankAccountDetailClientToken",
            "READ_RESTRICTED_DETAILS",
        ),
        query: DETAILS,
        variables: || json!({ "id": "eb_1" }),
        brings: "ExternalBankAccountDetailRestrictedDetails",
    },
];

pub(super) fn role(source: &SourceFile, highnote: &Highnote) -> Result<Role, String> {
    match source {
        SourceFile::Static(key) => Ok(Role {
            system: System::Highnote,
            secrets: vec![(key.secret.value.clone(), highnote.api_key().to_owned())],
            reads: Ask::post("/graphql", json!({ "query": "{ ping }" })),
            brings: "\"pong\"",
            pays: None,
            samples: Vec::new(),
        }),
        SourceFile::GraphQl(exchange) => client_token(exchange),
        SourceFile::OAuth2(_) | SourceFile::Http(_) | SourceFile::Jwt(_) => {
            Err("Highnote has an API key, and client tokens by GraphQL".to_owned())
        }
    }
}

fn client_token(exchange: &HttpFile) -> Result<Role, String> {
    let BodyFile::Json(document) = &exchange.request.body else {
        return Err("it sends no operation".to_owned());
    };
    let texts = texts(document);
    let mentions = |name: &str| texts.iter().any(|text| text.contains(name));
    let kind = KINDS
        .iter()
        .find(|kind| mentions(kind.made_by.0) && mentions(kind.made_by.1))
        .ok_or("the tour has no use for its client token")?;
    let samples = [
        ("paymentCardId", json!("pc_1")),
        ("documentUploadSessionId", json!("du_1")),
        ("directDepositDetailId", json!("dd_1")),
        ("externalBankAccountDetailId", json!("eb_1")),
    ];
    let call = json!({ "query": kind.query, "variables": (kind.variables)() });
    Ok(Role {
        system: System::Highnote,
        secrets: Vec::new(),
        reads: Ask::post("/graphql", call),
        brings: kind.brings,
        pays: None,
        samples: sampled(exchange, &samples),
    })
}

/// The operation, and what is written out in its variables.
fn texts(document: &Json<Spanned<Template>>) -> Vec<&str> {
    match document {
        Json::Plain(value) => value.as_str().into_iter().collect(),
        Json::Text(text) => text.as_literal().into_iter().collect(),
        Json::List(list) => list.iter().flat_map(texts).collect(),
        Json::Object(members) => members.iter().flat_map(|(_, it)| texts(it)).collect(),
    }
}
