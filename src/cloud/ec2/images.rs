//! Images: looked at, made, copied, registered, taken away.

use std::fmt;

use serde::Deserialize;

use super::asking::Done;
use super::{Filter, Tag};
use crate::cloud::query::{Fields, items, text};
use crate::cloud::{Cloud, CloudError};

/// Which images are listed.
#[derive(Debug, Clone, Default)]
pub struct Images {
    pub ids: Vec<String>,
    /// Accounts, `self`, `amazon`; none for all.
    pub owners: Vec<String>,
    pub filters: Vec<Filter>,
}

/// An image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    pub image_id: String,
    #[serde(deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(deserialize_with = "text")]
    pub description: Option<String>,
    #[serde(rename = "imageOwnerId")]
    pub owner: String,
    #[serde(rename = "imageState")]
    pub state: ImageState,
    #[serde(deserialize_with = "text")]
    pub architecture: Option<String>,
    /// ISO 8601 in UTC, so that texts compare as times do.
    pub creation_date: String,
    #[serde(deserialize_with = "text")]
    pub root_device_name: Option<String>,
    /// `ebs` or `instance-store`
    pub root_device_type: String,
    #[serde(deserialize_with = "text")]
    pub virtualization_type: Option<String>,
    pub ena_support: Option<bool>,
    #[serde(deserialize_with = "text")]
    pub sriov_net_support: Option<String>,
    #[serde(deserialize_with = "text")]
    pub boot_mode: Option<String>,
    #[serde(deserialize_with = "text")]
    pub tpm_support: Option<String>,
    #[serde(deserialize_with = "text")]
    pub imds_support: Option<String>,
    pub is_public: bool,
    pub state_reason: Option<StateReason>,
    #[serde(rename = "blockDeviceMapping", deserialize_with = "items")]
    pub devices: Vec<BlockDevice>,
    #[serde(rename = "tagSet", deserialize_with = "items")]
    pub tags: Vec<Tag>,
}

/// How far an image is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageState {
    #[default]
    Pending,
    Available,
    Failed,
    Error,
    Invalid,
    Deregistered,
    Transient,
    Disabled,
}

/// Why an image is in its state.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StateReason {
    #[serde(default)]
    pub message: String,
}

/// A disk that instances get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockDevice {
    pub device_name: String,
    #[serde(deserialize_with = "text")]
    pub virtual_name: Option<String>,
    pub ebs: Option<EbsDevice>,
}

/// A disk that comes from a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EbsDevice {
    #[serde(deserialize_with = "text")]
    pub snapshot_id: Option<String>,
    /// In GiB.
    pub volume_size: Option<u64>,
    #[serde(deserialize_with = "text")]
    pub volume_type: Option<String>,
    pub iops: Option<u64>,
    pub throughput: Option<u64>,
    pub delete_on_termination: Option<bool>,
    pub encrypted: Option<bool>,
}

/// An image that is to be made of an instance.
#[derive(Debug, Clone, Copy)]
pub struct NewImage<'a> {
    pub instance: &'a str,
    pub name: &'a str,
    pub description: Option<&'a str>,
    pub tags: &'a [Tag],
}

/// An image that is to be copied within a partition.
#[derive(Debug, Clone, Copy)]
pub struct CopyOf<'a> {
    pub source: &'a str,
    pub source_region: &'a str,
    pub name: &'a str,
    pub description: Option<&'a str>,
    /// The same for the same copy: asked twice, there is still one.
    pub token: &'a str,
    pub tags: &'a [Tag],
}

/// An image that is to be made of snapshots. All but the name, the devices and the tags is as `like` has it.
#[derive(Debug, Clone, Copy)]
pub struct RegisteredImage<'a> {
    pub name: &'a str,
    pub like: &'a Image,
    pub devices: &'a [BlockDevice],
    pub tags: &'a [Tag],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Made {
    pub(super) image_id: String,
}

impl fmt::Display for ImageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Failed => "failed",
            Self::Error => "error",
            Self::Invalid => "invalid",
            Self::Deregistered => "deregistered",
            Self::Transient => "transient",
            Self::Disabled => "disabled",
        })
    }
}

