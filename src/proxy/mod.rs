//! The hot path. Read [`Proxy::forward`] first; the rest of the program serves it.

pub mod answer;
pub mod attach;
pub mod caller;
pub mod explain;
pub mod framing;
pub mod grpc;
pub mod hand_out;
pub mod inputs;
pub mod peek;
pub mod piece;
pub mod problem;
mod record;
pub mod replay;
pub mod request_id;
mod roll;
pub mod route;
pub mod serve;
pub mod target;
pub mod upgrade;
pub mod upstream;
pub mod verdict;

use std::borrow::Cow;
use std::mem;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;

use self::answer::{AnswerBody, OnTrailers, Tell, UpstreamAnswer};
use self::attach::{Carried, Stripped, Writing};
use self::caller::CallerRules;
use self::framing::RequestLine;
use self::grpc::Call;
use self::hand_out::Asked;
use self::inputs::Inputs;
use self::problem::ProxyError;
use self::record::Record;
use self::replay::{Budget, Upload};
use self::request_id::RequestId;
use self::route::{Destination, Matched, Onward, Route, RouteTable};
use self::serve::Worker;
use self::target::Target;
use self::upstream::Sending;
use self::verdict::{Refusal, Renew, Verdict};
use crate::clock::Moment;
use crate::metrics::{Metrics, Replay, RouteMetrics, Unauthorized};
use crate::net::content::AppBody;
use crate::net::inbound::Inbound;
use crate::net::pool::PoolSettings;
use crate::net::tls::ServerTls;
use crate::provider::Subject;
use crate::token::Tokens;
use crate::token::cache::slot::Rejected;
use crate::token::life::Token;

/// One per process, shared by the workers. Owns the current plan.
#[derive(Debug)]
pub struct Proxy {
    plan: ArcSwap<Plan>,
    budget: Budget,
    draining: AtomicBool,
    metrics: Metrics,
    /// Counts what no route takes.
    unmatched: Arc<RouteMetrics>,
}

/// Everything the configuration decides, compiled. Replaced whole, never changed.
#[derive(Debug)]
pub struct Plan {
    /// The routes, in the order they are tried.
    pub routes: RouteTable,
    /// Every provider's tokens.
    pub providers: Vec<Arc<Tokens>>,
    /// Who may call.
    pub callers: CallerRules,
    /// How requests are read.
    pub limits: Limits,
    /// How connections to upstreams are kept.
    pub pool: PoolSettings,
    /// The certificate for apps that call over TLS; plaintext if absent.
    pub tls: Option<Arc<ServerTls>>,
}

/// Bounds on what a caller may send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The largest head, in bytes.
    pub head_bytes: usize,
    /// Time for a head.
    pub head_time: Duration,
    /// How long a request body may stand still.
    pub body_idle: Duration,
}

impl Proxy {
    /// A proxy that follows `plan` until told otherwise, and keeps at most `replay_budget_bytes` of request bodies.
    #[must_use]
    pub fn new(plan: Plan, metrics: &Metrics, replay_budget_bytes: usize) -> Self {
        Self {
            plan: ArcSwap::from_pointee(plan),
            budget: Budget::new(replay_budget_bytes),
            draining: AtomicBool::new(false),
            unmatched: metrics.route(UNMATCHED),
            metrics: metrics.clone(),
        }
    }

    /// The plan that is followed now.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    /// Follows `plan` from the next request on; requests under way finish on the routes they started with.
    pub fn reload(&self, plan: Plan) {
        self.plan.store(Arc::new(plan));
    }

