//! Finds out what is so, all of it at once. What can't be found out is said, and stops nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt;
use futures::future::{OptionFuture, join_all};
use jiff::Timestamp;
use semver::Version;
use url::Url;

use super::facts::{Facts, HostImage, Kept, Known, Network, Registry, StateBucket};
use super::reading::Reader;
use super::zones::machine_types;
use super::{Asked, Told, usage};
use crate::ami::{self, AmiError};
use crate::asset::{Arch, Key};
use crate::audit::Audit;
use crate::cloud::{
    CLUSTER_TAG, Cloud, CloudError, Filter, Identity, Image, Images, Offering, Tagged,
};
use crate::cluster::{ClusterFile, Image as Source};
use crate::events::told;
use crate::image::Reference;
use crate::images;
use crate::images::shelf::Shelf;
use crate::kops::{Kops, KopsOptions};
use crate::lease;
use crate::partition::Partition;
use crate::store::Store;
use crate::store::bucket_policy::{Audience, audience};
use crate::store::s3::Bucket;

/// The checks that look into the mirror.
pub const MIRROR_CHECKS: [u8; 2] = [6, 14];

/// What is asked.
#[derive(Debug)]
pub struct Surroundings {
    pub cloud: Cloud,
    /// The account that an image is copied from.
    pub source: Option<Cloud>,
    pub state_bucket: Bucket,
    /// What kops keeps of the cluster there, and what is kept beside it.
    pub state: Arc<dyn Store>,
    pub kept: Arc<dyn Store>,
    /// Whether the journal on this machine says that kops was given the cluster from here.
    pub is_journaled: bool,
    /// The mirror against its indexes, or why that is not known; None where no check of [`MIRROR_CHECKS`] is asked for.
    pub audit: Option<Known<Arc<Audit>>>,
    /// Where nodes read the bucket itself, with the prefix.
    pub mirror_bucket: Option<(Bucket, String)>,
    /// None where images come from their own registries.
    pub shelf: Option<Arc<dyn Shelf>>,
    pub kops: Option<KopsOptions>,
}

/// Finds out what the checks that are asked for go by.
pub(super) async fn facts(
    file: &ClusterFile,
    told: &Told,
    at: &Surroundings,
    asked: &Asked,
) -> Facts {
    let (cloud, none) = (&at.cloud, Facts::unasked());
    let types = machine_types(file);
    let account = async {
        futures::join!(
            when(asked.any(&[1, 11]), identity(cloud)),
            when(
                asked.any(&[2, 11]),
                OptionFuture::from(at.source.as_ref().map(identity))
            ),
            when(asked.any(&[20]), async {
                cloud.clock_skew().await.map_err(|error| self::told(&error))
            }),
            when(asked.any(&[3, 4]), async {
                cloud.zones().await.map_err(|error| self::told(&error))
            }),
            when(asked.any(&[12]), offerings(cloud, &types)),
            when(asked.any(&[11, 13]), async {
                cloud
                    .instance_types(&types)
                    .await
                    .map_err(|error| self::told(&error))
            }),
            when(asked.any(&[13]), usage::allowances(cloud, file)),
            when(asked.any(&[9, 10]), network(cloud, file)),
            when(
                asked.any(&[11]),
                host_images(cloud, at.source.as_ref(), file)
            ),
        )
    };
    let others = async {
        futures::join!(
            when(asked.any(&[5, 19, 20]), state(file, at)),
            when(asked.any(&[6, 7]), readers(at)),
            OptionFuture::from(
                at.audit
                    .clone()
                    .map(|audit| mirror(file, told, at, asked, audit))
            ),
            when(asked.any(&[16]), registry_mirrors(&told.registry_mirrors)),
            when(asked.any(&[19]), kops(at.kops.as_ref())),
            when(asked.any(&[20]), tagged(cloud, &file.name)),
        )
    };
    let (account, others) = futures::join!(account, others);
    let (identity, source, clock, zones, offerings, types, quotas, network, images) = account;
    let (state, audience, mirror, registry_mirrors, kops, tagged) = others;
    let (state_bucket, kept, holder) = state.unwrap_or((none.state_bucket, none.kept, none.holder));
    let (mirror, reads, registry) = mirror.unwrap_or((none.mirror, none.reads, None));
    Facts {
        identity: identity.unwrap_or(none.identity),
        source: source.flatten(),
        clock: clock.unwrap_or(none.clock),
        zones: zones.unwrap_or(none.zones),
        state_bucket,
        mirror,
        reads,
        audience: audience.unwrap_or(none.audience),
        network: network.unwrap_or(none.network),
        images: images.unwrap_or_default(),
        offerings: offerings.unwrap_or(none.offerings),
        types: types.unwrap_or(none.types),
        quotas: quotas.unwrap_or_default(),
        registry,
        registry_mirrors: registry_mirrors.unwrap_or_default(),
        kops: kops.unwrap_or(none.kops),
        kept,
        holder,
        tagged: tagged.unwrap_or(none.tagged),
    }
}

