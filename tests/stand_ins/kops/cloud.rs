//! The EC2 emulator: instances by the tag that kops puts on everything.

use reqwest::{Client, Method};

use super::state::asked;

pub(crate) struct Cloud {
    http: Client,
    endpoint: String,
}

impl Cloud {
    pub(crate) fn from_environment(http: &Client) -> Self {
        let variable = |name| std::env::var(name).ok();
        let endpoint = variable("AWS_ENDPOINT_URL_EC2").or_else(|| variable("AWS_ENDPOINT_URL"));
        Self {
            http: http.clone(),
            endpoint: endpoint
                .unwrap_or_default()
                .trim_end_matches('/')
                .to_owned(),
        }
    }

    async fn ask(&self, query: &str) -> String {
        let url = format!("{}/", self.endpoint);
        let body = format!("{query}&Version=2016-11-15");
        let answer = asked(&self.http, "ec2", Method::POST, &url, body).await;
        answer.map(|(_, text)| text).unwrap_or_default()
    }

    /// The id of an image by its id or `OWNER/NAME`; None where there is none.
    pub(crate) async fn image(&self, image: &str) -> Option<String> {
        let text = match image.split_once('/') {
            None => {
                self.ask(&format!("Action=DescribeImages&ImageId.1={image}"))
                    .await
            }
            Some((owner, name)) => {
                let query = format!(
                    "Action=DescribeImages&Owner.1={owner}&Filter.1.Name=name&Filter.1.Value.1={name}"
                );
                self.ask(&query).await
            }
        };
        within(&text, "imageId").into_iter().next()
    }

    /// The ids of a cluster's instances that are not ending.
    pub(crate) async fn instances(&self, cluster: &str) -> Vec<String> {
        let query = format!(
            "Action=DescribeInstances&Filter.1.Name=tag:KubernetesCluster&Filter.1.Value.1={cluster}\
             &Filter.2.Name=instance-state-name&Filter.2.Value.1=pending&Filter.2.Value.2=running"
        );
        within(&self.ask(&query).await, "instanceId")
    }

    pub(crate) async fn run_instance(&self, cluster: &str, image: &str) -> Result<(), String> {
        let query = format!(
            "Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1&InstanceType=m5.large&TagSpecification.1.ResourceType=instance\
             &TagSpecification.1.Tag.1.Key=KubernetesCluster&TagSpecification.1.Tag.1.Value={cluster}"
        );
        let text = self.ask(&query).await;
        match within(&text, "instanceId").is_empty() {
            true => Err(format!("error creating instance: {text}")),
            false => Ok(()),
        }
    }

    pub(crate) async fn terminate(&self, instance: &str) -> Result<(), String> {
        let text = self
            .ask(&format!(
                "Action=TerminateInstances&InstanceId.1={instance}"
            ))
            .await;
        match text.contains("terminat") || text.contains("shutting-down") {
            true => Ok(()),
            false => Err(format!("error deleting instance {instance}: {text}")),
        }
    }
}

/// What stands in elements of this name.
fn within(text: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let parts = text.split(&open).skip(1);
    parts
        .filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned()))
        .collect()
}
