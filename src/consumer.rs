//! Says how to point a kops release at a mirror: environment, flags and the cluster's spec, with that release's traps avoided.
//!
//! Pure: it is told where the mirror is and what it holds. What it prints is copied into shells and files, so every value is
//! quoted, and a mirror's address that kops or the nodes could not use is refused instead of printed.

mod images;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use semver::Version;
use serde::Serialize;
use url::Url;

pub use self::images::MirroredImages;
use crate::asset::Arch;
use crate::digest::Digest;
use crate::layout::Layout;

/// A mirrored release, and who will use it.
#[derive(Debug, Clone)]
pub struct ConsumerInput {
    pub kops: Version,
    pub kubernetes: Version,
    /// The region of the cluster, if it is known.
    pub region: Option<String>,
    /// The mirror's own address, as the nodes reach it.
    pub base_url: Url,
    pub layout: Layout,
    /// The architectures that the mirror holds.
    pub archs: Vec<Arch>,
    /// The CNI archive in the mirror and what it hashes to; used in the offline layout only.
    pub cni: Option<(Url, Digest)>,
    /// Where its images are, if they are mirrored.
    pub images: Option<MirroredImages>,
}

/// What to set, each with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Variables for the kops command.
    pub environment: Vec<Setting>,
    /// Flags of `kops create cluster`.
    pub flags: Vec<Setting>,
    /// `spec.assets.fileRepository`, where that release has a working one.
    pub file_repository: Option<String>,
    /// `spec.assets.containerRegistry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_registry: Option<String>,
    /// `spec.assets.containerProxy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_proxy: Option<String>,
    /// `spec.containerd.registryMirrors`: URLs by the host of an image's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub registry_mirrors: BTreeMap<String, Vec<String>>,
    /// What no setting can do.
    pub notes: Vec<String>,
}

/// A name, its value, and why it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub name: String,
    pub value: String,
    pub why: String,
}

/// Why a release can't be used from a mirror at this address or in this layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    #[error(
        "the mirror's address {url} has a comma: nodes separate the addresses of a file with commas, so no node would come up"
    )]
    Comma { url: Url },
    #[error(
        "the mirror's address {url} is not http or https: kops and the nodes read a mirror with plain anonymous requests"
    )]
    Scheme { url: Url },
    #[error(
        "the mirror's address has a user, a query or a fragment, which kops drops or prints into the nodes' user data: give a plain address"
    )]
    NotPlain,
    #[error(
        "kops {kops} ignores spec.assets.fileRepository, which works since 1.9: mirror it with --layout offline"
    )]
    NoFileRepository { kops: Version },
    #[error("'{}' is not an AWS region", region.escape_debug())]
    Region { region: String },
}

/// What a consumer of the mirrored release needs.
pub fn settings(input: &ConsumerInput) -> Result<Settings, ConsumerError> {
    check(input)?;
    let mut settings = Settings {
        environment: Vec::new(),
        flags: Vec::new(),
        file_repository: None,
        container_registry: None,
        container_proxy: None,
        registry_mirrors: BTreeMap::new(),
        notes: Vec::new(),
    };
    for_the_region(input, &mut settings);
    match input.layout {
        Layout::FileRepository => for_file_repository(input, &mut settings),
        Layout::Offline => for_offline(input, &mut settings),
    }
    images::for_images(input, &mut settings);
    for_one_architecture(input, &mut settings);
    settings.notes.extend(notes_on(input));
    Ok(settings)
}

fn check(input: &ConsumerInput) -> Result<(), ConsumerError> {
    let url = &input.base_url;
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(ConsumerError::NotPlain);
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ConsumerError::Scheme { url: url.clone() });
    }
    if url.as_str().contains(',') || url.as_str().to_lowercase().contains("%2c") {
        return Err(ConsumerError::Comma { url: url.clone() });
    }
    if input.layout == Layout::FileRepository && before(input, 9) {
        return Err(ConsumerError::NoFileRepository {
            kops: input.kops.clone(),
        });
    }
    let is_region = |region: &str| {
        !region.is_empty()
            && region
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    match &input.region {
        Some(region) if !is_region(region) => Err(ConsumerError::Region {
            region: region.clone(),
        }),
        _ => Ok(()),
    }
}

