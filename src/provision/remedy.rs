//! The command that brings what the mirror lacks for a cluster: what its file wants, in the words of `kops-mirror sync`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalogue::Catalogue;
use crate::cluster::ClusterFile;
use crate::consumer::quoted;
use crate::image::Naming;

/// How long its lines are, in characters.
const WIDTH: usize = 100;

/// A call of `kops-mirror`. Printed, it is what a shell takes, over as many lines as it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// Variables for what has no flag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// From the subcommand on.
    pub arguments: Vec<String>,
}

impl Remedy {
    /// What brings all that the cluster asks for, with its images or without.
    pub fn of(file: &ClusterFile, has_images: bool) -> Self {
        let mut remedy = Self {
            variables: BTreeMap::new(),
            arguments: vec!["sync".to_owned()],
        };
        remedy.say_release(file);
        remedy.say_place(file);
        let registry = &file.registry;
        let registry = registry
            .container_registry
            .as_ref()
            .or(registry.container_proxy.as_ref());
        if let Some(registry) = registry.filter(|_| has_images) {
            remedy.arguments.push("--images".to_owned());
            remedy.flag("--to-registry", registry);
            if file.naming() == Some(Naming::ContainerProxy) {
                let name = "KOPS_MIRROR_REGISTRY_NAMING".to_owned();
                remedy.variables.insert(name, "container-proxy".to_owned());
            }
        }
        remedy
    }

    /// The same as [`ClusterFile::selection`], and besides the programs and pointers that operators and kops read: those are not left out.
    fn say_release(&mut self, file: &ClusterFile) {
        let selection = file.selection();
        self.flag("--kops", &selection.kops.to_string());
        for kubernetes in &selection.kubernetes {
            self.flag("--kubernetes", &format!("v{kubernetes}"));
        }
        if let Some(networking) = &selection.networking {
            self.flag("--networking", networking);
        }
        let options: Vec<_> = selection.options.iter().map(ToString::to_string).collect();
        if !options.is_empty() {
            self.flag("--cluster-option", &options.join(","));
        }
        let usual = Catalogue::builtin().layout(&selection.kops);
        if let Some(layout) = selection.layout.filter(|layout| *layout != usual) {
            self.flag("--layout", layout.name());
        }
    }

    fn say_place(&mut self, file: &ClusterFile) {
        let mirror = &file.mirror;
        self.flag("--to", &mirror.at);
        if !mirror.at.starts_with("s3://") {
            return;
        }
        self.flag("--region", mirror.region.as_ref().unwrap_or(&file.region));
        if let Some(profile) = &file.profile {
            self.flag("--profile", profile);
        }
        if let Some(endpoint) = &mirror.endpoint {
            self.flag("--endpoint", endpoint.as_str());
        }
    }

    fn flag(&mut self, name: &str, value: &str) {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables = self.variables.iter();
        let variables = variables.map(|(name, value)| format!("{name}={}", quoted(value)));
        let mut words: Vec<String> = variables.collect();
        words.push("kops-mirror".to_owned());
        words.extend(self.arguments.iter().map(|word| quoted(word)));
        let mut parts: Vec<String> = Vec::new();
        // A flag stays with its value.
        for word in words {
            match parts.last_mut() {
                Some(part) if !word.starts_with("--") => {
                    part.push(' ');
                    part.push_str(&word);
                }
                _ => parts.push(word),
            }
        }
        let mut width = 0;
        for (number, part) in parts.iter().enumerate() {
            let length = part.chars().count();
            match number {
                0 => width = length,
                _ if width + 1 + length <= WIDTH => {
                    f.write_str(" ")?;
                    width += 1 + length;
                }
                _ => {
                    f.write_str(" \\\n      ")?;
                    width = 6 + length;
                }
            }
            f.write_str(part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_stays_with_its_value_and_lines_end() {
        let mut remedy = Remedy {
            variables: BTreeMap::from([("A".to_owned(), "b c".to_owned())]),
            arguments: vec!["sync".to_owned()],
        };
        remedy.flag("--to", "./my mirror");
        remedy.flag("--networking", &"n".repeat(80));
        remedy.flag("--layout", "offline");
        let networking = "n".repeat(80);
        assert_eq!(
            remedy.to_string(),
            format!(
                "A='b c' kops-mirror sync --to './my mirror' \\\n      --networking {networking} \\\n      --layout offline"
            )
        );
    }
}
