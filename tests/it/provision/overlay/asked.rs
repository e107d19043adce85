//! What was asked: of which service, in which region, by which operation.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use url::form_urlencoded;

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) operation: String,
    pub(crate) region: String,
    pub(crate) method: Method,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(super) fields: Vec<(String, String)>,
}

/// What a form is sent as.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// As moto wants it, which reads who asks which service and looks at nothing else.
pub(crate) fn signature(access_key: &str, region: &str, service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={access_key}/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}

fn signed(signature: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", signature.parse().unwrap());
    headers.insert("content-type", FORM.parse().unwrap());
    headers
}

impl Asked {
    /// A call of EC2's, signed as moto wants it.
    pub(super) fn ec2(access_key: &str, region: &str, fields: &[(&str, &str)]) -> Self {
        Self {
            operation: String::new(),
            region: region.to_owned(),
            method: Method::POST,
            path: "/".to_owned(),
            headers: signed(&signature(access_key, region, "ec2")),
            body: Bytes::new(),
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    /// The same caller's call of another service.
    pub(super) fn of_service(&self, service: &str, version: &str, action: &str) -> Self {
        let own = self.header("authorization").split("Credential=").nth(1);
        let access_key = own.unwrap().split('/').next().unwrap();
        Self {
            headers: signed(&signature(access_key, &self.region, service)),
            body: format!("Action={action}&Version={version}").into(),
            ..self.clone()
        }
    }

    pub(super) async fn read(request: Request) -> Self {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, 256 << 20).await.unwrap();
        let path = head
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        let scope = head
            .headers
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let scope: Vec<&str> = scope
            .split("Credential=")
            .nth(1)
            .unwrap_or_default()
            .split('/')
            .collect();
        let service = scope.get(3).copied().unwrap_or("s3").to_owned();
        let region = scope.get(2).copied().unwrap_or_default().to_owned();
        let fields: Vec<(String, String)> = match service.as_str() {
            "ec2" | "sts" | "autoscaling" | "elasticloadbalancing" => {
                form_urlencoded::parse(&body).into_owned().collect()
            }
            _ => Vec::new(),
        };
        let operation = operation(&service, &head.method, &path, &head.headers, &fields);
        Self {
            operation,
            region,
            method: head.method,
            path,
            headers: head.headers,
            body,
            fields,
        }
    }

    /// The fields of a form.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// A tag of what is to be made.
    pub(crate) fn tag(&self, key: &str) -> Option<&str> {
        let (name, _) = self
            .fields()
            .find(|(name, value)| name.ends_with(".Key") && *value == key)?;
        self.field(&name.replace(".Key", ".Value"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(super) fn is_anonymous(&self) -> bool {
        !self.headers.contains_key("authorization")
    }

    /// A part of the path, counted from 0.
    pub(super) fn segment(&self, at: usize) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        path.split('/').nth(at + 1).unwrap_or_default()
    }
}

fn operation(
    service: &str,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    fields: &[(String, String)],
) -> String {
    let action = fields.iter().find(|(name, _)| name == "Action");
    let target = headers
        .get("x-amz-target")
        .and_then(|value| value.to_str().ok());
    if let Some((_, action)) = action {
        return action.clone();
    }
    if let Some(target) = target {
        return target.rsplit('.').next().unwrap_or(target).to_owned();
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if let Some(property) = property(service, query) {
        let verb = if *method == Method::PUT { "Put" } else { "Get" };
        return format!("{verb}Bucket{property}");
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let name = match (service, method.as_str(), parts.as_slice()) {
        ("ebs", "POST", ["snapshots"]) => "StartSnapshot",
        ("ebs", "POST", ["snapshots", "completion", _]) => "CompleteSnapshot",
        ("ebs", "GET", ["snapshots", _, "blocks"]) => "ListSnapshotBlocks",
        ("ebs", "GET", ["snapshots", _, "blocks", _]) => "GetSnapshotBlock",
        ("ebs", "PUT", ["snapshots", _, "blocks", _]) => "PutSnapshotBlock",
        ("s3", "PUT", _) if query.contains("partNumber=") => "UploadPart",
        ("s3", "POST", _) if query.contains("uploadId=") => "CompleteMultipartUpload",
        ("s3", "POST", _) if query.contains("uploads") => "CreateMultipartUpload",
        ("s3", "PUT", [_]) => "CreateBucket",
        ("s3", "GET", _) if query.contains("uploadId=") => "ListParts",
        ("s3", "DELETE", _) if query.contains("uploadId=") => "AbortMultipartUpload",
        ("s3", "DELETE", _) => "DeleteObject",
        ("s3", "GET", [_, _, ..]) if query.is_empty() || query.contains("x-id=GetObject") => {
            "GetObject"
        }
        _ => "",
    };
    match name {
        "" => format!("{service} {method}"),
        name => name.to_owned(),
    }
}

/// The property of a bucket that is asked for or set.
fn property(service: &str, query: &str) -> Option<&'static str> {
    const PROPERTIES: [(&str, &str); 6] = [
        ("location", "Location"),
        ("versioning", "Versioning"),
        ("encryption", "Encryption"),
        ("publicAccessBlock", "PublicAccessBlock"),
        ("policy", "Policy"),
        ("tagging", "Tagging"),
    ];
    let name = query.split(['=', '&']).next().filter(|_| service == "s3")?;
    PROPERTIES
        .into_iter()
        .find(|(property, _)| *property == name)
        .map(|(_, words)| words)
}