/// Asks only what some check goes by.
async fn when<T>(is_asked: bool, asking: impl Future<Output = T>) -> Option<T> {
    match is_asked {
        true => Some(asking.await),
        false => None,
    }
}

/// Where these types are offered. A region that lists none at all has no such list: an emulator's.
async fn offerings(cloud: &Cloud, types: &[&str]) -> Known<Vec<Offering>> {
    let listed = |error: CloudError| self::told(&error);
    let offered = cloud.offerings(types).await.map_err(listed)?;
    if offered.is_empty() && cloud.offerings(&[]).await.map_err(listed)?.is_empty() {
        return Err("the region lists no types of machines at all".to_owned());
    }
    Ok(offered)
}

async fn identity(cloud: &Cloud) -> Known<Identity> {
    cloud.identity().await.map_err(|error| told(&error))
}

/// The VPC that the file names, with all that is in it.
async fn network(cloud: &Cloud, file: &ClusterFile) -> Known<Option<Network>> {
    let Some(vpc) = &file.network.vpc else {
        return Ok(None);
    };
    let within = [Filter::new("vpc-id", vpc)];
    let asked = futures::try_join!(
        cloud.vpcs(&within),
        cloud.subnets(&within),
        cloud.route_tables(&within),
        cloud.vpc_endpoints(&within),
    );
    let (vpcs, subnets, route_tables, endpoints) = asked.map_err(|error| told(&error))?;
    let vpc = vpcs.into_iter().find(|found| found.vpc_id == *vpc);
    let dns = match &vpc {
        Some(vpc) => cloud
            .vpc_dns(&vpc.vpc_id)
            .await
            .map_err(|error| told(&error))?,
        None => (false, false),
    };
    Ok(Some(Network {
        vpc,
        dns,
        subnets,
        route_tables,
        endpoints,
    }))
}

/// The image of each kind of host, each asked for once.
async fn host_images(cloud: &Cloud, source: Option<&Cloud>, file: &ClusterFile) -> Vec<HostImage> {
    let own = |image: &Option<String>| {
        image.as_ref().map(|image| Source {
            used: Some(image.clone()),
            ..Source::default()
        })
    };
    let of_control_plane = own(&file.control_plane.image);
    let mut wanted = vec![(
        "the control plane".to_owned(),
        file.control_plane.arch(),
        of_control_plane,
    )];
    wanted.extend(
        file.nodes
            .iter()
            .map(|group| (group.name.clone(), group.arch(), own(&group.image))),
    );
    wanted.extend(file.bastion.iter().map(|bastion| {
        (
            "the bastion".to_owned(),
            bastion.arch(),
            own(&bastion.image),
        )
    }));
    let asking = wanted.into_iter().map(|(whose, arch, own)| async move {
        let image = own.as_ref().unwrap_or(&file.image);
        host_image(cloud, source, image, whose, arch).await
    });
    join_all(asking).await
}

async fn host_image(
    cloud: &Cloud,
    source: Option<&Cloud>,
    wanted: &Source,
    whose: String,
    arch: Arch,
) -> HostImage {
    let is_to_be_made = wanted.copy.is_some() || wanted.build.is_some();
    let region = wanted.copy.as_ref().map(|copy| copy.from_region.as_str());
    let region = region.unwrap_or(cloud.region()).to_owned();
    let (asked, image) = if let Some(query) = &wanted.resolve {
        let asked = query
            .distribution
            .clone()
            .or(query.name.clone())
            .or(query.ssm.clone());
        let image = match ami::resolve(cloud, query, arch).await {
            Ok(resolved) => Ok(Ok(resolved.image)),
            Err(error @ (AmiError::None { .. } | AmiError::Refused(_))) => Ok(Err(told(&error))),
            Err(error) => Err(told(&error)),
        };
        (asked.unwrap_or_default(), image)
    } else if let Some(copy) = &wanted.copy {
        (
            copy.source.clone(),
            named(source.unwrap_or(cloud), &copy.source).await,
        )
    } else if let Some(build) = &wanted.build {
        (build.base.clone(), named(cloud, &build.base).await)
    } else {
        let asked = wanted.used.clone().unwrap_or_default();
        let image = named(cloud, &asked).await;
        (asked, image)
    };
    HostImage {
        whose,
        arch,
        asked,
        is_to_be_made,
        region,
        image,
    }
}

