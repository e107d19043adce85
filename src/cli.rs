//! Says what may be typed. Nothing here acts: flags become a [`Layer`] of settings, and [`crate::command`] does the rest.

mod ami;
mod bench;
mod images;
mod manual;
mod provision;
mod service;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use globset::Glob;
use url::Url;

use crate::asset::Arch;
use crate::catalogue::ClusterOption;
use crate::config::{
    self, Acl, BadOrigin, Config, ConfigError, Environment, Host, Layer, Publish, Rate, Target,
};
use crate::layout::Layout;
use crate::limits::Night;
use crate::store::s3::Congestion;
use crate::terminal::Showing;

pub use self::ami::{
    AmiArgs, AmiCommand, CopyArgs, GcArgs, ListArgs, PlaceArgs, ResolveArgs, WaitArgs,
};
pub use self::bench::{BenchArgs, End};
pub use self::images::{ImageArgs, RegistryArgs, ShelfArgs};
pub use self::provision::{
    ApplyArgs, DestroyArgs, Include, PlanArgs, PreflightArgs, ProvisionArgs, ProvisionCommand,
    RenderArgs, StateBucketArgs, StateBucketCommand, ValidateArgs, WorkArgs,
};
pub use self::service::{
    DaemonArgs, LogForm, NotifyTestArgs, PruneArgs, ServiceArgs, ShardArgs, StatusArgs,
};

const MIRRORED: &str = "What is mirrored";
const PLACE: &str = "Where it goes";
const FETCHING: &str = "How it is fetched";
const BUCKET: &str = "The bucket";
const EVERYWHERE: &str = "Everywhere";

/// Mirrors Kubernetes and kops releases into a bucket or a folder, verified before visible
///
/// kops-mirror carries the files that kops and its clusters download over slow, lossy links into a bucket in AWS China, or
/// into a folder. Every byte is checked against what its publisher vouches for before it is visible, each object is put in
/// one part so that its ETag is its MD5, and a transfer that broke goes on where it stopped, in the middle of a file.
#[derive(Debug, Parser)]
#[command(name = "kops-mirror", version, max_term_width = 120, after_help = manual::SHORT, after_long_help = manual::WHOLE)]
pub struct Cli {
    #[command(flatten)]
    pub everywhere: Everywhere,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every subcommand takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = EVERYWHERE)]
pub struct Everywhere {
    /// Read settings from this file; KOPS_MIRROR_CONFIG names one too
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// How results are printed on standard output; progress always goes to standard error
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORM",
        default_value = "table"
    )]
    pub output: Output,
    /// Tell more: -v what is done, -vv every request, -vvv the libraries too
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Tell nothing but what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// The form of log lines on standard error
    #[arg(long, global = true, value_name = "FORM", default_value = "text")]
    pub log: LogForm,
}

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// One document
    Json,
    /// One document
    Yaml,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mirror a release: fetch, verify and publish what is missing
    #[command(after_long_help = manual::SYNC)]
    Sync(SyncArgs),
    /// Show what sync would do, and do nothing
    #[command(after_long_help = manual::PLAN)]
    Plan(SyncArgs),
    /// List the files of a release, without touching the network
    #[command(after_long_help = manual::ASSETS)]
    Assets(AssetsArgs),
    /// Check a mirror against its index
    #[command(after_long_help = manual::VERIFY)]
    Verify(VerifyArgs),
    /// Bring back what is wrong or missing in a mirror
    #[command(after_long_help = manual::REPAIR)]
    Repair(RepairArgs),
    /// Print what kops needs to use the mirror: variables, flags, or a piece of the cluster's spec
    #[command(after_long_help = manual::ENV)]
    Env(EnvArgs),
    /// Follow upstream for months: keep sets of releases complete, verified, and told of
    #[command(after_long_help = manual::DAEMON)]
    Daemon(DaemonArgs),
    /// Show how the service is doing
    Status(StatusArgs),
    /// Delete releases that are not to be kept: shown first, marked then, deleted after a time of grace
    #[command(after_long_help = manual::PRUNE)]
    Prune(PruneArgs),
    /// Send a message to each webhook of the settings
    NotifyTest(NotifyTestArgs),
    /// Serve a mirror in a folder over HTTP, for labs and air gaps
    Serve(ServeArgs),
    /// Measure the link: what connections bring from each origin and carry to a bucket, and the settings that suit it
    #[command(after_long_help = manual::BENCH)]
    Bench(BenchArgs),
    /// Show it all on this machine: no network, no account
    Demo(DemoArgs),
    /// Print bucket policies that let nodes read the mirror without ACLs
    #[command(after_long_help = manual::BUCKET_POLICY)]
    BucketPolicy(BucketPolicyArgs),
    /// Bring up a cluster from the mirror: one step each
    Provision(ProvisionArgs),
    /// Print completions for a shell
    #[command(after_long_help = manual::COMPLETIONS)]
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Print the manual as man pages
    Man {
        /// Write a page per subcommand into this folder in place of the main page on standard output
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Args)]
pub struct SyncArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub publish: PublishArgs,
    #[command(flatten)]
    pub fetch: FetchArgs,
    #[command(flatten)]
    pub images: ImageArgs,
    #[command(flatten)]
    pub shard: ShardArgs,
}

