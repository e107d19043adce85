//! Types of machines: what they are, and in which zones they are offered.

use serde::Deserialize;

use super::Filter;
use crate::cloud::query::{Fields, items};
use crate::cloud::{Cloud, CloudError};

/// That a type is offered in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offering {
    pub instance_type: String,
    /// The zone's name.
    pub location: String,
}

/// A type of machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceType {
    pub instance_type: String,
    processor_info: Option<Architectures>,
    v_cpu_info: Option<Cores>,
    network_info: Option<Network>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Architectures {
    #[serde(default, rename = "supportedArchitectures", deserialize_with = "items")]
    architectures: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cores {
    default_v_cpus: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    #[serde(default)]
    ena_support: Option<String>,
}

impl InstanceType {
    /// `x86_64`, `arm64` …
    pub fn architectures(&self) -> &[String] {
        self.processor_info
            .as_ref()
            .map_or(&[], |info| &info.architectures)
    }

    /// Processors, as quotas count them.
    pub fn vcpus(&self) -> Option<u32> {
        self.v_cpu_info.as_ref().map(|info| info.default_v_cpus)
    }

    /// Whether an image without ENA does not start on it.
    pub fn needs_ena(&self) -> bool {
        let told = self
            .network_info
            .as_ref()
            .and_then(|info| info.ena_support.as_deref());
        told == Some("required")
    }
}

impl Cloud {
    /// Where these types are offered, by zone; all types where none is named.
    pub async fn offerings(&self, types: &[&str]) -> Result<Vec<Offering>, CloudError> {
        let filter = Filter {
            name: "instance-type".to_owned(),
            values: types.iter().map(|kind| (*kind).to_owned()).collect(),
        };
        let filters: &[Filter] = if types.is_empty() { &[] } else { &[filter] };
        let fields = Fields::default()
            .with("LocationType", "availability-zone")
            .filters(filters);
        let purpose = match types {
            [] => "see which types are offered".to_owned(),
            types => format!("see where {} are offered", types.join(", ")),
        };
        self.described("DescribeInstanceTypeOfferings", &purpose, fields)
            .await
    }

    /// What these types are. One that the region does not have is an error of AWS's.
    pub async fn instance_types(&self, types: &[&str]) -> Result<Vec<InstanceType>, CloudError> {
        let fields = Fields::default().list("InstanceType", types);
        let purpose = format!("see what {} are", types.join(", "));
        self.described("DescribeInstanceTypes", &purpose, fields)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::asking::read;
    use super::*;

    #[test]
    fn a_type_tells_its_processors() {
        let xml = r"<DescribeInstanceTypesResponse><requestId>1</requestId><instanceTypeSet><item><instanceType>m6g.large</instanceType><processorInfo><supportedArchitectures><item>arm64</item></supportedArchitectures><sustainedClockSpeedInGhz>2.5</sustainedClockSpeedInGhz></processorInfo><vCpuInfo><defaultVCpus>2</defaultVCpus></vCpuInfo><networkInfo><enaSupport>required</enaSupport></networkInfo></item></instanceTypeSet></DescribeInstanceTypesResponse>";
        let (types, _) = read::<InstanceType>(xml);
        assert_eq!(types[0].architectures(), ["arm64"]);
        assert_eq!(types[0].vcpus(), Some(2));
        assert!(types[0].needs_ena());
    }
}
