//! "Did you mean".

/// What other programs and libraries call a key, and what it is called here.
const SYNONYMS: [(&str, &str); 14] = [
    ("access_token_url", "token_endpoint"),
    ("token_uri", "token_endpoint"),
    ("token_url", "token_endpoint"),
    ("auth_method", "client_auth"),
    ("auth_style", "client_auth"),
    ("auth_type", "client_auth"),
    ("backend", "upstream"),
    ("destination", "upstream"),
    ("proxy_pass", "upstream"),
    ("target", "upstream"),
    ("location", "path"),
    ("path_prefix", "path"),
    ("prefix", "path"),
    ("set_headers", "headers"),
];

/// The candidate that is another word for what was typed, or the nearest to it if one is near enough to be meant.
pub(crate) fn did_you_mean<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed_lower = typed.to_lowercase().replace('-', "_");
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let is_synonym = |candidate: &&str| SYNONYMS.contains(&(typed_lower.as_str(), candidate));
    if let Some(synonym) = candidates.iter().copied().find(is_synonym) {
        return Some(synonym);
    }
    candidates
        .into_iter()
        .filter(|candidate| *candidate != typed)
        .map(|candidate| {
            let wanted = candidate.to_lowercase().replace('-', "_");
            (
                strsim::damerau_levenshtein(&typed_lower, &wanted),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_is_suggested() {
        let keys = ["client_id", "client_secret", "scope", "token_endpoint"];
        for (typed, meant) in [
            ("client_secrt", Some("client_secret")),
            ("client-id", Some("client_id")),
            ("scopes", Some("scope")),
            ("Scope", Some("scope")),
            ("audience", None),
            ("token-url", Some("token_endpoint")),
        ] {
            assert_eq!(did_you_mean(typed, keys), meant, "{typed}");
        }
    }
}
