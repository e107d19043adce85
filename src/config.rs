//! Reads every setting from where it may come: the defaults here, a file, the environment, the flags, each before the next.
//!
//! `config/mirror.toml` holds every setting at its default, with the reason for it. This is the only module that reads the
//! environment; what others need of it they find in [`Config`]. AWS's own variables and profiles are left to its SDK.

mod buckets;
mod check;
mod layers;
mod origins;
mod policies;
mod registry;
mod service;
mod target;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use globset::Glob;
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::asset::Arch;
use crate::catalogue::ClusterOption;
use crate::digest::{Algorithm, Digest};
use crate::layout::Layout;
use crate::limits::Night;
use crate::retry;
use crate::store::s3::Congestion;
use crate::sync::Shard;

pub use buckets::BucketSettings;
pub use layers::{Environment, Layer, variable};
pub use origins::{BadOrigin, Host, Origin, Proxy, source};
pub use policies::{PolicySettings, SignerSettings};
pub use registry::{EcrConfig, EcrEncryption, NamingKind, NamingRule, RegistrySettings};
pub use service::{ExtraFile, HookSettings, Named, ServiceSettings, SetSettings};
pub use target::{BadTarget, Target};
pub use units::{NotAQuantity, Rate, Size, parse_duration};

/// Every setting, checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch that a user knows by its name"
)]
pub struct Config {
    /// Where to mirror to: one crossing for all of them. Never empty.
    pub to: Vec<Target>,
    /// `v1.34.8`, `stable`, `stable-1.34`; several share one mirror.
    pub kubernetes: Vec<String>,
    /// `1.36.2`, `latest`.
    pub kops: Option<String>,
    pub arch: Vec<Arch>,
    pub networking: Option<String>,
    pub container_runtime: Option<String>,
    pub install_nerdctl: bool,
    pub install_crictl: bool,
    pub skip_container_runtime: bool,
    pub cilium_portmap: bool,
    /// More options of the cluster: those that bring images.
    pub cluster_options: Vec<ClusterOption>,
    /// Also what KOPS_BASE_URL makes kops ask for.
    pub with_base_url: bool,
    /// Also what a URL as Kubernetes version makes kops ask for.
    pub with_kubernetes_url: bool,
    pub images: bool,
    pub files: bool,
    /// `kops` and `kubectl` for people's machines.
    pub clients: bool,
    /// `stable.txt` and `channels/stable`.
    pub pointers: bool,
    #[serde(deserialize_with = "globs")]
    pub include: Vec<Glob>,
    #[serde(deserialize_with = "globs")]
    pub exclude: Vec<Glob>,
    /// None: by the kops version.
    pub layout: Option<Layout>,
    /// A catalogue in place of the one compiled in.
    pub catalogue: Option<PathBuf>,
    pub publish: Publish,
    pub spool: SpoolSettings,
    pub fetch: FetchSettings,
    pub retry: RetrySettings,
    pub s3: S3Settings,
    pub registry: RegistrySettings,
    /// This worker among several, and how many they are where the environment says which one this is: see [`Config::shard`].
    pub shard: Option<Shard>,
    pub shards: Option<NonZeroUsize>,
    /// By the host of canonical URLs.
    pub origins: BTreeMap<Host, Origin>,
    pub service: ServiceSettings,
    /// What the service follows, by name.
    pub sets: Named<SetSettings>,
    /// Whom it tells, by name.
    pub hooks: Named<HookSettings>,
    /// Whether people who read the terminal want colours, as far as the environment says (NO_COLOR).
    #[serde(skip)]
    pub colour: bool,
    /// Where docker and podman keep logins, as far as the environment says, in the order to look.
    #[serde(skip)]
    login_files: Vec<PathBuf>,
    /// Where this user's caches are, as far as the environment says.
    #[serde(skip)]
    cache_home: Option<PathBuf>,
    /// Where this user's programs keep what they know, as far as the environment says.
    #[serde(skip)]
    state_home: Option<PathBuf>,
}

/// How objects get to a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Publish {
    /// Whatever suits the link.
    Auto,
    /// One PUT, which ends once the file is whole and verified.
    SinglePart,
    /// In parts out of sight, many at a time, then a copy within the bucket.
    Staged,
}

