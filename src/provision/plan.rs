//! What will be done to a cluster, bound to what was seen: a plan whose sights have moved is not carried out.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::coverage::Coverage;
use crate::digest::Digest;
use crate::preflight::Finding;

/// The version of this format; a reader refuses a newer one.
const FORMAT: u32 = 1;

/// A plan, as it is printed and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub format: u32,
    pub cluster: String,
    pub made_at: Timestamp,
    pub sights: Sights,
    /// What the preflight found.
    pub findings: Vec<Finding>,
    pub coverage: Coverage,
    /// What the cluster that is there can't become.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<String>,
    /// What is worth knowing and stops nothing.
    pub notes: Vec<String>,
    /// Fields of the manifest that differ from what kops has now; empty where it has nothing yet.
    pub changes: Vec<String>,
    /// Whether kops has the cluster.
    pub is_new: bool,
    /// What kops would do, in its own words.
    pub preview: String,
    pub has_changes: bool,
}

/// What a plan saw. All of it must be so when it is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sights {
    /// Of the cluster's file.
    pub file: Option<Digest>,
    /// Of the rendered manifest.
    pub manifest: Option<Digest>,
    /// The image for each kind of processor.
    pub images: BTreeMap<String, String>,
    /// What kops keeps of the cluster: ETags by key.
    pub state: BTreeMap<String, String>,
}

/// Something that is not as the plan saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub what: String,
}

/// A text that is no plan of this cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPlan {
    #[error("it can't be read: {why}")]
    Unreadable { why: String },
    #[error("it has format {format}: a newer kops-mirror wrote it")]
    Newer { format: u32 },
    #[error("it is for {found}, and not for {wanted}")]
    OfAnother { found: String, wanted: String },
}

impl Plan {
    /// A plan that says nothing yet.
    pub fn new(cluster: &str, sights: Sights) -> Self {
        Self {
            format: FORMAT,
            cluster: cluster.to_owned(),
            made_at: Timestamp::now(),
            sights,
            findings: Vec::new(),
            coverage: Coverage::default(),
            refusals: Vec::new(),
            notes: Vec::new(),
            changes: Vec::new(),
            is_new: false,
            preview: String::new(),
            has_changes: false,
        }
    }

    /// Reads one that was kept.
    pub fn parse(text: &[u8], cluster: &str) -> Result<Self, BadPlan> {
        let plan: Self = serde_json::from_slice(text).map_err(|error| BadPlan::Unreadable {
            why: error.to_string(),
        })?;
        if plan.format > FORMAT {
            return Err(BadPlan::Newer {
                format: plan.format,
            });
        }
        if plan.cluster != cluster {
            return Err(BadPlan::OfAnother {
                found: plan.cluster,
                wanted: cluster.to_owned(),
            });
        }
        Ok(plan)
    }

    /// As it is kept.
    pub fn json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("a plan has only strings for keys");
        text.push(b'\n');
        text
    }

    /// Why nothing can be done yet; empty where it can.
    pub fn obstacles(&self) -> Vec<String> {
        let findings = self.findings.iter().filter(|finding| finding.stops());
        let mut obstacles: Vec<_> = findings.map(Finding::to_string).collect();
        obstacles.extend(self.refusals.iter().cloned());
        if !self.coverage.is_whole() {
            obstacles.push(format!("the mirror: {}", self.coverage));
        }
        obstacles
    }

    /// As people read it, who carry it out with this command: `provision apply`.
    pub fn told(&self, command: &str) -> String {
        Told {
            plan: self,
            command,
        }
        .to_string()
    }
}

