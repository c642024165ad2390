//! What would become of a request, as far as it can be told without a token: nothing is fetched, nobody is called.
//!
//! Each step is the one that [`Proxy::forward`](super::Proxy) takes, in its order.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request};
use http_body::Body as _;
use http_body_util::Full;

use super::Plan;
use super::framing::{self, RequestLine};
use super::hand_out::{self, Asked};
use super::inputs::{self, Inputs};
use super::problem::ProxyError;
use super::replay::{Budget, Upload};
use super::route::{Destination, Matched, Onward, Route, RouteTable};
use super::target::Target;
use crate::provider::Subject;
use crate::token::Tokens;

/// What would become of a request.
#[derive(Debug)]
pub struct Explanation {
    /// The routes that are tried before one takes it, or all if none does.
    pub passed_over: Vec<PassedOver>,
    /// The route that takes it.
    pub route: Option<Arc<Route>>,
    /// What follows, or what pillion answers itself.
    pub course: Result<Course, ProxyError>,
}

/// A route that does not take a request, and all that keeps it from it.
#[derive(Debug)]
pub struct PassedOver {
    /// The route.
    pub route: Arc<Route>,
    /// It has another path.
    pub path: bool,
    /// It has another host.
    pub host: bool,
    /// It has other methods.
    pub method: bool,
}

/// What follows when a route takes a request.
#[derive(Debug)]
pub enum Course {
    /// It goes to the upstream.
    Onward(Box<Forwarded>),
    /// Its answer is the token.
    HandOut {
        /// For whom.
        inputs: Inputs,
        /// It asks for one that is not kept already.
        is_new: bool,
    },
}

/// A request as the upstream would get it.
pub struct Forwarded {
    /// What it says for the providers.
    pub inputs: Inputs,
    /// The target that the upstream sees.
    pub target: String,
    /// Its head, with [`MASK`](super::attach::MASK) where a token would be; framing is added by the connection.
    pub head: HeaderMap,
    /// The caller's own field is kept, and no token is on it: a refusal is the caller's own affair.
    pub keeps_authorization: bool,
    /// It could be sent a second time.
    pub is_replayable: bool,
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarded")
            .field("inputs", &self.inputs)
            .field("keeps_authorization", &self.keeps_authorization)
            .field("is_replayable", &self.is_replayable)
            .finish_non_exhaustive()
    }
}

/// Tells what `plan` makes of a request. `received` is its head as it would arrive; `local` the address that it would be
/// sent to; `replay_budget_bytes` what is kept of bodies.
pub async fn explain(
    plan: &Plan,
    received: &[u8],
    request: Request<Full<Bytes>>,
    local: Option<SocketAddr>,
    replay_budget_bytes: usize,
) -> Explanation {
    let mut explanation = Explanation {
        passed_over: Vec::new(),
        route: None,
        course: Err(ProxyError::NoRoute),
    };
    let budget = Budget::new(replay_budget_bytes);
    explanation.course = follow(plan, received, request, local, &budget, &mut explanation).await;
    explanation
}

async fn follow(
    plan: &Plan,
    received: &[u8],
    request: Request<Full<Bytes>>,
    local: Option<SocketAddr>,
    budget: &Budget,
    seen: &mut Explanation,
) -> Result<Course, ProxyError> {
    let line = RequestLine {
        method: request.method(),
        uri: request.uri(),
        version: request.version(),
    };
    framing::check(line, request.headers(), received)?;
    let (head, body) = request.into_parts();
    let host = plan.admit(&head, &head.headers, local)?.into_owned();
    let Parts {
        method,
        uri,
        version,
        headers,
        ..
    } = head;
    let target = Target::parse(&uri)?;
    let found = plan.routes.find(&method, &host, target);
    seen.passed_over = plan.routes.passed_over(&method, &host, target, &found);
    let Matched {
        route,
        captures,
        rest,
    } = found?;
    seen.route = Some(Arc::clone(&route));
    let parts = inputs::Parts {
        captures: &captures,
        headers: &headers,
        query: target.query,
        body: None,
    };
    let Destination::Upstream(onward) = &route.destination else {
        let asked = Asked {
            method: &method,
            rest,
            parts,
        };
        let inputs = hand_out::inputs(&route, &asked, body, plan.limits.body_idle).await?;
        route.tokens.check_inputs(&inputs.subject(&route.subject))?;
        return Ok(Course::HandOut {
            inputs,
            is_new: hand_out::wants_new(&headers),
        });
    };
    let inputs = Inputs::read(&route, &parts)?;
    let query = inputs::forwarded_query(&route, target.query);
    let outbound_target = onward.upstream.target(rest, query.as_deref());
    let has_content = !body.is_end_stream();
    let upgrade = onward.upgrades.asked_for(version, &headers, has_content);
    let stripped = onward.attach.strip(headers, &route.inputs, upgrade)?;
    check_inputs(&route, onward, &inputs)?;
    let head = onward
        .attach
        .preview(&stripped, &onward.upstream.host, &inputs)?;
    let upload = Upload::new(
        body,
        onward.replay_limit,
        budget,
        plan.limits.body_idle,
        |_| {},
    );
    Ok(Course::Onward(Box::new(Forwarded {
        inputs,
        target: outbound_target.into_owned(),
        head,
        keeps_authorization: stripped.keeps_authorization,
        is_replayable: onward.replay_limit.is_some() && is_kept(&upload).await,
    })))
}

fn check_inputs(route: &Route, onward: &Onward, inputs: &Inputs) -> Result<(), ProxyError> {
    let check = |tokens: &Tokens, subject: Subject| tokens.check_inputs(&subject);
    check(&route.tokens, inputs.subject(&route.subject))?;
    for other in &onward.others {
        check(&other.tokens, inputs.subject(&other.subject))?;
    }
    Ok(())
}

/// Whether a body is still there when it has been sent.
async fn is_kept(upload: &Upload<Full<Bytes>>) -> bool {
    let mut sent = pin!(upload.attempt());
    while poll_fn(|cx| sent.as_mut().poll_frame(cx)).await.is_some() {}
    upload.is_replayable()
}

impl RouteTable {
    fn passed_over(
        &self,
        method: &Method,
        host: &str,
        target: Target<'_>,
        found: &Result<Matched<'_>, ProxyError>,
    ) -> Vec<PassedOver> {
        let taken = match found {
            Ok(matched) => Some(&matched.route),
            Err(ProxyError::NoRoute) => None,
            // What the target is can be read in two ways, so there is nothing to say about routes.
            Err(_) => return Vec::new(),
        };
        let tried = self.iter();
        let tried = tried.take_while(|route| !taken.is_some_and(|taken| Arc::ptr_eq(taken, route)));
        let passed_over = tried.map(|route| PassedOver {
            route: Arc::clone(route),
            path: !matches!(route.matcher.matches(target), Ok(Some(_))),
            host: !route.matcher.takes_host(host),
            method: !route.matcher.takes_method(method),
        });
        passed_over.collect()
    }
}
