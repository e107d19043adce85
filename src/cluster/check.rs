//! Whether what the file wants fits together, as far as the file alone tells. Everything that is wrong is said at once.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use super::era::{Dns, Mirrors};
use super::file::{
    API_VERSION, ApiKind, BuildEngine, ClusterFile, CopyEngine, Image, SubnetRole, TargetKind,
    Topology,
};
use super::subnets::Cidr;
use super::{manifest, mirrors};
use crate::catalogue::Catalogue;
use crate::layout::Layout;
use crate::partition::Partition;

/// Something in the file that can't be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which field: `controlPlane.count`.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

/// What is being found.
struct Problems(Vec<Problem>);

impl Problems {
    fn unless(&mut self, is_right: bool, field: &str, what: impl FnOnce() -> String) {
        if !is_right {
            self.0.push(Problem {
                field: field.to_owned(),
                what: what(),
            });
        }
    }
}

/// Everything that is wrong with the file.
pub(super) fn problems(file: &ClusterFile) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    names(file, &mut problems);
    versions(file, &mut problems);
    zones(file, &mut problems);
    control_plane(file, &mut problems);
    nodes(file, &mut problems);
    bastion(file, &mut problems);
    api(file, &mut problems);
    subnets(file, &mut problems);
    image(&file.image, &file.region, &mut problems);
    registry(file, &mut problems);
    options(file, &mut problems);
    let terraform = file.target.kind == TargetKind::Terraform;
    problems.unless(
        !terraform || file.target.folder.is_some(),
        "target.folder",
        || "terraform's files need a folder".to_owned(),
    );
    problems.unless(!file.era().needs_ssh_key() || file.ssh.public_key.is_some(), "ssh.publicKey", || {
        format!("kops {} makes no hosts without a key to log in with: name the file of a public key", file.kops_version)
    });
    problems.0
}

fn names(file: &ClusterFile, problems: &mut Problems) {
    problems.unless(file.api_version == API_VERSION, "apiVersion", || {
        format!("this program reads {API_VERSION}")
    });
    let is_label = |label: &str| {
        let is_inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(is_inner)
    };
    let is_name =
        file.name.len() <= 63 && file.name.contains('.') && file.name.split('.').all(is_label);
    problems.unless(is_name, "name", || {
        "give a DNS name of at most 63 characters, such as prod.k8s.local".to_owned()
    });
    let region = &file.region;
    let is_region = region.split('-').count() >= 3 && is_label(region);
    problems.unless(is_region, "region", || {
        format!("'{}' is not an AWS region", region.escape_debug())
    });
    let bucket = &file.state_store.bucket;
    problems.unless(
        (3..=63).contains(&bucket.len()) && bucket.split('.').all(is_label),
        "stateStore.bucket",
        || "give the bare name of a bucket, without s3://".to_owned(),
    );
}

fn versions(file: &ClusterFile, problems: &mut Problems) {
    let (kops, kubernetes) = (&file.kops_version, &file.kubernetes_version);
    problems.unless(
        kops.major == 1 && file.era().is_known(),
        "kopsVersion",
        || "manifests are rendered for kops 1.8 to 1.37".to_owned(),
    );
    problems.unless(
        Catalogue::builtin().supports(kops, kubernetes),
        "kubernetesVersion",
        || format!("kops {kops} does not take Kubernetes {kubernetes}"),
    );
    let is_zone = file.era().dns(&file.name) == Dns::Zone;
    problems.unless(!is_zone || !file.region.starts_with("cn-"), "name", || {
        format!(
            "kops {kops} would look for a zone of Route 53, which it can't use in China: let the name end in .k8s.local"
        )
    });
    problems.unless(
        file.layout() == Layout::Offline || kops.minor >= 9,
        "mirror.mode",
        || format!("kops {kops} ignores spec.assets: use base-url"),
    );
    let name = manifest::networking_name(file);
    let is_taken = Catalogue::builtin().takes_networking(kops, name);
    problems.unless(
        is_taken && manifest::is_known_networking(file),
        "networking",
        || format!("kops {kops} has no networking of that name"),
    );
}

