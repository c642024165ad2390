//! Stitch: client tokens for a GraphQL API.

use serde_json::json;

use super::client;
use super::role::{Ask, Role};
use super::system::System;
use crate::config::file::SourceFile;
use crate::fake::{ClientKey, Stitch};

const PAYMENT: &str = "mutation($input: ClientPaymentInitiationRequestCreateInput!) { \
    clientPaymentInitiationRequestCreate(input: $input) { paymentInitiationRequest { id url } } }";

pub(super) fn role(source: &SourceFile, stitch: &Stitch, key: &ClientKey) -> Result<Role, String> {
    let SourceFile::OAuth2(oauth2) = source else {
        return Err("Stitch has tokens of a token endpoint only".to_owned());
    };
    let payment = json!({
        "query": PAYMENT,
        "variables": { "input": { "amount": { "quantity": "1.00", "currency": "ZAR" } } },
    });
    let who = json!({ "query": "{ client { id } }" });
    Ok(Role {
        system: System::Stitch,
        secrets: client::secrets(oauth2, stitch.token_endpoint(), Some(key))?,
        reads: Ask::post("/graphql", who),
        brings: "\"client\"",
        pays: Some(Ask::post("/graphql", payment)),
        samples: Vec::new(),
    })
}
