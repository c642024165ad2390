//! What a fake remembers of the requests it saw: the newest, up to a bound.

use std::collections::VecDeque;

use super::Received;
use super::locked::Locked;

/// How many are kept, so that a fake under load for an hour does not fill the memory.
const MANY: usize = 10_000;

/// How many bytes their bodies may have together; the newest is kept whatever its length.
const MANY_BYTES: usize = 64 * 1024 * 1024;

/// The newest requests, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent(Locked<Kept>);

#[derive(Debug, Default)]
struct Kept {
    requests: VecDeque<Received>,
    bytes: usize,
}

impl Recent {
    pub(super) fn push(&self, request: Received) {
        let mut kept = self.0.lock();
        kept.bytes += request.body.len();
        kept.requests.push_back(request);
        while kept.requests.len() > MANY || (kept.requests.len() > 1 && kept.bytes > MANY_BYTES) {
            let Some(oldest) = kept.requests.pop_front() else {
                return;
            };
            kept.bytes -= oldest.body.len();
        }
    }

    pub(super) fn to_vec(&self) -> Vec<Received> {
        self.0.lock().requests.iter().cloned().collect()
    }

    pub(super) fn last(&self) -> Option<Received> {
        self.0.lock().requests.back().cloned()
    }

    pub(super) fn clear(&self) {
        *self.0.lock() = Kept::default();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;
    use tokio::time::Instant;

    use super::*;

    fn request(length: usize) -> Received {
        Received {
            method: Method::POST,
            target: "/".to_owned(),
            fields: Vec::new(),
            body: Bytes::from(vec![0; length]),
            trailers: Vec::new(),
            at: Instant::now(),
        }
    }

    fn lengths(recent: &Recent) -> Vec<usize> {
        recent
            .to_vec()
            .iter()
            .map(|request| request.body.len())
            .collect()
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let recent = Recent::default();
        for length in [1, 2, MANY_BYTES - 2] {
            recent.push(request(length));
        }
        assert_eq!(lengths(&recent), [2, MANY_BYTES - 2]);
        recent.push(request(MANY_BYTES + 1));
        assert_eq!(lengths(&recent), [MANY_BYTES + 1]);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let recent = Recent::default();
        for length in 0..=MANY {
            recent.push(request(length % 2));
        }
        assert_eq!(recent.to_vec().len(), MANY);
    }
}
