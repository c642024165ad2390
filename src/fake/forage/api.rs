//! The part of Forage's API that the demo and the tests use.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::iter::repeat_with;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::session::Sessions;
use crate::fake::answer::{self, Answer};
use crate::fake::locked::Locked;
use crate::fake::recent::Recent;
use crate::fake::{Faults, HangUp, Received};

/// From this many remembered keys on, all are forgotten; Forage forgets them after a day.
const MANY_KEYS: usize = 10_000;

/// Payment methods and payments.
#[derive(Debug)]
pub(super) struct Api {
    sessions: Arc<Sessions>,
    faults: Faults,
    requests: Recent,
    payments: AtomicUsize,
    /// By `Idempotency-Key`: what came with it first, and the answer.
    kept: Locked<HashMap<String, (Bytes, Value)>>,
}

impl Api {
    pub(super) fn new(sessions: Arc<Sessions>) -> Self {
        Self {
            sessions,
            faults: Faults::default(),
            requests: Recent::default(),
            payments: AtomicUsize::new(0),
            kept: Locked::default(),
        }
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(super) fn payments(&self) -> usize {
        self.payments.load(Ordering::Relaxed)
    }

    pub(super) fn requests(&self) -> Vec<Received> {
        self.requests.to_vec()
    }

    pub(super) fn last_request(&self) -> Option<Received> {
        self.requests.last()
    }

    pub(super) async fn answer(&self, request: &Received) -> Result<Answer, HangUp> {
        self.requests.push(request.clone());
        if let Some(wrong) = self
            .faults
            .meet(|| Refusal::ExpiredSession.answer(request))
            .await?
        {
            return Ok(wrong);
        }
        Ok(self
            .execute(request)
            .unwrap_or_else(|refusal| refusal.answer(request)))
    }

    fn execute(&self, request: &Received) -> Result<Answer, Refusal> {
        let path = request.path();
        match path {
            "/api/payment_methods/" => {
                self.sessions.check(request)?;
                match request.method {
                    Method::GET => Ok(answer::json(
                        StatusCode::OK,
                        &json!({ "next": null, "previous": null, "results": [payment_method()] }),
                    )),
                    Method::POST => document(request)
                        .map(|_| answer::json(StatusCode::CREATED, &payment_method())),
                    _ => Err(Refusal::Method),
                }
            }
            "/api/payments/" => {
                self.sessions.check(request)?;
                match request.method {
                    Method::POST => Ok(answer::json(StatusCode::CREATED, &self.pay(request)?)),
                    _ => Err(Refusal::Method),
                }
            }
            _ => Err(Refusal::NotFound),
        }
    }

    /// The same key and the same body are the same payment.
    fn pay(&self, request: &Received) -> Result<Value, Refusal> {
        let wanted = document(request)?;
        let Some(key) = request.field("idempotency-key") else {
            return Ok(self.payment(&wanted));
        };
        let mut kept = self.kept.lock();
        if kept.len() >= MANY_KEYS {
            kept.clear();
        }
        match kept.entry(key.to_owned()) {
            Entry::Occupied(entry) if entry.get().0 == request.body => Ok(entry.get().1.clone()),
            Entry::Occupied(_) => Err(Refusal::CannotChange),
            Entry::Vacant(entry) => Ok(entry
                .insert((request.body.clone(), self.payment(&wanted)))
                .1
                .clone()),
        }
    }

    fn payment(&self, wanted: &Value) -> Value {
        self.payments.fetch_add(1, Ordering::Relaxed);
        let or = |name: &str, default: Value| wanted.get(name).cloned().unwrap_or(default);
        json!({
            "ref": reference(),
            "amount": or("amount", json!("10.00")),
            "funding_type": or("funding_type", json!("ebt_snap")),
            "payment_method": or("payment_method", json!(reference())),
            "description": or("description", json!("")),
            "status": "draft",
            "is_delivery": or("is_delivery", json!(false)),
            "receipt": null,
        })
    }
}

fn payment_method() -> Value {
    json!({
        "ref": reference(),
        "type": "ebt",
        "reusable": true,
        "balance": null,
        "card": { "last_4": "0000", "state": "CA", "token": reference() },
    })
}

fn document(request: &Received) -> Result<Value, Refusal> {
    let is_json = request.media_type().as_deref() == Some("application/json");
    request
        .json()
        .filter(|document| is_json && document.is_object())
        .ok_or(Refusal::Body)
}

/// Ten characters, as Forage's references have.
fn reference() -> String {
    repeat_with(fastrand::alphanumeric)
        .take(10)
        .map(|char| char.to_ascii_lowercase())
        .collect()
}
