//! Stands before moto and adds or changes what moto lacks or gets wrong, as facts about AWS have it: images that are not found at
//! first and then pending, tasks that store and restore images, refusals across partitions, digests of blocks that are compared,
//! throttling. What is not named here goes to moto as it came.

mod asked;
mod buckets;
mod census;
mod ebs;
mod images;
mod instances;
mod kubernetes;
mod mended;
mod tasks;
mod way_out;
mod xml;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use kops_mirror::cloud::Keys;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use url::Url;

pub(super) use self::asked::{Asked, FORM, signature};
pub(super) use self::instances::program;
pub(super) use self::kubernetes::Api;
use self::tasks::Stored;
pub(super) use self::tasks::content;
pub(super) use self::way_out::WayOut;

/// What is to go otherwise than well, by operation.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// So many times RequestLimitExceeded.
    pub(super) throttled: BTreeMap<String, u32>,
    /// So many times a page of HTML with a 500.
    pub(super) html: BTreeMap<String, u32>,
    /// A refusal with this code, always.
    pub(super) refused: BTreeMap<String, (u16, String)>,
    /// What is asked so is never answered.
    pub(super) silent: BTreeSet<String>,
    /// From the so-many-th time on there is no answer.
    pub(super) silent_after: BTreeMap<String, usize>,
    /// Asks for an image that was just made before it is found, then before it is available.
    pub(super) hidden: u32,
    pub(super) pending: u32,
    /// Where images are pending; everywhere if None.
    pub(super) slow_region: Option<String>,
    /// So many images on a page.
    pub(super) page: Option<usize>,
    /// Whose the credentials are, whatever the region.
    pub(super) partition: Option<String>,
    /// Images that are made in this region fail, with a reason.
    pub(super) image_fails: Option<(String, String)>,
    /// Images that are made from now on end well.
    pub(super) heals: bool,
    /// Asks before a task that stores an image ends; how it ends.
    pub(super) storing: u32,
    pub(super) storing_fails: Option<String>,
    /// What SSM knows besides, by region and name.
    pub(super) parameters: BTreeMap<(String, String), String>,
    /// Zones where each type is offered, for regions that moto knows nothing of.
    pub(super) offerings: BTreeMap<String, Vec<String>>,
    pub(super) quotas: BTreeMap<String, f64>,
    /// AWS's clock is so many seconds ahead of this machine's.
    pub(super) clock_ahead: i64,
    /// Who reads a bucket without credentials gets what AWS China says where no ICP filing is.
    pub(super) refuses_anonymous: bool,
    /// What the console of every instance tells; None: what its user data wrote there.
    pub(super) console: Option<String>,
    /// Instances do what their user data say, and stop by themselves then.
    pub(super) runs_user_data: bool,
    /// Blocks of snapshots that moto keeps no blocks of, by index.
    pub(super) disk: BTreeMap<u64, Vec<u8>>,
    /// Blocks that come out with a bit turned, whatever their digest says.
    pub(super) spoiled: BTreeSet<u64>,
    /// The cluster whose API answers.
    pub(super) api: Option<Api>,
}

/// What is known of what was made.
#[derive(Debug, Default)]
struct Seen {
    log: Vec<Asked>,
    /// Images that were made, with the asks that are left before they are found, and then available.
    images: BTreeMap<String, (u32, u32)>,
    /// Those that failed before all was well again.
    failed: BTreeSet<String>,
    stored: Vec<Stored>,
    /// By bucket.
    policies: BTreeMap<String, String>,
    /// User data that have not been run, and what those that have been wrote on the console, by instance.
    user_data: BTreeMap<String, String>,
    consoles: BTreeMap<String, String>,
    /// Snapshots that were begun: digests of their blocks, and whether they are complete.
    snapshots: BTreeMap<String, (BTreeMap<u64, [u8; 32]>, bool)>,
}