    /// From now on every answer asks its caller to connect elsewhere next time.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether callers are asked to connect elsewhere.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Answers one request. Every failure becomes an answer here, and everything is counted here. Interim answers are given
    /// to `tell`.
    pub async fn handle(
        &self,
        worker: &Worker,
        inbound: &Inbound,
        tell: Tell<'_>,
        request: Request<AppBody>,
    ) -> Response<AnswerBody> {
        let (mut head, body) = request.into_parts();
        // Before anything is added to its fields.
        let framed = check_framing(inbound, &head);
        let mut observed = Observed::begin(self, worker, inbound, &mut head);
        let (version, call) = (head.version, Call::of(&head));
        let answered = {
            let (began, record) = (observed.began, &mut observed.record);
            let request = (&mut head, body);
            let forwarding =
                pin!(self.forward(worker, (inbound, tell), request, call, began, record));
            match framed {
                Ok(()) => Call::bound(call, forwarding).await,
                Err(error) => Err(error),
            }
        };
        let (status, mut response) = match answered {
            Ok(response) => (response.status(), response),
            Err(error) => {
                let record = &mut observed.record;
                let error = record.error.insert(error);
                let response = match call {
                    Some(_) => grpc::refusal(error, &record.id),
                    None => error.to_response(&record.id),
                };
                (error.status(), response)
            }
        };
        if version == Version::HTTP_2 {
            // Its connections end otherwise.
            response.headers_mut().remove(CONNECTION);
        } else if self.is_draining() && status != StatusCode::SWITCHING_PROTOCOLS {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        observed.status = status.as_u16();
        response.body_mut().observe(observed);
        response
    }

    async fn forward(
        &self,
        worker: &Worker,
        (inbound, tell): (&Inbound, Tell<'_>),
        (head, body): (&mut Parts, AppBody),
        call: Option<Call>,
        now: Moment,
        record: &mut Record,
    ) -> Result<Response<AnswerBody>, ProxyError> {
        let mut headers = mem::take(&mut head.headers);
        if head.version == Version::HTTP_2 {
            attach::join_cookies(&mut headers);
        }
        let (limits, matched) = self.admit(inbound, head, &headers)?;
        let Matched {
            route,
            captures,
            rest,
        } = matched;
        record.route = Some(Arc::clone(&route));

        let parts = inputs::Parts {
            captures: &captures,
            headers: &headers,
            query: head.uri.query(),
            body: None,
        };
        let Destination::Upstream(onward) = &route.destination else {
            let method = &head.method;
            let asked = Asked {
                method,
                rest,
                parts,
            };
            let answer = hand_out::answer(&route, &asked, body, limits.body_idle, now);
            return Box::pin(answer).await;
        };
        let inputs = Inputs::read(&route, &parts)?;
        let query = inputs::forwarded_query(&route, parts.query);
        let target = onward.upstream.target(rest, query.as_deref());
        let has_content = !body.is_end_stream();
        let upgrade = onward
            .upgrades
            .asked_for(head.version, &headers, has_content);
        let stripped = onward.attach.strip(headers, &route.inputs, upgrade)?;
        record.conflict = stripped.conflict;

        let subject = inputs.subject(&route.subject);
        let carried = carry(&route, onward, &subject, &inputs, now).await?;
        let upload = self.upload(body, &route, onward, limits);
        let exchange = Exchange {
            route: &route,
            onward,
            sending: &Sending {
                pool: worker.pool(),
                multiplex: worker.multiplex(),
                tell: (head.version != Version::HTTP_10).then_some(tell),
                upstream: &onward.upstream,
                method: &head.method,
                target: &target,
                upload: &upload,
                wants_upgrade: upgrade.is_some(),
                response_time: onward.timeouts.response,
            },
            stripped: &stripped,
            inputs: &inputs,
            is_call: call.is_some(),
        };
        let (mut answer, on_trailers) = exchange.carry_out(&subject, carried, record).await?;
        worker.pool().reuse(stripped.into_headers());
        upload.release();
        if !upload.is_finished() {
            let idle = onward.timeouts.idle.max(limits.body_idle);
            answer.body_mut().rest_mut().detach(idle);
            inbound.reads_on();
        }
        if head.version != Version::HTTP_2 {
            inbound.allow_idle(onward.timeouts.idle);
        }
        let asked = (&head.method, head.version);
        Ok(answer::forward(
            answer,
            asked,
            onward.timeouts.idle,
            on_trailers,
        ))
    }

    /// The route of a request that may be served, and what bounds it.
    fn admit<'a>(
        &self,
        inbound: &Inbound,
        head: &'a Parts,
        headers: &HeaderMap,
    ) -> Result<(Limits, Matched<'a>), ProxyError> {
        if head.version == Version::HTTP_2 {
            framing::check_http2(&head.uri, headers)?;
        }
        let plan = self.plan.load();
        let host = plan.admit(head, headers, inbound.local())?;
        let target = Target::parse(&head.uri)?;
        let matched = plan.routes.find(&head.method, &host, target)?;
        Ok((plan.limits, matched))
    }

    /// A request's body on its way to the upstream of `route`.
    fn upload(&self, body: AppBody, route: &Arc<Route>, onward: &Onward, limits: Limits) -> Upload {
        let route = Arc::clone(route);
        Upload::new(
            body,
            onward.replay_limit,
            &self.budget,
            limits.body_idle,
            move |trailers| route.strip_trailers(trailers),
        )
    }
}

impl Plan {
    /// Whether this caller may ask for this at all, and the host that it calls. `local` is the address that was connected
    /// to, if it has one.
    fn admit<'a>(
        &self,
        head: &'a Parts,
        headers: &'a HeaderMap,
        local: Option<SocketAddr>,
    ) -> Result<Cow<'a, str>, ProxyError> {
        if head.method == Method::CONNECT {
            return Err(ProxyError::TunnelWanted);
        }
        if head.method == Method::TRACE {
            return Err(ProxyError::BadMethod);
        }
        self.callers.check(head.version, &head.uri, headers, local)
    }
}

