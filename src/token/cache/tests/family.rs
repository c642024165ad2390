//! Tokens that are made from tokens, of one use, or to be renewed before their time.

use super::*;

/// What a fetch brings that only says its text.
async fn bring(slot: &Arc<Slot>, change: impl FnOnce(&mut Minted)) -> Arc<Token> {
    let grant = Grant::new(Secret::new("text".to_owned()), Lifetime::For(HOUR));
    let mut minted = Minted::from(grant);
    change(&mut minted);
    let flight = slot.force(Moment::now(), |_| fetching(async { Ok(minted) }));
    flight.await.unwrap()
}

fn text(text: &str) -> impl FnOnce(&mut Minted) {
    let secret = Secret::new(text.to_owned());
    |minted| minted.grant.token = secret
}

fn of(parent: &Arc<Token>) -> impl FnOnce(&mut Minted) {
    let parent = Arc::clone(parent);
    |minted| minted.parent = Some(parent)
}

#[tokio::test(start_paused = true)]
async fn children_and_grandchildren_are_due_when_a_token_is_replaced() {
    let (slot, middle, low) = <(Arc<Slot>, Arc<Slot>, Arc<Slot>)>::default();
    let parent = bring(&slot, text("one")).await;
    let child = bring(&middle, of(&parent)).await;
    let grandchild = bring(&low, of(&child)).await;
    bring(&slot, text("two")).await;
    for token in [&child, &grandchild] {
        assert_eq!(token.freshness(Moment::now()), Freshness::Due);
    }
    assert_eq!(parent.freshness(Moment::now()), Freshness::Fresh);
}

#[tokio::test(start_paused = true)]
async fn the_same_token_again_leaves_its_children_alone_until_another_comes() {
    let (slot, low) = <(Arc<Slot>, Arc<Slot>)>::default();
    let parent = bring(&slot, text("one")).await;
    let child = bring(&low, of(&parent)).await;
    bring(&slot, text("one")).await;
    assert_eq!(child.freshness(Moment::now()), Freshness::Fresh);
    bring(&slot, text("two")).await;
    assert_eq!(child.freshness(Moment::now()), Freshness::Due);
}

#[tokio::test(start_paused = true)]
async fn a_provider_may_want_a_token_to_be_renewed_sooner() {
    let slot = Arc::<Slot>::default();
    let soon =
        |renew_after| move |minted: &mut Minted| minted.grant.renew_after = Some(renew_after);
    let token = bring(&slot, soon(secs(60))).await;
    assert_eq!(token.life().due_at - token.life().issued_at, secs(60));
    // But not at birth, and not later than we would.
    let token = bring(&slot, soon(secs(0))).await;
    assert_eq!(token.life().due_at - token.life().issued_at, secs(10));
    let token = bring(&slot, soon(HOUR * 2)).await;
    assert!(token.life().due_at - token.life().issued_at < HOUR);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_one_use_is_not_kept_and_only_the_first_may_take_it() {
    let slot = Arc::<Slot>::default();
    let token = bring(&slot, |minted| minted.grant.single_use = true).await;
    assert!(slot.current().is_none());
    assert!(slot.gives_single_use());
    assert!(token.take());
    assert!(!token.take());
}

#[tokio::test(start_paused = true)]
async fn many_that_fail_alone_wait_as_long_as_one() {
    let slot = Arc::<Slot>::default();
    let fails = || {
        slot.alone(Moment::now(), |_| {
            fetching(async { Err(FetchError::unavailable("503")) })
        })
    };
    let flights: Vec<_> = (0..50).map(|_| fails().unwrap()).collect();
    for flight in flights {
        assert!(flight.await.is_err());
    }
    assert_eq!(slot.backoff().unwrap().failures, 1);
    assert!(fails().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_alone_ends_with_its_request() {
    let slot = Arc::<Slot>::default();
    let script = Script::new(Answer::Hang);
    let flight = slot.alone(Moment::now(), |reason| script.fetch(reason));
    pass(millis(200)).await;
    assert_eq!(script.lines().running, 1);
    drop(flight);
    pass(millis(1)).await;
    assert_eq!(script.lines().running, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_is_kept_until_its_end() {
    let slot = Slot::default();
    let grant = |lifetime| {
        Some(RefreshGrant {
            token: Secret::new("refresh".to_owned()),
            lifetime,
        })
    };
    let now = Moment::now();
    slot.keep_refresh_token(grant(Some(secs(60))), now);
    assert!(slot.refresh_token(now + secs(59)).is_some());
    assert!(slot.refresh_token(now + secs(60)).is_none());
    slot.keep_refresh_token(grant(None), now);
    assert!(slot.refresh_token(now + HOUR).is_some());
}
