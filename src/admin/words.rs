//! The status in words: what people read, as a page or as text.

use std::time::{Duration, UNIX_EPOCH};

use super::status::{EventStatus, RouteStatus, Status, TrafficStatus};
use crate::token::status::{Health, HealthCounts, ProviderStatus, TokenStatus};

/// The status in words, and no more of it than somebody can read.
#[derive(Debug)]
pub(super) struct Overview {
    /// Of the program.
    pub(super) version: &'static str,
    /// How long it has been up.
    pub(super) uptime: String,
    /// Where the app calls.
    pub(super) listening: String,
    /// Whether anything is wrong at all.
    pub(super) health: Health,
    /// The same in a sentence.
    pub(super) headline: String,
    /// What is wrong with the file on disk.
    pub(super) config_error: Option<String>,
    /// At most [`PROVIDERS_SHOWN`].
    pub(super) providers: Vec<ProviderWords>,
    /// How many more there are.
    pub(super) more_providers: Option<String>,
    /// The time that figures of routes are about.
    pub(super) window: String,
    /// At most [`ROUTES_SHOWN`].
    pub(super) routes: Vec<RouteWords>,
    /// How many more there are.
    pub(super) more_routes: Option<String>,
    /// At most [`EVENTS_SHOWN`].
    pub(super) events: Vec<EventWords>,
}

/// A provider.
#[derive(Debug)]
pub(super) struct ProviderWords {
    /// Where the page can be entered.
    pub(super) anchor: String,
    /// As in the configuration.
    pub(super) name: String,
    /// Its kind, its scope, its parent.
    pub(super) about: String,
    /// The worst of its tokens.
    pub(super) health: Health,
    /// The same in a word or two.
    pub(super) state: &'static str,
    /// How many tokens it has, if it can have several.
    pub(super) summary: Option<String>,
    /// At most [`TOKENS_SHOWN`].
    pub(super) tokens: Vec<TokenWords>,
    /// How many more there are.
    pub(super) more_tokens: Option<String>,
    /// Whether its tokens are shown without asking, because something is wrong with one.
    pub(super) is_open: bool,
}

/// A token.
#[derive(Debug)]
pub(crate) struct TokenWords {
    /// Whose it is, hashed; none for the process itself.
    pub(super) subject: Option<String>,
    /// What it means to the app.
    pub(super) health: Health,
    /// The same in a word or two.
    pub(crate) state: &'static str,
    /// Its number.
    pub(crate) generation: String,
    /// How long it is good.
    pub(crate) life: String,
    /// When the next one is fetched.
    pub(crate) renewal: String,
    /// Its life as a bar, if it ends.
    pub(crate) bar: Option<Bar>,
    /// What is wrong.
    pub(super) trouble: Option<Trouble>,
}

/// What is left of a life, in percent of the whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    /// Now.
    pub(crate) left: u8,
    /// When the next token is fetched.
    pub(crate) due: u8,
}

/// What is wrong with a token, and what to do about it.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The last failure.
    pub(super) error: String,
    /// What to do.
    pub(super) advice: String,
    /// How often it has failed, and when the provider is asked again.
    pub(super) backoff: String,
}

/// A route.
#[derive(Debug)]
pub(super) struct RouteWords {
    /// As in the configuration.
    pub(super) name: String,
    /// Where its requests go.
    pub(super) upstream: String,
    /// Whose token they carry; none where no route takes them.
    pub(super) provider: Option<String>,
    /// Requests by time.
    pub(super) rate: String,
    /// Answers that were errors.
    pub(super) errors: String,
    /// Whether one of them was a 5xx.
    pub(super) has_failed: bool,
    /// What 99 of 100 requests took at the most.
    pub(super) p99: String,
    /// Requests sent again.
    pub(super) replays: String,
}

/// Something that has happened.
#[derive(Debug)]
pub(super) struct EventWords {
    /// How long ago.
    pub(super) age: String,
    /// When.
    pub(super) time: String,
    /// What.
    pub(super) kind: &'static str,
    /// How good or bad that is.
    pub(super) health: Health,
    /// Whose token it is about.
    pub(super) whose: String,
    /// In a sentence.
    pub(super) told: String,
}

