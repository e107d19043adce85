//! Serves what a pushing client needs of ECR's API (AWS JSON 1.1), for signed requests.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::{Value, json};

use super::answer::{Answer, Ended, Refusal, document, with};
use super::asked::Asked;
use super::{Auth, Options, Registry, signature};

/// The account that the server stands for.
const ACCOUNT: &str = "123456789012";

impl Registry {
    pub(super) fn ecr(&self, asked: &Asked, head: &Parts, body: &[u8]) -> Ended {
        let Options {
            credentials,
            region,
            ..
        } = &self.options;
        signature::check(head, body, credentials, region)
            .map_err(|code| refused(code, "the request's signature is not good"))?;
        let told: Value = serde_json::from_slice(body)
            .map_err(|_| refused("SerializationException", "the body is no JSON"))?;
        let operation = asked.reference.as_str();
        match operation {
            "GetAuthorizationToken" => Ok(self.authorization()),
            "DescribeRepositories" => self.describe(&told),
            "CreateRepository" => self.create_repository(&told),
            "PutLifecyclePolicy" => self.keep(operation, &told, "lifecyclePolicyText"),
            "SetRepositoryPolicy" => self.keep(operation, &told, "policyText"),
            _ => Err(refused("UnknownOperationException", operation)),
        }
    }

    fn authorization(&self) -> Answer {
        let password = match self.options.auth {
            Auth::Ecr => self.issued().give_password(&self.options),
            _ => self.options.password.clone(),
        };
        let until = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0
            + self.options.token_life.as_secs_f64();
        json_answer(&json!({"authorizationData": [{
            "authorizationToken": BASE64_STANDARD.encode(format!("AWS:{password}")),
            "expiresAt": until,
            "proxyEndpoint": format!("http://{}", self.address),
        }]}))
    }

    fn describe(&self, told: &Value) -> Ended {
        const PAGE_MAX: usize = 1000;
        let wanted = told["repositoryNames"].as_array();
        let names: Vec<String> = match wanted {
            Some(wanted) => wanted
                .iter()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            None => self.shelf().names().into_iter().collect(),
        };
        for name in &names {
            self.known(name)?;
        }
        // The number of those that were told before.
        let from = told["nextToken"].as_str().map_or(Ok(0), str::parse);
        let from: usize = from.map_err(|_| refused("InvalidParameterException", "nextToken"))?;
        let most = told["maxResults"].as_u64().unwrap_or(100);
        let most = usize::try_from(most).unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let page: Vec<Value> = names
            .iter()
            .skip(from)
            .take(most)
            .map(|name| self.described(name))
            .collect();
        let mut answer = json!({"repositories": page});
        if from + most < names.len() {
            answer["nextToken"] = (from + most).to_string().into();
        }
        Ok(json_answer(&answer))
    }

    fn create_repository(&self, told: &Value) -> Ended {
        let name = name_of(told)?;
        let mut shelf = self.shelf();
        if shelf.repository(name).is_some() {
            let message = format!(
                "The repository with name '{name}' already exists in the registry with id '{ACCOUNT}'"
            );
            return Err(refused("RepositoryAlreadyExistsException", &message));
        }
        let encryption = told["encryptionConfiguration"]["encryptionType"].as_str();
        if !matches!(encryption, None | Some("AES256" | "KMS")) {
            return Err(refused("InvalidParameterException", "encryptionType"));
        }
        let repository = shelf.create(name);
        let kept = repository.told();
        kept.insert("CreateRepository".to_owned(), told.clone());
        drop(shelf);
        Ok(json_answer(&json!({"repository": self.described(name)})))
    }

    fn keep(&self, operation: &str, told: &Value, document: &str) -> Ended {
        let name = name_of(told)?;
        let text = told[document].as_str().unwrap_or_default();
        if serde_json::from_str::<Value>(text).is_err() {
            return Err(refused("InvalidParameterException", "it is no policy"));
        }
        self.known(name)?;
        let mut shelf = self.shelf();
        let kept = shelf.create(name).told();
        kept.insert(operation.to_owned(), told.clone());
        Ok(json_answer(&json!({"repositoryName": name})))
    }

    fn known(&self, name: &str) -> Result<(), Refusal> {
        if self.shelf().repository(name).is_some() {
            return Ok(());
        }
        let message = format!(
            "The repository with name '{name}' does not exist in the registry with id '{ACCOUNT}'"
        );
        Err(refused("RepositoryNotFoundException", &message))
    }

    fn described(&self, name: &str) -> Value {
        let region = &self.options.region;
        json!({
            "repositoryName": name,
            "registryId": ACCOUNT,
            "repositoryArn": format!("arn:aws-cn:ecr:{region}:{ACCOUNT}:repository/{name}"),
            "repositoryUri": format!("{}/{name}", self.address),
        })
    }
}

fn name_of(told: &Value) -> Result<&str, Refusal> {
    let name = told["repositoryName"].as_str();
    name.filter(|name| !name.is_empty())
        .ok_or_else(|| refused("InvalidParameterException", "repositoryName"))
}

fn json_answer(told: &Value) -> Answer {
    with(
        document(200, told),
        CONTENT_TYPE,
        "application/x-amz-json-1.1",
    )
}

fn refused(code: &str, message: &str) -> Refusal {
    let told = json!({"__type": code, "message": message});
    Refusal::Answer(Box::new(document(400, &told)))
}