/// Canned ACLs that a mirror has a use for; S3 has others that would let strangers write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acl {
    Private,
    PublicRead,
    AuthenticatedRead,
    BucketOwnerRead,
    BucketOwnerFullControl,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolSettings {
    /// None: see [`Config::spool_folder`].
    pub dir: Option<PathBuf>,
    pub limit: Size,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FetchSettings {
    /// To each host.
    pub connections: NonZeroUsize,
    /// Files in flight at once.
    pub files: NonZeroUsize,
    /// For small files, all together: see [`crate::spool`].
    pub memory: Size,
    /// Of all fetching together.
    pub limit: Option<Rate>,
    /// While it lasts, `night_limit` holds in place of `limit`.
    #[serde(deserialize_with = "night")]
    pub night: Option<Night>,
    /// None: all of the line.
    pub night_limit: Option<Rate>,
    #[serde(deserialize_with = "units::duration")]
    pub connect_timeout: Duration,
    /// A connection that stays below `stall_floor` for this long is given up.
    #[serde(deserialize_with = "units::duration")]
    pub stall_window: Duration,
    pub stall_floor: Rate,
    /// A connection that is silent for longer may have another sent after it.
    #[serde(deserialize_with = "units::duration")]
    pub hedge_after: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    pub attempts: NonZeroU32,
    #[serde(deserialize_with = "units::duration")]
    pub pause_min: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub pause_max: Duration,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Settings {
    /// None: as AWS's tools find it in profiles and on instances.
    pub region: Option<String>,
    pub profile: Option<String>,
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: Option<Url>,
    /// None: see [`S3Settings::is_path_style`].
    pub path_style: Option<bool>,
    pub acl: Option<Acl>,
    pub create_bucket: bool,
    #[serde(deserialize_with = "units::parsed")]
    pub congestion: Congestion,
    /// By the bucket's name: see [`S3Settings::of_bucket`].
    pub buckets: BTreeMap<String, BucketSettings>,
}

/// A setting that can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("can't read the configuration file {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: {why}", path.display())]
    InFile {
        path: PathBuf,
        line: usize,
        why: String,
    },
    #[error("environment variable {name}: {why}")]
    InEnvironment { name: String, why: String },
    #[error("the settings don't fit together: {why}")]
    Together { why: String },
    #[error("neither XDG_CACHE_HOME nor HOME says where the spool may be; give --spool DIR")]
    NoCacheHome,
    #[error(
        "none of STATE_DIRECTORY, XDG_STATE_HOME and HOME says where the service may keep what it knows; give --state DIR"
    )]
    NoStateHome,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            to: vec![Target::Folder(PathBuf::from("./mirror"))],
            kubernetes: Vec::new(),
            kops: None,
            arch: vec![Arch::Amd64, Arch::Arm64],
            networking: None,
            container_runtime: None,
            install_nerdctl: false,
            install_crictl: false,
            skip_container_runtime: false,
            cilium_portmap: false,
            cluster_options: Vec::new(),
            with_base_url: false,
            with_kubernetes_url: false,
            images: false,
            files: true,
            clients: true,
            pointers: true,
            include: Vec::new(),
            exclude: Vec::new(),
            layout: None,
            catalogue: None,
            publish: Publish::Auto,
            spool: SpoolSettings::default(),
            fetch: FetchSettings::default(),
            retry: RetrySettings::default(),
            s3: S3Settings::default(),
            registry: RegistrySettings::default(),
            shard: None,
            shards: None,
            origins: BTreeMap::new(),
            service: ServiceSettings::default(),
            sets: BTreeMap::new(),
            hooks: BTreeMap::new(),
            colour: true,
            login_files: Vec::new(),
            cache_home: None,
            state_home: None,
        }
    }
}

// The reasons for these numbers stand in config/mirror.toml, where who changes them reads.

impl Default for SpoolSettings {
    fn default() -> Self {
        Self {
            dir: None,
            limit: Size::of_bytes(20 << 30),
        }
    }
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            connections: NonZeroUsize::new(64).expect("64 is not zero"),
            files: NonZeroUsize::new(32).expect("32 is not zero"),
            memory: Size::of_bytes(32 << 20),
            limit: None,
            night: None,
            night_limit: None,
            connect_timeout: Duration::from_secs(15),
            stall_window: Duration::from_secs(20),
            stall_floor: Rate::of_bytes_per_second(1 << 10),
            hedge_after: Duration::from_secs(1),
        }
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        let policy = retry::Policy::default();
        Self {
            attempts: NonZeroU32::new(policy.attempts).unwrap_or(NonZeroU32::MIN),
            pause_min: policy.pause_min,
            pause_max: policy.pause_max,
        }
    }
}

