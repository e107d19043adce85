//! What kops is asked for, in the words of each release.
//!
//! What the commands print and how they end was recorded with kops 1.36.2 and 1.8.1; `validate` ends with 2 where the cluster answers and is not
//! well (cmd/kops/validate_cluster.go).

use std::path::Path;
use std::time::Instant;

use semver::Version;
use serde::Deserialize;
use serde_yaml_ng::Value;

use super::{Answer, Kops, KopsError};
use crate::digest::{Algorithm, Digest};

/// kops gives up after so many rounds over its list, 10 s apart, in which nothing went. Unless told it goes on for ten minutes in all.
const ROUNDS: &str = "--count=12";

/// What `update cluster` would do, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub text: String,
    /// Whether it says that it would do anything.
    pub has_changes: bool,
}

impl Preview {
    /// By which the same list is known again. kops prints tags in another order each time, so the order of words is left out.
    pub fn digest(&self) -> Digest {
        let is_between = |letter: char| letter.is_whitespace() || "{},".contains(letter);
        let words = self.text.split(is_between).filter(|word| !word.is_empty());
        let mut words: Vec<_> = words.collect();
        words.sort_unstable();
        Digest::of(Algorithm::Sha256, words.join(" ").as_bytes())
    }
}

/// How a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Ready,
    /// It answers, and not all is well.
    Failing(String),
    /// It does not answer.
    Unreachable(String),
}

impl Kops {
    /// Which release the program is; None where it prints none.
    pub async fn version(&self) -> Result<Option<Version>, KopsError> {
        let answer = self.succeed(&["version"]).await?;
        // "Version 1.8.1 (git-…)", "Client version: 1.36.2 (git-v1.36.2)".
        let mut words = answer.stdout.split_whitespace();
        Ok(words.find_map(|word| Version::parse(word.trim_start_matches('v')).ok()))
    }

    /// The cluster and its instance groups as kops has them; None where it has no such cluster.
    pub async fn read(&self) -> Result<Option<Vec<Value>>, KopsError> {
        let name = self.options.cluster.clone();
        let arguments = ["get", "cluster", &name, "-o", "yaml"];
        let (answer, record) = self.call(&arguments).await?;
        match answer.code {
            Some(0) => {}
            _ if answer.says_not_found() => return Ok(None),
            code => {
                return Err(KopsError::Failed {
                    call: arguments.join(" "),
                    code,
                    said: answer.last_words(),
                    record,
                });
            }
        }
        let mut documents = documents(&answer.stdout).map_err(|why| KopsError::Unreadable {
            call: arguments.join(" "),
            why,
            record,
        })?;
        documents.extend(self.groups().await?);
        Ok(Some(documents))
    }

    /// Its instance groups.
    async fn groups(&self) -> Result<Vec<Value>, KopsError> {
        let arguments = ["get", "ig", "--name", &self.options.cluster, "-o", "yaml"];
        let (answer, record) = self.call(&arguments).await?;
        match answer.code {
            Some(0) => documents(&answer.stdout).map_err(|why| KopsError::Unreadable {
                call: arguments.join(" "),
                why,
                record,
            }),
            // A cluster that was only just created has none, which is an error to kops.
            _ if answer.says_not_found() => Ok(Vec::new()),
            code => Err(KopsError::Failed {
                call: arguments.join(" "),
                code,
                said: answer.last_words(),
                record,
            }),
        }
    }

    /// Writes the manifest into the state store, whether the cluster is there or not. Groups that it lacks stay: see
    /// [`Kops::delete_group`].
    pub async fn replace(&self, manifest: &Path) -> Result<(), KopsError> {
        let manifest = manifest.to_string_lossy();
        self.succeed(&["replace", "--force", "-f", &manifest])
            .await?;
        Ok(())
    }

    /// Removes an instance group from the cluster.
    pub async fn delete_group(&self, group: &str) -> Result<(), KopsError> {
        let name = &self.options.cluster;
        self.succeed(&["delete", "ig", group, "--name", name, "--yes"])
            .await?;
        Ok(())
    }

    /// Gives it the key that hosts let in.
    pub async fn add_key(&self, public_key: &Path) -> Result<(), KopsError> {
        let (name, key) = (&self.options.cluster, public_key.to_string_lossy());
        if self.era().has_create_sshpublickey() {
            self.succeed(&["create", "sshpublickey", name, "-i", &key])
                .await?;
        } else {
            let arguments = [
                "create",
                "secret",
                "sshpublickey",
                "admin",
                "--name",
                name,
                "-i",
                &key,
            ];
            self.succeed(&arguments).await?;
        }
        Ok(())
    }

    /// What an update would do.
    pub async fn preview(&self) -> Result<Preview, KopsError> {
        let answer = self
            .succeed(&["update", "cluster", &self.options.cluster])
            .await?;
        let has_changes = !answer.stdout.contains("No changes need to be applied")
            && !answer.stderr.contains("No changes need to be applied");
        Ok(Preview {
            text: answer.stdout,
            has_changes,
        })
    }

    /// Makes the cloud what the state store says.
    pub async fn update(&self) -> Result<(), KopsError> {
        let name = &self.options.cluster;
        self.succeed(&["update", "cluster", name, "--yes"]).await?;
        Ok(())
    }

    /// Writes terraform's files that would.
    pub async fn write_terraform(&self, folder: &Path) -> Result<(), KopsError> {
        let (name, folder) = (&self.options.cluster, folder.to_string_lossy());
        let arguments = [
            "update",
            "cluster",
            name,
            "--target=terraform",
            "--out",
            &folder,
        ];
        self.succeed(&[&arguments[..], &["--yes"][..]].concat())
            .await?;
        Ok(())
    }

