//! Instances that really run their user data, and consoles that tell what came of it.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tempfile::TempDir;

use super::{Answer, Asked, Inner, Overlay, xml};

impl Overlay {
    /// Asks moto's EC2, as somebody else with the account's keys.
    pub(crate) async fn moto_ec2(&self, region: &str, fields: &[(&str, &str)]) -> String {
        let asked = Asked::ec2(self.account_key(), region, fields);
        let (status, _, body) = self.inner.ask_ec2(&asked, fields).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(status.is_success(), "{fields:?}: {text}");
        text
    }

    /// A subnet in a VPC of its own.
    pub(crate) async fn make_subnet(&self, region: &str) -> String {
        let vpc = [("Action", "CreateVpc"), ("CidrBlock", "10.7.0.0/16")];
        let vpc = self.moto_ec2(region, &vpc).await;
        let subnet = [
            ("Action", "CreateSubnet"),
            ("VpcId", xml::element(&vpc, "vpcId").unwrap()),
            ("CidrBlock", "10.7.0.0/24"),
        ];
        let subnet = self.moto_ec2(region, &subnet).await;
        xml::element(&subnet, "subnetId").unwrap().to_owned()
    }

    /// Instances that are not terminated, with their states.
    pub(crate) async fn instances(&self, region: &str) -> Vec<(String, String)> {
        let told = self
            .moto_ec2(region, &[("Action", "DescribeInstances")])
            .await;
        let mut rest = told.as_str();
        let mut found = Vec::new();
        while let Some((_, after)) = rest.split_once("<instanceId>") {
            let (id, after) = after.split_once('<').unwrap();
            let (_, state) = after.split_once("<instanceState>").unwrap();
            let state = xml::element(state, "name").unwrap();
            found.push((id.to_owned(), state.to_owned()));
            rest = after;
        }
        found.retain(|(_, state)| state != "terminated");
        found
    }
}

impl Inner {
    pub(super) async fn run_instance(&self, asked: &Asked) -> Answer {
        let answer = self.forward(asked).await;
        let text = String::from_utf8_lossy(&answer.2).into_owned();
        if let (Some(id), Some(data)) = (xml::element(&text, "instanceId"), asked.field("UserData"))
        {
            let data = BASE64_STANDARD.decode(data).unwrap();
            let data = String::from_utf8(data).unwrap();
            self.seen().user_data.insert(id.to_owned(), data);
        }
        answer
    }

    pub(super) async fn describe_instances(&self, asked: &Asked) -> Answer {
        let runs = self.orders().runs_user_data;
        let pending = match runs {
            true => std::mem::take(&mut self.seen().user_data),
            false => std::collections::BTreeMap::new(),
        };
        for (id, data) in pending {
            let console = tokio::task::spawn_blocking(move || run(&data))
                .await
                .unwrap();
            self.seen().consoles.insert(id.clone(), console);
            let stop = [("Action", "StopInstances"), ("InstanceId.1", id.as_str())];
            self.ask_ec2(asked, &stop).await;
        }
        self.forward(asked).await
    }

    pub(super) fn console(&self, asked: &Asked) -> Answer {
        let id = asked.field("InstanceId").unwrap_or_default();
        let written = self.seen().consoles.get(id).cloned();
        let console = self.orders().console.clone().or(written);
        let output = BASE64_STANDARD.encode(console.unwrap_or_default());
        xml::answer(
            "GetConsoleOutput",
            &format!("<instanceId>{id}</instanceId><output>{output}</output>"),
        )
    }
}

/// Runs user data on this machine, which is not stopped by it. What a script prints goes to the console, as cloud-init has it.
fn run(data: &str) -> String {
    let dir = TempDir::new().unwrap();
    let console = dir.path().join("console");
    program(&dir.path().join("shutdown"), "#!/bin/sh\n");
    let data = data
        .replace("/dev/console", &console.display().to_string())
        .replace("/var/tmp/", &format!("{}/", dir.path().display()));
    let path = std::env::var("PATH").unwrap();
    let printed = Command::new("sh")
        .args(["-c", &data])
        .env("PATH", format!("{}:{path}", dir.path().display()))
        .output()
        .unwrap();
    let written = std::fs::read_to_string(&console).unwrap_or_default();
    let before = String::from_utf8_lossy(&printed.stdout).into_owned();
    before + &String::from_utf8_lossy(&printed.stderr) + &written
}

/// A program of the tests' own.
pub(crate) fn program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