/// Whether the release is older than 1.`minor`; pre-releases count as the release they lead to.
fn before(input: &ConsumerInput, minor: u64) -> bool {
    (input.kops.major, input.kops.minor) < (1, minor)
}

fn for_the_region(input: &ConsumerInput, settings: &mut Settings) {
    match &input.region {
        Some(region) => settings.set(
            "AWS_REGION",
            region,
            "kops asks us-east-1 otherwise, which is another partition than China's",
        ),
        None => settings.notes.push(
            "set AWS_REGION to the cluster's region: kops asks us-east-1 otherwise, and fails in China".to_owned(),
        ),
    }
}

fn for_file_repository(input: &ConsumerInput, settings: &mut Settings) {
    let repository = below(&input.base_url, "");
    settings.flag(
        "--kubernetes-version",
        input.kubernetes.to_string(),
        "the mirrored version, not the channel's newest",
    );
    settings.flag(
        "--channel",
        below(&input.base_url, "kubernetes/kops/master/channels/stable"),
        "kops reads its channel on nearly every command, from GitHub unless told",
    );
    if before(input, 22) {
        settings.notes.push(
            "this kops has no flag for fileRepository: put the spec's fragment (--as spec prints it) into the cluster with `kops edit cluster` before the first `kops update cluster`".to_owned(),
        );
    } else {
        // Behind a feature flag until 1.26 (cmd/kops/create_cluster.go).
        if before(input, 27) {
            settings.set(
                "KOPS_FEATURE_FLAGS",
                "+SpecOverrideFlag",
                "allows the --set flag",
            );
        }
    }
    settings.assets_flag(
        input,
        "fileRepository",
        &repository,
        "every file comes from the mirror: kops puts this before the path of its canonical URL",
    );
    settings.file_repository = Some(repository);
}

fn for_offline(input: &ConsumerInput, settings: &mut Settings) {
    let kops = &input.kops;
    settings.set(
        "KOPS_BASE_URL",
        // kops 1.36 takes the last element for its version, and its images have no "v".
        &below(&input.base_url, &format!("kops/{kops}/")),
        "kops' own files come from the mirror; its last element must be the version without a 'v'",
    );
    for_cni(input, settings);
    settings.flag(
        "--kubernetes-version",
        below(
            &input.base_url,
            &format!("kubernetes/release/v{}", input.kubernetes),
        ),
        "a URL makes kops take Kubernetes' files from there, its images as archives among them",
    );
    settings.flag(
        "--channel",
        below(&input.base_url, "kops/channels/stable"),
        "kops reads its channel on nearly every command, from GitHub unless told",
    );
    if before(input, 9) {
        settings.set(
            "KOPS_RUN_OBSOLETE_VERSION",
            "1",
            "this kops reads 1.8.0 from a URL that says 1.8.10, and stops because the channel wants a newer one",
        );
    } else {
        settings.notes.push(
            "with a URL as Kubernetes' version, kops names images for amd64 only and passes containerRegistry by: the file-repository layout has neither fault".to_owned(),
        );
    }
}

fn for_cni(input: &ConsumerInput, settings: &mut Settings) {
    let Some((url, digest)) = &input.cni else {
        settings.notes.push(
            "no CNI archive of the mirror is named: the nodes fetch theirs from its own publisher"
                .to_owned(),
        );
        return;
    };
    if !before(input, 19) && input.archs.len() > 1 {
        settings.notes.push(
            "CNI_VERSION_URL names one archive for all nodes: it is left out, because this mirror serves two architectures".to_owned(),
        );
        return;
    }
    settings.set(
        "CNI_VERSION_URL",
        url.as_str(),
        "the CNI archive comes from the mirror",
    );
    if before(input, 9) {
        settings.notes.push(
            "this kops takes the CNI archive's ETag for its MD5: it must stay a single-part object without SSE-KMS, as this mirror writes it".to_owned(),
        );
    } else {
        settings.set(
            "CNI_ASSET_HASH_STRING",
            &digest.hex(),
            "without it kops 1.9 to 1.18 writes an empty digest that nodes refuse, and newer ones ignore CNI_VERSION_URL",
        );
    }
}

/// kops asks for both architectures' digests, and a mirror of one has half of them.
fn for_one_architecture(input: &ConsumerInput, settings: &mut Settings) {
    if let ([arch], false) = (input.archs.as_slice(), before(input, 19)) {
        settings.set(
            "KOPS_ARCH",
            arch.name(),
            "the mirror has this architecture only; kops asks for both otherwise",
        );
    }
}

