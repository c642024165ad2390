//! A timer that watches over one request after another.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Rings when a deadline is over. One that is met leaves it armed: to look at the next deadline when it rings too early
/// costs less than to disarm and to arm a timer for each request.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when `deadline` is over; asked again until then, perhaps for a later one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_deadline_whatever_it_was_armed_for() {
        let mut alarm = Alarm::default();
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        for (deadline, rung) in [(5, 5), (9, 9), (7, 9), (60, 60)] {
            poll_fn(|cx| alarm.poll(cx, at(deadline))).await;
            assert_eq!(began.elapsed(), Duration::from_secs(rung));
        }
        // Armed for later than it is wanted, and for sooner.
        for (armed, deadline) in [(90, 70), (80, 100)] {
            let waiting = poll_fn(|cx| Poll::Ready(alarm.poll(cx, at(armed)))).await;
            assert!(waiting.is_pending());
            poll_fn(|cx| alarm.poll(cx, at(deadline))).await;
            assert_eq!(began.elapsed(), Duration::from_secs(deadline));
        }
    }
}
