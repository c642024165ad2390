//! The apps of the tenants: they write many requests at once on a connection that they keep, and read the answers.

use std::io::{Read as _, Write as _};
use std::iter::Sum;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::cast::{owner, owner_of};

/// Requests that are written before the first answer is read.
const AT_ONCE: usize = 32;
/// Tenants besides those with the confusable names.
const NUMBERED: usize = 150;
/// Of a hundred requests, so many are for anybody; the rest is for the few that are hot.
const FOR_ANYBODY: usize = 4;
const HOT: usize = 64;

/// Names that somebody, somewhere, takes for another.
const NAMES: [&str; 28] = [
    "a",
    "ab",
    "abc",
    "A",
    "b",
    "bc",
    "c",
    "a,b",
    "a.b",
    "a b",
    "a+b",
    "a=b",
    "a&tenant=b",
    "a/b",
    "a%2Fb",
    "a%252Fb",
    "a\\b",
    "\"a\"",
    "[\"a\"]",
    "[\"a\",\"b\"]",
    "{\"a\":1}",
    "1",
    "01",
    "1.0",
    "null",
    "true",
    "..",
    "~",
];
/// Twins outside ASCII: no input as a text of their own, one like any other in a list.
const TWINS: [&str; 4] = ["caf\u{e9}", "cafe\u{301}", "\u{430}", "\u{ff41}"];

/// A request, and whose token it must carry.
pub(super) struct Case {
    path: String,
    fields: String,
    body: Option<String>,
    expected: Expected,
}

enum Expected {
    /// It reaches the upstream with this owner's token.
    Forwarded,
    /// It is answered with this owner's token.
    HandedOut(String),
    /// It is the app's mistake.
    NotTaken,
}

/// What became of requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Got an answer of their own, whichever.
    pub(super) answered: usize,
    /// Were given their own token.
    pub(super) handed_out: usize,
    /// Were given another's.
    pub(super) foreign: usize,
    /// Could not be an input, and were told so.
    pub(super) not_taken: usize,
    /// Saw a 401.
    pub(super) unauthorized: usize,
    /// Got what they should not.
    pub(super) mixed: usize,
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |sum, it| Self {
            answered: sum.answered + it.answered,
            handed_out: sum.handed_out + it.handed_out,
            foreign: sum.foreign + it.foreign,
            not_taken: sum.not_taken + it.not_taken,
            unauthorized: sum.unauthorized + it.unauthorized,
            mixed: sum.mixed + it.mixed,
        })
    }
}

/// Every tenant, in every place where its name can stand, shuffled; and before them the twins, so that they are hot.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let numbered = (1..=NUMBERED).map(|number| format!("t{number}"));
    let names: Vec<String> = NAMES
        .into_iter()
        .map(str::to_owned)
        .chain(numbered)
        .collect();
    for (index, name) in names.iter().enumerate() {
        let next = &names[(index + 1) % names.len()];
        cases.extend(about(name, next));
    }
    fastrand::Rng::with_seed(7).shuffle(&mut cases);
    let twins = TWINS.into_iter().flat_map(|twin| {
        let written = utf8_percent_encode(twin, NON_ALPHANUMERIC);
        let refused = format!("/query/nobody?tenant={written}");
        [
            Case::new(refused, Expected::NotTaken),
            Case::handed_out(&json!([twin])),
        ]
    });
    twins.chain(cases).collect()
}

fn about(name: &str, next: &str) -> Vec<Case> {
    let form = owner("form", &[json!(name), json!("read")]);
    let scoped = owner("form", &[json!(name), json!("write")]);
    let child = owner("child", &[json!(name), json!(form)]);
    let pair = |a: &str, b: &str| owner("pair", &[json!(a), json!(b)]);
    let written = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let (this, that) = (written(name), written(next));
    let glued = format!("{name}{next}");
    let mut cases = vec![
        Case::forwarded(format!("/query/{form}?tenant={this}")),
        Case::forwarded(format!("/scoped/{scoped}?tenant={this}")),
        Case::forwarded(format!("/child/{child}?tenant={this}")),
        Case::forwarded(format!("/pair/{}?a={this}&b={that}", pair(name, next))),
        Case::forwarded(format!("/pair/{}?a={that}&b={this}", pair(next, name))),
        Case::forwarded(format!(
            "/pair/{}?a={}&b={this}",
            pair(&glued, name),
            written(&glued)
        )),
        Case::forwarded(format!("/own/{}", owner("own", &[]))),
        Case {
            fields: format!("x-tenant: {name}\r\n"),
            ..Case::forwarded(format!("/header/{form}"))
        },
        Case::handed_out(&json!(name)),
        Case::handed_out(&json!([name])),
        Case::handed_out(&json!([name, next])),
        Case::handed_out(&json!([glued])),
        Case::handed_out(&json!({ name: next })),
    ];
    // In a path, what could mean another path is refused before it is anybody's name.
    if name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b',')
    {
        cases.push(Case::forwarded(format!("/path/{name}/{form}")));
        cases.push(Case::forwarded(format!(
            "/pair/{name}/x{name}/{}",
            pair(name, &format!("x{name}"))
        )));
    }
    if let Ok(number @ (Value::Number(_) | Value::Bool(_))) = serde_json::from_str(name) {
        cases.push(Case::handed_out(&number));
    }
    cases
}