fn notes_on(input: &ConsumerInput) -> Vec<String> {
    let mut notes = Vec::new();
    if input
        .region
        .as_deref()
        .is_some_and(|r| r.starts_with("cn-"))
    {
        notes.push(
            "give --image: kops' own image names belong to accounts that are not in China"
                .to_owned(),
        );
        if !before(input, 26) && before(input, 29) {
            notes.push(
                "give --dns none: there are no public Route 53 zones that kops could use"
                    .to_owned(),
            );
        }
    }
    if !before(input, 37) {
        notes.push(
            "an s3:// fileRepository is for the commercial and GovCloud partitions only: in China it stays https".to_owned(),
        );
    }
    notes.push(
        "the kops command and the nodes read the mirror without credentials: `kops-mirror bucket-policy` prints what allows it".to_owned(),
    );
    notes
}

/// An address below the mirror's own.
fn below(base: &Url, path: &str) -> String {
    let base = base.as_str().trim_end_matches('/');
    if path.is_empty() {
        return base.to_owned();
    }
    format!("{base}/{path}")
}

impl Settings {
    fn set(&mut self, name: &str, value: &str, why: &str) {
        self.environment.push(Setting {
            name: name.to_owned(),
            value: value.to_owned(),
            why: why.to_owned(),
        });
    }

    fn flag(&mut self, name: &str, value: String, why: &str) {
        self.flags.push(Setting {
            name: name.to_owned(),
            value,
            why: why.to_owned(),
        });
    }

    /// A field of `spec.assets` as a flag, where that release has one for it.
    fn assets_flag(&mut self, input: &ConsumerInput, field: &str, value: &str, why: &str) {
        if !before(input, 22) {
            self.flag("--set", format!("spec.assets.{field}={value}"), why);
        }
    }

    /// Lines for a shell: variables to export, and the flags and notes as comments.
    pub fn shell(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        for setting in &self.environment {
            let (name, value) = (&setting.name, quoted(&setting.value));
            let _ = writeln!(text, "# {}\nexport {name}={value}", setting.why);
        }
        let _ = writeln!(text, "# kops create cluster {}", self.flags());
        let is_a_flag = self.flags.iter().any(|flag| flag.name == "--set");
        for line in self
            .yaml()
            .filter(|_| !is_a_flag || !self.registry_mirrors.is_empty())
            .iter()
            .flat_map(|s| s.lines())
        {
            let _ = writeln!(text, "#   {line}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "# {note}");
        }
        text
    }

    /// The variables alone, for `eval`.
    pub fn variables(&self) -> String {
        let line =
            |setting: &Setting| format!("export {}={}\n", setting.name, quoted(&setting.value));
        self.environment.iter().map(line).collect()
    }

    /// The flags of `kops create cluster`, quoted for a shell.
    pub fn flags(&self) -> String {
        let flags = self
            .flags
            .iter()
            .map(|flag| format!("{} {}", flag.name, quoted(&flag.value)));
        flags.collect::<Vec<_>>().join(" ")
    }

    /// The fragment of a cluster's spec; None where that release has no working fileRepository.
    pub fn yaml(&self) -> Option<String> {
        let repository = self.file_repository.as_ref()?;
        // A JSON string is a YAML string.
        let quoted = |text: &str| serde_json::to_string(text).expect("a string is always JSON");
        let mut text = format!(
            "spec:\n  assets:\n    fileRepository: {}\n",
            quoted(repository)
        );
        for (field, value) in [
            ("containerRegistry", &self.container_registry),
            ("containerProxy", &self.container_proxy),
        ] {
            if let Some(value) = value {
                let _ = writeln!(text, "    {field}: {}", quoted(value));
            }
        }
        if !self.registry_mirrors.is_empty() {
            text.push_str("  containerd:\n    registryMirrors:\n");
        }
        for (host, mirrors) in &self.registry_mirrors {
            let _ = writeln!(text, "      {}:", quoted(host));
            for mirror in mirrors {
                let _ = writeln!(text, "      - {}", quoted(mirror));
            }
        }
        Some(text)
    }

    /// Everything, for programs.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings in vectors are always JSON")
    }
}

/// A word that a POSIX shell reads as exactly this text.
pub fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=@%+-".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
