//! What three clients of HTTP/1.1 cost for the same exchange, on a connection that is kept: hyper's with its connection in
//! a task of its own, hyper's with its connection polled by the task of the request, and pillion's.
//!
//! `cargo bench --bench clients`
//!
//! Each client is a process of its own with one thread, and the upstream a thread of this one. Counted by callgrind is
//! all that the client does in user mode, runtime included, and of that the difference between many exchanges and half as
//! many; timed, without callgrind, is how long its thread was on a processor, kernel included: the median of some rounds,
//! in which they take turns. Every exchange includes the copy of a prepared request, and gives its answer as status,
//! `HeaderMap` and `Bytes`. pillion's client watches a deadline meanwhile; hyper's leaves that to others.

#![expect(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on may panic"
)]
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

mod client;
mod exchange;
mod upstream;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use self::client::Client;
use self::exchange::Kind;

#[path = "../callgrind/mod.rs"]
mod callgrind;

/// What one exchange costs.
struct Cost {
    client: Client,
    nanoseconds: u64,
    /// Where there is valgrind.
    counts: Option<Counts>,
}

struct Counts {
    instructions: u64,
    allocations: u64,
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, word, client, kind, upstream, times] = arguments.as_slice()
        && word == CHILD
    {
        let client = named(&Client::ALL, Client::name, client);
        let kind = named(&Kind::ALL, Kind::name, kind);
        let took = client.run(upstream.parse().unwrap(), kind, times.parse().unwrap());
        println!("{}", took.as_nanos());
        return;
    }
    let has_valgrind = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_valgrind {
        println!("valgrind is missing: nothing is counted");
    }
    for kind in Kind::ALL {
        let upstream = upstream::start(kind).unwrap();
        let costs = Client::ALL.map(|client| Cost {
            client,
            nanoseconds: 0,
            counts: has_valgrind.then(|| count(client, kind, upstream)),
        });
        print(kind, &timed(costs, kind, upstream));
    }
}

fn named<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, wanted: &str) -> T {
    *all.iter().find(|it| name(**it) == wanted).unwrap()
}

/// Counts a client's exchanges, and half as many.
fn count(client: Client, kind: Kind, upstream: SocketAddr) -> Counts {
    let counts = env::temp_dir().join(format!("pillion-clients-{}", std::process::id()));
    let [half, whole] = [COUNTED / 2, COUNTED].map(|times| {
        let this = env::current_exe().unwrap();
        let command = callgrind::command(&this, &[], &counts);
        run(command, client, kind, upstream, times);
        fs::read_to_string(&counts).unwrap()
    });
    fs::remove_file(counts).unwrap();
    let each = |of: fn(&str) -> u64| (of(&whole) - of(&half)) / (COUNTED / 2);
    Counts {
        instructions: each(callgrind::instructions),
        allocations: each(allocations),
    }
}

/// How often memory is asked for, in what callgrind writes: a line names a function that is called, the next says how often.
/// A name is given once, with a number that stands for it from then on.
fn allocations(counts: &str) -> u64 {
    let mut asking = BTreeSet::new();
    let mut called = "";
    let mut sum = 0;
    for line in counts.lines() {
        if let Some((_, name)) = line.split_once("fn=") {
            let (number, name) = name.split_once(' ').unwrap_or((name, ""));
            if ASKING.contains(&name) {
                asking.insert(number);
            }
            called = number;
        } else if let Some(calls) = line.strip_prefix("calls=")
            && asking.contains(called)
        {
            let (times, _) = calls.split_once(' ').unwrap();
            sum += times.parse::<u64>().unwrap();
        }
    }
    sum
}

/// Times the clients in turn.
fn timed(mut costs: [Cost; 3], kind: Kind, upstream: SocketAddr) -> [Cost; 3] {
    let mut rounds = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (cost, round) in costs.iter().zip(&mut rounds) {
            let this = Command::new(env::current_exe().unwrap());
            let nanoseconds = run(this, cost.client, kind, upstream, TIMED);
            round.push(nanoseconds / TIMED);
        }
    }
    for (cost, round) in costs.iter_mut().zip(&mut rounds) {
        round.sort_unstable();
        cost.nanoseconds = *round.get(ROUNDS / 2).unwrap();
    }
    costs
}

/// Runs a client in a process of its own. Returns the nanoseconds that it has taken.
fn run(mut this: Command, client: Client, kind: Kind, upstream: SocketAddr, times: u64) -> u64 {
    let output = this
        .args([CHILD, client.name(), kind.name()])
        .args([upstream.to_string(), times.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    let nanoseconds = String::from_utf8(output.stdout).unwrap();
    nanoseconds.trim().parse().unwrap()
}

/// A table, and what follows from it for the whole program, which is built on the last of them.
fn print(kind: Kind, costs: &[Cost; 3]) {
    println!(
        "\n{:<16} {:>12} {:>12} {:>10}",
        kind.name(),
        "instructions",
        "allocations",
        "CPU µs"
    );
    for cost in costs {
        let of = |figure: fn(&Counts) -> u64| {
            let figure = cost.counts.as_ref().map(figure);
            figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string())
        };
        println!(
            "{:<16} {:>12} {:>12} {:>10.2}",
            cost.client.name(),
            of(|counts| counts.instructions),
            of(|counts| counts.allocations),
            cost.nanoseconds as f64 / 1000.0
        );
    }
    let [_, inline, own] = costs;
    let whole = callgrind::recorded().get(kind.name()).copied();
    if let (Some(inline), Some(own), Some(whole)) = (&inline.counts, &own.counts, whole) {
        let saved = inline.instructions.saturating_sub(own.instructions);
        println!(
            "all of pillion: {whole}; with hyper, inline: {}, of which its own client saves {:.0} %",
            whole + saved,
            100.0 * saved as f64 / (whole + saved) as f64
        );
    }
}

const CHILD: &str = "client";
const COUNTED: u64 = 2000;
const TIMED: u64 = 20_000;
const ROUNDS: usize = 7;
const ASKING: [&str; 5] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
];
