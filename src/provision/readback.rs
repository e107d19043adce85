//! What kops made of a manifest: it drops fields that it does not know without a word, so the manifest is read back and compared.

use std::fmt;

use serde_yaml_ng::Value;

use crate::cluster::Manifest;

/// A field of the manifest that is not in what kops has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// `Cluster spec.docker.registryMirrors`
    pub field: String,
    /// What is there in its place.
    pub instead: Option<String>,
}

/// What kops may write in its own way.
const OWN_WAYS: [&str; 2] = ["apiVersion", "metadata.creationTimestamp"];

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.instead {
            None => write!(f, "{} is gone", self.field),
            Some(instead) => write!(f, "{} is {instead}", self.field),
        }
    }
}

/// Every field of the manifest that the documents lack or have otherwise. Fields that kops has added are its own affair.
pub fn dropped(manifest: &Manifest, documents: &[Value]) -> Vec<Dropped> {
    let mut all = Vec::new();
    let groups = manifest.groups.iter().map(|group| &group.document);
    for wanted in std::iter::once(&manifest.cluster).chain(groups) {
        let (kind, name) = identity(wanted);
        let what = match kind {
            "Cluster" => "Cluster".to_owned(),
            kind => format!("{kind} {name}"),
        };
        match documents
            .iter()
            .find(|document| identity(document) == (kind, name))
        {
            Some(got) => compare(wanted, Some(got), "", &what, &mut all),
            None => all.push(Dropped {
                field: what,
                instead: None,
            }),
        }
    }
    all
}

/// The instance groups that kops has and the manifest has not: they are to be removed.
pub fn surplus(manifest: &Manifest, documents: &[Value]) -> Vec<String> {
    let is_wanted = |name: &str| manifest.groups.iter().any(|group| group.name == name);
    let groups = documents.iter().map(identity);
    groups
        .filter(|(kind, name)| *kind == "InstanceGroup" && !is_wanted(name))
        .map(|(_, name)| name.to_owned())
        .collect()
}

fn identity(document: &Value) -> (&str, &str) {
    let kind = document["kind"].as_str().unwrap_or_default();
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    (kind, name)
}

fn compare(wanted: &Value, got: Option<&Value>, path: &str, what: &str, all: &mut Vec<Dropped>) {
    if OWN_WAYS.contains(&path) || is_empty(wanted) && got.is_none_or(is_empty) {
        return;
    }
    match (wanted, got) {
        (Value::Mapping(fields), Some(Value::Mapping(others))) => {
            for (name, value) in fields {
                let name_text = name.as_str().unwrap_or_default();
                let below = match path {
                    "" => name_text.to_owned(),
                    path => format!("{path}.{name_text}"),
                };
                compare(value, others.get(name), &below, what, all);
            }
        }
        (Value::Sequence(values), Some(Value::Sequence(others)))
            if values.len() == others.len() =>
        {
            for (number, (value, other)) in values.iter().zip(others).enumerate() {
                compare(value, Some(other), &format!("{path}[{number}]"), what, all);
            }
        }
        (wanted, Some(got)) if wanted == got => {}
        (_, got) => all.push(Dropped {
            field: format!("{what} {path}"),
            instead: got.map(shown),
        }),
    }
}

/// kops writes no empty lists and no zeros.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Sequence(values) => values.is_empty(),
        Value::Bool(value) => !value,
        _ => false,
    }
}

fn shown(value: &Value) -> String {
    const LENGTH: usize = 120;
    let text = serde_yaml_ng::to_string(value).unwrap_or_default();
    let line: Vec<_> = text.split_whitespace().collect();
    line.join(" ").chars().take(LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Group;

    fn yaml(text: &str) -> Value {
        serde_yaml_ng::from_str(text).unwrap()
    }

    fn manifest() -> Manifest {
        Manifest {
            cluster: yaml(
                "{apiVersion: kops/v1alpha2, kind: Cluster, metadata: {name: a}, spec: {docker: {registryMirrors: [x]}, \
                 sshAccess: [], subnets: [{name: z, cidr: 10.0.0.0/19}], iam: {legacy: false}}}",
            ),
            groups: vec![Group {
                name: "nodes".to_owned(),
                document: yaml(
                    "{kind: InstanceGroup, metadata: {name: nodes}, spec: {maxSize: 2}}",
                ),
            }],
        }
    }

    #[test]
    fn what_kops_adds_is_its_own_affair_and_what_it_drops_is_told() {
        let got = [
            yaml(
                "{apiVersion: kops.k8s.io/v1alpha2, kind: Cluster, metadata: {name: a, creationTimestamp: x}, \
                 spec: {subnets: [{name: z, cidr: 10.0.32.0/19}], iam: {}, added: 1}}",
            ),
            yaml("{kind: InstanceGroup, metadata: {name: nodes}, spec: {maxSize: 2, minSize: 1}}"),
            yaml("{kind: InstanceGroup, metadata: {name: old}}"),
        ];
        let told: Vec<_> = dropped(&manifest(), &got)
            .iter()
            .map(Dropped::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "Cluster spec.docker is gone",
                "Cluster spec.subnets[0].cidr is 10.0.32.0/19"
            ]
        );
        assert_eq!(surplus(&manifest(), &got), ["old"]);
        let told = dropped(&manifest(), &got[..1]);
        assert_eq!(
            told.last().unwrap().to_string(),
            "InstanceGroup nodes is gone"
        );
    }
}
