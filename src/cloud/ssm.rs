//! Parameters of Systems Manager: publishers keep the ids of their newest images there.

use serde_json::{Value, json};

use super::request::Call;
use super::{Cloud, CloudError, service};

impl Cloud {
    /// The value of a parameter; None where there is none of that name.
    pub async fn parameter(&self, name: &str) -> Result<Option<String>, CloudError> {
        let purpose = format!("read the parameter {name}");
        let told = json!({"Name": name});
        let asked = self.json(&service::SSM, "AmazonSSM.GetParameter", &purpose, &told);
        match asked.await {
            Ok(told) => Ok(told["Parameter"]["Value"].as_str().map(str::to_owned)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Calls an operation of AWS JSON 1.1 that changes nothing. `target` is its whole name.
    pub(super) async fn json(
        &self,
        service: &service::Service,
        target: &str,
        purpose: &str,
        told: &Value,
    ) -> Result<Value, CloudError> {
        let operation = target.rsplit('.').next().unwrap_or(target);
        let call = Call {
            service,
            operation,
            purpose,
            method: reqwest::Method::POST,
            path: "/".to_owned(),
            headers: vec![
                ("content-type", "application/x-amz-json-1.1".to_owned()),
                ("x-amz-target", target.to_owned()),
            ],
            body: told.to_string().into(),
            is_repeatable: true,
        };
        let answer = self.call(&call).await?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.nonsense(service, operation, purpose, error))
    }
}