#[derive(Debug, Clone, Args)]
pub struct AssetsArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Where nodes will read the mirror: download URLs are below it, as kops prints them with spec.assets.fileRepository
    #[arg(long, value_name = "URL", value_parser = config::source, help_heading = PLACE)]
    pub base_url: Option<Url>,
}

#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub shelves: ShelfArgs,
    /// Read every object and hash it, in place of trusting its ETag and size in the listing
    #[arg(long)]
    pub deep: bool,
}

#[derive(Debug, Clone, Args)]
pub struct RepairArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub shelves: ShelfArgs,
    #[command(flatten)]
    pub publish: PublishArgs,
    #[command(flatten)]
    pub fetch: FetchArgs,
    /// Read every object and hash it first, to find what the listing can't show
    #[arg(long)]
    pub deep: bool,
}

#[derive(Debug, Clone, Args)]
pub struct EnvArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub registries: RegistryArgs,
    /// Where nodes read the mirror, when it isn't the bucket's own address
    #[arg(long, value_name = "URL", value_parser = config::source, help_heading = PLACE)]
    pub base_url: Option<Url>,
    /// Print this form in place of the one that the kops version is best driven by
    #[arg(long = "as", value_name = "FORM")]
    pub form: Option<EnvForm>,
}

/// The ways to tell kops of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EnvForm {
    /// Shell variables
    Variables,
    /// Flags of kops create cluster
    Flags,
    /// A piece of the cluster's spec
    Spec,
}

#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// The mirror's folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// Where to listen; port 0 takes a free one. Anyone who reaches it can read the mirror
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Keep the demo's files in this folder, to look at them after
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub keep: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct BucketPolicyArgs {
    /// The mirror: s3://BUCKET/PREFIX
    #[arg(long, value_name = "TARGET")]
    pub to: Option<Target>,
    /// The bucket's region, which decides the partition in the policy's ARNs
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Let in whoever comes through this VPC endpoint (repeatable)
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub vpc_endpoint: Vec<String>,
    /// Let in whoever comes from this VPC (repeatable)
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub vpc: Vec<String>,
    /// Let in these addresses (repeatable)
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub source_ip: Vec<String>,
    /// Let in everybody
    #[arg(long)]
    pub public: bool,
}

