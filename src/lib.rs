//! pillion carries an application's API tokens.
//!
//! It is a sidecar: the app calls localhost without a credential; pillion finds the route, gets a live token for it,
//! attaches it, and renews it when the API says 401. This page is the map of the code; README.md is about its use.
//!
//! # Bird's-eye view
//!
//! A *provider* is a function from inputs to a token. A *route* says which requests call it, and where the inputs come
//! from. Both are written in a file ([`config::File`]), and compiled ([`config::compile`]) into what the program runs on:
//! a [`proxy::Plan`], immutable, in which names have become references. A change of the file makes another plan
//! ([`config::reload`]); what has not changed keeps its tokens.
//!
//! Threads: one control thread accepts connections, fetches tokens, serves the [`admin`] listener and follows the file.
//! The [workers](net::workers), one per core, serve requests; a connection stays with its worker, and so do the
//! connections to upstreams ([`net::pool`]) that its requests use.
//!
//! # The life of a request
//!
//! All of it can be read in one function, `Proxy::forward` in [`proxy`]. Measuring and logging are around it, in
//! [`proxy::Proxy::handle`].
//!
//! 1. **accept**: [`net::listen`] deals the connection to a worker ([`proxy::serve`]), which learns from its first bytes
//!    whether it is HTTP/1.1 or HTTP/2, and reads the head ([`net::inbound`], [`net::streams`]); [`proxy::framing`] and
//!    [`proxy::caller`] refuse what could be read in two ways, and web pages.
//! 2. **route**: [`proxy::target`] refuses paths that could mean another path; the first match of [`proxy::route`] it is.
//! 3. **inputs**: [`proxy::inputs`] reads what the provider wants to know, and makes the *subject* of it.
//! 4. **token**: [`token::Tokens::get`]. A fresh one takes no lock, whoever's it is ([`token::cache::slots::Slots`]); else one
//!    fetch, shared by all who wait ([`token::cache`]), by the [`provider`].
//!    A route that hands out answers here: [`proxy::hand_out`].
//! 5. **headers**: [`proxy::attach`] removes what is not for the upstream, and sets what the route says, once.
//! 6. **upstream**: [`proxy::upstream`] sends, on a connection of [`net::pool`], which speaks HTTP/1.1 (`net::http1`) and
//!    takes no answer that could be read in two ways, or as a stream of one of [`net::multiplex`], which speak HTTP/2;
//!    [`proxy::replay`] keeps a small body.
//! 7. **verdict**: [`proxy::verdict`] judges the answer by the route's rules; where one is about a body, [`proxy::peek`]
//!    looks at its beginning. A refusal goes to [`token::Tokens::reject`], and if that brings a
//!    newer token and the body was kept, the request goes out once more.
//! 8. **answer**: [`proxy::answer`] passes it on, streaming. What pillion has to say itself is in one table,
//!    [`proxy::problem`]; to a call of gRPC it is said in its own way, [`proxy::grpc`]. Where the answer ends HTTP, because
//!    the app has asked for another protocol ([`proxy::upgrade`]), bytes go both ways from then on: [`net::relay`].
//!
//! `pillion explain` takes the same steps up to the token: [`proxy::explain`].
//!
//! # Layers
//!
//! Each uses only what is to the right of it:
//!
//! ```text
//! main -> cli -> admin, fake, kubernetes, config -> otlp, proxy -> token -> provider -> net, metrics -> clock, log
//! ```
//!
//! | module | what it is about |
//! |---|---|
//! | [`cli`] | one file per command, the only place that prints; [`cli::run`] puts everything together |
//! | [`admin`] | the second listener: probes, metrics, and the [status](admin::status) as a page, as JSON and as text |
//! | [`fake`] | stand-ins of real systems, for the demo and the tests; uses nothing of the rest |
//! | [`kubernetes`] | the sidecar in a pod: [one definition](kubernetes::sidecar), put there by a webhook or into a file |
//! | [`config`] | from what the user wrote to what the program runs on, and every mistake in between; every key is [described](config::description) for editors and docs/reference.md |
//! | [`proxy`] | the request |
//! | [`token`] | the token: its [life](token::life), its [cache](token::cache), its [failures](token::backoff), and [how often a provider is asked](token::pace) |
//! | [`provider`] | where tokens come from, from [a request](provider::request) to [what its answer says](provider::reading), and [where secrets are](provider::secret) |
//! | [`net`] | sockets, TLS, tunnels, pools, workers |
//! | [`metrics`] | every metric: name, help, labels; and what has [happened](metrics::events) lately |
//! | [`otlp`] | spans on their way to a collector |
//! | [`log`] | where log lines go, and how many |
//! | [`clock`] | what all of them age by, time in suspend included |
//!
//! # What must never be
//!
//! * A token or a secret in a log line, a metric, a status page, an error or a diagnostic. They have a type that cannot
//!   be printed, [`provider::secret::Secret`], and header values that carry them are marked sensitive.
//! * A token sent to where the route does not say: not because of a `Host`, an absolute-form target or a redirect, and
//!   not in plaintext to another machine.
//! * A token sent after its end, or fetched twice at once ([`token::cache`]).
//! * A request sent more than twice, or a 401 that the upstream did not say ([`proxy::problem`]).
//! * A request that waits for another provider's trouble, or a lock held while anything is awaited; but a refresh token
//!   that may be good once is used in turns ([`provider::rotation`]).
//! * A good plan replaced by a bad file ([`config::reload`]).
//! * Anything that grows without a bound: each has a name and a default in [`config::file::LimitsFile`], on the provider
//!   or on the route.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod fake;
pub mod kubernetes;
pub mod log;
pub mod metrics;
pub mod net;
pub mod otlp;
pub mod provider;
pub mod proxy;
pub mod token;