impl Image {
    /// `OWNER/NAME`, as kops takes it: the same text in every region of a partition.
    pub fn pinned(&self) -> String {
        match &self.name {
            Some(name) => format!("{}/{name}", self.owner),
            None => self.image_id.clone(),
        }
    }

    pub fn tag(&self, key: &str) -> Option<&str> {
        let found = self.tags.iter().find(|tag| tag.key == key);
        found.map(|tag| tag.value.as_str())
    }

    /// The snapshots that its disks come from.
    pub fn snapshots(&self) -> impl Iterator<Item = &str> {
        let disks = self.devices.iter().filter_map(|device| device.ebs.as_ref());
        disks.filter_map(|ebs| ebs.snapshot_id.as_deref())
    }
}

impl Cloud {
    /// Images. One that is asked for by its id and is not there is an error, `InvalidAMIID.NotFound`.
    pub async fn images(&self, which: &Images) -> Result<Vec<Image>, CloudError> {
        let fields = Fields::default()
            .list("ImageId", &which.ids)
            .list("Owner", &which.owners)
            .filters(&which.filters);
        let purpose = match which.ids.as_slice() {
            [] => "look for images".to_owned(),
            ids => format!("look at the image {}", ids.join(", ")),
        };
        self.described("DescribeImages", &purpose, fields).await
    }

