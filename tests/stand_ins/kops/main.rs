//! A stand-in for kops in tests: it behaves as kops 1.8.1 and 1.36.2 were seen to behave, as far as `provision` makes use of it.
//!
//! It is called by a name that ends in the release it is to be: `kops-1.36.2`. It keeps its state in `KOPS_STATE_STORE`, really fetches from the
//! mirror what kops and the nodes would fetch, anonymously, so that a missing object fails it, and makes instances at an EC2 emulator.

mod asks;
mod cloud;
mod documents;
mod state;

use std::process::ExitCode;

use serde_yaml_ng::Value;

use self::cloud::Cloud;
use self::documents::Documents;
use self::state::State;

/// What a call ends with: what it prints, or what it says went wrong.
type Ended = Result<String, String>;

/// One call.
pub(crate) struct Call {
    /// `1.36.2`
    pub(crate) version: String,
    pub(crate) minor: u64,
    arguments: Vec<String>,
    pub(crate) state: State,
    pub(crate) cloud: Cloud,
    pub(crate) http: reqwest::Client,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let (_, version) = program
        .rsplit_once("kops-")
        .expect("a name that ends in a version");
    write_down_environment();
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let call = Call {
        minor: version
            .split('.')
            .nth(1)
            .and_then(|minor| minor.parse().ok())
            .expect("a minor version"),
        version: version.to_owned(),
        arguments: arguments.collect(),
        state: State::from_environment(&http),
        cloud: Cloud::from_environment(&http),
        http,
    };
    match call.carry_out().await {
        Ok(printed) => {
            print!("{printed}");
            ExitCode::SUCCESS
        }
        Err(said) if call.minor < 15 => {
            eprintln!("\n{said}");
            ExitCode::FAILURE
        }
        Err(said) => {
            eprintln!("W1128 07:35:42.352075    8641 factory.go:152] a line of the log");
            eprintln!("Error: {said}");
            ExitCode::FAILURE
        }
    }
}

/// The names of the variables that it got, for a test that looks at them.
fn write_down_environment() {
    let home = std::env::var("HOME").expect("a home of its own");
    let names: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    let _ = std::fs::write(format!("{home}/environment.txt"), names.join("\n"));
}

impl Call {
    fn word(&self, number: usize) -> &str {
        self.arguments.get(number).map_or("", String::as_str)
    }

    fn has(&self, flag: &str) -> bool {
        self.arguments.iter().any(|argument| argument == flag)
    }

    /// `--out DIR` or `--out=DIR`
    pub(crate) fn value(&self, flag: &str) -> Option<&str> {
        let at = self.arguments.iter().position(|argument| argument == flag);
        let joined = format!("{flag}=");
        at.map(|at| self.word(at + 1)).or_else(|| {
            self.arguments
                .iter()
                .find_map(|argument| argument.strip_prefix(&joined))
        })
    }

    /// The cluster that it is about.
    fn name(&self) -> String {
        let given = self.value("--name").map(str::to_owned);
        let third = (!self.word(2).starts_with('-') && !self.word(2).is_empty())
            .then(|| self.word(2).to_owned());
        let variable = std::env::var("NAME").ok();
        given.or(third).or(variable).unwrap_or_default()
    }

    async fn carry_out(&self) -> Ended {
        let store = std::env::var("KOPS_STATE_STORE").unwrap_or_default();
        if self.minor < 17 && store.starts_with("file://") && self.word(0) != "version" {
            return Err(format!(
                "error building path for \"{store}\": unknown / unhandled path type: \"{store}\""
            ));
        }
        match (self.word(0), self.word(1)) {
            ("version", _) if self.minor < 15 => Ok(format!("Version {}\n", self.version)),
            ("version", _) => Ok(format!("Client version: {} (git-v{0})\n", self.version)),
            ("get", "cluster") => self.get_cluster().await,
            ("get", "ig") => self.get_groups().await,
            ("get", "assets") => self.get_assets().await,
            ("create", "-f") => self.create().await,
            ("replace", _) => self.replace().await,
            ("create", "sshpublickey") if self.minor >= 22 => self.add_key(&self.name()).await,
            ("create", "secret") if self.minor < 22 && self.word(2) == "sshpublickey" => {
                let name = self.value("--name").unwrap_or_default().to_owned();
                self.add_key(&name).await
            }
            ("delete", "ig") => self.delete_group().await,
            ("update", "cluster") => self.update().await,
            ("reconcile", "cluster") if self.minor >= 31 => self.update().await,
            ("rolling-update", "cluster") => Ok("No rolling-update required.\n".to_owned()),
            ("validate", "cluster") => self.validate().await,
            ("export", "kubeconfig") if self.minor >= 19 => self.export().await,
            ("export", "kubecfg") if self.minor < 19 => self.export().await,
            ("delete", "cluster") => self.delete().await,
            _ => Err(format!(
                "unknown command \"{}\" for \"kops\"",
                self.arguments.join(" ")
            )),
        }
    }