struct Inner {
    moto: Url,
    keys: Keys,
    client: reqwest::Client,
    orders: Mutex<Orders>,
    seen: Mutex<Seen>,
    /// moto's models are not made for two at a time.
    turn: tokio::sync::Mutex<()>,
}

pub(super) struct Overlay {
    inner: Arc<Inner>,
    url: Url,
    _server: JoinSet<()>,
}

/// An answer, as moto gave it or as it was made here.
type Answer = (StatusCode, HeaderMap, bytes::Bytes);

impl Overlay {
    pub(super) async fn start(moto: Url, keys: Keys) -> Self {
        let inner = Arc::new(Inner {
            moto,
            keys,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            orders: Mutex::default(),
            seen: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&inner));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            inner,
            url,
            _server: server,
        }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// A proxy that leads here under AWS' names.
    pub(super) async fn way_out(&self) -> WayOut {
        WayOut::start(Arc::clone(&self.inner)).await
    }

    pub(super) fn account_key(&self) -> &str {
        &self.inner.keys.access_key
    }

    pub(super) fn orders(&self) -> MutexGuard<'_, Orders> {
        self.inner.orders.lock().unwrap()
    }

    /// What was asked by this name, in order.
    pub(super) fn asked(&self, operation: &str) -> Vec<Asked> {
        let seen = self.inner.seen();
        let of_name = seen.log.iter().filter(|asked| asked.operation == operation);
        of_name.cloned().collect()
    }

    pub(super) fn count(&self, operation: &str) -> usize {
        self.asked(operation).len()
    }

    /// Makes a bucket in moto.
    pub(super) async fn make_bucket(&self, bucket: &str, region: &str) {
        let client = self.inner.s3(region);
        let mut making = client.create_bucket().bucket(bucket);
        if region != "us-east-1" {
            let place = aws_sdk_s3::types::CreateBucketConfiguration::builder()
                .location_constraint(region.into())
                .build();
            making = making.create_bucket_configuration(place);
        }
        making.send().await.unwrap();
    }

    /// Puts an object that everybody may read.
    pub(super) async fn put_public(&self, bucket: &str, key: &str, content: &str) {
        let client = self.inner.s3("cn-north-1");
        let put = client.put_object().bucket(bucket).key(key);
        let put = put.acl(aws_sdk_s3::types::ObjectCannedAcl::PublicRead);
        let content = content.as_bytes().to_vec().into();
        put.body(content).send().await.unwrap();
    }

    pub(super) fn put_policy(&self, bucket: &str, policy: &str) {
        let mut seen = self.inner.seen();
        seen.policies.insert(bucket.to_owned(), policy.to_owned());
    }

    /// Lets moto do something, by a service that is asked in forms.
    pub(super) async fn query(
        &self,
        region: &str,
        service: &str,
        fields: &[(&str, &str)],
    ) -> String {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let asking = self.inner.client.post(self.inner.moto.clone());
        let asking = asking
            .header(
                "authorization",
                signature(self.account_key(), region, service),
            )
            .header("content-type", FORM)
            .body(form);
        let answer = asking.send().await.unwrap();
        let is_done = answer.status().is_success();
        let text = answer.text().await.unwrap();
        assert!(is_done, "{fields:?}: {text}");
        text
    }

    /// What is asked by this name is refused from now on.
    pub(super) fn refuse(&self, operation: &str, status: u16, code: &str) {
        let refusal = (status, code.to_owned());
        self.orders().refused.insert(operation.to_owned(), refusal);
    }

    /// Lets moto's EC2 do something; what stands in an element of its answer.
    pub(super) async fn ec2(&self, fields: &[(&str, &str)], element: &str) -> String {
        let asked = [&[("Version", "2016-11-15")], fields].concat();
        let answer = self.query("cn-north-1", "ec2", &asked).await;
        let found = xml::element(&answer, element);
        found
            .unwrap_or_else(|| panic!("{fields:?}: {answer}"))
            .to_owned()
    }

    /// The keys of a bucket.
    pub(super) async fn keys(&self, bucket: &str) -> Vec<String> {
        let listed = self
            .inner
            .s3("us-east-1")
            .list_objects_v2()
            .bucket(bucket)
            .send()
            .await
            .unwrap();
        listed
            .contents()
            .iter()
            .map(|object| object.key().unwrap().to_owned())
            .collect()
    }

    /// Puts something else as the first part of what is on its way to a key.
    pub(super) async fn put_strange_part(&self, bucket: &str, key: &str) {
        let client = self.inner.s3("cn-north-1");
        let uploads = client
            .list_multipart_uploads()
            .bucket(bucket)
            .send()
            .await
            .unwrap();
        let id = uploads.uploads()[0].upload_id().unwrap();
        let put = client
            .upload_part()
            .bucket(bucket)
            .key(key)
            .upload_id(id)
            .part_number(1);
        put.body(vec![7; 5 << 20].into()).send().await.unwrap();
    }

    /// What is pending is available from now on.
    pub(super) fn make_available(&self) {
        for asks in self.inner.seen().images.values_mut() {
            *asks = (0, 0);
        }
    }

    /// Images that are made in a region from now on fail there.
    pub(super) fn fail_images_in(&self, region: &str, why: &str) {
        self.orders().image_fails = Some((region.to_owned(), why.to_owned()));
    }

    /// What is made from now on does well; what failed stays so.
    pub(super) fn heal(&self) {
        self.orders().heals = true;
        let mut seen = self.inner.seen();
        let failing: Vec<_> = seen.images.keys().cloned().collect();
        seen.failed.extend(failing);
    }

    /// What the disk of an image has in a snapshot that came through here, by index.
    pub(super) fn blocks_of(&self, snapshot: &str) -> Vec<u64> {
        let seen = self.inner.seen();
        seen.snapshots[snapshot].0.keys().copied().collect()
    }

    pub(super) fn snapshots(&self) -> Vec<String> {
        self.inner.seen().snapshots.keys().cloned().collect()
    }
}