/// Providers on a page; the worst, if there are more.
const PROVIDERS_SHOWN: usize = 100;
/// Tokens of one provider on a page.
const TOKENS_SHOWN: usize = 8;
/// Routes on a page; the busiest, if there are more.
const ROUTES_SHOWN: usize = 50;
/// Events on a page.
const EVENTS_SHOWN: usize = 50;

impl Overview {
    /// The words for `status`.
    #[must_use]
    pub(super) fn of(status: Status) -> Self {
        let Status {
            version,
            uptime_seconds,
            listening,
            config,
            mut providers,
            window_seconds,
            mut routes,
            unmatched,
            events,
        } = status;
        let listening: Vec<String> = listening.iter().map(ToString::to_string).collect();
        let (health, headline) = headline(config.loaded, &providers);
        if providers.len() > PROVIDERS_SHOWN {
            providers.sort_by_key(|provider| std::cmp::Reverse(provider.health));
        }
        if routes.len() > ROUTES_SHOWN {
            routes.sort_by_key(|route| std::cmp::Reverse(route.traffic.requests));
        }
        let more = |all: usize, shown: usize, what: &str| {
            let more = all.saturating_sub(shown);
            (more > 0).then(|| format!("{} more {what}", thousands(more)))
        };
        Self {
            version,
            uptime: length(seconds(uptime_seconds)),
            listening: listening.join(" and "),
            health,
            headline,
            config_error: config.error,
            more_providers: more(
                providers.len(),
                PROVIDERS_SHOWN,
                "are no worse than these, and not shown",
            ),
            providers: providers
                .into_iter()
                .take(PROVIDERS_SHOWN)
                .enumerate()
                .map(|(number, provider)| ProviderWords::of(number, provider))
                .collect(),
            window: window(window_seconds, uptime_seconds),
            more_routes: more(
                routes.len(),
                ROUTES_SHOWN,
                "are no busier than these: /metrics has them all",
            ),
            routes: routes
                .into_iter()
                .take(ROUTES_SHOWN)
                .map(RouteWords::of)
                .chain((unmatched.requests > 0).then(|| RouteWords::unmatched(&unmatched)))
                .collect(),
            events: events
                .into_iter()
                .take(EVENTS_SHOWN)
                .map(EventWords::of)
                .collect(),
        }
    }
}

fn headline(is_loaded: bool, providers: &[ProviderStatus]) -> (Health, String) {
    for (health, one, many) in [
        (Health::Down, "gives no token", "give no token"),
        (
            Health::Failing,
            "does not give the next token",
            "do not give the next token",
        ),
    ] {
        let so: Vec<_> = providers.iter().filter(|it| it.health == health).collect();
        match so.as_slice() {
            [] => {}
            [only] => return (health, format!("{} {one}", only.name)),
            all => return (health, format!("{} providers {many}", all.len())),
        }
    }
    if is_loaded {
        (Health::Good, "All is well".to_owned())
    } else {
        let words = "The file on disk is not the one in use";
        (Health::Failing, words.to_owned())
    }
}

fn window(window_seconds: f64, uptime_seconds: u64) -> String {
    let words = length(Duration::from_secs_f64(window_seconds));
    if Duration::from_secs_f64(window_seconds).as_secs() >= uptime_seconds {
        format!("since the start, {words} ago")
    } else {
        format!("in the last {words}")
    }
}

impl ProviderWords {
    fn of(number: usize, status: ProviderStatus) -> Self {
        let mut about = vec![status.kind.to_owned()];
        if !status.scope.is_empty() {
            about.push(status.scope.join(" "));
        }
        if let Some(parent) = &status.parent {
            about.push(format!("made from {parent}"));
        }
        let of_each = (!status.inputs.is_empty()).then(|| status.inputs.join(", "));
        let shown = status.tokens.len().min(TOKENS_SHOWN);
        let more = status.token_count - shown;
        Self {
            anchor: format!("provider-{number}"),
            about: about.join(" · "),
            health: status.health,
            state: match status.health {
                Health::Idle => "idle",
                Health::Good => "good",
                Health::Failing => "renewal fails",
                Health::Down => "no token",
            },
            is_open: status.health >= Health::Failing,
            summary: of_each.map(|inputs| summary(&inputs, status.token_count, status.counts)),
            more_tokens: (more > 0).then(|| format!("{} more are not shown", thousands(more))),
            tokens: status
                .tokens
                .into_iter()
                .take(shown)
                .map(TokenWords::of)
                .collect(),
            name: status.name,
        }
    }
}