impl Case {
    fn new(path: String, expected: Expected) -> Self {
        Self {
            path,
            fields: String::new(),
            body: None,
            expected,
        }
    }

    fn forwarded(path: String) -> Self {
        Self::new(path, Expected::Forwarded)
    }

    fn handed_out(who: &Value) -> Self {
        Self {
            fields: "content-type: application/json\r\n".to_owned(),
            body: Some(json!({ "who": who }).to_string()),
            ..Self::new(
                "/typed".to_owned(),
                Expected::HandedOut(owner("typed", std::slice::from_ref(who))),
            )
        }
    }

    fn write(&self, number: usize, to: &mut Vec<u8>) {
        let (path, fields) = (&self.path, &self.fields);
        let body = self.body.clone().unwrap_or_else(|| number.to_string());
        write!(
            to,
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nx-request: {number}\r\n{fields}content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
    }

    fn judge(&self, number: usize, answer: &Answer, tally: &mut Tally) {
        tally.answered += 1;
        let carries_number = answer.field("x-request") == Some(number.to_string().as_str());
        match (&self.expected, answer.status) {
            (Expected::Forwarded, 200) if carries_number => {}
            (Expected::Forwarded, 401) if carries_number => tally.unauthorized += 1,
            (Expected::HandedOut(owner), 200) => {
                let document: Value = serde_json::from_slice(&answer.body).unwrap();
                let token = document["access_token"].as_str().unwrap();
                if owner_of(token) == owner {
                    tally.handed_out += 1;
                } else {
                    tally.foreign += 1;
                }
            }
            (Expected::NotTaken, 400) => tally.not_taken += 1,
            _ => {
                tally.mixed += 1;
                let body = String::from_utf8_lossy(&answer.body);
                eprintln!("{} of {}: {} {body}", number, self.path, answer.status);
            }
        }
    }
}

/// Makes so many requests on one connection.
pub(super) fn run(address: SocketAddr, cases: &[Case], client: usize, count: usize) -> Tally {
    let mut random = fastrand::Rng::with_seed(client as u64);
    let mut connection = Connection::open(address);
    let mut tally = Tally::default();
    let mut asked = 0;
    while asked < count {
        let batch: Vec<(usize, &Case)> = (asked..count.min(asked + AT_ONCE))
            .map(|index| {
                let is_for_anybody = random.usize(..100) < FOR_ANYBODY;
                let most = if is_for_anybody { cases.len() } else { HOT };
                (client * count + index, &cases[random.usize(..most)])
            })
            .collect();
        connection.write(&batch);
        for (number, case) in &batch {
            case.judge(*number, &connection.read(), &mut tally);
        }
        asked += batch.len();
    }
    tally
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    fn write(&mut self, batch: &[(usize, &Case)]) {
        let mut bytes = Vec::new();
        for (number, case) in batch {
            case.write(*number, &mut bytes);
        }
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next answer, which has a declared length.
    fn read(&mut self) -> Answer {
        let end = loop {
            match self.read.windows(4).position(|it| it == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.read_more(),
            }
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        let mut answer = Answer {
            status: head[9..12].parse().unwrap(),
            head,
            body: Vec::new(),
        };
        let length: usize = answer.field("content-length").unwrap().parse().unwrap();
        while self.read.len() < end + length {
            self.read_more();
        }
        answer.body = self.read.drain(..end + length).skip(end).collect();
        answer
    }

    fn read_more(&mut self) {
        let mut bytes = [0; 16 * 1024];
        let count = self.stream.read(&mut bytes).unwrap();
        assert!(count > 0, "the proxy has closed the connection");
        self.read.extend_from_slice(&bytes[..count]);
    }
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
