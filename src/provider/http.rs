//! Any HTTP exchange: a request of which the configuration says everything, and an answer with a token somewhere in it.

use serde_json::Value;

use super::reading::Reading;
use super::request::{RequestTemplate, Values};
use super::secret::{SecretRef, Secrets};
use super::{Call, Failed, Grant};

/// `type = "http"`
#[derive(Debug)]
pub struct Http {
    /// What is sent for a first token.
    pub request: RequestTemplate,
    /// What is sent for the next one, with the refresh token of the last answer.
    pub refresh: Option<RequestTemplate>,
    /// How the answer is read, to either.
    pub reading: Reading,
    /// Where its secrets are kept, by their index.
    pub references: Vec<SecretRef>,
    /// How they are read.
    pub secrets: Secrets,
}

impl Http {
    /// One exchange: the refresh if the call has a refresh token.
    ///
    /// # Errors
    ///
    /// When there is no usable token in the answer, or no answer.
    pub(super) async fn fetch(&self, call: &Call<'_>) -> Result<Grant, Failed> {
        self.exchange(call, |_| Ok(())).await
    }

    /// The same, with an opinion about the content of answers with a status of 2xx.
    pub(super) async fn exchange(
        &self,
        call: &Call<'_>,
        judge: impl FnOnce(Option<&Value>) -> Result<(), Failed>,
    ) -> Result<Grant, Failed> {
        let request = match (&self.refresh, call.refresh_token) {
            (Some(refresh), Some(_)) => refresh,
            _ => &self.request,
        };
        let values = Values::read(call, &self.references, &self.secrets)?;
        let answer = request.send(&values).await?;
        let grant = self.reading.read_judged(&answer, call.subject, judge);
        // A provider may repeat what it was sent.
        grant.map_err(|failed| failed.map_said(|said| values.redact(said)))
    }
}
