//! Whether hosts get to what the mirror does not cover: P09.

use super::facts::{Facts, Network};
use super::findings::Findings;
use super::{Finding, Told};
use crate::cloud::{Route, RouteTable};
use crate::cluster::{ClusterFile, Placed, SubnetRole, Topology};

/// All addresses of IPv4.
const EVERYWHERE: &str = "0.0.0.0/0";

/// What hosts of kops ask of AWS besides S3, by the ends of the names of endpoints.
const SERVICES: [&str; 4] = ["ec2", "sts", "elasticloadbalancing", "autoscaling"];
const OF_ECR: [&str; 2] = ["ecr.api", "ecr.dkr"];

/// P09: each subnet has a way to what the mirror does not cover.
pub(super) fn egress(file: &ClusterFile, facts: &Facts, told: &Told) -> Vec<Finding> {
    let mut found = Findings::of(9);
    let network = match found.known(&facts.network) {
        None => return found.or_fine(""),
        Some(None) => return found.or_fine("kops makes the VPC and its gateways"),
        Some(Some(network)) => network,
    };
    for subnet in &told.placed {
        let Some(id) = &subnet.id else { continue };
        if subnet.egress.is_some() {
            continue;
        }
        let Some(table) = table_of(network, id) else {
            found.error(
                format!("{id} has no table of routes"),
                "give it one, with a way out",
            );
            continue;
        };
        match subnet.role {
            SubnetRole::Utility => judge_utility(&mut found, id, table),
            _ => judge_hosts(&mut found, file, network, subnet, id, table),
        }
    }
    found.or_fine("each subnet has a way to what the mirror does not cover")
}

/// The table that a subnet follows: its own, or the VPC's main one.
fn table_of<'a>(network: &'a Network, subnet: &str) -> Option<&'a RouteTable> {
    let has = |test: &dyn Fn(&crate::cloud::RouteTable) -> bool| {
        network.route_tables.iter().find(|table| test(table))
    };
    has(&|table| {
        table
            .associations
            .iter()
            .any(|one| one.subnet_id.as_deref() == Some(subnet))
    })
    .or_else(|| has(&|table| table.associations.iter().any(|one| one.main)))
}

fn way_out(table: &RouteTable) -> Option<&Route> {
    let mut routes = table.routes.iter();
    routes.find(|route| route.destination_cidr_block.as_deref() == Some(EVERYWHERE))
}

fn leads_to_internet(route: &Route) -> bool {
    route
        .target()
        .is_some_and(|target| target.starts_with("igw-"))
}

fn judge_utility(found: &mut Findings, id: &str, table: &RouteTable) {
    let is_open =
        way_out(table).is_some_and(|route| leads_to_internet(route) && route.state != "blackhole");
    if !is_open {
        found.error(
            format!("{id}, a utility subnet, has no way to an internet gateway ({})", table.route_table_id),
            format!("add a route for {EVERYWHERE} to the VPC's internet gateway: gateways and public load balancers stand there"),
        );
    }
}

fn judge_hosts(
    found: &mut Findings,
    file: &ClusterFile,
    network: &Network,
    subnet: &Placed,
    id: &str,
    table: &RouteTable,
) {
    let name = format!("{id} in {} ({})", subnet.zone, table.route_table_id);
    match way_out(table) {
        Some(route) if route.state == "blackhole" => found.error(
            format!(
                "the way out of {name} leads to {}, which is gone",
                route.target().unwrap_or("nothing")
            ),
            "repair the route, or name another as egress",
        ),
        Some(route) if leads_to_internet(route) && is_without_addresses(file, network, id) => found
            .error(
                format!(
                    "{name} leads to an internet gateway, and its hosts have no public addresses"
                ),
                "route it to a NAT gateway, or take public subnets with topology: public",
            ),
        Some(_) => {
            if !is_elsewhere(file) && !has_s3_endpoint(network, table) {
                found.warning(
                    format!("{name} has no gateway endpoint for S3: the mirror is read the long way, which costs, and a policy for endpoints refuses it"),
                    format!("add a gateway endpoint for S3 to {}: it costs nothing", table.route_table_id),
                );
            }
        }
        None => judge_closed(found, file, network, &name, table),
    }
}

/// Whether the mirror's bucket is in another region than the cluster.
fn is_elsewhere(file: &ClusterFile) -> bool {
    let region = file.mirror.region.as_ref();
    region.is_some_and(|region| *region != file.region)
}

fn is_without_addresses(file: &ClusterFile, network: &Network, id: &str) -> bool {
    let gives = network
        .subnets
        .iter()
        .any(|subnet| subnet.subnet_id == id && subnet.map_public_ip_on_launch);
    file.topology == Topology::Private || !gives
}

/// A subnet without a way out needs an endpoint for each service, and everything else from the mirror.
fn judge_closed(
    found: &mut Findings,
    file: &ClusterFile,
    network: &Network,
    name: &str,
    table: &RouteTable,
) {
    let registry = file
        .registry
        .container_registry
        .as_ref()
        .or(file.registry.container_proxy.as_ref());
    if registry.is_none() {
        found.error(
            format!("{name} has no way out, and images are to come from public registries"),
            "mirror the images and name registry.containerRegistry, or give it a way out",
        );
    }
    if is_elsewhere(file) {
        found.error(
            format!("{name} has no way out, and the mirror is in another region: an endpoint for S3 serves its own alone"),
            format!("route {EVERYWHERE} to a NAT gateway, or mirror into a bucket in {}", file.region),
        );
    }
    let of_ecr: &[&str] = match registry.is_some_and(|host| host.contains(".dkr.ecr.")) {
        true => &OF_ECR,
        false => &[],
    };
    let mut missing: Vec<&str> = SERVICES
        .iter()
        .chain(of_ecr)
        .copied()
        .filter(|service| !has_endpoint(network, service))
        .collect();
    if !has_s3_endpoint(network, table) {
        missing.insert(0, "s3 (gateway)");
    }
    if !missing.is_empty() {
        found.error(
            format!("{name} has no way out and no endpoints for {}", missing.join(", ")),
            format!("route {EVERYWHERE} to a NAT gateway, or make these VPC endpoints: 'aws ec2 describe-vpc-endpoint-services' lists their names"),
        );
    }
}

fn is_of(service_name: &str, service: &str) -> bool {
    // com.amazonaws.cn-north-1.s3, cn.com.amazonaws.cn-north-1.ecr.api
    service_name.strip_suffix(service).is_some_and(|before| {
        let region = before
            .strip_suffix('.')
            .and_then(|before| before.rsplit('.').next());
        region.is_some_and(|region| region.contains('-'))
    })
}

fn has_endpoint(network: &Network, service: &str) -> bool {
    // An interface answers the whole VPC, in whichever subnets it stands; one in the same zone is only nearer.
    network
        .endpoints
        .iter()
        .any(|one| is_of(&one.service_name, service) && one.state != "failed")
}

fn has_s3_endpoint(network: &Network, table: &RouteTable) -> bool {
    network.endpoints.iter().any(|one| {
        is_of(&one.service_name, "s3")
            && one.state != "failed"
            && (one.vpc_endpoint_type != "Gateway"
                || one.route_tables.contains(&table.route_table_id))
    })
}
