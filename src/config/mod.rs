//! What the user wrote, and every mistake in it.

mod carried;
mod check;
pub mod compile;
pub mod description;
pub mod file;
mod hand_out;
mod mask;
mod parents;
pub mod reload;
pub mod report;
mod secrets;
pub mod span;
pub(crate) mod suggest;

pub use file::File;
pub use report::Report;

/// Reads a configuration file. `label` is what it is called in the output, `text` its content.
///
/// The report that comes with the file holds warnings only; whoever compiles the file may add to it.
///
/// # Errors
///
/// A report of every mistake there is.
pub fn read(label: &str, text: &str) -> Result<(File, Report), Report> {
    let mut report = Report::new(label, text);
    let Some(draft) = file::read(&mut report) else {
        return Err(report);
    };
    check::check(&draft, &mut report);
    if report.has_errors() {
        return Err(report);
    }
    Ok((draft.file, report))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, proptest};

    use super::file::{ClientAuth, SourceFile};
    use super::*;

    const PROVIDER: &str = r#"
[provider.p]
type = "oauth2"
token_endpoint = "https://login.example.com/token"
client_id = "me"
client_secret = { env = "SECRET" }
"#;

    const ROUTE: &str = r#"
[[route]]
upstream = "https://api.example.com"
provider = "p"
"#;

    fn read_good(text: &str) -> File {
        match read("proxy.toml", text) {
            Ok((file, report)) => {
                assert!(report.is_empty(), "{}", report.to_plain());
                file
            }
            Err(report) => panic!("{}", report.to_plain()),
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let file = read_good(&format!("{PROVIDER}{ROUTE}"));
        assert!(file.listen.defaulted);
        let addresses: Vec<_> = file
            .listen
            .addresses
            .iter()
            .map(|it| it.to_string())
            .collect();
        assert_eq!(addresses, ["127.0.0.1:8080", "[::1]:8080"]);
        assert_eq!(file.listen.drain_timeout, Duration::from_secs(25));
        assert_eq!(file.listen.drain_delay, Duration::from_secs(1));
        assert_eq!(file.admin.address.to_string(), "127.0.0.1:9901");
        assert_eq!(file.limits.connections, 10_000);
        assert_eq!(file.limits.head_size_bytes, 65_536);
        assert_eq!(file.limits.replay_budget_bytes, 16_777_216);
        let SourceFile::OAuth2(oauth2) = &file.providers[0].source else {
            panic!("not oauth2");
        };
        assert!(matches!(oauth2.client_auth, ClientAuth::Basic(_)));
        assert!(oauth2.reading.expiry.is_empty());
        assert_eq!(oauth2.timeout, Duration::from_secs(10));
        let route = &file.routes[0];
        assert!(route.path.segments.is_empty());
        assert_eq!(route.replay_limit_bytes, 65_536);
        assert_eq!(route.timeouts.response, Duration::from_secs(60));
    }

    #[test]
    fn authorization_is_set_unless_the_token_goes_elsewhere() {
        for (headers, names) in [
            ("", vec!["authorization"]),
            (r#"X-Version = "1""#, vec!["x-version", "authorization"]),
            (r#"X-Api-Key = "{token}""#, vec!["x-api-key"]),
            (
                r#"authorization = "Basic {token|basic}""#,
                vec!["authorization"],
            ),
        ] {
            let file = read_good(&format!("{PROVIDER}{ROUTE}headers = {{ {headers} }}"));
            let set: Vec<_> = file.routes[0]
                .headers
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(set, names, "{headers}");
        }
    }

    #[test]
    fn providers_and_routes_are_in_the_order_of_the_file() {
        let other = PROVIDER.replace("provider.p", "provider.a");
        let to_a = ROUTE.replace("\"p\"", "\"a\"") + "path = \"/a\"";
        let file = read_good(&format!("{PROVIDER}{other}{to_a}{ROUTE}"));
        let names: Vec<_> = file.providers.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["p", "a"]);
        assert_eq!(file.routes[0].provider.as_str(), "a");
    }

    #[test]
    fn a_warning_keeps_nobody_from_running() {
        let (file, report) = read("proxy.toml", PROVIDER).unwrap();
        assert_eq!(file.providers.len(), 1);
        assert_eq!(report.summary(), "proxy.toml: 1 warning");
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_reported_without_a_panic(text in any::<String>(), at in 0_usize..190) {
            let good = format!("{PROVIDER}{ROUTE}");
            for text in [text.clone(), format!("{}{text}{}", &good[..at], &good[at..])] {
                let (Ok((_, report)) | Err(report)) = read("proxy.toml", &text);
                let _ = report.to_plain();
            }
        }
    }
}
