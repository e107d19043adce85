//! The API of a cluster whose instances the emulator has: nodes that are ready, and what runs on those of the control plane.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kops_mirror::cloud::{Cloud, CloudSettings, Filter, Instance};
use rcgen::{Issuer, KeyPair};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::Inner;
use super::way_out::{acceptor, told};

const CHINA: &str = "cn-north-1";

/// Of a cluster in one zone.
#[derive(Debug, Clone)]
pub(in crate::provision) struct Api {
    pub(in crate::provision) cluster: String,
    /// `v1.35.5`
    pub(in crate::provision) kubernetes: String,
    /// The bucket where kops keeps the cluster's authority.
    pub(in crate::provision) state_store: String,
}

impl Inner {
    /// Ends TLS as the cluster's API: with a certificate by the authority that kops keeps in the state store. None before it has one.
    pub(super) async fn cluster_acceptor(&self, host: &str) -> Option<TlsAcceptor> {
        let api = self.orders().api.clone()?;
        let (key, certificate) = self.authority(&api.state_store).await?;
        let key = KeyPair::from_pem(&key).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).unwrap();
        let internal = format!("api.internal.{}", api.cluster);
        Some(acceptor(&issuer, &[host.to_owned(), internal]))
    }

    /// Key and certificate in PEM.
    async fn authority(&self, bucket: &str) -> Option<(String, String)> {
        let listed = self.s3(CHINA).list_objects_v2().bucket(bucket);
        let listed = listed.send().await.ok()?;
        let keys: Vec<&str> = listed.contents().iter().filter_map(|it| it.key()).collect();
        if let Some(set) = keys
            .iter()
            .find(|key| key.ends_with("/pki/private/kubernetes-ca/keyset.yaml"))
        {
            let set: Value = serde_yaml_ng::from_str(&self.read(bucket, set).await?).ok()?;
            let pem = |name: &str| {
                let text = set["spec"]["keys"][0][name].as_str()?;
                String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()
            };
            return Some((pem("privateMaterial")?, pem("publicMaterial")?));
        }
        let one = |part: &str| keys.iter().find(|key| key.contains(part)).copied();
        let key = self.read(bucket, one("/pki/private/ca/")?).await?;
        let certificate = self.read(bucket, one("/pki/issued/ca/")?).await?;
        Some((key, certificate))
    }

    async fn read(&self, bucket: &str, key: &str) -> Option<String> {
        let got = self.s3(CHINA).get_object().bucket(bucket).key(key);
        let body = got.send().await.ok()?.body.collect().await.ok()?;
        String::from_utf8(body.into_bytes().to_vec()).ok()
    }

    pub(super) async fn kubernetes(&self, path: &str) -> Response<Body> {
        let Some(api) = self.orders().api.clone() else {
            return told(StatusCode::SERVICE_UNAVAILABLE, Body::empty());
        };
        let instances = self.instances_of(&api.cluster).await;
        let list = |kind: &str, items: Vec<Value>| json!({"kind": kind, "apiVersion": "v1", "metadata": {}, "items": items});
        let answer = match path {
            "/api/v1/nodes" => list(
                "NodeList",
                instances
                    .iter()
                    .map(|it| node(it, &api.kubernetes))
                    .collect(),
            ),
            "/api/v1/pods" | "/api/v1/namespaces/kube-system/pods" => list(
                "PodList",
                instances
                    .iter()
                    .filter(|it| role(it) != "node")
                    .flat_map(pods)
                    .collect(),
            ),
            "/api/v1/componentstatuses" => list(
                "ComponentStatusList",
                ["scheduler", "controller-manager", "etcd-0", "etcd-1"]
                    .map(component)
                    .into(),
            ),
            _ => {
                let answer = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
                return told(StatusCode::NOT_FOUND, Body::from(answer.to_string()));
            }
        };
        let mut response = told(StatusCode::OK, Body::from(answer.to_string()));
        let kind = "application/json".parse().unwrap();
        response.headers_mut().insert("content-type", kind);
        response
    }

    async fn instances_of(&self, cluster: &str) -> Vec<Instance> {
        let settings = CloudSettings {
            keys: Some(self.keys.clone()),
            endpoint: Some(self.moto.clone()),
            ..CloudSettings::new(CHINA)
        };
        let cloud = Cloud::connect(settings).await.unwrap();
        let filters = [Filter::tag("KubernetesCluster", cluster)];
        let mut instances = cloud.instances(&[], &filters).await.unwrap();
        instances.retain(|instance| instance.state() == "running");
        instances
    }
}

/// As releases name it that know the tag: `control-plane`, `master`, or `node`.
fn role(instance: &Instance) -> &'static str {
    let has = |role: &str| {
        let key = format!("k8s.io/role/{role}");
        instance.tags.iter().any(|tag| tag.key == key)
    };
    let mut roles = ["control-plane", "master"].into_iter();
    roles.find(|role| has(role)).unwrap_or("node")
}

fn node(instance: &Instance, kubernetes: &str) -> Value {
    let id = &instance.instance_id;
    let role = role(instance);
    json!({
        "metadata": {
            "name": id,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                format!("node-role.kubernetes.io/{role}"): "",
                "topology.kubernetes.io/zone": format!("{CHINA}a"),
            },
        },
        "spec": {"providerID": format!("aws:///{CHINA}a/{id}"), "externalID": id},
        "status": {
            "nodeInfo": {"kubeletVersion": kubernetes},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "addresses": [{"type": "InternalIP", "address": instance.private_ip_address}],
        },
    })
}

fn pods(instance: &Instance) -> Vec<Value> {
    let id = &instance.instance_id;
    let pod = |app: &str| {
        json!({
            "metadata": {"name": format!("{app}-{id}"), "namespace": "kube-system", "labels": {"k8s-app": app}},
            "spec": {"priorityClassName": "system-cluster-critical", "nodeName": id, "containers": [{"name": app}]},
            "status": {
                "phase": "Running",
                "hostIP": instance.private_ip_address,
                "containerStatuses": [{"name": app, "ready": true, "restartCount": 0, "image": app, "imageID": app}],
            },
        })
    };
    [
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    ]
    .map(pod)
    .into()
}

fn component(name: &str) -> Value {
    json!({"metadata": {"name": name}, "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]})
}
