//! By hand, with two targets of which one is away: the other is filled, and a mistake in the settings is told before a byte moves.

use std::process::{Command, Output};

use kops_mirror::loopback::s3::Fault;
use serde_json::Value;

use crate::support::bucket::BucketServer;
use crate::support::gate::Gate;
use crate::support::program::{Program, finish};

const PLACE: &str = "s3://mirror/k8s";

/// A bucket behind a gate and a folder, and what is to be mirrored to both.
struct Both {
    program: Program,
    server: BucketServer,
    gate: Gate,
}

impl Both {
    async fn new() -> Self {
        let server = BucketServer::start();
        Self {
            program: Program::with_files(3, 200_000),
            gate: Gate::before(server.0.address()).await,
            server,
        }
    }

    fn command(&self) -> Command {
        let mut command = self
            .program
            .to_bucket_behind(&self.server, &self.gate.url());
        command.arg("--to").arg(self.program.path("mirror"));
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.args(arguments);
        finish(command).await
    }

    fn folder_has_all(&self) -> bool {
        let mirror = self.program.path("mirror");
        let has = |key: &String| {
            std::fs::read(mirror.join(key)).ok().as_deref() == Some(&self.program.content(key))
        };
        let is_marked = std::fs::read_dir(mirror.join("releases"))
            .is_ok_and(|mut found| found.next().is_some());
        is_marked && self.program.keys.iter().all(has)
    }

    fn folder_is_empty(&self) -> bool {
        let mirror = self.program.path("mirror");
        let is_leased = mirror.join(".service/lease.json").exists();
        !is_leased
            && self
                .program
                .keys
                .iter()
                .all(|key| !mirror.join(key).exists())
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn the_other_target_is_filled_and_the_missing_one_is_from_there_when_it_is_back() {
    let mut both = Both::new().await;
    both.gate.shut().await;
    let output = both.run(&["-o", "json"]).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("{PLACE} is left out of this run: can't reach")),
        "{said}"
    );
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["result"], "some-failed");
    assert_eq!(document["totals"]["failed"], 0);
    assert!(
        document["away"][PLACE]
            .as_str()
            .unwrap()
            .contains("no answer"),
        "{document}"
    );
    assert!(both.folder_has_all());

    let output = both.run(&[]).await;
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(
        table.starts_with(&format!("failed  {PLACE}\n        can't reach")),
        "{table}"
    );

    let sent = both.program.sent();
    both.gate.open().await;
    let output = both.run(&["-o", "json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["away"], serde_json::json!({}));
    assert_eq!(both.program.sent(), sent, "it crossed again");
    for key in &both.program.keys {
        assert_eq!(both.server.commits_of(key), 1, "{key}");
    }
}

#[tokio::test]
async fn a_plan_is_made_for_who_is_there() {
    let mut both = Both::new().await;
    both.gate.shut().await;
    let mut command = both.command();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let environment: Vec<_> = command
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.unwrap().to_owned()))
        .collect();
    command = crate::support::program::program(&both.program.path(""));
    command.arg("plan").args(&arguments[1..]).envs(environment);
    let output = finish(command).await;
    let (table, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is left out of this run"), "{said}");
    assert!(table.contains("files/0.tgz"), "{table}");
    assert!(both.folder_is_empty());
}

#[tokio::test]
async fn a_target_whose_lease_can_not_be_had_for_now_is_left_out() {
    let both = Both::new().await;
    let busy = Fault::slow_down().on("PutObject").key("*/.service/*");
    both.server.0.faults().order(busy.always());
    let output = both.run(&[]).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!(
            "{PLACE} is left out of this run: can't put {PLACE}/.service/"
        )),
        "{said}"
    );
    assert!(both.folder_has_all());
    assert_eq!(both.server.visible(), [""; 0]);
}

#[tokio::test]
async fn a_target_whose_listing_fails_for_now_is_left_out() {
    let both = Both::new().await;
    both.server
        .0
        .faults()
        .order(Fault::slow_down().on("ListObjectsV2").always());
    let output = both.run(&[]).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!(
            "{PLACE} is left out of this run: can't list {PLACE}"
        )),
        "{said}"
    );
    assert!(both.folder_has_all());
}

#[tokio::test]
async fn a_mistake_in_the_settings_stops_it_before_a_byte_moves() {
    let both = Both::new().await;
    let output = both.run(&["--to", "s3://mistyped"]).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("s3://mistyped") && said.contains("--create-bucket"),
        "{said}"
    );
    let denied = Fault::access_denied().on("PutObject").key("*/.service/*");
    both.server.0.faults().order(denied.always());
    let output = both.run(&[]).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("credentials may not do it"), "{said}");
    assert_eq!(both.program.sent(), 0);
    assert!(both.folder_is_empty(), "its lease is given back");
}

#[tokio::test]
async fn with_nobody_there_nothing_is_begun() {
    let mut both = Both::new().await;
    both.gate.shut().await;
    let mut command = both
        .program
        .to_bucket_behind(&both.server, &both.gate.url());
    command.args(["--to", "s3://another/k8s"]);
    let output = finish(command).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for place in [PLACE, "s3://another/k8s"] {
        assert!(said.contains(&format!("{place}: can't reach")), "{said}");
    }
    assert_eq!(both.program.sent(), 0);
}
