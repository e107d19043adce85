//! Holds what the manual says besides the flags: examples, variables, exit codes.
//!
//! Lines are at most 74 wide, so that neither clap nor man breaks them again.

pub(super) const SHORT: &str = "\
Try kops-mirror demo first: it needs no network and no account.
--help tells more than -h.";

pub(super) const WHOLE: &str = "\
Examples:
  Show how it works, on this machine alone:
    kops-mirror demo

  Mirror a release into a folder:
    kops-mirror sync --kubernetes v1.34.8 --kops 1.36.2

  Mirror it into a bucket in Beijing, with the credentials of a profile:
    kops-mirror sync --kubernetes v1.34.8 --kops 1.36.2 \\
      --to s3://my-mirror/k8s --region cn-north-1 --profile china

  See first what that would do, then check the bucket from its listing:
    kops-mirror plan --kubernetes v1.34.8 --kops 1.36.2 \\
      --to s3://my-mirror/k8s
    kops-mirror verify --to s3://my-mirror/k8s

Settings:
  A flag goes before an environment variable, a variable before the file.
  A variable is a setting's name in capitals: KOPS_MIRROR_SPOOL_DIR is
  spool.dir. Lists in variables have commas. config/mirror.toml shows
  every setting with the reason for its default.

Environment variables:
  KOPS_MIRROR_CONFIG    the configuration file, without --config
  KOPS_MIRROR_…         any setting
  AWS_PROFILE, AWS_…   credentials and region, as for every AWS tool
  AWS_ENDPOINT_URL_S3   an S3 server, when no setting names one
  XDG_CACHE_HOME, HOME  where the spool is by default
  NO_COLOR              no colours

Exit codes:
  0    all done
  1    some assets failed, or a target was away; the rest is there, the next
       run takes them up
  2    a mistake in the command or the settings, or a target of no use;
       nothing was transferred
  130  interrupted; the next run goes on from there";

pub(super) const SYNC: &str = "\
What is there already and right is left alone: a second run transfers
nothing. Ctrl-C stops at once, and the next run goes on in the middle of
each file. The release's index, releases/NAME.json, is written last: when
it is there, all of it is.

Examples:
  One architecture, into a bucket:
    kops-mirror sync --kubernetes v1.34.8 --kops 1.36.2 --arch amd64 \\
      --to s3://my-mirror/k8s --region cn-north-1

  What is newest today, into two places for one crossing:
    kops-mirror sync --kubernetes stable-1.34 --kops latest \\
      --to ./mirror --to s3://my-mirror/k8s

  Exactly what kops lists for a cluster, on a part of the line:
    kops get assets -o yaml > assets.yaml
    kops-mirror sync --assets assets.yaml --limit 20mbit

  From a neighbour first, then from the publisher:
    kops-mirror sync --kubernetes v1.34.8 --kops 1.36.2 \\
      --origin dl.k8s.io=http://10.0.0.5:8080 \\
      --origin dl.k8s.io=https://dl.k8s.io";

pub(super) const PLAN: &str = "\
Takes every flag that sync takes, asks the upstreams and the target, and
writes nothing.

Example:
  kops-mirror plan --kubernetes v1.34.8 --kops 1.36.2 \\
    --to s3://my-mirror/k8s -o json";

pub(super) const ASSETS: &str = "\
With -o json or yaml the list has the form of kops get assets, so that
the two can be compared.

Example:
  kops-mirror assets --kubernetes v1.34.8 --kops 1.36.2 \\
    --networking cilium -o yaml";

pub(super) const VERIFY: &str = "\
Each object is single-part, so its ETag in the listing is its MD5: a
whole bucket is checked for one request per 1,000 objects.

Examples:
  kops-mirror verify --to s3://my-mirror/k8s
  kops-mirror verify --deep --to ./mirror -o json

  The images of its releases too, by their digests in the index:
    kops-mirror verify --to s3://my-mirror/k8s \\
      --to-registry registry.example.cn/k8s";

pub(super) const REPAIR: &str = "\
Missing and wrong objects are fetched again. An object whose content is
right and whose ETag is not its MD5, because somebody uploaded it in
parts, is copied onto itself inside the bucket: nothing crosses the
border for it. With --to-registry or --to-layout, what is missing of the
releases' images comes back by the digests in their indexes.

