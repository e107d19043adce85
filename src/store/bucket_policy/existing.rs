//! Policies that buckets have already: who they let read, and the same policy with plain HTTP refused.

use serde_json::{Value, json};

use super::PolicyError;
use crate::partition::Partition;

/// The name of the statement that is added.
const REFUSE_WITHOUT_TLS: &str = "RefuseWithoutTls";

/// Who may read a bucket's objects without credentials, by its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    Nobody,
    /// Who comes from these: `vpce-…`, `vpc-…`, ranges of addresses.
    Limited(Vec<String>),
    Everybody,
}

/// Who may read what is below `prefix` without credentials. Statements that deny are not weighed: they narrow what is told here.
pub fn audience(policy: &str, prefix: &str) -> Result<Audience, PolicyError> {
    let policy = parsed(policy)?;
    let mut limits = Vec::new();
    for statement in statements(&policy) {
        let is_for_all = is(&statement["Effect"], "Allow") && is_everybody(&statement["Principal"]);
        if !is_for_all || !covers_reading(statement, prefix) {
            continue;
        }
        let conditions = conditions(statement);
        if conditions.is_empty() {
            return Ok(Audience::Everybody);
        }
        limits.extend(conditions);
    }
    limits.sort();
    limits.dedup();
    Ok(match limits.is_empty() {
        true => Audience::Nobody,
        false => Audience::Limited(limits),
    })
}

