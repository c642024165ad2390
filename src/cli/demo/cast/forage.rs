//! Forage: an authentication token, and sessions made with it. The API takes either.

use serde_json::json;

use super::client;
use super::role::{Ask, Role};
use super::system::System;
use crate::config::file::SourceFile;
use crate::fake::Forage;

pub(super) fn role(source: &SourceFile, forage: &Forage) -> Result<Role, String> {
    let secrets = match source {
        SourceFile::OAuth2(oauth2) => client::secrets(oauth2, forage.token_endpoint(), None)?,
        SourceFile::Http(_) => Vec::new(),
        SourceFile::GraphQl(_) | SourceFile::Static(_) | SourceFile::Jwt(_) => {
            return Err("Forage has no such tokens".to_owned());
        }
    };
    let payment = json!({ "amount": "20.00", "funding_type": "ebt_snap" });
    Ok(Role {
        system: System::Forage,
        secrets,
        reads: Ask::get("/api/payment_methods/"),
        brings: "\"results\"",
        pays: Some(Ask::post("/api/payments/", payment)),
        samples: Vec::new(),
    })
}