/// Which files: of which versions, for which cluster.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = MIRRORED)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct SelectionArgs {
    /// The Kubernetes version: v1.34.8; stable or stable-1.34 for what is so named today (repeatable)
    #[arg(long, value_name = "VERSION", value_delimiter = ',')]
    pub kubernetes: Vec<String>,
    /// The kops version: 1.36.2, or latest
    #[arg(long, value_name = "VERSION")]
    pub kops: Option<String>,
    /// Architectures: amd64, arm64 [default: both]
    #[arg(long, value_name = "ARCH,…", value_delimiter = ',')]
    pub arch: Vec<Arch>,
    /// The cluster's networking, as kops names it: some bring their own CNI plugins
    #[arg(long, value_name = "NAME")]
    pub networking: Option<String>,
    /// The container runtime, as kops names it [default: what the kops version installs]
    #[arg(long, value_name = "NAME")]
    pub container_runtime: Option<String>,
    /// Take nerdctl, as spec.containerd.installNerdCtl makes kops do
    #[arg(long)]
    pub install_nerdctl: bool,
    /// Take crictl, as spec.containerd.installCriCtl makes kops do
    #[arg(long)]
    pub install_crictl: bool,
    /// Leave out the container runtime, as spec.containerd.skipInstall makes kops do
    #[arg(long)]
    pub skip_container_runtime: bool,
    /// Take the CNI plugins that cilium needs in the chaining mode portmap
    #[arg(long)]
    pub cilium_portmap: bool,
    /// What else the cluster has, as far as it brings images: metrics-server, hubble, … (repeatable; config/mirror.toml has all)
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub cluster_option: Vec<ClusterOption>,
    /// Take what KOPS_BASE_URL makes kops ask for: its images as archives
    #[arg(long)]
    pub with_base_url: bool,
    /// Take what a URL as Kubernetes version makes kops ask for: the control plane's images as archives
    #[arg(long)]
    pub with_kubernetes_url: bool,
    /// Take container images too: sync needs --to-registry or --to-layout for them
    #[arg(long)]
    pub images: bool,
    /// Leave out kops and kubectl for people's machines
    #[arg(long)]
    pub no_clients: bool,
    /// Leave out stable.txt and channels/stable
    #[arg(long)]
    pub no_pointers: bool,
    /// Take only keys that match this glob (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<Glob>,
    /// Leave out keys that match this glob, included or not (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<Glob>,
    /// How keys are formed: file-repository or offline [default: what the kops version can read]
    #[arg(long, value_name = "LAYOUT")]
    pub layout: Option<Layout>,
    /// Take exactly the files of this list, the output of kops get assets -o json or yaml
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub assets: Option<PathBuf>,
    /// Use this catalogue in place of the one that is compiled in
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub catalogue: Option<PathBuf>,
}

/// Which mirror, and how to reach it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = PLACE)]
pub struct TargetArgs {
    /// s3://BUCKET/PREFIX, a folder or file:///DIR; given twice, one crossing fills both [default: ./mirror]
    #[arg(long, value_name = "TARGET")]
    pub to: Vec<Target>,
    /// The bucket's region, cn-north-1 say [default: as AWS's own variables and profiles say]
    #[arg(long, value_name = "REGION", help_heading = BUCKET)]
    pub region: Option<String>,
    /// A profile of the AWS configuration files
    #[arg(long, value_name = "NAME", help_heading = BUCKET)]
    pub profile: Option<String>,
    /// An S3 server other than AWS, reached by path unless --path-style=false
    #[arg(long, value_name = "URL", value_parser = config::parse_endpoint, help_heading = BUCKET)]
    pub endpoint: Option<Url>,
    /// Whether the bucket goes into the path and not into the host name [default: with --endpoint]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = BUCKET)]
    pub path_style: Option<bool>,
}

/// How objects are written.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = BUCKET)]
pub struct PublishArgs {
    /// Make the bucket if it is missing
    #[arg(long)]
    pub create_bucket: bool,
    /// A canned ACL for each object, public-read say; new buckets refuse it, see kops-mirror bucket-policy
    #[arg(long, value_name = "ACL")]
    pub acl: Option<Acl>,
    /// How objects get there: single-part, staged (in parts, then copied) or auto [default: auto]
    #[arg(long, value_name = "WAY")]
    pub publish: Option<Publish>,
    /// TCP congestion control towards the bucket: auto (bbr where it may be chosen), system, or bbr, cubic, … [default: auto]
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<Congestion>,
}

