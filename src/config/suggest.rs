//! "Did you mean".

/// The candidate that is nearest to what was typed, if one is near enough to be meant.
pub(crate) fn did_you_mean<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed_lower = typed.to_lowercase().replace('-', "_");
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
        let keys = ["client_id", "client_secret", "scope"];
        for (typed, meant) in [
            ("client_secrt", Some("client_secret")),
            ("client-id", Some("client_id")),
            ("scopes", Some("scope")),
            ("Scope", Some("scope")),
            ("audience", None),
        ] {
            assert_eq!(did_you_mean(typed, keys), meant, "{typed}");
        }
    }
}