/// A bucket's policy with a statement that refuses plain HTTP, its other statements as they are; None where one does that already.
pub fn with_tls_only(
    partition: Partition,
    bucket: &str,
    existing: Option<&str>,
) -> Result<Option<String>, PolicyError> {
    let arn = partition.bucket_arn(bucket);
    let resources = [arn.clone(), format!("{arn}/*")];
    let mut policy = match existing {
        Some(text) => parsed(text)?,
        None => json!({"Version": "2012-10-17", "Statement": []}),
    };
    if statements(&policy).any(|statement| refuses_plain_http(statement, &resources)) {
        return Ok(None);
    }
    let mut all: Vec<Value> = statements(&policy)
        .filter(|statement| !is(&statement["Sid"], REFUSE_WITHOUT_TLS))
        .cloned()
        .collect();
    all.push(json!({
        "Sid": REFUSE_WITHOUT_TLS,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": resources,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }));
    policy["Statement"] = Value::Array(all);
    Ok(Some(policy.to_string()))
}

fn parsed(policy: &str) -> Result<Value, PolicyError> {
    let policy: Result<Value, _> = serde_json::from_str(policy);
    let policy = policy.ok().filter(Value::is_object);
    policy.ok_or(PolicyError::Unreadable)
}

/// The statements, which stand alone or in a list.
fn statements(policy: &Value) -> impl Iterator<Item = &Value> {
    listed(&policy["Statement"])
}

fn listed(value: &Value) -> impl Iterator<Item = &Value> {
    let (list, single) = match value {
        Value::Array(list) => (list.as_slice(), None),
        Value::Null => (&[][..], None),
        single => (&[][..], Some(single)),
    };
    list.iter().chain(single)
}

fn is(value: &Value, text: &str) -> bool {
    match value {
        Value::Bool(value) => value.to_string() == text,
        value => value.as_str() == Some(text),
    }
}

fn has(value: &Value, text: &str) -> bool {
    listed(value).any(|one| is(one, text))
}

fn is_everybody(principal: &Value) -> bool {
    is(principal, "*") || has(&principal["AWS"], "*")
}

fn refuses_plain_http(statement: &Value, resources: &[String; 2]) -> bool {
    let action = &statement["Action"];
    let resource = &statement["Resource"];
    let names = |name: &String| has(resource, name);
    let is_whole = statement["Condition"]
        .as_object()
        .is_some_and(|all| all.len() == 1);
    is(&statement["Effect"], "Deny")
        && is_everybody(&statement["Principal"])
        && (has(action, "s3:*") || has(action, "*"))
        && (resources.iter().all(names) || has(resource, "*"))
        && is_whole
        && has(
            &statement["Condition"]["Bool"]["aws:SecureTransport"],
            "false",
        )
}

fn covers_reading(statement: &Value, prefix: &str) -> bool {
    let reads = |action: &Value| {
        let action = action.as_str().unwrap_or_default();
        ["*", "s3:*", "s3:Get*", "s3:GetObject", "s3:GetObject*"].contains(&action)
    };
    let is_above = |resource: &Value| {
        let resource = resource.as_str().unwrap_or_default();
        let Some(path) = resource.strip_suffix('*') else {
            return false;
        };
        let path = path.split_once('/').map_or("", |(_, path)| path);
        match prefix.trim_matches('/') {
            "" => path.is_empty(),
            prefix => format!("{prefix}/").starts_with(path),
        }
    };
    listed(&statement["Action"]).any(reads) && listed(&statement["Resource"]).any(is_above)
}

/// What a statement is narrowed to, the values of all its conditions.
fn conditions(statement: &Value) -> Vec<String> {
    let operators = statement["Condition"].as_object().into_iter().flatten();
    let tests = operators.flat_map(|(_, tests)| tests.as_object().into_iter().flatten());
    let values = tests.flat_map(|(_, values)| listed(values));
    values
        .map(|value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Readers, bucket_policy};
    use super::*;

    fn china() -> Partition {
        Partition::of_region("cn-north-1")
    }

    fn written(readers: Readers) -> String {
        bucket_policy(china(), "mirror", "k8s", &[readers]).unwrap()
    }

    #[test]
    fn the_audience_of_what_is_written_here_is_read_back() {
        assert_eq!(
            audience(&written(Readers::Public), "k8s"),
            Ok(Audience::Everybody)
        );
        let limited = written(Readers::VpcEndpoints(vec!["vpce-0a".to_owned()]));
        let expected = Audience::Limited(vec!["vpce-0a".to_owned()]);
        assert_eq!(audience(&limited, "k8s"), Ok(expected.clone()));
        assert_eq!(audience(&limited, "k8s/deeper"), Ok(expected));
        assert_eq!(audience(&limited, "other"), Ok(Audience::Nobody));
        assert_eq!(audience(&limited, ""), Ok(Audience::Nobody));
        let none = r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws-cn:iam::1:root"}, "Action": "s3:*", "Resource": "*"}}"#;
        assert_eq!(audience(none, ""), Ok(Audience::Nobody));
        let single = r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:Get*"], "Resource": "arn:aws-cn:s3:::mirror/*"}}"#;
        assert_eq!(audience(single, "k8s"), Ok(Audience::Everybody));
        assert_eq!(audience("[]", ""), Err(PolicyError::Unreadable));
    }

    #[test]
    fn plain_http_is_refused_beside_what_is_there() {
        let first = with_tls_only(china(), "state", None).unwrap().unwrap();
        assert!(first.contains("arn:aws-cn:s3:::state/*"), "{first}");
        assert_eq!(with_tls_only(china(), "state", Some(&first)), Ok(None));
        let theirs = r#"{"Version": "2012-10-17", "Statement": {"Sid": "Theirs", "Effect": "Allow", "Principal": {"AWS": "1"}, "Action": "s3:ListBucket", "Resource": "arn:aws-cn:s3:::state"}}"#;
        let both = with_tls_only(china(), "state", Some(theirs))
            .unwrap()
            .unwrap();
        let both: Value = serde_json::from_str(&both).unwrap();
        assert_eq!(both["Statement"][0]["Sid"], "Theirs");
        assert_eq!(both["Statement"][1]["Sid"], REFUSE_WITHOUT_TLS);
    }

    /// One of the wrong partition, or that leaves the bucket itself out, refuses nothing.
    #[test]
    fn a_statement_that_does_not_suffice_is_replaced() {
        for wrong in [
            r#""Resource": ["arn:aws:s3:::state", "arn:aws:s3:::state/*"], "Condition": {"Bool": {"aws:SecureTransport": "false"}}"#,
            r#""Resource": "arn:aws-cn:s3:::state/*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}"#,
            r#""Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}, "StringEquals": {"aws:SourceVpc": "vpc-1"}}"#,
            r#""Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}"#,
        ] {
            let policy = format!(
                r#"{{"Statement": [{{"Sid": "RefuseWithoutTls", "Effect": "Deny", "Principal": "*", "Action": "s3:*", {wrong}}}]}}"#
            );
            let mended = with_tls_only(china(), "state", Some(&policy))
                .unwrap()
                .unwrap();
            let mended: Value = serde_json::from_str(&mended).unwrap();
            assert_eq!(mended["Statement"].as_array().unwrap().len(), 1, "{mended}");
        }
        let by_boolean = r#"{"Statement": [{"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": ["s3:*"], "Resource": ["arn:aws-cn:s3:::state/*", "arn:aws-cn:s3:::state"], "Condition": {"Bool": {"aws:SecureTransport": [false]}}}]}"#;
        assert_eq!(with_tls_only(china(), "state", Some(by_boolean)), Ok(None));
    }
}