impl Config {
    /// Reads all settings: `file` is `--config`'s, and else that of KOPS_MIRROR_CONFIG if any.
    pub fn load(
        file: Option<&Path>,
        environment: &Environment,
        flags: Layer,
    ) -> Result<Self, ConfigError> {
        let mut settings = Layer::of_aws(environment);
        let named = environment.get("KOPS_MIRROR_CONFIG").map(Path::new);
        if let Some(path) = file.or(named) {
            settings = settings.below(Layer::of_file(path)?);
        }
        let settings = settings
            .below(Layer::of_environment(environment)?)
            .below(flags);
        let mut config = settings.config().map_err(|error| ConfigError::Together {
            why: error.message().trim().to_owned(),
        })?;
        config.colour = environment.get("NO_COLOR").is_none();
        config.login_files = login_files(environment);
        config.cache_home = cache_home(environment);
        config.state_home = state_home(environment);
        config.shard = config.shard_among(environment)?;
        config.check()?;
        Ok(config)
    }

    /// The files that logins for registries are looked for in.
    pub fn login_files(&self) -> Vec<PathBuf> {
        let given = self.registry.auth_file.clone();
        given.map_or_else(|| self.login_files.clone(), |file| vec![file])
    }

    /// Where the service keeps its history: a cache of what the targets tell.
    pub fn state_folder(&self) -> Result<PathBuf, ConfigError> {
        let by_environment = || self.state_home.clone().ok_or(ConfigError::NoStateHome);
        self.service.state.clone().map_or_else(by_environment, Ok)
    }

    /// These settings with those of a set on them, as a run for it has them.
    #[must_use]
    pub fn of_set(&self, set: &SetSettings) -> Self {
        let mut config = self.clone();
        if let Some(to) = &set.to {
            config.to.clone_from(to);
        }
        if let Some(arch) = &set.arch {
            config.arch.clone_from(arch);
        }
        config.networking = set.networking.clone().or(config.networking);
        config.layout = set.layout.or(config.layout);
        config
    }

    /// Where partial files are kept. The default is in the user's cache, by target, so that runs at two targets don't wait for
    /// each other and two runs at one target do.
    pub fn spool_folder(&self) -> Result<PathBuf, ConfigError> {
        if let Some(dir) = &self.spool.dir {
            return Ok(dir.clone());
        }
        let home = self.cache_home.as_ref().ok_or(ConfigError::NoCacheHome)?;
        let name = Digest::of(Algorithm::Sha256, self.targets_in_full().as_bytes()).hex();
        Ok(home.join("kops-mirror/spool").join(&name[..16]))
    }

    /// Where it is kept which blocks of an image have been carried: beside the spools, for all targets.
    pub fn ami_folder(&self) -> Result<PathBuf, ConfigError> {
        let home = self.cache_home.as_ref().ok_or(ConfigError::NoCacheHome);
        let by_default = || Ok(home?.join("kops-mirror"));
        let folder = self.spool.dir.clone().map_or_else(by_default, Ok)?;
        Ok(folder.join("ami"))
    }

    /// The targets as they are the same for every run, whatever folder it starts in and in whatever order they are given.
    fn targets_in_full(&self) -> String {
        let in_full = |target: &Target| match target {
            Target::Folder(path) => std::path::absolute(path)
                .unwrap_or_else(|_| path.clone())
                .display()
                .to_string(),
            Target::Bucket { bucket, .. } => {
                let s3 = self.s3.of_bucket(bucket);
                let endpoint = s3.endpoint.as_ref().map_or("", Url::as_str);
                format!("{target} {endpoint}")
            }
        };
        let mut targets: Vec<_> = self.to.iter().map(in_full).collect();
        targets.sort();
        targets.join("\n")
    }
}

/// As skopeo and docker look for them (containers-auth.json(5), docker's DOCKER_CONFIG).
fn login_files(environment: &Environment) -> Vec<PathBuf> {
    let of = |name: &str, below: &str| Some(Path::new(environment.get(name)?).join(below));
    let files = [
        environment.get("REGISTRY_AUTH_FILE").map(PathBuf::from),
        of("XDG_RUNTIME_DIR", "containers/auth.json"),
        of("DOCKER_CONFIG", "config.json").or_else(|| of("HOME", ".docker/config.json")),
    ];
    files.into_iter().flatten().collect()
}

