//! How Highnote was asked for a client token.

use serde_json::Value;

use super::Tour;
use super::words::carried;

impl Tour<'_> {
    pub(super) fn asked_highnote(&self) -> Option<String> {
        let request = self.systems.highnote.mint_requests().pop()?;
        let asked = request.json()?;
        let key = carried(&request);
        let Some(input) = asked.pointer("/variables/input") else {
            let query = asked.get("query")?.as_str()?;
            let from = query.find("generate")?;
            let name = query.get(from..)?.split(|it: char| !it.is_alphanumeric());
            return Some(format!("asked by {} with {key}", name.into_iter().next()?));
        };
        let permission = input.pointer("/permissions/0")?.as_str()?;
        let mut members = input.as_object()?.values();
        let id = members.find_map(Value::as_str)?;
        Some(format!("asked for {permission} on {id} with {key}"))
    }
}