fn zones(file: &ClusterFile, problems: &mut Problems) {
    for zone in file.zones() {
        let letter = zone.strip_prefix(&file.region);
        let is_in = letter
            .is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_lowercase()));
        problems.unless(is_in, "zones", || {
            format!("'{}' is no zone of {}", zone.escape_debug(), file.region)
        });
    }
}

fn control_plane(file: &ClusterFile, problems: &mut Problems) {
    let zones = &file.control_plane.zones;
    problems.unless(!zones.is_empty(), "controlPlane.zones", || {
        "give at least one".to_owned()
    });
    let distinct: BTreeSet<_> = zones.iter().collect();
    problems.unless(distinct.len() == zones.len(), "controlPlane.zones", || {
        "a zone is named twice".to_owned()
    });
    if let Some(count) = file.control_plane.count {
        problems.unless(count % 2 == 1, "controlPlane.count", || {
            format!(
                "{count} is not an odd number: an even one survives no more losses than one less"
            )
        });
        problems.unless(count as usize >= zones.len(), "controlPlane.count", || {
            format!("{count} members can't stand in {} zones", zones.len())
        });
    }
}

fn nodes(file: &ClusterFile, problems: &mut Problems) {
    let members = file.spread().names(file.era().control_plane());
    let mut taken: HashSet<&str> = members.iter().map(String::as_str).collect();
    taken.extend(file.bastion.as_ref().map(|_| manifest::BASTIONS));
    for group in &file.nodes {
        problems.unless(taken.insert(&group.name), "nodes.name", || {
            format!("there are two groups called '{}'", group.name)
        });
        problems.unless(
            group.max.is_none_or(|max| max >= group.min),
            "nodes.max",
            || format!("'{}' has a maximum below its minimum", group.name),
        );
    }
    problems.unless(!file.nodes.is_empty(), "nodes", || {
        "give at least one group: without nodes nothing runs".to_owned()
    });
}

fn bastion(file: &ClusterFile, problems: &mut Problems) {
    if file.bastion.is_none() {
        return;
    }
    problems.unless(file.topology == Topology::Private, "bastion", || {
        "kops has one in private topology only: public hosts are logged in to by themselves"
            .to_owned()
    });
    problems.unless(!file.ssh.access.is_empty(), "ssh.access", || {
        "nobody may log in to the bastion: name the addresses of who may".to_owned()
    });
    problems.unless(file.ssh.public_key.is_some(), "ssh.publicKey", || {
        "nobody has a key for the bastion: name the file of a public key".to_owned()
    });
}

/// kops refuses it since 1.25 (`validateClusterSpec`, commit d893c95059); before, it makes a load balancer that no subnet is left for.
fn api(file: &ClusterFile, problems: &mut Problems) {
    let has_no_subnet = file.topology == Topology::Public && file.api.kind == ApiKind::Internal;
    let is_overridden = |field: &str| file.overrides.cluster_field(field).is_some();
    let is_overridden = is_overridden("api") || is_overridden("subnets");
    problems.unless(!has_no_subnet || is_overridden, "api.type", || {
        "an internal load balancer stands in private subnets, and public topology has none: set topology: private, or api.type: public"
            .to_owned()
    });
}