fn cache_home(environment: &Environment) -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let xdg = environment.get("XDG_CACHE_HOME").map(PathBuf::from);
    let home = environment
        .get("HOME")
        .map(|home| Path::new(home).join(".cache"));
    xdg.and_then(absolute).or(home.and_then(absolute))
}

/// systemd's StateDirectory= goes first (systemd.exec(5)), then the XDG base directories.
fn state_home(environment: &Environment) -> Option<PathBuf> {
    let absolute = |path: &Path| path.is_absolute().then(|| path.to_owned());
    let of = |name| environment.get(name).map(Path::new).and_then(absolute);
    let below = |home: PathBuf, path: &str| home.join(path).join("kops-mirror");
    of("STATE_DIRECTORY")
        .or_else(|| Some(below(of("XDG_STATE_HOME")?, "")))
        .or_else(|| Some(below(of("HOME")?, ".local/state")))
}

impl RetrySettings {
    pub fn policy(&self) -> retry::Policy {
        retry::Policy {
            attempts: self.attempts.get(),
            pause_min: self.pause_min,
            pause_max: self.pause_max,
        }
    }
}

impl S3Settings {
    /// Servers other than AWS are reached by path unless somebody says otherwise: few have names for their buckets.
    pub fn is_path_style(&self) -> bool {
        self.path_style.unwrap_or(self.endpoint.is_some())
    }
}

/// A choice among names; the one place where each name is written.
macro_rules! named {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// The names that can be given.
            pub const NAMES: &[&str] = &[$($name),+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }

            fn of_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn unknown(text: &str) -> String {
                format!("'{}' is no {}: {}", text.escape_debug(), $what, Self::NAMES.join(", "))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                units::parsed(deserializer)
            }
        }
    };
}

named!(
    Publish,
    "way to publish",
    Auto = "auto",
    SinglePart = "single-part",
    Staged = "staged"
);
named!(
    Acl,
    "ACL for a mirror",
    Private = "private",
    PublicRead = "public-read",
    AuthenticatedRead = "authenticated-read",
    BucketOwnerRead = "bucket-owner-read",
    BucketOwnerFullControl = "bucket-owner-full-control"
);

impl FromStr for Acl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::of_name(text).ok_or_else(|| Self::unknown(text))
    }
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::of_name(text).ok_or_else(|| Self::unknown(text))
    }
}

fn globs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Glob>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| Glob::new(text).map_err(serde::de::Error::custom))
        .collect()
}

