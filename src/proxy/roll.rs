//! The roll of a worker's connections: all are woken when it is time to stop, and those that talk once in a while, so that
//! each can see whether it is idle.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::task::{Context, Waker};

/// One worker's. A channel would be asked, under its lock, at every turn of every connection, and a timer for each would be
/// set at every request.
#[derive(Debug, Default)]
pub(super) struct Roll {
    stopping: Cell<bool>,
    /// How often it was called.
    calls: Cell<u64>,
    next: Cell<u64>,
    wakers: RefCell<HashMap<u64, Entered>>,
}

#[derive(Debug)]
struct Entered {
    waker: Waker,
    talks: bool,
}

/// One connection's place on the roll.
pub(super) struct Place<'a> {
    roll: &'a Roll,
    number: u64,
    state: State,
    /// Between which calls it talks, and what it had brought at the last one.
    talk: Option<Talk>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Unentered,
    Entered,
    Stopped,
}

#[derive(Clone, Copy)]
struct Talk {
    call: u64,
    requests: u64,
}

impl Roll {
    /// It is time to stop.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
        for (_, entered) in self.wakers.borrow_mut().drain() {
            entered.waker.wake();
        }
    }

    /// Has those that talk look at themselves.
    pub(super) fn call(&self) {
        self.calls.set(self.calls.get() + 1);
        let wakers = self.wakers.borrow();
        for entered in wakers.values().filter(|entered| entered.talks) {
            entered.waker.wake_by_ref();
        }
    }

    pub(super) fn place(&self) -> Place<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        Place {
            roll: self,
            number,
            state: State::Unentered,
            talk: None,
        }
    }
}

impl Place<'_> {
    /// Whether it is time to stop: said once.
    pub(super) fn is_stopped(&mut self, cx: &Context<'_>) -> bool {
        if self.state == State::Stopped {
            return false;
        }
        let stops = self.is_stopping(cx);
        if stops {
            self.state = State::Stopped;
        }
        stops
    }

    /// The same, said as often as it is asked.
    pub(super) fn is_stopping(&mut self, cx: &Context<'_>) -> bool {
        if self.roll.stopping.get() {
            return true;
        }
        if self.state == State::Unentered {
            // A task's waker stays good for as long as the task lives.
            let entered = Entered {
                waker: cx.waker().clone(),
                talks: self.talk.is_some(),
            };
            self.roll.wakers.borrow_mut().insert(self.number, entered);
            self.state = State::Entered;
        }
        false
    }

    /// From now on it is called with the others.
    pub(super) fn begin_talk(&mut self) {
        let begun = Talk {
            call: self.roll.calls.get(),
            requests: 0,
        };
        self.set_talk(Some(begun));
    }

    /// Whether it has been idle since the last call: ends the talk. `idle_after` tells how many requests it has brought, if
    /// it is idle now.
    pub(super) fn ends_talk(&mut self, idle_after: impl FnOnce() -> Option<u64>) -> bool {
        let call = self.roll.calls.get();
        let Some(talk) = self.talk.filter(|talk| talk.call != call) else {
            return false;
        };
        let Some(requests) = idle_after() else {
            return false;
        };
        let is_over = talk.requests == requests;
        if is_over {
            self.set_talk(None);
        } else {
            self.talk = Some(Talk { call, requests });
        }
        is_over
    }

    fn set_talk(&mut self, talk: Option<Talk>) {
        self.talk = talk;
        if let Some(entered) = self.roll.wakers.borrow_mut().get_mut(&self.number) {
            entered.talks = talk.is_some();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.roll.wakers.borrow_mut().remove(&self.number);
    }
}