/// Whether the framing of a request is one that can be read in one way only. Of HTTP/2, that is asked later.
fn check_framing(inbound: &Inbound, head: &Parts) -> Result<(), ProxyError> {
    if head.version == Version::HTTP_2 {
        return Ok(());
    }
    let line = RequestLine {
        method: &head.method,
        uri: &head.uri,
        version: head.version,
    };
    inbound.begin_request(|received| framing::check(line, &head.headers, received))
}

/// The tokens for one attempt, the route's own first.
async fn carry(
    route: &Route,
    onward: &Onward,
    subject: &Subject,
    inputs: &Inputs,
    now: Moment,
) -> Result<Carried, ProxyError> {
    route.tokens.check_inputs(subject)?;
    let own = route.tokens.get(subject, now).await?;
    let others = if onward.others.is_empty() {
        Vec::new()
    } else {
        carry_others(onward, inputs, now).await?
    };
    Ok(Carried { own, others })
}

async fn carry_others(
    onward: &Onward,
    inputs: &Inputs,
    now: Moment,
) -> Result<Vec<Arc<Token>>, ProxyError> {
    let mut others = Vec::with_capacity(onward.others.len());
    for other in &onward.others {
        let subject = inputs.subject(&other.subject);
        other.tokens.check_inputs(&subject)?;
        others.push(other.tokens.get(&subject, now).await?);
    }
    Ok(others)
}

/// One request on its route, to be sent once or twice.
struct Exchange<'a> {
    route: &'a Arc<Route>,
    onward: &'a Onward,
    sending: &'a Sending<'a>,
    stripped: &'a Stripped,
    inputs: &'a Inputs,
    /// Whether it is a call of gRPC.
    is_call: bool,
}