/// An image by its id, or as `OWNER/NAME`.
async fn named(cloud: &Cloud, name: &str) -> Known<Result<Image, String>> {
    let missing = || format!("there is no image {name} in {}", cloud.region());
    let found = match name.split_once('/') {
        _ if name.starts_with("ami-") => cloud.image(name).await,
        Some((owner, name)) => {
            let which = Images {
                owners: vec![owner.to_owned()],
                filters: vec![Filter::new("name", name)],
                ..Images::default()
            };
            cloud
                .images(&which)
                .await
                .map(|found| found.into_iter().next())
        }
        None => {
            return Ok(Err(format!(
                "'{}' names no image: give ami-… or OWNER/NAME",
                name.escape_debug()
            )));
        }
    };
    let found = found.map_err(|error| told(&error))?;
    Ok(found.ok_or_else(missing))
}

type StateFacts = (
    Known<Option<StateBucket>>,
    Known<Option<Kept>>,
    Known<Option<String>>,
);

async fn state(file: &ClusterFile, at: &Surroundings) -> StateFacts {
    let bucket = state_bucket(file, &at.state_bucket).await;
    match &bucket {
        Ok(Some(_)) => {
            let (kept, holder) = futures::join!(kept(at), holder(at));
            (bucket, kept, holder)
        }
        Ok(None) => (bucket, Ok(None), Ok(None)),
        Err(why) => {
            let unknown = format!("the state store can't be looked into: {why}");
            (bucket, Err(unknown.clone()), Err(unknown))
        }
    }
}

async fn state_bucket(file: &ClusterFile, bucket: &Bucket) -> Known<Option<StateBucket>> {
    if !bucket.is_there().await.map_err(|error| told(&error))? {
        return Ok(None);
    }
    let settings = bucket.settings().await.map_err(|error| told(&error))?;
    let partition = Partition::of_region(&file.region);
    let lacks = settings.lacks(
        partition,
        bucket.name(),
        file.state_store.kms_key.as_deref(),
    );
    Ok(Some(StateBucket { settings, lacks }))
}

async fn kept(at: &Surroundings) -> Known<Option<Kept>> {
    let Some(config) = text(&at.state, "config").await? else {
        return Ok(None);
    };
    let version = text(&at.state, "kops-version.txt").await?;
    let cluster: serde_yaml_ng::Value = serde_yaml_ng::from_str(&config).unwrap_or_default();
    let kubernetes = cluster["spec"]["kubernetesVersion"].as_str();
    let journal = text(&at.kept, "state.json").await?;
    let journal: serde_json::Value = journal
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let is_ours = at.is_journaled || journal["steps"]["config"].is_object();
    Ok(Some(Kept {
        kops: version.as_deref().and_then(parsed),
        kubernetes: kubernetes.and_then(parsed),
        is_ours,
    }))
}

/// A version, alone or at the end of an address.
fn parsed(text: &str) -> Option<Version> {
    let last = text.trim().trim_end_matches('/').rsplit('/').next()?;
    Version::parse(last.trim_start_matches('v')).ok()
}

async fn text(store: &Arc<dyn Store>, name: &str) -> Known<Option<String>> {
    let key: Key = name.parse().expect("a file's name is a key");
    let reading = async {
        let Some(content) = store.open(&key).await? else {
            return Ok(None);
        };
        let chunks: Vec<_> = content.chunks.try_collect().await?;
        Ok(Some(String::from_utf8_lossy(&chunks.concat()).into_owned()))
    };
    reading
        .await
        .map_err(|error: crate::store::StoreError| told(&error))
}

async fn holder(at: &Surroundings) -> Known<Option<String>> {
    let held = lease::holder(&at.kept, lease::Name::Whole, Timestamp::now()).await;
    let held = held.map_err(|error| told(&error))?;
    Ok(held.map(|(owner, until)| format!("{owner}, until {until} if nobody renews that")))
}

/// Who may read the mirror, where it is read as the bucket that it is.
async fn readers(at: &Surroundings) -> Known<Option<Audience>> {
    let Some((bucket, prefix)) = &at.mirror_bucket else {
        return Ok(None);
    };
    let policy = bucket.policy().await.map_err(|error| told(&error))?;
    match policy {
        Some(policy) => audience(&policy, prefix)
            .map(Some)
            .map_err(|error| told(&error)),
        None => Ok(Some(Audience::Nobody)),
    }
}

