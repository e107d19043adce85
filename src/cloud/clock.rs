//! What time it is, by AWS.

use jiff::{SignedDuration, Timestamp};

use super::failure::Site;
use super::request::unanswered;
use super::{Cloud, CloudError, service};

impl Cloud {
    /// How far the clock here is ahead of AWS's. It is asked without a signature, which a wrong clock would spoil.
    pub async fn clock_skew(&self) -> Result<SignedDuration, CloudError> {
        let account = &self.0;
        let (operation, purpose) = ("the clock", "compare the clock");
        let who = account.settings.who();
        let site = Site {
            service: &service::STS,
            operation,
            purpose,
            region: self.region(),
            who: &who,
        };
        let url = service::endpoint(&account.settings, &account.found, &service::STS)?;
        let before = Timestamp::now();
        let request = account
            .client
            .get(url)
            .timeout(account.settings.answer_timeout);
        let answer = request
            .send()
            .await
            .map_err(|error| unanswered(site, error).error)?;
        let after = Timestamp::now();
        let date = answer
            .headers()
            .get("date")
            .and_then(|date| date.to_str().ok());
        let date = date
            .ok_or("it has no date")
            .and_then(|date| jiff::fmt::rfc2822::parse(date).map_err(|_| "its date can't be read"));
        let date = date.map_err(|why| self.nonsense(&service::STS, operation, purpose, why))?;
        let middle = before.as_second().midpoint(after.as_second());
        Ok(SignedDuration::from_secs(
            middle - date.timestamp().as_second(),
        ))
    }
}