impl Inner {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap()
    }

    /// moto's S3, with the account's keys.
    fn s3(&self, region: &str) -> aws_sdk_s3::Client {
        let keys = aws_credential_types::Credentials::new(
            &self.keys.access_key,
            &self.keys.secret_key,
            None,
            None,
            "tests",
        );
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .region(aws_sdk_s3::config::Region::new(region.to_owned()))
            .endpoint_url(self.moto.as_str())
            .force_path_style(true)
            .credentials_provider(keys)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// Lets moto answer.
    async fn forward(&self, asked: &Asked) -> Answer {
        let url = format!("{}{}", self.moto.as_str().trim_end_matches('/'), asked.path);
        let mut request = self.client.request(asked.method.clone(), url);
        for (name, value) in &asked.headers {
            if !matches!(
                name.as_str(),
                "host" | "content-length" | "connection" | "transfer-encoding" | "expect"
            ) {
                request = request.header(name, value);
            }
        }
        let _turn = self.turn.lock().await;
        let answer = request.body(asked.body.clone()).send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        (status, headers, answer.bytes().await.unwrap())
    }

    /// Asks moto's EC2 something else with the same credentials.
    async fn ask_ec2(&self, asked: &Asked, fields: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("Version", "2016-11-15")
            .extend_pairs(fields)
            .finish();
        self.forward(&Asked {
            body: body.into(),
            ..asked.clone()
        })
        .await
    }

    async fn answer(&self, asked: &Asked) -> Answer {
        if let Some(answer) = self.ordered(asked) {
            return answer;
        }
        if self.is_silent(asked) {
            std::future::pending::<()>().await;
        }
        match asked.operation.as_str() {
            "DescribeImages" => self.describe_images(asked).await,
            "CreateImage" | "RegisterImage" => self.make_image(asked).await,
            "CopyImage" => self.copy_image(asked).await,
            "RunInstances" => self.run_instance(asked).await,
            "DescribeInstances" => self.describe_instances(asked).await,
            "GetConsoleOutput" => self.console(asked),
            "CreateStoreImageTask" => self.store_image(asked).await,
            "DescribeStoreImageTasks" => self.store_tasks(asked).await,
            "CreateRestoreImageTask" => self.restore_image(asked).await,
            "DescribeSnapshots" => self.describe_snapshots(asked).await,
            "DescribeInstanceTypeOfferings" => self.offerings(asked).await,
            "StartSnapshot" => self.start_snapshot(asked).await,
            "PutSnapshotBlock" => self.put_block(asked).await,
            "CompleteSnapshot" => self.complete_snapshot(asked).await,
            "ListSnapshotBlocks" => self.list_blocks(asked).await,
            "GetSnapshotBlock" => self.get_block(asked).await,
            "GetParameter" => self.parameter(asked).await,
            "GetCallerIdentity" => self.identity(asked).await,
            "GetServiceQuota" => self.quota(asked),
            "DescribeRegions" => self.regions(asked).await,
            "DescribeReservedInstancesOfferings" => self.reserved_offerings(asked).await,
            "AuthorizeSecurityGroupIngress"
            | "AuthorizeSecurityGroupEgress"
            | "RevokeSecurityGroupIngress"
            | "RevokeSecurityGroupEgress" => self.with_ports(asked).await,
            "DescribeSecurityGroups" => self.security_groups(asked).await,
            "DeleteDhcpOptions" => self.delete_dhcp_options(asked).await,
            "DeleteKeyPair" => self.delete_key_pair(asked).await,
            "DeleteSubnet" => self.delete_subnet(asked).await,
            "DeleteTargetGroup" => self.delete_target_group(asked).await,
            "DescribeWarmPool" => self.warm_pool(asked).await,
            "PutBucketPolicy" => self.keep_policy(asked),
            "GetBucketPolicy" => self.policy(asked).await,
            _ if asked.is_anonymous() && self.orders().refuses_anonymous => {
                xml::refusal_of_s3(403, "AccessDenied")
            }
            _ => self.forward(asked).await,
        }
    }

    /// moto takes a statement that denies for one without its condition, so that it would refuse everybody.
    fn keep_policy(&self, asked: &Asked) -> Answer {
        let policy = String::from_utf8_lossy(&asked.body).into_owned();
        let bucket = asked.segment(0).to_owned();
        self.seen().policies.insert(bucket, policy);
        (
            StatusCode::NO_CONTENT,
            HeaderMap::new(),
            bytes::Bytes::new(),
        )
    }

    async fn policy(&self, asked: &Asked) -> Answer {
        let known = self.seen().policies.get(asked.segment(0)).cloned();
        match known {
            Some(policy) => (StatusCode::OK, HeaderMap::new(), policy.into()),
            None => self.forward(asked).await,
        }
    }

    fn ordered(&self, asked: &Asked) -> Option<Answer> {
        let mut orders = self.orders();
        let mut take = |which: fn(&mut Orders) -> &mut BTreeMap<String, u32>| {
            let left = which(&mut orders).get_mut(&asked.operation)?;
            let is_left = *left > 0;
            *left = left.saturating_sub(1);
            is_left.then_some(())
        };
        if take(|orders| &mut orders.throttled).is_some() {
            return Some(xml::refusal(
                503,
                "RequestLimitExceeded",
                "Request limit exceeded.",
            ));
        }
        if take(|orders| &mut orders.html).is_some() {
            let page = "<!doctype html><html lang=en><title>500 Internal Server Error</title>";
            return Some((
                StatusCode::INTERNAL_SERVER_ERROR,
                HeaderMap::new(),
                page.into(),
            ));
        }
        let (status, code) = orders.refused.get(&asked.operation)?;
        Some(match asked.operation.contains("Bucket") {
            true => xml::refusal_of_s3(*status, code),
            false => xml::refusal(*status, code, "as ordered"),
        })
    }

    fn is_silent(&self, asked: &Asked) -> bool {
        let orders = self.orders();
        let count = self
            .seen()
            .log
            .iter()
            .filter(|other| other.operation == asked.operation)
            .count();
        let after = orders.silent_after.get(&asked.operation);
        orders.silent.contains(&asked.operation) || after.is_some_and(|after| count > *after)
    }

    async fn offerings(&self, asked: &Asked) -> Answer {
        let offerings = self.orders().offerings.clone();
        if offerings.is_empty() {
            return self.forward(asked).await;
        }
        let wanted: Vec<&str> = asked
            .fields()
            .filter(|(name, _)| name.starts_with("Filter.1.Value."))
            .map(|(_, value)| value)
            .collect();
        let items = offerings.iter().filter(|(kind, _)| wanted.is_empty() || wanted.contains(&kind.as_str())).flat_map(|(kind, zones)| {
            zones.iter().map(move |zone| {
                format!("<item><instanceType>{kind}</instanceType><locationType>availability-zone</locationType><location>{zone}</location></item>")
            })
        });
        let items: String = items.collect();
        xml::answer(
            "DescribeInstanceTypeOfferings",
            &format!("<instanceTypeOfferingSet>{items}</instanceTypeOfferingSet>"),
        )
    }

    async fn parameter(&self, asked: &Asked) -> Answer {
        let told = asked.json();
        let name = told["Name"].as_str().unwrap_or_default().to_owned();
        let known = self
            .orders()
            .parameters
            .get(&(asked.region.clone(), name.clone()))
            .cloned();
        match known {
            Some(value) => xml::json(
                200,
                &serde_json::json!({"Parameter": {"Name": name, "Type": "String", "Value": value}}),
            ),
            None => self.forward(asked).await,
        }
    }

    /// moto takes every account for one of the region's partition.
    async fn identity(&self, asked: &Asked) -> Answer {
        let (status, headers, body) = self.forward(asked).await;
        let Some(partition) = self.orders().partition.clone() else {
            return (status, headers, body);
        };
        let text = String::from_utf8_lossy(&body);
        let ours = kops_mirror::partition::Partition::of_region(&asked.region);
        let (ours, other) = (format!("arn:{ours}:"), format!("arn:{partition}:"));
        (status, headers, text.replace(&ours, &other).into())
    }

    fn quota(&self, asked: &Asked) -> Answer {
        let told = asked.json();
        let code = told["QuotaCode"].as_str().unwrap_or_default();
        match self.orders().quotas.get(code) {
            Some(value) => xml::json(
                200,
                &serde_json::json!({"Quota": {"QuotaCode": code, "Value": value}}),
            ),
            None => xml::json(
                400,
                &serde_json::json!({"__type": "NoSuchResourceException", "message": "no such quota"}),
            ),
        }
    }

    /// moto fails where AWS says that there is no such group.
    async fn warm_pool(&self, asked: &Asked) -> Answer {
        match self.forward(asked).await {
            (status, ..) if status.is_server_error() => {
                xml::refusal_of_query(400, "ValidationError", "AutoScalingGroup name not found")
            }
            answer => answer,
        }
    }
}

async fn answer(State(inner): State<Arc<Inner>>, request: Request) -> Response<Body> {
    let asked = Asked::read(request).await;
    inner.seen().log.push(asked.clone());
    let (status, headers, body) = inner.answer(&asked).await;
    let mut response = Response::new(Body::from(body));
    let ahead = inner.orders().clock_ahead;
    if ahead != 0 {
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
        let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        response.headers_mut().insert("date", date.parse().unwrap());
    }
    *response.status_mut() = status;
    for (name, value) in headers {
        let Some(name) = name else { continue };
        let is_head = asked.method == axum::http::Method::HEAD;
        let is_ours = matches!(name.as_str(), "connection" | "transfer-encoding" | "date")
            || (name.as_str() == "content-length" && !is_head);
        if !is_ours {
            response.headers_mut().append(name, value);
        }
    }
    response
}