Example:
  kops-mirror repair --to s3://my-mirror/k8s";

pub(super) const ENV: &str = "\
Examples:
  kops-mirror env --kubernetes v1.8.1 --kops 1.8.1 \\
    --to s3://my-mirror/k8s --region cn-north-1 --as variables
  kops-mirror env --kubernetes v1.34.8 --kops 1.36.2 \\
    --to s3://my-mirror/k8s --region cn-north-1 --as spec";

pub(super) const BENCH: &str = "\
Reads parts of a large file over 1, 2, 4, … connections up to
--connections and throws them away; into a bucket it puts objects of
noise below PREFIX/.bench and removes them again, after Ctrl-C too. Says
which settings are the best for this link, and how long the release
takes with them. Without a release it measures by kops 1.36.2 and
Kubernetes v1.34.8. A folder is no link: with one, origins alone are
measured. The exit code is 1 when an end could not be measured, or when
something could not be removed.

Examples:
  Every origin of a release, and the way to a bucket:
    kops-mirror bench --kubernetes v1.34.8 --kops 1.36.2 \\
      --to s3://my-mirror/k8s --region cn-north-1 --svg link.svg

  One file, with less than it would cost to fetch it:
    kops-mirror bench --url https://dl.k8s.io/v1.34.8/kubernetes.tar.gz \\
      --budget 16MiB

  The store alone, more patiently:
    kops-mirror bench --only store --to s3://my-mirror/k8s \\
      --seconds 20 --connections 128 -o json";

pub(super) const BUCKET_POLICY: &str = "\
Nodes and kops read the mirror without credentials. New buckets refuse
ACLs, so a policy must let them in; the narrowest that serves is a VPC
endpoint. Nothing is changed: the policy is printed, for you to apply.

Examples:
  kops-mirror bucket-policy --to s3://my-mirror/k8s \\
    --region cn-north-1 --vpc-endpoint vpce-0123456789abcdef0
  kops-mirror bucket-policy --to s3://my-mirror/k8s \\
    --region cn-north-1 --source-ip 203.0.113.0/24";

pub(super) const COMPLETIONS: &str = "\
Example:
  kops-mirror completions bash > /etc/bash_completion.d/kops-mirror";

pub(super) const DAEMON: &str = "\
What it follows stands in the settings, as sets: [sets.NAME]. Without one,
it follows what --kubernetes and --kops would say in them. It listens on
loopback; the page is at http://127.0.0.1:8430/.

SIGTERM lets files under way end for a while (service.drain), a second one
does not. SIGHUP reads the settings again; bad ones are told and refused.
What it knows is in the targets: its history can be lost.

Examples:
  Follow what the file says:
    kops-mirror daemon --config /etc/kops-mirror/mirror.toml

  See how it is doing:
    kops-mirror status";

pub(super) const PRUNE: &str = "\
Without --delete nothing is changed. With it, what is not kept is marked
first, and deleted by the first run after the time of grace: until then a
rule that keeps it again is enough. Nothing goes that a kept release
shares, that no index names, or that somebody else has written.

Examples:
  What would go if the newest four minor versions were kept?
    kops-mirror prune --to s3://my-mirror/k8s --keep 'latest 4 minors'

  By the rules of a set:
    kops-mirror prune --set production --delete";

pub(super) const AMI: &str = "\
kops' own default image does not exist in China, so an image is found
there by its publisher's account, copied from elsewhere, or built. An image
crosses between partitions with two profiles, one of an account on each
side. What is made carries the tag kops-mirror/made-by; a copy that broke
off is taken up by the same command.

Examples:
  Ubuntu in Beijing, by Canonical's account there:
    kops-mirror provision ami resolve --region cn-north-1 \\
      --profile china --distribution ubuntu-24.04

  An image from Virginia, through two private buckets:
    kops-mirror provision ami copy --region cn-north-1 --profile china \\
      --source ami-0123456789abcdef0 --from-region us-east-1 \\
      --from-profile global --from-bucket ami-out --to-bucket ami-in

  An image of one's own, built in a private subnet:
    kops-mirror provision ami build --region cn-north-1 --profile china \\
      --base ami-0123456789abcdef0 --name hardened --script harden.sh \\
      --subnet subnet-0123456789abcdef0

  What is left of copies and builds that failed?
    kops-mirror provision ami gc --region cn-north-1 --profile china";
