//! What may be typed about the images that instances start from.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};

use crate::asset::Arch;
use crate::cluster::{BuildEngine, CopyEngine};
use crate::config;

const PLACE: &str = "Which account";
const IMAGE: &str = "Which image";
const BUILDER: &str = "The builder";

#[derive(Debug, Clone, Args)]
pub struct AmiArgs {
    #[command(subcommand)]
    pub command: AmiCommand,
}

/// What is done about images.
#[derive(Debug, Clone, Subcommand)]
pub enum AmiCommand {
    /// Find an image: the newest that is available, with the right processors
    Resolve(ResolveArgs),
    /// Wait until an image is there and available
    Wait(WaitArgs),
    /// Copy an image from another region or partition
    Copy(CopyArgs),
    /// Build an image on an instance of its own, in a private subnet
    Build(Box<BuildArgs>),
    /// List what was made here and is still there
    List(ListArgs),
    /// Take away what is left of copies and builds that failed; shows it first
    Gc(GcArgs),
}

/// Which account, in which region.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = PLACE)]
pub struct PlaceArgs {
    /// The cluster's file, which says what no flag does
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// The region [default: the file's]
    #[arg(long, value_name = "REGION", required_unless_present = "file")]
    pub region: Option<String>,
    /// A profile of the AWS configuration files [default: the file's]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct ResolveArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// ubuntu-24.04, ubuntu-22.04, ubuntu-20.04 or amazon-linux-2023
    #[arg(long, value_name = "NAME", help_heading = IMAGE)]
    pub distribution: Option<String>,
    /// Whose: an account, self or amazon
    #[arg(long, value_name = "OWNER", help_heading = IMAGE)]
    pub owner: Option<String>,
    /// Its name, a pattern with *; as kops' channels have it, OWNER/NAME, too
    #[arg(long, value_name = "PATTERN", help_heading = IMAGE)]
    pub name: Option<String>,
    /// A parameter of SSM that has its id
    #[arg(long, value_name = "PARAMETER", help_heading = IMAGE)]
    pub ssm: Option<String>,
    /// The processors: amd64 or arm64 [default: those of the file's control plane, else amd64]
    #[arg(long, value_name = "ARCH", help_heading = IMAGE)]
    pub arch: Option<Arch>,
}

#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// ami-…, or the name of an image of one's own
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// How long to wait at most [default: the file's, else 60m]
    #[arg(long, value_name = "TIME", value_parser = config::parse_duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Args)]
pub struct CopyArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// What is copied: ami-… in the source's region [default: the file's, as for all of these]
    #[arg(long, value_name = "AMI", help_heading = IMAGE)]
    pub source: Option<String>,
    /// The source's region
    #[arg(long, value_name = "REGION", help_heading = IMAGE)]
    pub from_region: Option<String>,
    /// The profile of an account there
    #[arg(long, value_name = "NAME", help_heading = IMAGE)]
    pub from_profile: Option<String>,
    /// How it crosses from one partition to another [default: store-restore]
    #[arg(long, value_name = "ENGINE", help_heading = IMAGE)]
    pub engine: Option<CopyEngine>,
    /// A private bucket in the source's region, for store-restore
    #[arg(long, value_name = "BUCKET", help_heading = IMAGE)]
    pub from_bucket: Option<String>,
    /// A private bucket in the target's region, for store-restore
    #[arg(long, value_name = "BUCKET", help_heading = IMAGE)]
    pub to_bucket: Option<String>,
    /// What the copy is called [default: as the source]
    #[arg(long, value_name = "NAME", help_heading = IMAGE)]
    pub name: Option<String>,
    /// Take away what was made when the copy fails, in place of leaving it for the next try
    #[arg(long)]
    pub rollback: bool,
    /// How long each step at AWS may take [default: the file's, else 60m]
    #[arg(long, value_name = "TIME", value_parser = config::parse_duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// What the builder starts from: ami-… or OWNER/NAME [default: the file's, as for all of these]
    #[arg(long, value_name = "IMAGE", help_heading = IMAGE)]
    pub base: Option<String>,
    /// What the image will be called; one of that name that was built so already is the answer at once
    #[arg(long, value_name = "NAME", help_heading = IMAGE)]
    pub name: Option<String>,
    /// What is run on the builder, as root
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = IMAGE)]
    pub script: Option<PathBuf>,
    /// What builds it [default: launch]
    #[arg(long, value_name = "ENGINE", help_heading = IMAGE)]
    pub engine: Option<BuildEngine>,
    /// The program, for imagebuilder
    #[arg(long, value_name = "PATH", value_hint = ValueHint::ExecutablePath, help_heading = IMAGE)]
    pub imagebuilder: Option<PathBuf>,
    /// Its template
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = IMAGE)]
    pub template: Option<PathBuf>,
    /// A private subnet: the builder has no public address
    #[arg(long, value_name = "SUBNET", help_heading = BUILDER)]
    pub subnet: Option<String>,
    /// The builder's security group [default: the VPC's own]
    #[arg(long, value_name = "GROUP", help_heading = BUILDER)]
    pub security_group: Option<String>,
    /// The builder's type [default: t3.medium]
    #[arg(long, value_name = "TYPE", help_heading = BUILDER)]
    pub machine_type: Option<String>,
    /// The key pair at EC2 that the builder lets in
    #[arg(long, value_name = "NAME", help_heading = BUILDER)]
    pub key_name: Option<String>,
    /// Its private key, to log in with; without, the script runs as user data and nobody logs in
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = BUILDER)]
    pub private_key: Option<PathBuf>,
    /// Who logs in [default: ubuntu]
    #[arg(long, value_name = "NAME", help_heading = BUILDER)]
    pub user: Option<String>,
    /// The program that logs in
    #[arg(long, value_name = "PATH", value_hint = ValueHint::ExecutablePath, default_value = "ssh", env = "KOPS_MIRROR_SSH", help_heading = BUILDER)]
    pub ssh: PathBuf,
    /// Leave the builder there, whatever comes of it
    #[arg(long, help_heading = BUILDER)]
    pub keep_instance: bool,
    /// How long each step may take [default: the file's, else 60m]
    #[arg(long, value_name = "TIME", value_parser = config::parse_duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Only what was made for this cluster [default: the file's, if there is one]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct GcArgs {
    #[command(flatten)]
    pub list: ListArgs,
    /// Take it away; without, it is only shown
    #[arg(long)]
    pub delete: bool,
    /// Images that were asked for too: instances of a cluster may need them yet
    #[arg(long)]
    pub images: bool,
    /// Leave what is younger: a copy may be under way
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = config::parse_duration)]
    pub older_than: Duration,
}
