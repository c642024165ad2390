//! Keeps tokens and makes sure that nobody fetches what somebody is already fetching.
//!
//! It knows nothing of OAuth or HTTP: it is given a way to fetch. What a [`Slot`](slot::Slot) promises:
//!
//! * *single flight*: one fetch at a time, however many requests wait for it, at most one a second;
//! * *detached*: a fetch outlives the request that started it, and a panic in it is a failure like any other;
//! * *refresh ahead*: a token that is due is handed out at once, and the next one fetched behind it;
//! * *never expired*: and never replaced by an error while it is good;
//! * *one use*: a token of one use is given to one request, and never kept;
//! * *generations*: only the token that was refused is replaced, and an upstream that refuses everything is not believed.

pub mod slot;
pub mod slots;
mod sync;

#[cfg(test)]
mod scheduled;
#[cfg(test)]
mod tests;