    /// One image; None where it is not there.
    pub async fn image(&self, id: &str) -> Result<Option<Image>, CloudError> {
        let which = Images {
            ids: vec![id.to_owned()],
            ..Images::default()
        };
        match self.images(&which).await {
            Ok(found) => Ok(found.into_iter().next()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an image of an instance; gives its id.
    pub async fn create_image(&self, new: NewImage<'_>) -> Result<String, CloudError> {
        let fields = Fields::default()
            .with("InstanceId", new.instance)
            .with("Name", new.name)
            .with_some("Description", new.description)
            .tagged(&["image", "snapshot"], new.tags);
        let purpose = format!("make the image {} of {}", new.name, new.instance);
        let made: Made = self.once("CreateImage", &purpose, &fields).await?;
        Ok(made.image_id)
    }

    /// Copies an image within the partition; gives the copy's id.
    pub async fn copy_image(&self, copy: CopyOf<'_>) -> Result<String, CloudError> {
        let fields = Fields::default()
            .with("SourceImageId", copy.source)
            .with("SourceRegion", copy.source_region)
            .with("Name", copy.name)
            .with_some("Description", copy.description)
            .with("ClientToken", copy.token)
            .tagged(&["image", "snapshot"], copy.tags);
        let purpose = format!("copy the image {} from {}", copy.source, copy.source_region);
        let made: Made = self.repeatable("CopyImage", &purpose, &fields).await?;
        Ok(made.image_id)
    }

    /// Makes an image of snapshots; gives its id.
    pub async fn register_image(&self, new: RegisteredImage<'_>) -> Result<String, CloudError> {
        let like = new.like;
        let fields = Fields::default()
            .with("Name", new.name)
            .with_some("Description", like.description.as_deref())
            .with_some("Architecture", like.architecture.as_deref())
            .with_some("RootDeviceName", like.root_device_name.as_deref())
            .with_some("VirtualizationType", like.virtualization_type.as_deref())
            .with_some("EnaSupport", like.ena_support)
            .with_some("SriovNetSupport", like.sriov_net_support.as_deref())
            .with_some("BootMode", like.boot_mode.as_deref())
            .with_some("TpmSupport", like.tpm_support.as_deref())
            .with_some("ImdsSupport", like.imds_support.as_deref());
        let fields = (1..).zip(new.devices).fold(fields, device);
        let fields = fields.tagged(&["image"], new.tags);
        let purpose = format!("register the image {}", new.name);
        let made: Made = self.once("RegisterImage", &purpose, &fields).await?;
        Ok(made.image_id)
    }

    /// Takes an image away; its snapshots stay. One that is not there any more is none the worse.
    pub async fn deregister_image(&self, id: &str) -> Result<(), CloudError> {
        let fields = Fields::default().with("ImageId", id);
        let purpose = format!("deregister the image {id}");
        match self.repeatable("DeregisterImage", &purpose, &fields).await {
            Ok(Done {}) => Ok(()),
            Err(error) if error.is_not_found() || error.code == "InvalidAMIID.Unavailable" => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn device(fields: Fields, (number, device): (usize, &BlockDevice)) -> Fields {
    let head = format!("BlockDeviceMapping.{number}");
    let fields = fields
        .with(format!("{head}.DeviceName"), &device.device_name)
        .with_some(
            format!("{head}.VirtualName"),
            device.virtual_name.as_deref(),
        );
    let Some(ebs) = &device.ebs else {
        return fields;
    };
    let field = |name: &str| format!("{head}.Ebs.{name}");
    // A type with a guaranteed number of requests needs it; gp2 refuses it.
    let has_iops = matches!(ebs.volume_type.as_deref(), Some("gp3" | "io1" | "io2"));
    fields
        .with_some(field("SnapshotId"), ebs.snapshot_id.as_deref())
        .with_some(field("VolumeSize"), ebs.volume_size)
        .with_some(field("VolumeType"), ebs.volume_type.as_deref())
        .with_some(field("Iops"), ebs.iops.filter(|_| has_iops))
        .with_some(field("Throughput"), ebs.throughput.filter(|_| has_iops))
        .with_some(field("DeleteOnTermination"), ebs.delete_on_termination)
}

#[cfg(test)]
mod tests {
    use super::super::asking::read;
    use super::*;

    /// As the API reference shows it, shortened.
    const TWO: &str = r#"<DescribeImagesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>59dbff89</requestId><imagesSet>
        <item><imageId>ami-1</imageId><imageLocation>837727238323/ubuntu</imageLocation><imageState>available</imageState><imageOwnerId>837727238323</imageOwnerId><isPublic>true</isPublic><architecture>x86_64</architecture><imageType>machine</imageType><name>ubuntu</name><description/><rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/sda1</rootDeviceName>
        <blockDeviceMapping><item><deviceName>/dev/sda1</deviceName><ebs><snapshotId>snap-1</snapshotId><volumeSize>8</volumeSize><deleteOnTermination>true</deleteOnTermination><volumeType>gp3</volumeType><encrypted>false</encrypted></ebs></item><item><deviceName>/dev/sdb</deviceName><virtualName>ephemeral0</virtualName></item></blockDeviceMapping>
        <virtualizationType>hvm</virtualizationType><enaSupport>true</enaSupport><bootMode>uefi-preferred</bootMode><creationDate>2024-05-01T10:00:00.000Z</creationDate><tagSet><item><key>Name</key><value>u</value></item></tagSet></item>
        <item><imageId>ami-2</imageId><imageState>failed</imageState><imageOwnerId>1</imageOwnerId><stateReason><code>Client.InternalError</code><message>no room</message></stateReason><blockDeviceMapping/></item>
        </imagesSet><nextToken>next</nextToken></DescribeImagesResponse>"#;

    #[test]
    fn images_are_read_with_all_that_registering_needs() {
        let (images, next) = read::<Image>(TWO);
        assert_eq!(next.as_deref(), Some("next"));
        let image = &images[0];
        assert_eq!(image.pinned(), "837727238323/ubuntu");
        assert_eq!(
            (image.state, image.description.as_deref()),
            (ImageState::Available, None)
        );
        assert_eq!(image.boot_mode.as_deref(), Some("uefi-preferred"));
        assert_eq!(image.snapshots().collect::<Vec<_>>(), ["snap-1"]);
        assert_eq!(image.devices[1].virtual_name.as_deref(), Some("ephemeral0"));
        assert_eq!(image.tag("Name"), Some("u"));
        let failed = &images[1];
        assert_eq!(failed.state, ImageState::Failed);
        assert_eq!(failed.state_reason.as_ref().unwrap().message, "no room");
    }
}
