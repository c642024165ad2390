//! How Stitch was asked for a token.

use super::Tour;

impl Tour<'_> {
    pub(super) fn asked_stitch(&self) -> Option<String> {
        let form = self.systems.stitch.token_endpoint().last_request()?.form();
        let member = |name: &str| {
            let found = form.iter().find(|(member, _)| member == name);
            found.map(|(_, value)| value.as_str())
        };
        let scope = member("scope")?;
        let proof = if member("client_assertion").is_some() {
            "a signed assertion"
        } else {
            "a secret"
        };
        Some(format!("asked for {scope} with {proof}"))
    }
}