/// How the upstreams are reached.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = FETCHING)]
pub struct FetchArgs {
    /// Fetch this host's files from URL, which is not trusted; several are tried in order (repeatable)
    #[arg(long, value_name = "HOST=URL", value_parser = origin)]
    pub origin: Vec<(Host, Url)>,
    /// Connections to each host [default: 64]
    #[arg(long, value_name = "N", value_parser = connections)]
    pub connections: Option<NonZeroUsize>,
    /// The most that all fetching takes of the line: 20mbit, 2MiB; with HOST= before it, the most that one host brings
    /// (repeatable) [default: all of it]
    #[arg(long, value_name = "[HOST=]RATE", value_parser = limit)]
    pub limit: Vec<(Option<Host>, Rate)>,
    /// When fetching may take all of the line, or what --night-limit says: '01:00-07:00 Asia/Shanghai'
    #[arg(long, value_name = "SPAN")]
    pub night: Option<Night>,
    /// The most that fetching takes at --night [default: all of it]
    #[arg(long, value_name = "RATE")]
    pub night_limit: Option<Rate>,
    /// Keep unfinished files here [default: in your cache folder, by target]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub spool: Option<PathBuf>,
}

fn connections(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "give a whole number, 1 or more")
}

fn limit(text: &str) -> Result<(Option<Host>, Rate), Box<dyn std::error::Error + Send + Sync>> {
    let (host, rate) = match text.split_once('=') {
        Some((host, rate)) => (Some(host.parse()?), rate),
        None => (None, text),
    };
    Ok((host, rate.parse()?))
}

fn origin(text: &str) -> Result<(Host, Url), BadOrigin> {
    let (host, url) = text
        .split_once('=')
        .ok_or_else(|| BadOrigin::Pair(text.to_owned()))?;
    Ok((host.parse()?, config::source(url)?))
}

impl Cli {
    /// All settings: those of the file and the environment, with what was typed on them.
    pub fn settings(&self, environment: &Environment) -> Result<Config, ConfigError> {
        Config::load(
            self.everywhere.config.as_deref(),
            environment,
            self.command.typed(),
        )
    }

    /// Whether it is to run for long, with nobody watching.
    pub fn is_service(&self) -> bool {
        matches!(self.command, Command::Daemon(_))
    }

    /// How much of a run is to be shown.
    pub fn showing(&self) -> Showing {
        if self.everywhere.quiet {
            Showing::Trouble
        } else {
            Showing::Progress
        }
    }
}

impl Command {
    /// What was typed, as settings.
    fn typed(&self) -> Layer {
        let mut layer = Layer::default();
        match self {
            Self::Sync(args) | Self::Plan(args) => {
                args.selection.say(&mut layer);
                args.target.say(&mut layer);
                args.publish.say(&mut layer);
                args.fetch.say(&mut layer);
                args.images.say(&mut layer);
                args.shard.say(&mut layer);
            }
            Self::Daemon(args) => args.say(&mut layer),
            Self::Prune(args) => args.say(&mut layer),
            Self::Assets(args) => args.selection.say(&mut layer),
            Self::Verify(args) => {
                args.target.say(&mut layer);
                args.shelves.say(&mut layer);
            }
            Self::Repair(args) => {
                args.target.say(&mut layer);
                args.shelves.say(&mut layer);
                args.publish.say(&mut layer);
                args.fetch.say(&mut layer);
            }
            Self::Env(args) => {
                args.selection.say(&mut layer);
                args.target.say(&mut layer);
                args.registries.say(&mut layer);
            }
            Self::Bench(args) => args.say(&mut layer),
            Self::BucketPolicy(args) => {
                say_list(&mut layer, "to", args.to.as_slice());
                layer.set_some("s3.region", args.region.as_deref());
            }
            Self::Status(_)
            | Self::NotifyTest(_)
            | Self::Serve(_)
            | Self::Demo(_)
            | Self::Provision(_)
            | Self::Completions { .. }
            | Self::Man { .. } => {}
        }
        layer
    }
}

