//! Providers that are away, or of no help, for minutes.

use super::*;

/// A token that is due, and a provider that from now on does this.
async fn due_and_then(answer: Answer) -> (Stage, Arc<Token>) {
    let (stage, token) = Stage::with_token(AN_HOUR).await;
    sleep_until(token.life().due_at).await;
    stage.answer(answer);
    (stage, token)
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_five_minutes_costs_twelve_attempts_at_most_and_no_request() {
    for failure in [unreachable(), failing(None)] {
        // Chance decides how long to wait.
        for _ in 0..20 {
            let (stage, token) = due_and_then(failure.clone()).await;
            let end = Moment::now() + secs(300);
            while Moment::now() < end {
                assert!(Arc::ptr_eq(&stage.get().await.unwrap(), &token));
                pass(millis(100)).await;
            }
            let attempts = stage.fetches() - 1;
            assert!((9..=12).contains(&attempts), "{attempts}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_over_with_one_fetch() {
    for (failure, most) in [(unreachable(), secs(2)), (failing(None), secs(10))] {
        let (stage, token) = due_and_then(failure).await;
        let end = token.life().expires_at.unwrap();
        while Moment::now() < end {
            assert!(stage.get().await.is_ok());
            pass(millis(100)).await;
        }
        for _ in 0..600 {
            assert!(stage.get().await.is_err(), "a dead token");
            pass(millis(100)).await;
        }
        stage.answer(AN_HOUR);
        let attempts = stage.fetches();
        let waited = stage.time_to_token().await;
        // What the attempt takes, and the time between two requests.
        assert!(waited <= most + millis(300), "{waited:?}");
        assert_eq!(stage.fetches(), attempts + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn many_that_failed_together_do_not_come_back_together() {
    let mut times = Vec::new();
    for _ in 0..50 {
        let (stage, _) = due_and_then(failing(None)).await;
        let began = Moment::now();
        while stage.fetches() < 9 {
            assert!(stage.get().await.is_ok());
            pass(millis(100)).await;
        }
        times.push(began.elapsed().as_secs());
    }
    times.sort_unstable();
    let together = times.chunk_by(|a, b| a == b).map(<[_]>::len).max();
    assert!(together.unwrap() <= 25, "{times:?}");
    assert!(times[49] - times[0] >= 5, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn tokens_that_end_together_are_not_renewed_together() {
    let mut due = Vec::new();
    for _ in 0..50 {
        let (_stage, token) = Stage::with_token(AN_HOUR).await;
        due.push((token.life().due_at - token.life().issued_at).as_secs());
    }
    due.sort_unstable();
    assert!(due[0] >= 2520 && due[49] <= 2880, "{due:?}");
    assert!(
        due[49] - due[0] >= 180,
        "over half of the six minutes: {due:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_nearly_expired_token_again_and_again_makes_no_loop() {
    // As providers do that keep the token themselves until a minute before its end.
    let end = Moment::now() + HOUR;
    let stage = Stage::new(Answer::SameUntil(end));
    while Moment::now() < end - secs(60) {
        assert!(stage.get().await.is_ok());
        pass(millis(100)).await;
    }
    assert!(stage.fetches() <= 6, "{}", stage.fetches());
    let lines = stage.script.lines();
    for pair in lines.asked.windows(2).skip(1) {
        let (waited, left) = (pair[1].0 - pair[0].0, end - pair[0].0);
        assert!(waited + secs(10) >= left / 2, "{waited:?} of {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_token_until_its_very_end_is_asked_for_once_a_second_at_most() {
    let end = Moment::now() + secs(120);
    let stage = Stage::new(Answer::SameUntil(end));
    while Moment::now() < end - secs(1) {
        if let Ok(token) = stage.get().await {
            assert_ne!(token.freshness(Moment::now()), Freshness::Expired);
        }
        pass(millis(100)).await;
    }
    assert!(stage.fetches() <= 20, "{}", stage.fetches());
}
