//! Finds an image: by a parameter of its publisher's where there is one, else by owner and name, the newest that is available.
//!
//! Ids differ by region and serials lag in China, so nothing is assumed to exist. What comes out is pinned as `OWNER/NAME`, which is
//! the same text in both regions there.

use crate::asset::Arch;
use crate::cloud::{Cloud, Filter, Image, ImageState, Images};
use crate::cluster::ImageQuery;
use crate::partition::Partition;
use crate::retry::Class;

use super::failure::AmiError;

/// Canonical's accounts (ubuntu-cloud-docs, "Find Ubuntu images on AWS").
const CANONICAL: &str = "099720109477";
const CANONICAL_CHINA: &str = "837727238323";
const CANONICAL_GOV: &str = "513442679011";

/// An image that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub image: Image,
    /// `OWNER/NAME`
    pub pinned: String,
    pub how: How,
}

/// By what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// This parameter has its id.
    Parameter(String),
    /// It is the newest of these.
    Listed { owner: String, name: String },
}

/// Where a query may find its image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ways {
    parameter: Option<String>,
    listed: Option<(String, String)>,
}

/// Finds the image that a query asks for, for instances with these processors.
pub async fn resolve(cloud: &Cloud, query: &ImageQuery, arch: Arch) -> Result<Resolved, AmiError> {
    let ways = ways(query, arch, cloud.partition())?;
    if let Some(parameter) = &ways.parameter {
        match by_parameter(cloud, parameter, arch).await {
            Ok(image) => return Ok(resolved(image, How::Parameter(parameter.clone()))),
            // Nothing proves that publishers fill these in China, and a role may lack the right.
            Err(error) if ways.listed.is_some() && error.class() != Class::Transient => {
                tracing::info!("looking for the image by its name: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    let Some((owner, name)) = ways.listed else {
        let wanted = "meant".to_owned();
        let why = "give a distribution, a parameter of SSM, or an owner and a name".to_owned();
        return Err(AmiError::None {
            region: cloud.region().to_owned(),
            wanted,
            why,
        });
    };
    let image = by_name(cloud, &owner, &name, arch).await?;
    Ok(resolved(image, How::Listed { owner, name }))
}

/// Finds the image that a text names as kops takes it: `ami-…`, `OWNER/NAME`, `ssm:PARAMETER`, or the name of one's own.
pub async fn named(cloud: &Cloud, text: &str, arch: Arch) -> Result<Image, AmiError> {
    if text.starts_with("ami-") {
        return by_id(cloud, text, arch).await;
    }
    if let Some(parameter) = text.strip_prefix("ssm:") {
        return by_parameter(cloud, parameter, arch).await;
    }
    let Some((owner, name)) = text.split_once('/') else {
        return by_name(cloud, "self", text, arch).await;
    };
    let is_owner = owner.len() == 12 && owner.bytes().all(|byte| byte.is_ascii_digit());
    if !is_owner && !matches!(owner, "self" | "amazon" | "aws-marketplace") {
        let what = format!(
            "'{}' is no owner of images that both kops and EC2 know in {}: give the account's number, as in {}/{name}",
            owner.escape_debug(),
            cloud.region(),
            canonical(cloud.partition()),
        );
        return Err(AmiError::Refused(what));
    }
    by_name(cloud, owner, name, arch).await
}

async fn by_id(cloud: &Cloud, id: &str, arch: Arch) -> Result<Image, AmiError> {
    let none = |why: String| AmiError::None {
        region: cloud.region().to_owned(),
        wanted: format!("called {id}"),
        why,
    };
    let image = cloud.image(id).await?;
    let who = cloud.settings().who();
    let image = image.ok_or_else(|| none(format!("{who} sees none")))?;
    match unfit(&image, arch) {
        None => Ok(image),
        Some(why) => Err(none(format!("it {why}"))),
    }
}

fn resolved(image: Image, how: How) -> Resolved {
    Resolved {
        pinned: image.pinned(),
        image,
        how,
    }
}

fn ways(query: &ImageQuery, arch: Arch, partition: Partition) -> Result<Ways, AmiError> {
    let mut ways = match query.distribution.as_deref() {
        Some(distribution) => of_distribution(distribution, arch, partition)?,
        None => Ways {
            parameter: None,
            listed: None,
        },
    };
    if let Some(parameter) = &query.ssm {
        ways.parameter = Some(parameter.clone());
    }
    if let Some(name) = &query.name {
        ways.listed = Some(by_owner(query.owner.as_deref(), name, partition)?);
        if query.ssm.is_none() {
            ways.parameter = None;
        }
    }
    Ok(ways)
}

fn of_distribution(distribution: &str, arch: Arch, partition: Partition) -> Result<Ways, AmiError> {
    let (release, codename, disk) = match distribution {
        "ubuntu-24.04" => ("24.04", "noble", "gp3"),
        "ubuntu-22.04" => ("22.04", "jammy", "gp2"),
        "ubuntu-20.04" => ("20.04", "focal", "gp2"),
        "amazon-linux-2023" => return Ok(amazon_linux(arch)),
        other => {
            let what = format!(
                "'{}' is no distribution that is known here: ubuntu-24.04, ubuntu-22.04, ubuntu-20.04, amazon-linux-2023; \
                 find others by an owner and a name",
                other.escape_debug()
            );
            return Err(AmiError::Refused(what));
        }
    };
    let family = match disk {
        "gp3" => "hvm-ssd-gp3",
        _ => "hvm-ssd",
    };
    let parameter = format!(
        "/aws/service/canonical/ubuntu/server/{release}/stable/current/{arch}/hvm/ebs-{disk}/ami-id"
    );
    let name = format!("ubuntu/images/{family}/ubuntu-{codename}-{release}-{arch}-server-*");
    Ok(Ways {
        parameter: Some(parameter),
        listed: Some((canonical(partition).to_owned(), name)),
    })
}

fn amazon_linux(arch: Arch) -> Ways {
    let arch = ec2_name(arch);
    Ways {
        parameter: Some(format!(
            "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{arch}"
        )),
        listed: Some(("amazon".to_owned(), format!("al2023-ami-2023.*-{arch}"))),
    }
}

/// Owner and pattern. A name may be as kops' channels have it, `099720109477/ubuntu/…`; an account of Canonical's in another partition
/// stands for the one here.
fn by_owner(
    owner: Option<&str>,
    name: &str,
    partition: Partition,
) -> Result<(String, String), AmiError> {
    let is_account =
        |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (owner, name) = match (owner, name.split_once('/')) {
        (Some(owner), _) => (owner, name),
        (None, Some((owner, name))) if is_account(owner) => (owner, name),
        (None, _) => {
            let what = format!(
                "whose image '{}' is stays open: give the owner, an account, self or amazon",
                name.escape_debug()
            );
            return Err(AmiError::Refused(what));
        }
    };
    let owner = match owner {
        CANONICAL | CANONICAL_CHINA | CANONICAL_GOV => canonical(partition),
        other => other,
    };
    Ok((owner.to_owned(), name.to_owned()))
}

fn canonical(partition: Partition) -> &'static str {
    match partition.id() {
        "aws-cn" => CANONICAL_CHINA,
        "aws-us-gov" => CANONICAL_GOV,
        _ => CANONICAL,
    }
}

async fn by_parameter(cloud: &Cloud, parameter: &str, arch: Arch) -> Result<Image, AmiError> {
    let none = |why: &str| AmiError::None {
        region: cloud.region().to_owned(),
        wanted: format!("named by the parameter {parameter}"),
        why: why.to_owned(),
    };
    let id = cloud.parameter(parameter).await?;
    let id = id.ok_or_else(|| none("SSM has no parameter of that name there"))?;
    if !id.starts_with("ami-") {
        return Err(none("what it has is no image's id"));
    }
    let image = cloud.image(&id).await?;
    let image = image.ok_or_else(|| none(&format!("there is no {id}")))?;
    match unfit(&image, arch) {
        None => Ok(image),
        Some(why) => Err(none(&format!("{id} {why}"))),
    }
}

async fn by_name(cloud: &Cloud, owner: &str, name: &str, arch: Arch) -> Result<Image, AmiError> {
    let asked = Images {
        owners: vec![owner.to_owned()],
        filters: vec![Filter::new("name", name)],
        ..Images::default()
    };
    let found = cloud.images(&asked).await?;
    let count = found.len();
    let reasons: Vec<_> = found
        .iter()
        .filter_map(|image| unfit(image, arch))
        .collect();
    let fitting = found
        .into_iter()
        .filter(|image| unfit(image, arch).is_none());
    // Serials at the end of names go with time.
    let newest =
        fitting.max_by(|a, b| (&a.creation_date, &a.name).cmp(&(&b.creation_date, &b.name)));
    newest.ok_or_else(|| AmiError::None {
        region: cloud.region().to_owned(),
        wanted: format!("called {name} and owned by {owner}, for {arch}"),
        why: match reasons.first() {
            None => "there is none of that name; copy one from elsewhere with kops-mirror provision ami copy".to_owned(),
            Some(first) => format!("of {count} there none is fit; the first {first}"),
        },
    })
}

/// Why instances with these processors can't start from it; None when they can.
pub fn unfit(image: &Image, arch: Arch) -> Option<String> {
    let architecture = image.architecture.as_deref().unwrap_or("unknown");
    if image.state != ImageState::Available {
        return Some(format!("is {}", image.state));
    }
    if architecture != ec2_name(arch) {
        return Some(format!("is for {architecture}"));
    }
    let is_old = image
        .virtualization_type
        .as_deref()
        .is_some_and(|kind| kind != "hvm");
    is_old.then(|| "is paravirtual".to_owned())
}

/// The processors as EC2 calls them.
fn ec2_name(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "x86_64",
        Arch::Arm64 => "arm64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn china() -> Partition {
        Partition::of_region("cn-north-1")
    }

    #[test]
    fn distributions_have_a_parameter_and_a_name_each() {
        let check = |distribution: &str, arch, parameter: &str, owner: &str, name: &str| {
            let ways = of_distribution(distribution, arch, china()).unwrap();
            assert_eq!(ways.parameter.as_deref(), Some(parameter));
            assert_eq!(ways.listed, Some((owner.to_owned(), name.to_owned())));
        };
        check(
            "ubuntu-24.04",
            Arch::Amd64,
            "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
            "837727238323",
            "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*",
        );
        check(
            "ubuntu-22.04",
            Arch::Arm64,
            "/aws/service/canonical/ubuntu/server/22.04/stable/current/arm64/hvm/ebs-gp2/ami-id",
            "837727238323",
            "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-arm64-server-*",
        );
        check(
            "amazon-linux-2023",
            Arch::Amd64,
            "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
            "amazon",
            "al2023-ami-2023.*-x86_64",
        );
        assert!(of_distribution("debian-12", Arch::Amd64, china()).is_err());
    }

    #[test]
    fn a_channel_s_name_is_translated_to_the_owner_of_the_partition() {
        let name =
            "099720109477/ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20250530";
        let owner = |partition| by_owner(None, name, partition).unwrap().0;
        assert_eq!(owner(china()), "837727238323");
        assert_eq!(owner(Partition::of_region("us-gov-west-1")), "513442679011");
        assert_eq!(owner(Partition::AWS), "099720109477");
        let (owner, name) = by_owner(Some("self"), "a/b", china()).unwrap();
        assert_eq!((owner.as_str(), name.as_str()), ("self", "a/b"));
        assert!(by_owner(None, "ubuntu/images/x", china()).is_err());
    }
}
