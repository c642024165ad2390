//! A day of random life: whatever happens in whatever order, the promises hold.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::clock::paused;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// This many requests come at once.
    Ask(usize),
    /// An upstream refuses a token that was handed out, counted from the latest.
    Reject(usize),
    /// An upstream accepts the latest.
    Accept,
    Force,
    /// The provider behaves like this from now on.
    Provider(Answer, Duration),
    SecretChanges,
    Pass(Duration),
    /// The machine sleeps.
    Suspend(Duration),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1_usize..4).prop_map(Event::Ask),
        3 => (0_usize..4).prop_map(Event::Reject),
        2 => Just(Event::Accept),
        1 => Just(Event::Force),
        3 => (answer(), 0_u64..12_000).prop_map(|(answer, ms)| Event::Provider(answer, millis(ms))),
        1 => Just(Event::SecretChanges),
        4 => (0_u64..1500).prop_map(|ms| Event::Pass(millis(ms))),
        4 => (1_u64..90).prop_map(|seconds| Event::Pass(secs(seconds))),
        2 => (90_u64..1200).prop_map(|seconds| Event::Pass(secs(seconds))),
        1 => (1_u64..14_400).prop_map(|seconds| Event::Suspend(secs(seconds))),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => (0.1_f64..7200.0).prop_map(Answer::Seconds),
        2 => (0.1_f64..70.0).prop_map(Answer::Seconds),
        1 => Just(Answer::Same),
        1 => Just(Answer::Clamped),
        2 => Just(unreachable()),
        2 => Just(failing(None)),
        1 => (0_u64..30).prop_map(|seconds| failing(Some(secs(seconds)))),
        1 => Just(refusing()),
        1 => Just(Answer::Hang),
    ]
}

/// What has been handed out, and what has gone wrong.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Log>>);

type Log = (Vec<Arc<Token>>, Vec<String>);

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    fn handed_out(&self, token: Arc<Token>) {
        let (tokens, violations) = &mut *self.lock();
        if token.freshness(Moment::now()) == Freshness::Expired {
            violations.push(format!("{token:?} is expired"));
        }
        tokens.push(token);
    }
}

async fn live(events: Vec<Event>) {
    let (stage, seen) = (Stage::new(AN_HOUR), Seen::default());
    let end = Moment::now() + 24 * HOUR;
    let mut generation = 0;
    for event in events.iter().cycle().take(MOST_EVENTS) {
        happen(&stage, &seen, event).await;
        let current = stage.slot.current().map_or(0, |token| token.generation());
        assert!(current >= generation, "{current} after {generation}");
        generation = current;
        // Even where the events take no time of their own.
        pass(millis(50)).await;
        if Moment::now() > end {
            break;
        }
    }
    assert_eq!(seen.lock().1, [""; 0]);
    heal(&stage).await;
}

async fn happen(stage: &Stage, seen: &Seen, event: &Event) {
    match event {
        Event::Ask(requests) => {
            for _ in 0..*requests {
                ask(stage, seen);
            }
        }
        Event::Reject(back) => {
            let refused = seen.lock().0.iter().rev().nth(*back).cloned();
            if let Some(refused) = refused
                && let Rejected::Newer(newer) = stage.reject(&refused)
            {
                assert_ne!(newer.secret(), refused.secret());
                seen.handed_out(newer);
            }
        }
        Event::Accept => {
            if let Some(token) = seen.lock().0.last() {
                token.accept();
            }
        }
        Event::Force => drop(stage.force()),
        Event::Provider(answer, latency) => {
            let mut lines = stage.script.lines();
            lines.answer = answer.clone();
            lines.latency = *latency;
        }
        Event::SecretChanges => stage.slot.rearm(Moment::now(), || true),
        Event::Pass(time) => pass(*time).await,
        Event::Suspend(time) => paused::suspend(*time),
    }
}

fn ask(stage: &Stage, seen: &Seen) {
    match stage.ask() {
        Asked::Token(token) => seen.handed_out(token),
        Asked::Wait(flight, _) => {
            let seen = seen.clone();
            tokio::spawn(async move {
                if let Ok(token) = flight.await {
                    seen.handed_out(token);
                }
            });
        }
        Asked::NotNow(backoff) => assert!(backoff.until(true) > Moment::now()),
    }
}

/// The provider is well again, and so is its secret.
async fn heal(stage: &Stage) {
    let began = Moment::now();
    {
        let mut lines = stage.script.lines();
        lines.answer = AN_HOUR;
        lines.latency = millis(100);
    }
    stage.slot.rearm(Moment::now(), || true);
    // An attempt that began before, what its failure asks for, and the attempt that succeeds.
    let most = LIMIT + secs(30) + secs(2);
    while stage.get().await.is_err() {
        assert!(began.elapsed() < most, "ill for {:?}", began.elapsed());
        pass(millis(100)).await;
        stage.slot.rearm(Moment::now(), || true);
    }
}

/// Where time hardly passes, a day would be many.
const MOST_EVENTS: usize = 5000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_within_a_day_the_promises_hold(events in vec(event(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(live(events));
    }
}
