//! Whatever the app sends, in whatever pieces and with whatever pauses: each attempt sees exactly that.

use std::collections::VecDeque;
use std::task::Waker;

use proptest::prelude::*;

use super::*;

/// A body in given pieces. `None` is a pause: one poll that finds nothing yet.
struct Pieces {
    pieces: VecDeque<Option<Bytes>>,
    trailers: Option<HeaderMap>,
    declared: Option<u64>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match this.pieces.pop_front() {
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Some(piece)) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => Poll::Ready(
                this.trailers
                    .take()
                    .map(|trailers| Ok(Frame::trailers(trailers))),
            ),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.declared
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Reads at most `most` polls of an attempt: the bytes, the trailers, and whether it came to its end.
fn read(body: &mut RequestBody<Pieces>, most: usize) -> (Vec<u8>, Option<HeaderMap>, bool) {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut bytes, mut trailers) = (Vec::new(), None);
    for _ in 0..most {
        match Pin::new(&mut *body).poll_frame(&mut cx) {
            Poll::Pending => {}
            Poll::Ready(None) => return (bytes, trailers, true),
            Poll::Ready(Some(Err(error))) => panic!("{error}"),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
    (bytes, trailers, false)
}

/// Lengths of pieces, filled so that no two stretches are alike. `None` is a pause.
fn pieces() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    let length = prop_oneof![
        1 => Just(Some(0)),
        2 => Just(Some(1)),
        6 => (1_usize..2000).prop_map(Some),
        3 => Just(None),
    ];
    prop::collection::vec(length, 1..50).prop_map(|lengths| {
        let mut words = (0_u32..).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes());
        let mut piece = |length| words.by_ref().take(length).collect();
        lengths
            .into_iter()
            .map(|length| length.map(&mut piece))
            .collect()
    })
}

fn upload(
    pieces: &[Option<Vec<u8>>],
    declared: bool,
    with_trailers: bool,
    limit: usize,
    budget: &Budget,
) -> Upload<Pieces> {
    let total = pieces.iter().flatten().map(Vec::len).sum::<usize>();
    let trailers = (with_trailers && !declared).then(|| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        trailers.insert("authorization", "evil".parse().unwrap());
        trailers
    });
    let app = Pieces {
        pieces: pieces
            .iter()
            .map(|piece| piece.clone().map(Bytes::from))
            .collect(),
        trailers,
        declared: declared.then_some(total as u64),
    };
    let idle = Duration::from_secs(30);
    Upload::new(app, Some(limit), budget, idle, |trailers| {
        trailers.remove("authorization");
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12_000))]

    // linkerd2 issue 15649: a replay body gave its first chunk twice.
    #[test]
    fn a_replay_is_byte_exact(
        pieces in pieces(),
        first_polls in 0_usize..120,
        declared in any::<bool>(),
        with_trailers in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let sent: Vec<u8> = pieces.iter().flatten().flatten().copied().collect();
        let budget = Budget::new(1 << 20);
        let upload = upload(&pieces, declared, with_trailers, 128 * 1024, &budget);

        let mut first = upload.attempt();
        let (seen, _, _) = read(&mut first, first_polls);
        prop_assert!(sent.starts_with(&seen));
        prop_assert!(upload.is_replayable());

        let mut second = upload.attempt();
        let (again, trailers, ended) = read(&mut second, 1000);
        prop_assert!(ended);
        prop_assert_eq!(&again, &sent);
        prop_assert!(upload.is_finished());
        let trailers = trailers.unwrap_or_default();
        prop_assert_eq!(trailers.contains_key("x-sum"), with_trailers && !declared);
        prop_assert!(!trailers.contains_key("authorization"));
        drop((first, second, upload));
        prop_assert_eq!(budget.free_bytes(), 1 << 20);
    }

    #[test]
    fn above_its_limit_a_body_streams_whole_and_is_not_replayable(
        pieces in pieces(),
        limit in 0_usize..4000,
        budget_bytes in 0_usize..4000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let sent: Vec<u8> = pieces.iter().flatten().flatten().copied().collect();
        let budget = Budget::new(budget_bytes);
        let upload = upload(&pieces, false, false, limit, &budget);
        let mut only = upload.attempt();
        let (seen, _, ended) = read(&mut only, 1000);
        prop_assert!(ended);
        prop_assert_eq!(seen, &sent[..]);
        prop_assert_eq!(upload.is_replayable(), sent.len() <= limit.min(budget_bytes));
        drop((only, upload));
        prop_assert_eq!(budget.free_bytes(), budget_bytes);
    }
}

#[tokio::test]
async fn an_older_attempt_gets_nothing_more() {
    let budget = Budget::new(1 << 20);
    let upload = upload(&[Some(b"abc".to_vec())], true, false, 100, &budget);
    let mut first = upload.attempt();
    let _second = upload.attempt();
    let mut cx = Context::from_waker(Waker::noop());
    let polled = Pin::new(&mut first).poll_frame(&mut cx);
    assert!(matches!(
        polled,
        Poll::Ready(Some(Err(UploadError::Superseded)))
    ));
}

#[tokio::test]
async fn what_is_released_while_a_replay_runs_is_still_given_out() {
    let budget = Budget::new(1 << 20);
    let pieces: Vec<_> = (0..4_u8).map(|byte| Some(vec![byte; 10])).collect();
    let upload = upload(&pieces, true, false, 100, &budget);
    read(&mut upload.attempt(), 3);
    let mut second = upload.attempt();
    let (head, _, _) = read(&mut second, 1);
    upload.release();
    let (tail, _, ended) = read(&mut second, 10);
    assert!(ended);
    assert_eq!(
        [head, tail].concat(),
        pieces.into_iter().flatten().flatten().collect::<Vec<_>>()
    );
    assert!(!upload.is_replayable());
}