impl Exchange<'_> {
    /// Sends the request, and once more with a new token if the first one is refused.
    async fn carry_out(
        &self,
        subject: &Subject,
        carried: Carried,
        record: &mut Record,
    ) -> Result<(UpstreamAnswer, Option<OnTrailers>), ProxyError> {
        let sent_at = Moment::now();
        let mut answer = self.send(&carried, sent_at).await?;
        record.upstream_took = Some(sent_at.elapsed());

        let keeps_authorization = self.stripped.keeps_authorization;
        match self.judge(&mut answer).await {
            Verdict::Accepted => carried.accept(),
            Verdict::InTrailers if !keeps_authorization => {
                let on_trailers = judge_trailers(self.route, subject.clone(), carried);
                return Ok((answer, Some(on_trailers)));
            }
            Verdict::InTrailers => {}
            Verdict::Refused(refusal) if !keeps_authorization => {
                let replay = self.renew_and_replay(refusal, subject, &carried, answer, record);
                // In a box, so that a request that is not refused is no larger for it.
                answer = Box::pin(replay).await?;
            }
            Verdict::Refused(_) => record.ignore_refusal(None),
            Verdict::NotTheToken(scopes) => record.ignore_refusal(scopes),
        }
        Ok((answer, None))
    }

    async fn send(&self, carried: &Carried, now: Moment) -> Result<UpstreamAnswer, ProxyError> {
        let writing = Writing {
            attach: &self.onward.attach,
            stripped: self.stripped,
            host: &self.onward.upstream.host,
            carried,
            inputs: self.inputs,
        };
        self.sending.send(writing, now).await
    }

    async fn judge(&self, answer: &mut UpstreamAnswer) -> Verdict {
        let rules = &self.onward.unauthorized;
        if self.is_call {
            return rules.judge_call(answer).await;
        }
        rules.judge(answer, self.onward.timeouts.idle).await
    }

    /// A refusal: good by our clock, not by the upstream's. One new token, one replay; without either the refusal is the answer.
    async fn renew_and_replay(
        &self,
        refusal: Refusal,
        subject: &Subject,
        refused: &Carried,
        answer: UpstreamAnswer,
        record: &mut Record,
    ) -> Result<UpstreamAnswer, ProxyError> {
        let tokens = &self.route.tokens;
        // Renewed first, and only then asked whether this request gains by it: the next one does.
        let rejected = reject(tokens, refusal.renew, subject, refused);
        let is_replayable = self.sending.upload.is_replayable()
            && self.onward.replay_limit.is_some()
            && !refusal.has_data;
        let (action, newer) = match rejected {
            Rejected::Guarded => (Unauthorized::Guarded, None),
            Rejected::NotNow => (Unauthorized::Ignored, None),
            Rejected::Newer(_) | Rejected::Renewing(_) if !is_replayable => {
                (Unauthorized::NotReplayable, None)
            }
            Rejected::Newer(newer) => (Unauthorized::NewerGeneration, Some(newer)),
            Rejected::Renewing(flight) => match tokens.renewed(subject, flight, &refused.own).await
            {
                Some(newer) => (Unauthorized::Replayed, Some(newer)),
                None => (Unauthorized::Ignored, None),
            },
        };
        record.unauthorized = Some(action);
        let Some(own) = newer else {
            return Ok(answer);
        };
        // Before the answer is given up: it is all that the app gets if one of the others cannot be had.
        let Ok(others) = carry_others(self.onward, self.inputs, Moment::now()).await else {
            record.unauthorized = Some(Unauthorized::Ignored);
            return Ok(answer);
        };
        let carried = Carried { own, others };
        self.sending.upload.supersede();
        answer::drain(answer).await;
        let sent_at = Moment::now();
        let replayed = self.replay(&carried, sent_at).await;
        record.replay_took = Some(sent_at.elapsed());
        record.replay = Some(match &replayed {
            Err(_) => Replay::Error,
            Ok((_, Verdict::Accepted | Verdict::InTrailers)) => Replay::Recovered,
            Ok((_, Verdict::Refused(_))) => Replay::StillUnauthorized,
            Ok((_, Verdict::NotTheToken(scopes))) => {
                record.missing_scopes.clone_from(scopes);
                Replay::StillUnauthorized
            }
        });
        replayed.map(|(answer, _)| answer)
    }

    async fn replay(
        &self,
        carried: &Carried,
        now: Moment,
    ) -> Result<(UpstreamAnswer, Verdict), ProxyError> {
        let mut answer = self.send(carried, now).await?;
        let verdict = self.judge(&mut answer).await;
        if verdict == Verdict::Accepted {
            carried.accept();
        }
        Ok((answer, verdict))
    }
}