impl SelectionArgs {
    fn say(&self, layer: &mut Layer) {
        say_list(layer, "kubernetes", &self.kubernetes);
        layer.set_some("kops", self.kops.as_deref());
        say_list(layer, "arch", &self.arch);
        layer.set_some("networking", self.networking.as_deref());
        layer.set_some("container_runtime", self.container_runtime.as_deref());
        for (name, is_on) in [
            ("install_nerdctl", self.install_nerdctl),
            ("install_crictl", self.install_crictl),
            ("skip_container_runtime", self.skip_container_runtime),
            ("cilium_portmap", self.cilium_portmap),
            ("with_base_url", self.with_base_url),
            ("with_kubernetes_url", self.with_kubernetes_url),
            ("images", self.images),
        ] {
            layer.set_some(name, is_on.then_some(true));
        }
        say_list(layer, "cluster_options", &self.cluster_option);
        layer.set_some("clients", self.no_clients.then_some(false));
        layer.set_some("pointers", self.no_pointers.then_some(false));
        say_list(layer, "include", &self.include);
        say_list(layer, "exclude", &self.exclude);
        layer.set_some("layout", self.layout.map(Layout::name));
        layer.set_some("catalogue", self.catalogue.as_deref().map(path));
    }
}

impl TargetArgs {
    fn say(&self, layer: &mut Layer) {
        say_list(layer, "to", &self.to);
        layer.set_some("s3.region", self.region.as_deref());
        layer.set_some("s3.profile", self.profile.as_deref());
        layer.set_some("s3.endpoint", self.endpoint.as_ref().map(Url::as_str));
        layer.set_some("s3.path_style", self.path_style);
    }
}

impl PublishArgs {
    fn say(&self, layer: &mut Layer) {
        layer.set_some("s3.create_bucket", self.create_bucket.then_some(true));
        layer.set_some("s3.acl", self.acl.map(Acl::name));
        let congestion = self.congestion.as_ref().map(ToString::to_string);
        layer.set_some("s3.congestion", congestion);
        layer.set_some("publish", self.publish.map(Publish::name));
    }
}

impl FetchArgs {
    fn say(&self, layer: &mut Layer) {
        for (host, url) in &self.origin {
            layer.add_source(host, url);
        }
        let connections = self
            .connections
            .map(|n| i64::try_from(n.get()).unwrap_or(i64::MAX));
        layer.set_some("fetch.connections", connections);
        for (host, rate) in &self.limit {
            match host {
                Some(host) => layer.limit_host(host, *rate),
                None => layer.set("fetch.limit", rate.to_string()),
            }
        }
        layer.set_some("fetch.night", self.night.as_ref().map(ToString::to_string));
        layer.set_some(
            "fetch.night_limit",
            self.night_limit.map(|rate| rate.to_string()),
        );
        layer.set_some("spool.dir", self.spool.as_deref().map(path));
    }
}

/// Says a list when something is in it: a flag that was not typed does not empty what the file says.
fn say_list<T: ToString>(layer: &mut Layer, name: &str, values: &[T]) {
    if !values.is_empty() {
        let texts: Vec<_> = values.iter().map(ToString::to_string).collect();
        layer.set(name, texts);
    }
}