fn summary(inputs: &str, count: usize, counts: HealthCounts) -> String {
    let tokens = match count {
        0 => "No token yet".to_owned(),
        1 => "1 token".to_owned(),
        _ => format!("{} tokens", thousands(count)),
    };
    let mut parts = vec![tokens, format!("one per {inputs}")];
    for (count, what) in [
        (counts.down, "cannot be had"),
        (counts.failing, "cannot be renewed"),
        (counts.idle, "unused"),
    ] {
        if count > 0 {
            parts.push(format!("{} {what}", thousands(count)));
        }
    }
    parts.join(", ")
}

impl TokenWords {
    /// The words for `status`.
    pub(crate) fn of(status: TokenStatus) -> Self {
        let trouble = status.last_error.map(|error| Trouble {
            error: sentence(&error),
            advice: sentence(&status.advice.unwrap_or_default()),
            backoff: backoff(status.consecutive_failures, status.backoff_seconds),
        });
        let in_use = matches!(status.health, Health::Good | Health::Failing);
        Self {
            subject: status.subject,
            health: status.health,
            state: match (status.state, status.health) {
                ("none", Health::Idle) => "not asked for yet",
                ("none", _) => "none",
                ("expired", _) => "expired",
                ("due", Health::Good) => "good, renewal due",
                (_, Health::Failing) => "good, renewal fails",
                _ => "good",
            },
            generation: match status.generation {
                0 => "–".to_owned(),
                generation => format!("{generation}"),
            },
            life: life(
                status.age_seconds,
                status.expires_in_seconds,
                status.state == "none",
            ),
            renewal: match status.renews_in_seconds {
                _ if !in_use => "when a request wants it".to_owned(),
                Some(left) if left >= 1.0 && status.state == "fresh" => {
                    format!("in {}", length(of_float(left)))
                }
                _ => "with the next request".to_owned(),
            },
            bar: bar(
                status.age_seconds,
                status.expires_in_seconds,
                status.renews_in_seconds,
            ),
            trouble,
        }
    }
}

fn life(age: Option<f64>, left: Option<f64>, is_none: bool) -> String {
    match (age, left) {
        _ if is_none => "–".to_owned(),
        (Some(age), Some(left)) if left > 0.0 => format!(
            "{} left of {}",
            length(of_float(left)),
            length(of_float(age + left))
        ),
        (_, Some(left)) => format!("Over since {}", length(of_float(-left))),
        _ => "Good until it is changed".to_owned(),
    }
}

fn bar(age: Option<f64>, left: Option<f64>, renews_in: Option<f64>) -> Option<Bar> {
    let (age, left, renews_in) = (age?, left?, renews_in?);
    let whole = age + left;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what fits"
    )]
    let percent = |part: f64| (100.0 * part / whole).round().clamp(0.0, 100.0) as u8;
    (whole > 0.0).then(|| Bar {
        left: percent(left),
        due: percent(left - renews_in),
    })
}

fn backoff(failures: u32, seconds: f64) -> String {
    let times = match failures {
        1 => "Failed once".to_owned(),
        _ => format!("Failed {failures} times in a row"),
    };
    if seconds < 1.0 {
        return format!("{times}; the next request asks again.");
    }
    let wait = length(of_float(seconds));
    format!("{times}; asked again in {wait} at the latest.")
}

impl RouteWords {
    fn of(status: RouteStatus) -> Self {
        Self {
            upstream: status
                .upstream
                .unwrap_or_else(|| "hands the token out".to_owned()),
            provider: Some(status.provider),
            ..Self::traffic(status.name, &status.traffic)
        }
    }

    fn unmatched(traffic: &TrafficStatus) -> Self {
        Self::traffic("unmatched".to_owned(), traffic)
    }

