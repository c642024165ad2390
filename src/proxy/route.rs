//! Which route a request takes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use smallvec::SmallVec;

use super::attach::Attach;
use super::inputs::InputRule;
use super::problem::ProxyError;
use super::target::{self, Target};
use super::upgrade::Upgrades;
use super::upstream::Upstream;
use super::verdict::{MissedScopes, MissingScopes, Rules};
use crate::metrics::RouteMetrics;
use crate::token::Tokens;

/// One `[[route]]`, compiled: names are resolved, nothing can be missing.
#[derive(Debug)]
pub struct Route {
    /// For logs and metrics.
    pub name: String,
    /// Which requests take it.
    pub matcher: Matcher,
    /// Where its inputs come from.
    pub inputs: Vec<InputRule>,
    /// Which of its inputs make up the subject, in the provider's order.
    pub subject: Vec<usize>,
    /// Whose tokens go on the request.
    pub tokens: Arc<Tokens>,
    /// What is done with the token.
    pub destination: Destination,
    /// What it counts.
    pub metrics: Arc<RouteMetrics>,
}

/// What a route does with a token.
#[derive(Debug)]
pub enum Destination {
    /// It goes on the request, and the request to an upstream.
    Upstream(Box<Onward>),
    /// It is the answer.
    HandOut,
}

/// How a request goes on, and what becomes of its answer.
#[derive(Debug)]
pub struct Onward {
    /// Where the request goes.
    pub upstream: Upstream,
    /// What is written on the request, and what is taken off.
    pub attach: Attach,
    /// Further providers whose tokens are written on it.
    pub others: Vec<OtherProvider>,
    /// Which answers say that the token is no good.
    pub unauthorized: Rules,
    /// Which scopes the upstream has missed in its tokens.
    pub missed: MissedScopes,
    /// The largest body kept for a replay, in bytes. `None`: nothing is ever replayed.
    pub replay_limit: Option<usize>,
    /// How long the upstream may take.
    pub timeouts: Timeouts,
    /// What may follow HTTP on a connection.
    pub upgrades: Upgrades,
}

/// A provider besides the route's own.
#[derive(Debug)]
pub struct OtherProvider {
    /// Its tokens.
    pub tokens: Arc<Tokens>,
    /// Which of the route's inputs make up its subject, in its order.
    pub subject: Vec<usize>,
}

impl Route {
    /// Removes from trailers what the route sets.
    pub fn strip_trailers(&self, trailers: &mut HeaderMap) {
        if let Destination::Upstream(onward) = &self.destination {
            onward.attach.strip_trailers(trailers);
        }
    }

    /// Whether it is news that these scopes are missing.
    #[must_use]
    pub fn misses(&self, scopes: &MissingScopes) -> bool {
        match &self.destination {
            Destination::Upstream(onward) => onward.missed.is_news(scopes),
            Destination::HandOut => false,
        }
    }
}

/// Time limits towards an upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// From the last byte of the request to the head of the answer.
    pub response: Duration,
    /// Between two pieces of the answer's body, and of what is left of an upgraded connection when one side has ended.
    pub idle: Duration,
}

/// Which requests a route takes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Matcher {
    /// Segments that a path begins with. None: every path.
    pub segments: Vec<Segment>,
    /// Hosts, in lower case. None: every host.
    pub hosts: Vec<String>,
    /// Methods. None: every method.
    pub methods: Vec<Method>,
}

/// One segment of a route's path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Segment {
    /// This very text.
    Literal(String),
    /// Any text but none, for the inputs.
    Capture,
}

/// A request's route, and what its path says.
#[derive(Debug)]
pub struct Matched<'a> {
    /// The route.
    pub route: Arc<Route>,
    /// The captured segments, decoded.
    pub captures: Captures<'a>,
    /// What is left of the path: empty, or beginning with a slash.
    pub rest: &'a str,
}

/// Captured segments: of most routes one, and none that is escaped.
pub type Captures<'a> = SmallVec<[Cow<'a, str>; 1]>;

