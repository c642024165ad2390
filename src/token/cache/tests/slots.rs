//! What [`Slots`] promises: one slot a subject, no more of them than there may be, and who makes room.

use std::collections::BTreeSet;
use std::sync::{Barrier, Weak};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::provider::Subject;

fn subject(values: &[&str]) -> Subject {
    Subject::new(values.iter().map(|value| Input::Text(value)))
}

fn number(number: usize) -> Subject {
    subject(&[&number.to_string()])
}

fn of(slots: &Slots, subject: &Subject, now: Moment) -> Arc<Slot> {
    slots.of(subject, now).expect("there is room")
}

fn names(slots: &Slots) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    slots.each(|subject, _| assert!(names.insert(subject.input(0).to_owned())));
    names
}

#[test]
fn subjects_are_typed_and_not_concatenated() {
    let (slots, now) = (Slots::new(10), Moment::now());
    let one = of(&slots, &subject(&["a", "bc"]), now);
    for other in [subject(&["ab", "c"]), subject(&["abc"])] {
        assert!(!Arc::ptr_eq(&one, &of(&slots, &other, now)));
    }
    assert!(!Arc::ptr_eq(&one, slots.own()));
    assert!(Arc::ptr_eq(&one, &of(&slots, &subject(&["a", "bc"]), now)));
}

#[test]
fn looking_at_subjects_does_not_count_as_use() {
    let (slots, now) = (Slots::new(2), Moment::now());
    for (after, name) in [(1, "a"), (2, "b")] {
        of(&slots, &subject(&[name]), now + millis(after));
    }
    slots.each(|_, _| {});
    of(&slots, &subject(&["c"]), now + millis(3));
    assert_eq!(names(&slots), ["b", "c"].map(String::from).into());
}

proptest! {
    #[test]
    fn whom_a_plain_list_by_last_use_would_forget_is_forgotten(
        capacity in 1_usize..8,
        uses in vec((0_usize..12, any::<bool>(), 1_u64..2000), 1..300),
    ) {
        let (slots, mut now) = (Slots::new(capacity), Moment::now());
        let mut model: Vec<usize> = Vec::new();
        for (who, only_looks, pause) in uses {
            now = now + millis(pause);
            let known = model.iter().position(|it| *it == who).map(|at| model.remove(at));
            if known.is_some() || !only_looks {
                model.push(who);
            }
            if model.len() > capacity {
                model.remove(0);
            }
            // There is no token, but who looks for a fresh one uses the slot.
            assert!(slots.fresh(&number(who), now).is_none());
            if !only_looks {
                of(&slots, &number(who), now);
            }
            let kept = model.iter().map(ToString::to_string).collect();
            prop_assert_eq!(names(&slots), kept);
        }
    }
}

#[test]
fn a_subject_that_many_threads_ask_for_at_once_has_one_slot() {
    let (slots, threads) = (Slots::new(1000), 16);
    let (barrier, now) = (Barrier::new(threads), Moment::now());
    let ask_for_all = || -> Vec<Arc<Slot>> {
        let round = |who| {
            barrier.wait();
            of(&slots, &number(who), now)
        };
        (0..1000).map(round).collect()
    };
    let mut found = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(ask_for_all)).collect();
        let found = threads.into_iter().map(|it| it.join().unwrap());
        found.collect::<Vec<_>>()
    });
    let first = found.pop().unwrap();
    for other in found {
        let mut pairs = first.iter().zip(&other);
        assert!(pairs.all(|(one, other)| Arc::ptr_eq(one, other)));
    }
}

