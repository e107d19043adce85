//! The addresses of the network that a file names and does not describe.

use std::collections::BTreeMap;

use crate::cloud::{Cloud, CloudError, Filter};
use crate::cluster::{ClusterFile, Found};

/// Why the addresses of a network are not known.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error(transparent)]
    Cloud(#[from] CloudError),
    #[error("there is no {id} in {region}: look at {field} in the cluster's file")]
    Missing {
        id: String,
        region: String,
        field: &'static str,
    },
    #[error(
        "{id} is in {found}, and not in {wanted}: look at network.subnets in the cluster's file"
    )]
    InAnother {
        id: String,
        found: String,
        wanted: String,
    },
}

/// Addresses that were looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The first range of the VPC.
    pub vpc: Option<String>,
    /// By subnet.
    pub subnets: BTreeMap<String, String>,
}

impl Addresses {
    /// Asks EC2 for those of the VPC and the subnets that the file names; asks nobody where it names none.
    pub async fn look_up(cloud: &Cloud, file: &ClusterFile) -> Result<Self, NetworkError> {
        let Some(vpc) = &file.network.vpc else {
            return Ok(Self::default());
        };
        let missing = |id: &str, field| NetworkError::Missing {
            id: id.to_owned(),
            region: cloud.region().to_owned(),
            field,
        };
        let vpcs = cloud.vpcs(&[Filter::new("vpc-id", vpc)]).await?;
        let found = vpcs.iter().find(|found| found.vpc_id == *vpc);
        let found = found.ok_or_else(|| missing(vpc, "network.vpc"))?;
        let mut subnets = BTreeMap::new();
        let named: Vec<&String> = file
            .network
            .subnets
            .iter()
            .filter_map(|one| one.id.as_ref())
            .collect();
        if !named.is_empty() {
            let filter = Filter {
                name: "subnet-id".to_owned(),
                values: named.iter().map(|id| (*id).clone()).collect(),
            };
            let there = cloud.subnets(&[filter]).await?;
            for id in named {
                let subnet = there.iter().find(|subnet| subnet.subnet_id == *id);
                let subnet = subnet.ok_or_else(|| missing(id, "network.subnets"))?;
                if subnet.vpc_id != *vpc {
                    return Err(NetworkError::InAnother {
                        id: id.clone(),
                        found: subnet.vpc_id.clone(),
                        wanted: vpc.clone(),
                    });
                }
                subnets.insert(id.clone(), subnet.cidr_block.clone());
            }
        }
        Ok(Self {
            vpc: Some(found.cidr_block.clone()),
            subnets,
        })
    }

    /// Of those that were found before.
    pub fn of(found: &Found) -> Self {
        Self {
            vpc: found.vpc_cidr.clone(),
            subnets: found.subnet_cidrs.clone(),
        }
    }

    /// Adds them to what has been found.
    pub fn put_into(self, found: &mut Found) {
        found.vpc_cidr = self.vpc;
        found.subnet_cidrs = self.subnets;
    }
}
