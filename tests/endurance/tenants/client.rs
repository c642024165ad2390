//! The apps of the tenants: they write many requests at once on a connection that they keep, and read the answers.

use std::io::{Read as _, Write as _};
use std::iter::Sum;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cast::{owner, owner_of};

/// Requests that are written before the first answer is read.
const AT_ONCE: usize = 32;
/// Tenants besides those with the confusable names: the crowd, for whom there is no room.
const CROWD: usize = 150;
/// Of a hundred requests, so many are of the crowd.
const OF_THE_CROWD: usize = 4;

/// Names that somebody, somewhere, takes for another.
const NAMES: [&str; 26] = [
    "a",
    "ab",
    "abc",
    "A",
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
    "0",
];
/// Of these, so many are tried in every place where a name can stand.
const EVERYWHERE: usize = 6;
/// Two inputs that are one text when they are glued together, with whatever glue.
const PAIRS: [(&str, &str); 10] = [
    ("a", "bc"),
    ("ab", "c"),
    ("b", "ac"),
    ("a,b", "c"),
    ("a", "b,c"),
    ("a/b", "c"),
    ("a", "b/c"),
    ("a\",\"b", "c"),
    ("a", "b\",\"c"),
    ("bc", "a"),
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
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |sum, it| Self {
            answered: sum.answered + it.answered,
            handed_out: sum.handed_out + it.handed_out,
            foreign: sum.foreign + it.foreign,
            not_taken: sum.not_taken + it.not_taken,
            unauthorized: sum.unauthorized + it.unauthorized,
        })
    }
}

/// Tenants with confusable names, all of whom call often, and the crowd.
pub(super) struct Cases {
    confusable: Vec<Case>,
    crowd: Vec<Case>,
}

impl Cases {
    pub(super) fn all() -> Self {
        let mut confusable: Vec<Case> = NAMES.into_iter().map(Case::query).collect();
        confusable.extend(NAMES.into_iter().take(EVERYWHERE).flat_map(everywhere));
        confusable.extend(PAIRS.map(|(a, b)| Case::pair(a, b)));
        confusable.extend(TWINS.map(|twin| {
            let refused = format!("/query/nobody?tenant={}", written(twin));
            Case::new(refused, Expected::NotTaken)
        }));
        let texts = [
            "a",
            "[\"a\"]",
            "[\"a\",\"b\"]",
            "{\"a\":1}",
            "1",
            "1.0",
            "true",
        ];
        let same = [
            json!(["a"]),
            json!(["a", "b"]),
            json!({ "a": 1 }),
            json!(1),
            json!(1.0),
            json!(true),
        ];
        let near = [
            json!(["ab"]),
            json!([["a"]]),
            json!(["a,b"]),
            json!({ "a": "1" }),
            json!(["1"]),
            json!([1]),
        ];
        let typed = texts.map(Value::from).into_iter().chain(same).chain(near);
        let typed = typed.chain(TWINS.map(|twin| json!([twin])));
        confusable.extend(typed.map(|who| Case::handed_out(&who)));
        let names: Vec<String> = (1..=CROWD).map(|number| format!("t{number}")).collect();
        let crowd = names.iter().flat_map(|name| {
            let mut cases = everywhere(name);
            cases.extend([
                Case::query(name),
                Case::pair(name, "x"),
                Case::pair("x", name),
            ]);
            cases.extend(
                [json!(name), json!([name]), json!({ name: 1 })].map(|who| Case::handed_out(&who)),
            );
            cases
        });
        Self {
            confusable,
            crowd: crowd.collect(),
        }
    }

    fn any(&self, random: &mut fastrand::Rng) -> &Case {
        let cases = if random.usize(..100) < OF_THE_CROWD {
            &self.crowd
        } else {
            &self.confusable
        };
        &cases[random.usize(..cases.len())]
    }
}

fn written(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The same tenant by other ways than its query.
fn everywhere(name: &str) -> Vec<Case> {
    let form = owner("form", &[json!(name), json!("read")]);
    let scoped = owner("form", &[json!(name), json!("write")]);
    let child = owner("child", &[json!(name), json!(form)]);
    let tenant = written(name);
    let mut cases = vec![
        Case::forwarded(format!("/scoped/{scoped}?tenant={tenant}")),
        Case::forwarded(format!("/child/{child}?tenant={tenant}")),
        Case::forwarded(format!("/own/{}", owner("own", &[]))),
        Case {
            fields: format!("x-tenant: {name}\r\n"),
            ..Case::forwarded(format!("/header/{form}"))
        },
    ];
    // In a path, what could mean another path is refused before it is anybody's name.
    if name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b',' | b'.'))
    {
        let pair = owner("pair", &[json!(name), json!("b")]);
        cases.push(Case::forwarded(format!("/path/{name}/{form}")));
        cases.push(Case::forwarded(format!("/pair/{name}/b/{pair}")));
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

    fn query(name: &str) -> Self {
        let form = owner("form", &[json!(name), json!("read")]);
        Self::forwarded(format!("/query/{form}?tenant={}", written(name)))
    }

    fn pair(a: &str, b: &str) -> Self {
        let pair = owner("pair", &[json!(a), json!(b)]);
        Self::forwarded(format!("/pair/{pair}?a={}&b={}", written(a), written(b)))
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
                let (path, status) = (&self.path, answer.status);
                let body = String::from_utf8_lossy(&answer.body);
                panic!("{number} of {path} is answered with {status}: {body}");
            }
        }
    }
}

/// Makes so many requests on one connection, or more if that takes too short a time for tokens to grow old in.
pub(super) fn run(address: SocketAddr, cases: &Cases, client: usize, count: usize) -> Tally {
    let mut random = fastrand::Rng::with_seed(client as u64);
    let mut connection = Connection::open(address);
    let mut tally = Tally::default();
    let (began, mut asked) = (Instant::now(), 0);
    while asked < count || began.elapsed() < AT_LEAST {
        let batch: Vec<(usize, &Case)> = (asked..asked + AT_ONCE)
            .map(|index| (client * 1_000_000_000 + index, cases.any(&mut random)))
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

/// Long enough for each tenant's token to be renewed and refused.
const AT_LEAST: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(30);