    /// Its documents, or what kops says where it has no such cluster.
    async fn documents(&self, name: &str) -> Result<Documents, String> {
        let cluster = self.state.read(&format!("{name}/config")).await;
        let cluster = cluster.ok_or_else(|| format!("cluster not found \"{name}\""))?;
        let mut groups = Vec::new();
        for key in self.state.list(&format!("{name}/instancegroup/")).await {
            groups.extend(self.state.read(&key).await);
        }
        Ok(Documents::parse(&cluster, &groups))
    }

    async fn get_cluster(&self) -> Ended {
        let documents = self.documents(&self.name()).await?;
        Ok(documents::print(std::slice::from_ref(&documents.cluster)))
    }

    async fn get_groups(&self) -> Ended {
        let documents = self.documents(&self.name()).await?;
        match documents.groups.is_empty() {
            true => Err("no InstanceGroup objects found".to_owned()),
            false => Ok(documents::print(&documents.groups)),
        }
    }

    /// A list that lies beside the program; without one, it is as where the canonical hosts, which have the digests, can't be reached.
    async fn get_assets(&self) -> Ended {
        self.documents(&self.name()).await?;
        let program = std::env::args().next().unwrap_or_default();
        let list = std::path::Path::new(&program).with_file_name("assets.json");
        std::fs::read_to_string(list).map_err(|_| {
            "you might have not staged your files correctly, please execute 'kops get assets --copy'".to_owned()
        })
    }