impl Sights {
    /// What is not as these say.
    pub fn moved(&self, now: &Self) -> Vec<Moved> {
        let mut moved = Vec::new();
        let mut unless = |same: bool, what: String| {
            if !same {
                moved.push(Moved { what });
            }
        };
        unless(
            self.file == now.file,
            "the cluster's file has been edited".to_owned(),
        );
        unless(
            self.manifest == now.manifest || self.file != now.file,
            "the manifest that follows from the file is another".to_owned(),
        );
        for (arch, image) in &self.images {
            let found = now.images.get(arch);
            let told = found.map_or("none", String::as_str);
            unless(
                found == Some(image),
                format!("the image for {arch} was {image} and is {told}"),
            );
        }
        let keys = self.state.keys().chain(
            now.state
                .keys()
                .filter(|key| !self.state.contains_key(*key)),
        );
        for key in keys {
            let (before, after) = (self.state.get(key), now.state.get(key));
            let what = match (before, after) {
                (Some(_), None) => "was removed from",
                (None, Some(_)) => "was added to",
                _ => "was changed in",
            };
            unless(before == after, format!("{key} {what} kops' state store"));
        }
        moved
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// A plan as people read it.
struct Told<'a> {
    plan: &'a Plan,
    command: &'a str,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        let what = if plan.is_new {
            "will be created"
        } else {
            "is there"
        };
        writeln!(f, "Cluster      {} {what}", plan.cluster)?;
        for (arch, image) in &plan.sights.images {
            writeln!(f, "Image        {arch}: {image}")?;
        }
        writeln!(f, "Mirror       {}", plan.coverage)?;
        for finding in &plan.findings {
            writeln!(f, "{finding}")?;
        }
        for refusal in &plan.refusals {
            writeln!(f, "Refused      {refusal}")?;
        }
        for note in &plan.notes {
            writeln!(f, "Note         {note}")?;
        }
        for change in &plan.changes {
            writeln!(f, "Changes      {change}")?;
        }
        if !plan.preview.trim().is_empty() {
            writeln!(f, "kops says:")?;
            plan.preview
                .lines()
                .try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        match (plan.obstacles().len(), plan.has_changes) {
            (0, true) => writeln!(f, "'{}' will do this.", self.command),
            (0, false) => writeln!(f, "Nothing is to be done."),
            (1, _) => writeln!(f, "1 thing stands in the way: see above."),
            (count, _) => writeln!(f, "{count} things stand in the way: see above."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    fn sights() -> Sights {
        let digest = |text: &str| Some(Digest::of(Algorithm::Sha256, text.as_bytes()));
        let pair = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        Sights {
            file: digest("file"),
            manifest: digest("manifest"),
            images: pair("amd64", "ami-1"),
            state: pair("config", "e1"),
        }
    }

    #[test]
    fn whatever_has_moved_is_named() {
        let plan = sights();
        assert!(plan.moved(&sights()).is_empty());
        let now = Sights {
            images: [("amd64".to_owned(), "ami-2".to_owned())].into(),
            state: [
                ("config".to_owned(), "e2".to_owned()),
                ("instancegroup/nodes".to_owned(), "e".to_owned()),
            ]
            .into(),
            ..sights()
        };
        let told: Vec<_> = plan.moved(&now).iter().map(Moved::to_string).collect();
        assert_eq!(
            told,
            [
                "the image for amd64 was ami-1 and is ami-2",
                "config was changed in kops' state store",
                "instancegroup/nodes was added to kops' state store"
            ]
        );
        let edited = Sights {
            file: None,
            ..sights()
        };
        assert_eq!(plan.moved(&edited).len(), 1);
    }

    #[test]
    fn the_last_line_says_what_may_be_done_now() {
        let last = |plan: &Plan, command: &str| {
            let told = plan.told(command);
            told.lines().last().unwrap().to_owned()
        };
        let mut plan = Plan::new("prod.k8s.local", sights());
        assert_eq!(last(&plan, "provision apply"), "Nothing is to be done.");
        plan.has_changes = true;
        assert_eq!(
            last(&plan, "provision apply"),
            "'provision apply' will do this."
        );
        assert_eq!(
            last(&plan, "provision upgrade"),
            "'provision upgrade' will do this."
        );
        plan.refusals.push("one".to_owned());
        assert_eq!(
            last(&plan, "provision apply"),
            "1 thing stands in the way: see above."
        );
        plan.refusals.push("another".to_owned());
        assert_eq!(
            last(&plan, "provision apply"),
            "2 things stand in the way: see above."
        );
    }
}