/// The token that an upstream refused is not used again.
fn reject(tokens: &Tokens, renew: Renew, subject: &Subject, refused: &Carried) -> Rejected {
    match renew {
        Renew::Own => tokens.reject(subject, &refused.own, Moment::now()),
        Renew::Parent => tokens.reject_parent(subject, &refused.own, Moment::now()),
    }
}

/// What becomes of the tokens of a call whose answer has begun: the app has seen the beginning, so it is not sent again.
fn judge_trailers(route: &Arc<Route>, subject: Subject, carried: Carried) -> OnTrailers {
    let route = Arc::clone(route);
    Box::new(move |trailers| {
        let Destination::Upstream(onward) = &route.destination else {
            return;
        };
        match onward.unauthorized.judge_trailers(trailers) {
            Verdict::Refused(refusal) => {
                let rejected = reject(&route.tokens, refusal.renew, &subject, &carried);
                route.metrics.unauthorized(match rejected {
                    Rejected::Guarded => Unauthorized::Guarded,
                    Rejected::NotNow => Unauthorized::Ignored,
                    Rejected::Newer(_) | Rejected::Renewing(_) => Unauthorized::NotReplayable,
                });
            }
            Verdict::Accepted | Verdict::InTrailers | Verdict::NotTheToken(_) => carried.accept(),
        }
    })
}

/// Watches one request from its head to the end of its answer, or to its caller's hanging up.
struct Observed {
    began: Moment,
    status: u16,
    inbound: Inbound,
    in_flight: InFlight,
    unmatched: Arc<RouteMetrics>,
    record: Record,
}

impl Observed {
    // In a box from the beginning: it is large, and changes hands.
    fn begin(proxy: &Proxy, worker: &Worker, inbound: &Inbound, head: &mut Parts) -> Box<Self> {
        // First, because the trace that begins here is what the request is known by.
        let span = proxy.metrics.spans();
        let span = span.map(|spans| spans.begin_request(&mut head.headers));
        Box::new(Self {
            began: Moment::now(),
            status: CALLER_GONE,
            inbound: inbound.clone(),
            in_flight: InFlight::begin(proxy, worker),
            unmatched: Arc::clone(&proxy.unmatched),
            record: Record {
                id: RequestId::of(&head.headers),
                method: head.method.clone(),
                span,
                ..Record::default()
            },
        })
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.inbound.end_request();
        let record = &self.record;
        let metrics = record
            .route
            .as_ref()
            .map_or(&self.unmatched, |route| &route.metrics);
        let took = self.began.elapsed();
        metrics.answered(
            self.in_flight.worker,
            self.status,
            took,
            record.upstream_took,
        );
        if let Some(action) = record.unauthorized {
            metrics.unauthorized(action);
        }
        if let Some(outcome) = record.replay {
            metrics.replayed(outcome);
        }
        if record.conflict {
            metrics.header_conflict();
        }
        if let (Some(route), Some(scopes)) = (&record.route, &record.missing_scopes)
            && route.misses(scopes)
        {
            tracing::warn!(
                route = route.name,
                provider = &*route.tokens.provider().name,
                scopes = scopes.as_str(),
                "the token lacks a scope that the upstream wants: add it to `scope`"
            );
        }
        record.tell(self.status, took);
        if let (Some(begun), Some(spans)) = (record.span, self.in_flight.metrics.spans()) {
            record.trace(begun, self.status, took, spans);
        }
    }
}

/// A request that is being served, or a connection that goes on behind its answer: one more until it is dropped.
#[derive(Debug)]
struct InFlight {
    worker: usize,
    metrics: Metrics,
}

impl InFlight {
    fn begin(proxy: &Proxy, worker: &Worker) -> Self {
        proxy.metrics.in_flight(worker.number(), 1);
        Self {
            worker: worker.number(),
            metrics: proxy.metrics.clone(),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight(self.worker, -1);
    }
}

/// The route of what no route takes, in metrics and logs.
pub const UNMATCHED: &str = "unmatched";
/// What is counted for a caller that did not wait for its answer; nginx's number for it.
const CALLER_GONE: u16 = 499;