    /// Brings a cluster that runs to what the state store says: the cloud first, then host by host.
    pub async fn reconcile(&self) -> Result<(), KopsError> {
        let name = &self.options.cluster;
        if self.era().reconciles() {
            self.succeed(&["reconcile", "cluster", name, "--yes"])
                .await?;
            return Ok(());
        }
        self.update().await?;
        self.succeed(&["rolling-update", "cluster", name, "--yes"])
            .await?;
        Ok(())
    }

    /// Writes a kubeconfig for its administrator, into [`Kops::kubeconfig`].
    pub async fn export(&self) -> Result<(), KopsError> {
        let name = &self.options.cluster;
        if self.era().has_export_admin() {
            self.succeed(&["export", "kubeconfig", name, "--admin"])
                .await?;
        } else {
            self.succeed(&["export", "kubecfg", name]).await?;
        }
        Ok(())
    }

    /// How the cluster is, by one look.
    pub async fn validate(&self) -> Result<Health, KopsError> {
        let (answer, _) = self
            .call(&["validate", "cluster", &self.options.cluster])
            .await?;
        Ok(match answer.code {
            Some(0) => Health::Ready,
            _ if answer.code == Some(2) || answer.says_not_well() => {
                Health::Failing(answer.what_is_not_well())
            }
            _ => Health::Unreachable(answer.last_words()),
        })
    }

    /// What its deletion would remove, in kops' own words.
    pub async fn list_for_deletion(&self) -> Result<String, KopsError> {
        let answer = self
            .succeed(&["delete", "cluster", &self.options.cluster])
            .await?;
        Ok(answer.stdout)
    }

    /// Removes it and everything of it. kops lists what there is once and goes on at that, at what is gone meanwhile too; where it gets no
    /// further it is let list anew, until the time of a call is over.
    pub async fn delete(&self) -> Result<(), KopsError> {
        let mut arguments = vec!["delete", "cluster", &self.options.cluster, "--yes"];
        if self.era().counts_deletions() {
            arguments.push(ROUNDS);
        }
        let deadline = Instant::now() + self.options.timeout;
        loop {
            match self.succeed(&arguments).await {
                Err(error) if error.is_stuck() && Instant::now() < deadline => {
                    tracing::warn!("kops gets no further with what it listed: it lists anew");
                }
                ended => return ended.map(drop),
            }
        }
    }

    /// What it says that the cluster will download, as JSON; None where this release can't say.
    pub async fn assets(&self) -> Result<Option<String>, KopsError> {
        if !self.era().uses_assets_api() {
            return Ok(None);
        }
        let arguments = [
            "get",
            "assets",
            "--name",
            &self.options.cluster,
            "-o",
            "json",
        ];
        Ok(Some(self.succeed(&arguments).await?.stdout))
    }
}

impl KopsError {
    /// Whether a deletion ended because nothing more of its list went.
    fn is_stuck(&self) -> bool {
        let words = ["not making progress", "wait time exceeded"];
        matches!(self, Self::Failed { said, .. } if words.iter().any(|words| said.contains(words)))
    }
}

impl Answer {
    /// The cluster answered, and not all is well. Some releases end with 2 then, 1.36.2 and 1.8.1 with 1.
    fn says_not_well(&self) -> bool {
        let words = ["not yet healthy", "NOT ready", "No nodes found"];
        words.iter().any(|words| self.stderr.contains(words))
    }

    /// What it lists below "VALIDATION ERRORS", each in a few words; its last words where it lists nothing.
    fn what_is_not_well(&self) -> String {
        const TOLD: usize = 6;
        let (_, listed) = self
            .stdout
            .split_once("VALIDATION ERRORS")
            .unwrap_or_default();
        let lines = listed
            .lines()
            .skip_while(|line| !line.starts_with("KIND"))
            .skip(1);
        let lines = lines.take_while(|line| !line.trim().is_empty());
        let errors: Vec<_> = lines
            .map(|line| {
                line.split('\t')
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
            })
            .map(|cells| cells.collect::<Vec<_>>().join(" "))
            .collect();
        let told = errors
            .iter()
            .take(TOLD)
            .cloned()
            .collect::<Vec<_>>()
            .join("; ");
        match errors.len() {
            0 => self.last_words(),
            count if count > TOLD => format!("{told}; and {} more", count - TOLD),
            _ => told,
        }
    }

    fn says_not_found(&self) -> bool {
        let said = self.stderr.to_lowercase();
        said.contains("not found") || said.contains("no instancegroup objects found")
    }
}

/// The documents of a stream of YAML.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    let documents = serde_yaml_ng::Deserializer::from_str(text).map(Value::deserialize);
    let documents: Result<Vec<_>, _> = documents.collect();
    let documents = documents.map_err(|error| error.to_string())?;
    Ok(documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_well_is_told_by_name() {
        let answer = |stdout: &str| Answer {
            code: Some(1),
            stdout: stdout.to_owned(),
            stderr: "Error: validation failed: cluster not yet healthy\n".to_owned(),
        };
        let listed = answer(
            "NODE STATUS\nNAME\tROLE\tREADY\ni-1\tnode\tFalse\n\nVALIDATION ERRORS\nKIND\tNAME\t\tMESSAGE\nNode\ti-1\t\tnode \"i-1\" is not ready\n\nValidation Failed\n",
        );
        assert_eq!(
            listed.what_is_not_well(),
            "Node i-1 node \"i-1\" is not ready"
        );
        let many = "Pod\tx\tpending\n".repeat(9);
        let many = answer(&format!("VALIDATION ERRORS\nKIND\tNAME\tMESSAGE\n{many}"));
        assert!(many.what_is_not_well().ends_with("; and 3 more"));
        let none = answer("").what_is_not_well();
        assert_eq!(none, "Error: validation failed: cluster not yet healthy");
    }
}