fn subnets(file: &ClusterFile, problems: &mut Problems) {
    let zones = file.zones();
    let network = file.network.cidr.as_deref().map(str::parse::<Cidr>);
    problems.unless(!matches!(network, Some(Err(_))), "network.cidr", || {
        "give a range of addresses such as 10.0.0.0/16".to_owned()
    });
    let network = network.and_then(Result::ok);
    let mut seen = HashSet::new();
    for subnet in &file.network.subnets {
        let role = file.role_of(subnet);
        problems.unless(zones.contains(&subnet.zone), "network.subnets.zone", || {
            format!("no hosts are in '{}'", subnet.zone)
        });
        problems.unless(seen.insert((&subnet.zone, role)), "network.subnets", || {
            format!("{} has two subnets for the same", subnet.zone)
        });
        problems.unless(
            subnet.id.is_none() || file.network.vpc.is_some(),
            "network.vpc",
            || "an existing subnet needs the VPC that it is in".to_owned(),
        );
        let fits = match file.topology {
            Topology::Private => role != SubnetRole::Public,
            Topology::Public => role == SubnetRole::Public,
        };
        problems.unless(fits, "network.subnets.role", || {
            "private topology has private and utility subnets, public topology public ones"
                .to_owned()
        });
        let Some(cidr) = &subnet.cidr else { continue };
        let is_within = match (cidr.parse::<Cidr>(), network) {
            (Ok(cidr), Some(network)) => network.contains(cidr),
            (cidr, None) => cidr.is_ok(),
            (Err(_), _) => false,
        };
        problems.unless(is_within, "network.subnets.cidr", || {
            format!(
                "'{}' is not a range of addresses within the network's",
                cidr.escape_debug()
            )
        });
    }
}

fn image(image: &Image, region: &str, problems: &mut Problems) {
    let ways = [
        image.used.is_some(),
        image.resolve.is_some(),
        image.copy.is_some(),
        image.build.is_some(),
    ];
    let count = ways.into_iter().filter(|is_given| *is_given).count();
    problems.unless(count == 1, "image", || {
        "say exactly one of use, resolve, copy and build: kops' own default does not exist in China".to_owned()
    });
    if let Some(query) = &image.resolve {
        let is_known = query.distribution.is_some()
            || query.ssm.is_some()
            || (query.owner.is_some() && query.name.is_some());
        problems.unless(is_known, "image.resolve", || {
            "give a distribution, a parameter of SSM, or an owner and a name".to_owned()
        });
    }
    if let Some(copy) = &image.copy {
        problems.unless(copy.source.starts_with("ami-"), "image.copy.source", || {
            "give the id of an image: ami-…".to_owned()
        });
        // Within a partition it is CopyImage, whatever the engine.
        let crosses = Partition::of_region(&copy.from_region) != Partition::of_region(region);
        let has_buckets = copy.from_bucket.is_some() && copy.to_bucket.is_some();
        problems.unless(
            !crosses || copy.engine != CopyEngine::StoreRestore || has_buckets,
            "image.copy.fromBucket",
            || {
                "store-restore needs private buckets at both ends: fromBucket and toBucket"
                    .to_owned()
            },
        );
    }
    if let Some(build) = &image.build {
        let is_external = build.engine == BuildEngine::Imagebuilder;
        problems.unless(
            !is_external || build.imagebuilder.is_some(),
            "image.build.imagebuilder",
            || "name the external program".to_owned(),
        );
        problems.unless(
            is_external || build.script.is_some(),
            "image.build.script",
            || "name the script that makes the image what it is".to_owned(),
        );
    }
}

fn registry(file: &ClusterFile, problems: &mut Problems) {
    let registry = &file.registry;
    let both = registry.container_registry.is_some() && registry.container_proxy.is_some();
    problems.unless(!both, "registry", || {
        "kops takes containerRegistry or containerProxy, not both".to_owned()
    });
    let is_docker = file.era().mirrors(&file.kubernetes_version) == Mirrors::Docker;
    for (host, urls) in &registry.mirrors {
        problems.unless(
            !is_docker || host == "docker.io",
            "registry.mirrors",
            || format!("hosts with docker have mirrors for docker.io only, not for '{host}'"),
        );
        for url in urls {
            if let Some(dead) = mirrors::dead(url) {
                problems.unless(false, "registry.mirrors", || {
                    format!("{url} is no mirror any more: {dead}")
                });
            }
        }
    }
}

fn options(file: &ClusterFile, problems: &mut Problems) {
    let has_cert_manager = file.has_cert_manager();
    for option in &file.options {
        let is_right = has_cert_manager || !file.era().needs_cert_manager(*option);
        problems.unless(is_right, "options", || {
            let kops = &file.kops_version;
            format!(
                "kops {kops} takes {option} beside cert-manager only: add cert-manager, or where it is your own, 'certManager: {{enabled: true, managed: false}}' under overrides.cluster"
            )
        });
    }
}