/// The routes, tried in the file's order.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    /// Where there are so many that it costs less than to try each.
    index: Option<Index>,
}

impl RouteTable {
    /// These routes, in this order.
    #[must_use]
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let index = (routes.len() > MOST_TRIED).then(|| {
            let paths = routes.iter().map(|route| &*route.matcher.segments);
            Index::of(paths)
        });
        Self { routes, index }
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// The first route that takes this request.
    ///
    /// # Errors
    ///
    /// [`ProxyError::NoRoute`], or [`ProxyError::BadTarget`] where an escape decides which route it is.
    pub fn find<'a>(
        &self,
        method: &Method,
        host: &str,
        target: Target<'a>,
    ) -> Result<Matched<'a>, ProxyError> {
        let found = match &self.index {
            // An escape may decide, and that is found out by trying each.
            Some(index) if !target.has_escapes => {
                let numbers = index.candidates(target.path);
                let routes = numbers.into_iter().filter_map(|it| self.routes.get(it));
                first(routes, method, host, target)
            }
            _ => first(self.routes.iter(), method, host, target),
        };
        found?.ok_or(ProxyError::NoRoute)
    }
}

fn first<'r, 'a>(
    routes: impl Iterator<Item = &'r Arc<Route>>,
    method: &Method,
    host: &str,
    target: Target<'a>,
) -> Result<Option<Matched<'a>>, ProxyError> {
    for route in routes {
        if route.matcher.takes_method(method)
            && route.matcher.takes_host(host)
            && let Some((captures, rest)) = route.matcher.matches(target)?
        {
            return Ok(Some(Matched {
                route: Arc::clone(route),
                captures,
                rest,
            }));
        }
    }
    Ok(None)
}

/// Which routes a path may take, by the segments that they begin with.
#[derive(Debug, Default)]
struct Index {
    literals: HashMap<String, Self>,
    capture: Option<Box<Self>>,
    /// The numbers of the routes whose segments end here.
    routes: Vec<usize>,
}

impl Index {
    fn of<'a>(paths: impl Iterator<Item = &'a [Segment]>) -> Self {
        let mut index = Self::default();
        for (number, segments) in paths.enumerate() {
            let mut node = &mut index;
            for segment in segments {
                node = match segment {
                    Segment::Literal(literal) => node.literals.entry(literal.clone()).or_default(),
                    Segment::Capture => node.capture.get_or_insert_default(),
                };
            }
            node.routes.push(number);
        }
        index
    }

    /// The numbers of all routes that a path without escapes may take, in their order.
    fn candidates(&self, path: &str) -> Vec<usize> {
        let mut numbers = Vec::new();
        self.collect(path.split('/').skip(1), &mut numbers);
        numbers.sort_unstable();
        numbers
    }

    fn collect<'a>(
        &self,
        mut segments: impl Iterator<Item = &'a str> + Clone,
        numbers: &mut Vec<usize>,
    ) {
        numbers.extend_from_slice(&self.routes);
        let Some(segment) = segments.next() else {
            return;
        };
        if let Some(capture) = &self.capture {
            capture.collect(segments.clone(), numbers);
        }
        if let Some(literal) = self.literals.get(segment) {
            literal.collect(segments, numbers);
        }
    }
}

/// So few routes are tried one after another.
const MOST_TRIED: usize = 8;

/// The captured segments, and the rest of the path.
type PathMatch<'a> = (Captures<'a>, &'a str);