    fn given(&self) -> Result<Vec<Value>, String> {
        let path = self.value("-f").unwrap_or_default();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("error reading file \"{path}\": {error}"))?;
        let documents = documents::split(&text);
        let checked: Result<Vec<_>, _> = documents
            .into_iter()
            .map(|document| documents::taken(document, self.minor))
            .collect();
        let checked = checked?;
        documents::check(&checked)?;
        Ok(checked)
    }

    async fn create(&self) -> Ended {
        let given = self.given()?;
        for document in &given {
            if self.state.read(&documents::key(document)).await.is_some() {
                return Err("error creating cluster: file already exists".to_owned());
            }
        }
        self.write(&given).await;
        Ok("\nCreated cluster\n".to_owned())
    }

    async fn replace(&self) -> Ended {
        let given = self.given()?;
        for document in &given {
            let is_there = self.state.read(&documents::key(document)).await.is_some();
            if !is_there && !self.has("--force") {
                return Err(format!(
                    "{} not found (try 'kops create -f' or --force)",
                    documents::key(document)
                ));
            }
        }
        self.write(&given).await;
        Ok(String::new())
    }

    async fn write(&self, given: &[Value]) {
        for document in given {
            let text = documents::print(std::slice::from_ref(document));
            self.state.write(&documents::key(document), &text).await;
        }
    }

    /// Where keys and what it makes of the configuration are: where the cluster says, wherever the cluster itself is read from.
    fn base(&self, documents: &Documents) -> State {
        let base = documents.cluster["spec"]["configBase"].as_str();
        State::at(base.unwrap_or_default(), &self.http)
    }

    async fn add_key(&self, name: &str) -> Ended {
        let documents = self.documents(name).await?;
        let path = self.value("-i").unwrap_or_default();
        let key = std::fs::read_to_string(path)
            .map_err(|error| format!("error reading SSH public key {path}: {error}"))?;
        self.base(&documents)
            .write("pki/ssh/public/admin/key", &key)
            .await;
        Ok(String::new())
    }

    async fn delete_group(&self) -> Ended {
        let key = format!(
            "{}/instancegroup/{}",
            self.value("--name").unwrap_or_default(),
            self.word(2)
        );
        if self.state.read(&key).await.is_none() {
            return Err(format!("InstanceGroup \"{}\" not found", self.word(2)));
        }
        self.state.delete(&key).await;
        Ok(format!("Deleted InstanceGroup: \"{}\"\n", self.word(2)))
    }

    async fn update(&self) -> Ended {
        let name = self.name();
        let documents = self.documents(&name).await?;
        let base = self.base(&documents);
        let has_key = base.read("pki/ssh/public/admin/key").await.is_some();
        if self.minor < 22 && !has_key {
            return Err("SSH public key must be specified when running with AWS (create with `kops create secret sshpublickey`)".to_owned());
        }
        self.check_images(&documents).await?;
        self.ask(&documents).await?;
        let wanted = documents.hosts();
        let there = self.cloud.instances(&name).await;
        if self.value("--target") == Some("terraform") {
            let out = self.value("--out").ok_or("--out is required")?;
            std::fs::create_dir_all(out).map_err(|error| error.to_string())?;
            std::fs::write(format!("{out}/kubernetes.tf"), "# terraform\n")
                .map_err(|error| error.to_string())?;
            return Ok(format!("Terraform output has been placed into {out}\n"));
        }
        let is_update = self.word(0) == "update";
        // All of the cluster goes into what hosts start with, the address of its configuration above all.
        let completed = documents::print(std::slice::from_ref(&documents.cluster));
        if is_update && !self.has("--yes") {
            let last = base.read("cluster-completed.spec").await;
            let is_as_was = last.is_none_or(|last| last == completed);
            let names_gateway = self.minor < 10 && documents.is_in_shared_network();
            return Ok(match (wanted == there.len(), is_as_was) {
                (true, true) if names_gateway => format!(
                    "Will modify resources:\n  InternetGateway/{name}\n  \tName\t <nil> -> {name}\n\nMust specify --yes to apply changes\n"
                ),
                (true, true) => "No changes need to be applied\n".to_owned(),
                (true, false) => {
                    "Will modify resources:\n  ManagedFile/cluster-completed.spec\n\nMust specify --yes to apply changes\n".to_owned()
                }
                (false, _) => format!(
                    "Will create resources:\n  Instances/{name}\n  \tCount\t{wanted}\n\nMust specify --yes to apply changes\n"
                ),
            });
        }
        let image = self
            .cloud
            .image(documents.first_image())
            .await
            .unwrap_or_default();
        for _ in there.len()..wanted {
            self.cloud.run_instance(&name, &image).await?;
        }
        base.write("cluster-completed.spec", &completed).await;
        base.write("kops-version.txt", &self.version).await;
        Ok("Cluster changes have been applied to the cloud.\n".to_owned())
    }

    async fn check_images(&self, documents: &Documents) -> Result<(), String> {
        for group in &documents.groups {
            let (name, image) = (
                group["metadata"]["name"].as_str(),
                group["spec"]["image"].as_str(),
            );
            let (name, image) = (name.unwrap_or_default(), image.unwrap_or_default());
            if self.cloud.image(image).await.is_none() {
                return Err(format!(
                    "{name}.spec.image: Invalid value: \"{image}\": specified image \"{image}\" is invalid: could not find Image for \"{image}\""
                ));
            }
        }
        Ok(())
    }

    /// The first look finds nodes that are not ready yet, the ones after it a cluster that is well.
    async fn validate(&self) -> Ended {
        let name = self.name();
        let documents = self.documents(&name).await?;
        if self.cloud.instances(&name).await.len() < documents.hosts() {
            return Err("validation failed: unexpected error during validation: error listing nodes: Bad Gateway".to_owned());
        }
        let seen = format!(
            "{}/validated-{name}",
            std::env::var("HOME").unwrap_or_default()
        );
        if std::fs::exists(&seen).unwrap_or(false) {
            return Ok(format!("Your cluster {name} is ready\n"));
        }
        let _ = std::fs::write(&seen, "");
        Err("validation failed: cluster not yet healthy".to_owned())
    }

    async fn export(&self) -> Ended {
        let name = self.name();
        self.documents(&name).await?;
        let path = std::env::var("KUBECONFIG").map_err(|error| error.to_string())?;
        std::fs::write(path, format!("current-context: {name}\n"))
            .map_err(|error| error.to_string())?;
        Ok(format!("kOps has set your kubectl context to {name}\n"))
    }

    async fn delete(&self) -> Ended {
        let name = self.name();
        self.documents(&name).await.map_err(|_| {
            format!("error reading cluster configuration: Cluster.kops.k8s.io \"{name}\" not found")
        })?;
        let instances = self.cloud.instances(&name).await;
        let mut told = "TYPE\tNAME\tID\n".to_owned();
        for instance in &instances {
            told.push_str(&format!("instance\t{name}\t{instance}\n"));
        }
        if !self.has("--yes") {
            return Ok(format!("{told}\nMust specify --yes to delete cluster\n"));
        }
        for instance in &instances {
            self.cloud.terminate(instance).await?;
        }
        let program = std::env::args().next().unwrap_or_default();
        if std::path::Path::new(&program)
            .with_file_name("slow-deletion")
            .exists()
        {
            tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        }
        let stuck = std::path::Path::new(&program).with_file_name("stuck-once");
        if std::fs::remove_file(stuck).is_ok() {
            return Err("not making progress deleting resources; giving up".to_owned());
        }
        for key in self.state.list(&format!("{name}/")).await {
            self.state.delete(&key).await;
        }
        Ok(format!("{told}\nDeleted cluster: \"{name}\"\n"))
    }
}
