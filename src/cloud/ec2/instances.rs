//! Instances: started, looked at, stopped, terminated.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::asking::Done;
use super::{Filter, StateReason, Tag};
use crate::cloud::query::{Fields, items, text};
use crate::cloud::{Cloud, CloudError};

/// States of an instance that is not gone, nor going.
const LIVING: [&str; 4] = ["pending", "running", "stopping", "stopped"];

/// Whether an instance in this state is not gone, nor going.
pub fn is_living(state: &str) -> bool {
    LIVING.contains(&state)
}

/// An instance that is to be started. It never has a public address.
#[derive(Debug, Clone)]
pub struct NewInstance<'a> {
    pub image: &'a str,
    pub machine_type: &'a str,
    pub subnet: &'a str,
    /// None: the VPC's default.
    pub security_group: Option<&'a str>,
    pub key_name: Option<&'a str>,
    /// What it runs when it starts, as text.
    pub user_data: Option<&'a str>,
    /// The name of an instance profile.
    pub profile: Option<&'a str>,
    /// The same for the same instance: asked twice, there is still one.
    pub token: &'a str,
    pub tags: &'a [Tag],
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    pub instance_id: String,
    pub image_id: String,
    #[serde(rename = "instanceState")]
    state: State,
    #[serde(default, deserialize_with = "text")]
    pub private_ip_address: Option<String>,
    #[serde(default, rename = "ipAddress", deserialize_with = "text")]
    pub public_ip_address: Option<String>,
    #[serde(default)]
    pub instance_type: String,
    /// `spot`, `scheduled`; None: on demand.
    #[serde(default, rename = "instanceLifecycle", deserialize_with = "text")]
    pub lifecycle: Option<String>,
    /// ISO 8601 in UTC.
    #[serde(default)]
    pub launch_time: String,
    #[serde(default)]
    state_reason: Option<StateReason>,
    #[serde(default, rename = "tagSet", deserialize_with = "items")]
    pub tags: Vec<Tag>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct State {
    name: String,
}

#[derive(Deserialize)]
struct Console {
    #[serde(default, deserialize_with = "text")]
    output: Option<String>,
}

#[derive(Deserialize)]
struct Reservation {
    #[serde(default, rename = "instancesSet", deserialize_with = "items")]
    instances: Vec<Instance>,
}

impl Instance {
    /// `pending`, `running`, `stopping`, `stopped`, `shutting-down`, `terminated`
    pub fn state(&self) -> &str {
        &self.state.name
    }

    /// Whether it is there: not ending, and not gone.
    pub fn is_living(&self) -> bool {
        is_living(self.state())
    }

    /// Why it is in its state, where EC2 says.
    pub fn reason(&self) -> Option<&str> {
        let reason = self.state_reason.as_ref()?;
        Some(reason.message.as_str()).filter(|reason| !reason.is_empty())
    }

    pub fn tag(&self, key: &str) -> Option<&str> {
        let found = self.tags.iter().find(|tag| tag.key == key);
        found.map(|tag| tag.value.as_str())
    }
}

impl Cloud {
    /// Instances by their ids, or by filters where none is given.
    pub async fn instances(
        &self,
        ids: &[&str],
        filters: &[Filter],
    ) -> Result<Vec<Instance>, CloudError> {
        let fields = Fields::default().list("InstanceId", ids).filters(filters);
        let purpose = match ids {
            [] => "list instances".to_owned(),
            ids => format!("look at {}", ids.join(", ")),
        };
        let found: Vec<Reservation> = self
            .described("DescribeInstances", &purpose, fields)
            .await?;
        Ok(found
            .into_iter()
            .flat_map(|reservation| reservation.instances)
            .collect())
    }

    /// Instances that fit the filters and are not ending, the newest last: EC2 lists those that ended for an hour more.
    pub async fn living(&self, mut filters: Vec<Filter>) -> Result<Vec<Instance>, CloudError> {
        filters.push(Filter {
            name: "instance-state-name".to_owned(),
            values: LIVING.map(str::to_owned).to_vec(),
        });
        let mut found = self.instances(&[], &filters).await?;
        found.sort_by(|a, b| {
            (&a.launch_time, &a.instance_id).cmp(&(&b.launch_time, &b.instance_id))
        });
        Ok(found)
    }

    /// Starts one instance, with IMDSv2 alone and without a public address.
    pub async fn run_instance(&self, new: &NewInstance<'_>) -> Result<Instance, CloudError> {
        let head = "NetworkInterface.1";
        let fields = Fields::default()
            .with("ImageId", new.image)
            .with("InstanceType", new.machine_type)
            .with("MinCount", 1)
            .with("MaxCount", 1)
            .with("ClientToken", new.token)
            .with(format!("{head}.DeviceIndex"), 0)
            .with(format!("{head}.SubnetId"), new.subnet)
            .with(format!("{head}.AssociatePublicIpAddress"), false)
            .list(&format!("{head}.SecurityGroupId"), new.security_group)
            .with("MetadataOptions.HttpTokens", "required")
            .with("InstanceInitiatedShutdownBehavior", "stop")
            .with_some("KeyName", new.key_name)
            .with_some("IamInstanceProfile.Name", new.profile)
            .with_some(
                "UserData",
                new.user_data.map(|text| BASE64_STANDARD.encode(text)),
            )
            .tagged(&["instance", "volume"], new.tags);
        let purpose = format!("start an instance of {} in {}", new.image, new.subnet);
        let started: Reservation = self.repeatable("RunInstances", &purpose, &fields).await?;
        let started = started.instances.into_iter().next();
        started.ok_or_else(|| {
            self.nonsense(
                &crate::cloud::service::EC2,
                "RunInstances",
                &purpose,
                "it names no instance",
            )
        })
    }

    pub async fn stop_instance(&self, id: &str) -> Result<(), CloudError> {
        let fields = Fields::default().list("InstanceId", [id]);
        let _: Done = self
            .repeatable("StopInstances", &format!("stop {id}"), &fields)
            .await?;
        Ok(())
    }

    /// What an instance has written on its console; None where there is nothing yet. EC2 keeps the last 64 KiB, and takes them down when
    /// it has started and when it has stopped.
    pub async fn console_output(&self, id: &str) -> Result<Option<String>, CloudError> {
        let fields = Fields::default().with("InstanceId", id);
        let purpose = format!("read the console of {id}");
        let answer: Console = self
            .repeatable("GetConsoleOutput", &purpose, &fields)
            .await?;
        let Some(output) = answer.output else {
            return Ok(None);
        };
        let encoded: String = output.split_whitespace().collect();
        let decoded = BASE64_STANDARD.decode(encoded).map_err(|error| {
            self.nonsense(
                &crate::cloud::service::EC2,
                "GetConsoleOutput",
                &purpose,
                error,
            )
        })?;
        let text = String::from_utf8_lossy(&decoded).into_owned();
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// Terminates an instance; one that is not there any more is none the worse.
    pub async fn terminate_instance(&self, id: &str) -> Result<(), CloudError> {
        let fields = Fields::default().list("InstanceId", [id]);
        let purpose = format!("terminate {id}");
        match self
            .repeatable("TerminateInstances", &purpose, &fields)
            .await
        {
            Ok(Done {}) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