#[test]
fn there_are_never_more_slots_than_there_may_be_whoever_asks() {
    let (slots, now) = (Slots::new(50), Moment::now());
    let ask_for_many = |from: usize| {
        for who in from..from + 2000 {
            // They are all in use at times: then there is none.
            let slot = slots.of(&number(who % 3001), now + millis(who as u64));
            assert!(slots.len() <= 50);
            drop(slot);
        }
    };
    thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || ask_for_many(thread * 500));
        }
    });
    assert_eq!(slots.len(), 50);
    assert_eq!(names(&slots).len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_subject_keeps_its_place_while_its_token_is_fetched_and_for_a_second_after_it_was_asked_for()
 {
    let (slots, script) = (Slots::new(1), Script::new(AN_HOUR));
    let is_free = || slots.of(&subject(&["b"]), Moment::now()).is_some();
    let slot = of(&slots, &subject(&["a"]), Moment::now());
    let asked = slot.ask(Moment::now(), |reason| script.fetch(reason));
    drop((slot, asked));
    pass(millis(50)).await;
    assert!(!is_free(), "being fetched");
    pass(millis(949)).await;
    assert!(!is_free(), "it would be asked for twice a second");
    pass(millis(51)).await;
    assert!(is_free());
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_somebody_holds_keeps_its_place() {
    let slots = Slots::new(1);
    let held = of(&slots, &subject(&["a"]), Moment::now());
    assert!(slots.of(&subject(&["b"]), Moment::now()).is_none());
    drop(held);
    pass(secs(1)).await;
    assert!(slots.of(&subject(&["b"]), Moment::now()).is_some());
}

/// What happens to one of a few subjects.
#[derive(Clone, Debug)]
enum Event {
    Ask(usize),
    Refuse(usize),
    Force(usize),
    Provider(Answer, u64),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let answer = prop_oneof![
        Just(AN_HOUR),
        Just(Answer::Seconds(3.0)),
        Just(failing(None)),
        Just(failing(Some(secs(60)))),
        Just(refusing()),
    ];
    prop_oneof![
        6 => (0_usize..5).prop_map(Event::Ask),
        2 => (0_usize..5).prop_map(Event::Refuse),
        1 => (0_usize..5).prop_map(Event::Force),
        2 => (answer, 0_u64..3000).prop_map(|(answer, latency)| Event::Provider(answer, latency)),
        5 => (1_u64..1200).prop_map(Event::Pass),
    ]
}

/// Five subjects with two places, each with a script that notices what must not be.
async fn throng(events: Vec<Event>) {
    let (slots, scripts) = (Slots::new(2), [(); 5].map(|()| Script::new(AN_HOUR)));
    for event in events {
        let now = Moment::now();
        let slot = |who: usize| slots.of(&number(who), now);
        match event {
            Event::Ask(who) => {
                let ask = |slot: Arc<Slot>| slot.ask(now, |reason| scripts[who].fetch(reason));
                drop(slot(who).map(ask));
            }
            Event::Refuse(who) => {
                let refuse = |slot: Arc<Slot>| {
                    let token = slot.current()?;
                    Some(slot.reject(&token, now, |reason| scripts[who].fetch(reason)))
                };
                drop(slot(who).and_then(refuse));
            }
            Event::Force(who) => {
                let force = |slot: Arc<Slot>| slot.force(now, |reason| scripts[who].fetch(reason));
                drop(slot(who).map(force));
            }
            Event::Provider(answer, latency) => {
                for script in &scripts {
                    let mut lines = script.lines();
                    (lines.answer, lines.latency) = (answer.clone(), millis(latency));
                }
            }
            Event::Pass(time) => pass(millis(time)).await,
        }
        assert!(slots.len() <= 2);
    }
    for script in &scripts {
        assert_eq!(script.lines().violations, [""; 0]);
    }
}

proptest! {
    #[test]
    fn nobody_is_fetched_twice_at_once_or_twice_a_second_however_scarce_places_are(
        events in vec(event(), 1..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(throng(events));
    }
}

/// Fetches a token into the slot of this subject.
async fn fetched(slots: &Slots, subject: &Subject) -> Weak<Token> {
    let slot = of(slots, subject, Moment::now());
    let script = Script::new(AN_HOUR);
    let flight = slot.force(Moment::now(), |reason| script.fetch(reason));
    Arc::downgrade(&flight.await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_subject_unused_for_the_time_is_forgotten_within_a_second_and_its_token_gone() {
    let slots = Arc::new(Slots::new(10));
    let _sweeping = slots.keep_swept(HOUR / 2, &Handle::current());
    let [a, b] = ["a", "b"].map(|name| subject(&[name]));
    let (of_a, of_b) = (fetched(&slots, &a).await, fetched(&slots, &b).await);
    pass(HOUR / 4).await;
    assert!(slots.fresh(&b, Moment::now()).is_some(), "used");
    pass(HOUR / 4 - secs(1)).await;
    assert_eq!(slots.len(), 2);
    pass(secs(2)).await;
    assert_eq!(names(&slots), ["b".to_owned()].into());
    assert!(of_a.upgrade().is_none());
    assert!(of_b.upgrade().is_some());
    pass(HOUR / 4).await;
    assert_eq!(slots.len(), 0);
    assert!(of_b.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn many_that_are_unused_are_forgotten_by_one_task() {
    let slots = Arc::new(Slots::new(10_000));
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let sweeping = slots.keep_swept(HOUR, &Handle::current());
    for who in 0..10_000 {
        of(&slots, &number(who), Moment::now());
    }
    assert_eq!(tasks(), 1);
    pass(HOUR + secs(1)).await;
    assert_eq!(slots.len(), 0);
    drop(sweeping);
    pass(millis(1)).await;
    assert_eq!(tasks(), 0);
}