fn path(path: &std::path::Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn typed(flags: &str) -> Config {
        let words = std::iter::once("kops-mirror").chain(flags.split_whitespace());
        let words = words.map(|word| word.replace('_', " "));
        Cli::try_parse_from(words)
            .unwrap()
            .settings(&Environment::default())
            .unwrap()
    }

    #[test]
    fn flags_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_not_typed_leave_every_default() {
        for command in [
            "sync", "plan", "assets", "verify", "repair", "env", "bench", "demo",
        ] {
            let mut config = typed(command);
            config.colour = Config::default().colour;
            assert_eq!(config, Config::default(), "{command}");
        }
    }

    #[test]
    fn every_flag_of_sync_reaches_its_setting() {
        let config = typed(
            "sync --kubernetes v1.34.8,stable --kops 1.36.2 --arch arm64 --networking calico \
             --container-runtime docker --install-nerdctl --install-crictl --images --no-clients \
             --skip-container-runtime --cilium-portmap --cluster-option hubble,karpenter --with-base-url --with-kubernetes-url --no-pointers \
             --include **/kubelet --include a/* --exclude **/*.xz --layout offline --catalogue c.toml \
             --to s3://mirror/x --to ./m --endpoint http://127.0.0.1:9000 --path-style=false \
             --region cn-north-1 --profile china --create-bucket --acl public-read \
             --publish single-part --congestion reno --connections 7 --limit 20mbit --limit dl.k8s.io=10mbit --night-limit 80mbit --spool /spool \
             --night 01:00-07:00_Asia/Shanghai --origin dl.k8s.io=http://127.0.0.1:1/a --origin dl.k8s.io=http://127.0.0.1:2",
        );
        assert_eq!(config.kubernetes, ["v1.34.8", "stable"]);
        assert_eq!(config.kops.as_deref(), Some("1.36.2"));
        assert_eq!(config.arch, [Arch::Arm64]);
        assert_eq!(config.networking.as_deref(), Some("calico"));
        assert_eq!(config.container_runtime.as_deref(), Some("docker"));
        assert!(config.install_nerdctl && config.install_crictl && config.images);
        assert!(config.skip_container_runtime && config.cilium_portmap);
        let options = [ClusterOption::Hubble, ClusterOption::Karpenter];
        assert_eq!(config.cluster_options, options);
        assert!(config.with_base_url && config.with_kubernetes_url);
        assert!(!config.clients && !config.pointers);
        let globs = |globs: &[Glob]| globs.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(globs(&config.include), ["**/kubelet", "a/*"]);
        assert_eq!(globs(&config.exclude), ["**/*.xz"]);
        assert_eq!(config.layout, Some(Layout::Offline));
        assert_eq!(config.catalogue, Some("c.toml".into()));
        let targets: Vec<_> = config.to.iter().map(ToString::to_string).collect();
        assert_eq!(targets, ["s3://mirror/x", "./m"]);
        assert!(!config.s3.is_path_style() && config.s3.create_bucket);
        assert_eq!(
            config.s3.endpoint.unwrap().as_str(),
            "http://127.0.0.1:9000/"
        );
        assert_eq!(config.s3.region.as_deref(), Some("cn-north-1"));
        assert_eq!(config.s3.profile.as_deref(), Some("china"));
        assert_eq!(config.s3.acl, Some(Acl::PublicRead));
        assert_eq!(config.publish, Publish::SinglePart);
        assert_eq!(config.s3.congestion.to_string(), "reno");
        assert_eq!(config.fetch.connections.get(), 7);
        assert_eq!(config.fetch.limit.unwrap().bytes_per_second(), 2_500_000);
        let host = &config.origins[&"dl.k8s.io".parse().unwrap()];
        assert_eq!(host.limit.unwrap().bytes_per_second(), 1_250_000);
        let night = config.fetch.night.unwrap();
        assert_eq!(night.to_string(), "01:00-07:00 Asia/Shanghai");
        assert_eq!(
            config.fetch.night_limit.unwrap().bytes_per_second(),
            10_000_000
        );
        assert_eq!(config.spool.dir, Some("/spool".into()));
        let sources = &config.origins[&"dl.k8s.io".parse().unwrap()].sources;
        let sources: Vec<_> = sources.iter().map(Url::as_str).collect();
        assert_eq!(sources, ["http://127.0.0.1:1/a", "http://127.0.0.1:2/"]);
    }
}
