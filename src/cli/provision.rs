//! What may be typed to bring up a cluster from a mirrored release.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{AmiArgs, manual};
use crate::cluster::CheckId;

#[derive(Debug, Clone, Args)]
pub struct ProvisionArgs {
    #[command(subcommand)]
    pub command: ProvisionCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ProvisionCommand {
    /// Print the manifest for kops that follows from the file
    Render(RenderArgs),
    /// Look for what would go wrong, before anything is changed
    Preflight(PreflightArgs),
    /// The bucket that kops keeps its state in: make it and set it as it must be, or look whether it is
    StateBucket(StateBucketArgs),
    /// Show what apply would do: preflight, the mirror's coverage, kops' own dry run on a copy of its state
    Plan(PlanArgs),
    /// Bring the cluster up, or to what the file says; goes on where the last run stopped
    Apply(ApplyArgs),
    /// Look whether the cluster answers and is well
    Validate(ValidateArgs),
    /// Write a kubeconfig for the cluster's administrator, and say where
    Kubeconfig(WorkArgs),
    /// Bring a cluster that runs to what the file says, host by host
    Upgrade(ApplyArgs),
    /// Remove the cluster, and what was made for it
    Destroy(DestroyArgs),
    /// Show how far the way to the cluster has been gone
    Status(WorkArgs),
    /// Images that instances start from: find one, copy one from elsewhere, wait for one
    #[command(after_long_help = manual::AMI)]
    Ami(AmiArgs),
    /// Print the variables that kops gets, for use by hand
    Env(WorkArgs),
}

/// Which cluster, and where what is known of it is kept.
#[derive(Debug, Clone, Args)]
pub struct WorkArgs {
    /// The file that says what cluster is wanted; config/cluster.example.yaml has every field
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = "cluster.yaml")]
    pub file: PathBuf,
    /// Keep journal, plan, manifest and what kops prints in this folder [default: .provision/NAME]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: Option<PathBuf>,
    /// The program of kops [default: the mirrored one of the right version, verified]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::ExecutablePath, env = "KOPS_MIRROR_KOPS")]
    pub kops: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct RenderArgs {
    #[command(flatten)]
    pub work: WorkArgs,
    /// Ask nobody: what the file does not say is an error
    #[arg(long)]
    pub offline: bool,
}

#[derive(Debug, Clone, Args)]
pub struct PreflightArgs {
    #[command(flatten)]
    pub work: WorkArgs,
    /// These checks alone: P01,P05
    #[arg(long, value_name = "CHECK,…", value_delimiter = ',')]
    pub only: Vec<CheckId>,
    /// Not these
    #[arg(long, value_name = "CHECK,…", value_delimiter = ',')]
    pub skip: Vec<CheckId>,
    /// What these find is known and accepted, besides those in the file
    #[arg(long, value_name = "CHECK,…", value_delimiter = ',')]
    pub ack: Vec<CheckId>,
}

#[derive(Debug, Clone, Args)]
pub struct StateBucketArgs {
    #[command(subcommand)]
    pub command: StateBucketCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum StateBucketCommand {
    /// Make it where it is not there, and set what it lacks: versions, encryption, no public access, TLS only
    Ensure(WorkArgs),
    /// Look at it, and change nothing
    Check(WorkArgs),
}

#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub work: WorkArgs,
    /// Write the plan here too, for 'apply --plan'
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub work: WorkArgs,
    /// Carry out this plan, and refuse if anything has moved since
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub plan: Option<PathBuf>,
    /// Do it: without, and without a plan, the plan is shown and nothing is done
    #[arg(long)]
    pub yes: bool,
    /// Remove what was made for it if it fails
    #[arg(long)]
    pub rollback: bool,
    /// Do not wait until the cluster is ready
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ValidateArgs {
    #[command(flatten)]
    pub work: WorkArgs,
    /// Wait until it is ready, as long as the file says under timeouts.ready
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Clone, Args)]
pub struct DestroyArgs {
    #[command(flatten)]
    pub work: WorkArgs,
    /// Do it: without, what would be removed is shown
    #[arg(long)]
    pub yes: bool,
    /// Remove these too: bucket, the state store if it was made here; image, images that were made here
    #[arg(long, value_name = "WHAT,…", value_delimiter = ',')]
    pub include: Vec<Include>,
}

/// What outlives a cluster unless it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Include {
    Bucket,
    Image,
}

impl ProvisionCommand {
    /// Which cluster it is about; None where it needs none.
    pub fn work(&self) -> Option<&WorkArgs> {
        Some(match self {
            Self::Ami(_) => return None,
            Self::Render(args) => &args.work,
            Self::Preflight(args) => &args.work,
            Self::StateBucket(args) => match &args.command {
                StateBucketCommand::Ensure(work) | StateBucketCommand::Check(work) => work,
            },
            Self::Plan(args) => &args.work,
            Self::Apply(args) | Self::Upgrade(args) => &args.work,
            Self::Validate(args) => &args.work,
            Self::Destroy(args) => &args.work,
            Self::Kubeconfig(args) | Self::Status(args) | Self::Env(args) => args,
        })
    }
}