type MirrorFacts = (
    Known<Arc<Audit>>,
    Known<Vec<super::facts::Read>>,
    Option<Known<Registry>>,
);

async fn mirror(
    file: &ClusterFile,
    told: &Told,
    at: &Surroundings,
    asked: &Asked,
    audit: Known<Arc<Audit>>,
) -> MirrorFacts {
    let indexes = audit
        .as_ref()
        .map(|audit| audit.indexes())
        .unwrap_or_default();
    let reading = async {
        let reader = Reader::new()?;
        reader
            .first(file, &told.base_url, &told.channel, indexes)
            .await
    };
    let comparing = async {
        let shelf = at.shelf.as_ref()?;
        Some(registry(file, shelf, &audit).await)
    };
    let (reads, registry) = futures::join!(
        when(asked.any(&[6]), reading),
        when(asked.any(&[14]), comparing)
    );
    (
        audit,
        reads.unwrap_or_else(|| Facts::unasked().reads),
        registry.flatten(),
    )
}

/// The registry, held against what the mirror's indexes say of this cluster's images.
async fn registry(
    file: &ClusterFile,
    shelf: &Arc<dyn Shelf>,
    audit: &Known<Arc<Audit>>,
) -> Known<Registry> {
    let audit = audit.as_ref().map_err(Clone::clone)?;
    let names = file.images().map_err(|error| told(&error))?;
    let wanted: Result<BTreeSet<Reference>, _> = names.iter().map(|name| name.parse()).collect();
    let wanted = wanted.map_err(|error| told(&error))?;
    let mut named = images::audit::named(audit.indexes());
    named.retain(|image, digests| {
        // Hosts pull what is newest under a tag.
        let newest = digests.pop();
        digests.clear();
        digests.extend(newest);
        wanted.contains(image)
    });
    let unnamed = wanted.iter().filter(|image| !named.contains_key(image));
    let unnamed = unnamed.map(ToString::to_string).collect();
    let audit = images::audit::audit(shelf, &named, false).await;
    let audit = audit.map_err(|error| told(&error))?;
    Ok(Registry { audit, unnamed })
}

async fn registry_mirrors(urls: &[String]) -> BTreeMap<String, Known<u16>> {
    let reader = Reader::new();
    let reader = &reader;
    let asking = urls.iter().map(|url| async move {
        let status = match reader {
            Ok(reader) => reader.registry(url).await,
            Err(why) => Err(why.clone()),
        };
        (url.clone(), status)
    });
    join_all(asking).await.into_iter().collect()
}

async fn kops(options: Option<&KopsOptions>) -> Known<Option<Version>> {
    let Some(options) = options else {
        return Ok(None);
    };
    let kops = Kops::new(options.clone()).await;
    kops.map(|_| Some(options.version.clone()))
        .map_err(|error| told(&error))
}

/// What bears the cluster's name and is there: EC2 tells of the tags of instances and gateways for an hour after their end.
async fn tagged(cloud: &Cloud, cluster: &str) -> Known<Vec<Tagged>> {
    let by_tag = [
        Filter::new("key", CLUSTER_TAG),
        Filter::new("value", cluster),
    ];
    let own = Filter::tag(CLUSTER_TAG, cluster);
    let asked = futures::try_join!(cloud.tags(&by_tag), cloud.living(vec![own.clone()]));
    let (tagged, alive) = asked.map_err(|error| told(&error))?;
    let instances = alive.into_iter().map(|instance| instance.instance_id);
    let mut there = BTreeMap::from([("i".to_owned(), Some(instances.collect()))]);
    for one in &tagged {
        if !there.contains_key(one.kind()) {
            let carriers = cloud.carriers(one.kind(), &own).await;
            // What may not be listed is taken for there.
            let carriers = carriers.ok().flatten();
            there.insert(one.kind().to_owned(), carriers);
        }
    }
    let is_there = |one: &Tagged| {
        let ids: Option<&BTreeSet<String>> = there[one.kind()].as_ref();
        ids.is_none_or(|ids| ids.contains(&one.resource_id))
    };
    Ok(tagged.into_iter().filter(is_there).collect())
}

/// Whether nodes read this bucket itself at an address, or something that stands before it.
pub fn is_of_bucket(url: &Url, bucket: &str) -> bool {
    let is_aws = url.host_str().is_some_and(|host| {
        host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
    });
    is_aws
        && (url
            .host_str()
            .is_some_and(|host| host.starts_with(&format!("{bucket}.")))
            || url.path().split('/').nth(1) == Some(bucket))
}