    fn traffic(name: String, traffic: &TrafficStatus) -> Self {
        let errors: Vec<String> = [
            (traffic.server_errors, "5xx"),
            (traffic.client_errors, "4xx"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, class)| format!("{count} × {class}"))
        .collect();
        Self {
            name,
            upstream: "no route takes these".to_owned(),
            provider: None,
            rate: rate(traffic.requests_per_second),
            has_failed: traffic.server_errors > 0,
            errors: if errors.is_empty() {
                "none".to_owned()
            } else {
                errors.join(", ")
            },
            p99: traffic.p99_seconds.map_or("–".to_owned(), short_time),
            replays: traffic.replays.to_string(),
        }
    }
}

fn rate(per_second: f64) -> String {
    if per_second <= 0.0 {
        "0".to_owned()
    } else if per_second < 1.0 {
        format!("{:.1}/min", per_second * 60.0)
    } else if per_second < 100.0 {
        format!("{per_second:.1}/s")
    } else {
        format!("{per_second:.0}/s")
    }
}

fn short_time(seconds: f64) -> String {
    if seconds >= 30.0 {
        "30 s or more".to_owned()
    } else if seconds >= 1.0 {
        format!("{seconds:.1} s")
    } else if seconds >= 0.01 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{:.1} ms", seconds * 1e3)
    }
}

impl EventWords {
    fn of(status: EventStatus) -> Self {
        let (kind, health) = match status.kind {
            "failed" => ("failed", Health::Down),
            "reload_failed" => ("reload", Health::Down),
            "revoked" => ("revoked", Health::Failing),
            other => (other, Health::Good),
        };
        let whose = [status.provider, status.subject].into_iter().flatten();
        let time = UNIX_EPOCH + Duration::from_secs_f64(status.timestamp_seconds);
        Self {
            age: length(of_float(status.age_seconds)),
            time: httpdate::fmt_http_date(time),
            kind,
            health,
            whose: whose.collect::<Vec<_>>().join(" "),
            told: sentence(&status.told),
        }
    }
}

/// A length of time in its two largest units.
pub(crate) fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 60 => format!("{seconds} s"),
        () if minutes < 10 => two(minutes, "min", seconds % 60, "s"),
        () if minutes < 60 => format!("{minutes} min"),
        () if hours < 24 => two(hours, "h", minutes % 60, "min"),
        () if days < 10 => two(days, "d", hours % 24, "h"),
        () => format!("{days} d"),
    }
}

fn two(large: u64, its: &str, small: u64, unit: &str) -> String {
    if small == 0 {
        format!("{large} {its}")
    } else {
        format!("{large} {its} {small} {unit}")
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn of_float(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut words = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            words.push(',');
        }
        words.push(digit);
    }
    words
}

/// A diagnostic, which begins small and has no full stop, as people write.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    let mut sentence: String = first.into_iter().chain(chars).collect();
    if !sentence.is_empty() && !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_tell_them() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (130, "2 min 10 s"),
            (2460, "41 min"),
            (11_520, "3 h 12 min"),
            (187_200, "2 d 4 h"),
            (8_640_000, "100 d"),
        ] {
            assert_eq!(length(Duration::from_secs(seconds)), words);
        }
        assert_eq!(thousands(10_000), "10,000");
        assert_eq!(thousands(999), "999");
        assert_eq!(short_time(0.0042), "4.2 ms");
        assert_eq!(short_time(0.42), "420 ms");
        assert_eq!(short_time(30.0), "30 s or more");
        assert_eq!(rate(0.5), "30.0/min");
    }

    #[test]
    fn a_bar_shows_what_is_left_and_where_the_next_token_is_fetched() {
        let half = bar(Some(1800.0), Some(1800.0), Some(1200.0)).unwrap();
        assert_eq!((half.left, half.due), (50, 17));
        let over = bar(Some(3700.0), Some(-100.0), Some(-900.0)).unwrap();
        assert_eq!(over.left, 0);
        assert!(
            bar(Some(10.0), None, Some(290.0)).is_none(),
            "it never ends"
        );
    }
}
