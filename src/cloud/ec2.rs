//! EC2, as far as provisioning has to do with it. Lists come whole, whatever the number of pages.

mod addresses;
mod asking;
mod image_tasks;
mod images;
mod instance_types;
mod instances;
mod network;
mod snapshots;
mod tags;
mod zones;

pub use self::addresses::Address;
pub use self::asking::Filter;
pub use self::image_tasks::{StoreState, StoreTask};
pub use self::images::{
    BlockDevice, CopyOf, EbsDevice, Image, ImageState, Images, NewImage, RegisteredImage,
    StateReason,
};
pub use self::instance_types::{InstanceType, Offering};
pub use self::instances::{Instance, NewInstance, is_living};
pub use self::network::{
    Association, CidrOfVpc, NatGateway, Route, RouteTable, Subnet, Vpc, VpcEndpoint,
};
pub use self::snapshots::{Snapshot, SnapshotState};
pub use self::tags::{CLUSTER_TAG, Tag, Tagged};
pub use self::zones::Zone;