impl Matcher {
    pub(super) fn takes_method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    pub(super) fn takes_host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }

    pub(super) fn matches<'a>(
        &self,
        target: Target<'a>,
    ) -> Result<Option<PathMatch<'a>>, ProxyError> {
        let mut captures = Captures::new();
        let mut rest = target.path;
        for segment in &self.segments {
            let Some(inside) = rest.strip_prefix('/') else {
                return Ok(None);
            };
            let end = inside.bytes().position(|byte| byte == b'/');
            let (here, after) = inside.split_at(end.unwrap_or(inside.len()));
            match segment {
                Segment::Literal(literal) if here == literal => {}
                Segment::Literal(literal)
                    if target.has_escapes && target::decode(here)? == *literal =>
                {
                    return Err(ProxyError::BadTarget(
                        "an escape in the path decides its route",
                    ));
                }
                Segment::Literal(_) => return Ok(None),
                Segment::Capture if here.is_empty() => return Ok(None),
                Segment::Capture if target.has_escapes => captures.push(target::decode(here)?),
                Segment::Capture => captures.push(here.into()),
            }
            rest = after;
        }
        Ok(Some((captures, rest)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher(path: &str) -> Matcher {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        Matcher {
            segments: segments
                .map(|segment| match segment.strip_prefix('{') {
                    Some(_) => Segment::Capture,
                    None => Segment::Literal(segment.to_owned()),
                })
                .collect(),
            ..Matcher::default()
        }
    }

    fn target(path: &str) -> Target<'_> {
        Target {
            path,
            query: None,
            has_escapes: path.contains('%'),
        }
    }

    fn rest<'a>(route: &str, path: &'a str) -> Option<&'a str> {
        let matched = matcher(route).matches(target(path)).unwrap();
        matched.map(|(_, rest)| rest)
    }

    #[test]
    fn whole_segments_match_and_the_rest_is_left() {
        assert_eq!(rest("/stitch", "/stitch/graphql"), Some("/graphql"));
        assert_eq!(rest("/stitch", "/stitch"), Some(""));
        assert_eq!(rest("/stitch", "/stitch/"), Some("/"));
        assert_eq!(rest("/stitch", "/stitching"), None);
        assert_eq!(rest("/stitch", "/Stitch"), None);
        assert_eq!(rest("/", "/anything/at/all"), Some("/anything/at/all"));
        assert_eq!(rest("/a/b", "/a"), None);
    }

    #[test]
    fn a_capture_takes_one_segment_decoded_and_never_an_empty_one() {
        let forage = matcher("/forage/{merchant}");
        for (path, capture) in [
            ("/forage/mid%201/api", "mid 1"),
            ("/forage/mid-1/api", "mid-1"),
        ] {
            let (captures, rest) = forage.matches(target(path)).unwrap().unwrap();
            assert_eq!((captures.as_slice(), rest), (&[capture.into()][..], "/api"));
        }
        assert!(forage.matches(target("/forage/")).unwrap().is_none());
        assert!(forage.matches(target("/forage")).unwrap().is_none());
    }

    #[test]
    fn an_escape_that_decides_the_route_is_refused() {
        let stitch = matcher("/stitch");
        assert!(stitch.matches(target("/%73titch")).is_err());
        assert!(stitch.matches(target("/%74itch")).unwrap().is_none());
    }

    #[test]
    fn host_and_method_narrow_a_route() {
        let narrow = Matcher {
            hosts: vec!["api.local".to_owned()],
            methods: vec![Method::POST],
            ..Matcher::default()
        };
        assert!(narrow.takes_method(&Method::POST) && narrow.takes_host("API.local"));
        assert!(!narrow.takes_host("other.local"));
        assert!(!narrow.takes_method(&Method::GET));
    }

    proptest! {
        #[test]
        fn the_index_leaves_out_only_what_a_path_cannot_take(
            routes in prop::collection::vec("(/([abc]|\\{x\\})){0,4}", 0..30),
            path in "(/[abcd]?){1,5}",
        ) {
            let matchers: Vec<_> = routes.iter().map(|route| matcher(route)).collect();
            let paths = matchers.iter().map(|matcher| &*matcher.segments);
            let candidates = Index::of(paths).candidates(&path);
            prop_assert!(candidates.is_sorted());
            for (number, matcher) in matchers.iter().enumerate() {
                let takes = matcher.matches(target(&path)).unwrap().is_some();
                prop_assert!(!takes || candidates.contains(&number), "{} {}", routes[number], path);
            }
        }
    }
}