fn night<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Night>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_endpoint(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

/// Reads the URL of an S3 server.
pub fn parse_endpoint(text: &str) -> Result<Url, String> {
    let no = || "an endpoint must be an http:// or https:// URL, such as http://127.0.0.1:9000";
    let url = Url::parse(text).map_err(|_| no())?;
    let good = matches!(url.scheme(), "http" | "https") && url.username().is_empty();
    good.then_some(url).ok_or_else(|| no().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = variables.iter().copied().collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mirror.toml");
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
        }
        let path = file.map(|_| path.as_path());
        Config::load(path, &environment, Layer::default())
    }

    #[test]
    fn the_commented_file_says_the_defaults() {
        let file: Config = toml::from_str(include_str!("../config/mirror.toml")).unwrap();
        assert_eq!(file, Config::default());
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let file = "kops = \"1.1.1\"\nkubernetes = [\"v1.1.1\"]\n[fetch]\nconnections = 3\n";
        let variables = [
            ("KOPS_MIRROR_KOPS", "1.2.2"),
            ("KOPS_MIRROR_FETCH_LIMIT", "20mbit"),
            ("KOPS_MIRROR_ARCH", "arm64, amd64"),
            ("KOPS_MIRROR_CLIENTS", "no"),
            ("KOPS_MIRROR_SERVICE_HOST", "10.0.0.1"),
        ];
        let config = load(Some(file), &variables).unwrap();
        assert_eq!(config.kops.as_deref(), Some("1.2.2"));
        assert_eq!(config.kubernetes, ["v1.1.1"]);
        assert_eq!(config.fetch.connections.get(), 3);
        assert_eq!(config.fetch.limit.unwrap().bytes_per_second(), 2_500_000);
        assert_eq!(config.arch, [Arch::Arm64, Arch::Amd64]);
        assert!(!config.clients);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_said_by_line() {
        for (text, line, word) in [
            ("kops = \"1.36.2\"\nkopz = 1\n", 2, "kopz"),
            ("[fetch]\n\nconnections = 0\n", 3, "zero"),
            ("[spool]\nlimit = 7\n", 2, "string"),
            ("[spool]\nlimit = \"7\"\n", 2, "unit"),
            ("\nto = [\"/a\", \"gs://b\"]\n", 2, "gs://b"),
            ("publish = \"multipart\"\n", 1, "single-part"),
            ("[origins.\"dl.k8s.io/x\"]\n", 1, "dl.k8s.io/x"),
            ("include = [\"a[\"]\n", 1, "a["),
            ("a = \n", 1, ""),
        ] {
            let error = load(Some(text), &[]).unwrap_err().to_string();
            assert!(
                error.contains(&format!("mirror.toml, line {line}: ")),
                "{error}"
            );
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_in_the_environment_is_said_by_variable() {
        for (name, value) in [
            ("KOPS_MIRROR_FETCH_CONNECTIONS", "many"),
            ("KOPS_MIRROR_FETCH_CONNECTIONS", "0"),
            ("KOPS_MIRROR_SPOOL_LIMIT", "20"),
            ("KOPS_MIRROR_S3_PATH_STYLE", "maybe"),
            ("KOPS_MIRROR_PUBLISH", "multipart"),
            ("KOPS_MIRROR_LAYOUT", "flat"),
        ] {
            let error = load(None, &[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for text in [
            "to = []",
            "arch = []",
            "to = [\"/a\", \"file:///a\"]",
            "[retry]\npause_min = \"1m\"",
        ] {
            let error = load(Some(text), &[]).unwrap_err();
            assert!(matches!(error, ConfigError::Together { .. }), "{error}");
        }
    }

    #[test]
    fn a_custom_endpoint_means_path_style_unless_said_otherwise() {
        let aws = [("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")];
        assert!(load(None, &aws).unwrap().s3.is_path_style());
        let said = load(Some("[s3]\npath_style = false"), &aws).unwrap();
        assert!(!said.s3.is_path_style());
        assert!(!load(None, &[]).unwrap().s3.is_path_style());
    }

    #[test]
    fn the_file_goes_before_the_variables_of_aws() {
        let aws = [("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
        let config = load(Some("[s3]\nendpoint = \"http://127.0.0.1:2\""), &aws).unwrap();
        assert_eq!(config.s3.endpoint.unwrap().port(), Some(2));
        let aws = [("AWS_REGION", "us-east-1")];
        assert_eq!(
            load(None, &aws).unwrap().s3.region.as_deref(),
            Some("us-east-1")
        );
        let config = load(Some("[s3]\nregion = \"cn-north-1\""), &aws).unwrap();
        assert_eq!(config.s3.region.as_deref(), Some("cn-north-1"));
    }

    #[test]
    fn spools_are_kept_apart_by_target() {
        let home = ("HOME", "/home/someone");
        let spool = |to: &str| {
            load(None, &[home, ("KOPS_MIRROR_TO", to)])
                .unwrap()
                .spool_folder()
                .unwrap()
        };
        assert!(spool("/a").starts_with("/home/someone/.cache/kops-mirror/spool"));
        assert_ne!(spool("/a"), spool("/b"));
        assert_eq!(spool("/a,s3://mirror/x"), spool("s3://mirror/x/,/a"));
        assert_eq!(
            load(None, &[home, ("XDG_CACHE_HOME", "/cache")])
                .unwrap()
                .spool_folder()
                .unwrap()
                .parent(),
            Some(Path::new("/cache/kops-mirror/spool"))
        );
        assert!(matches!(
            load(None, &[]).unwrap().spool_folder(),
            Err(ConfigError::NoCacheHome)
        ));
    }

    #[test]
    fn colour_is_off_when_the_environment_says_so() {
        assert!(load(None, &[("NO_COLOR", "")]).unwrap().colour);
        assert!(!load(None, &[("NO_COLOR", "1")]).unwrap().colour);
    }
}
