//! AWS's Query protocol: a form goes, XML comes.

use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::request::Call;
use super::service::Service;
use super::{Cloud, CloudError};

/// The fields of a form, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "numbers and names are given alike"
    )]
    pub(super) fn with(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.0.push((name.into(), value.to_string()));
        self
    }

    #[must_use]
    pub(super) fn with_some(self, name: impl Into<String>, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// `NAME.1`, `NAME.2` …
    #[must_use]
    pub(super) fn list<T: ToString>(self, name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let numbered = (1..).zip(values);
        numbered.fold(self, |fields, (number, value)| {
            fields.with(format!("{name}.{number}"), value)
        })
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(other, _)| other != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    fn form(&self, operation: &str, version: &str) -> String {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", operation)
            .append_pair("Version", version)
            .extend_pairs(&self.0)
            .finish()
    }
}

/// What is asked by a form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    pub(super) service: &'a Service,
    /// `2016-11-15`
    pub(super) version: &'a str,
    pub(super) operation: &'a str,
    pub(super) purpose: &'a str,
    pub(super) is_repeatable: bool,
}

impl Cloud {
    pub(super) async fn query<T: DeserializeOwned>(
        &self,
        query: Query<'_>,
        fields: &Fields,
    ) -> Result<T, CloudError> {
        let Query {
            service,
            version,
            operation,
            purpose,
            is_repeatable,
        } = query;
        let kind = "application/x-www-form-urlencoded; charset=utf-8".to_owned();
        let call = Call {
            service,
            operation,
            purpose,
            method: Method::POST,
            path: "/".to_owned(),
            headers: vec![("content-type", kind)],
            body: Bytes::from(fields.form(operation, version)),
            is_repeatable,
        };
        let answer = self.call(&call).await?;
        let read = std::str::from_utf8(&answer.body)
            .map_err(|error| self.nonsense(service, operation, purpose, error))
            .map(quick_xml::de::from_str)?;
        read.map_err(|error| self.nonsense(service, operation, purpose, error))
    }
}

/// A list in EC2's XML.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct Set<T> {
    #[serde(default = "Vec::new")]
    pub(super) item: Vec<T>,
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self { item: Vec::new() }
    }
}

/// A list within an answer, as a plain one.
pub(super) fn items<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Set::deserialize(deserializer).map(|set| set.item)
}

/// A text, or nothing where the element is empty.
pub(super) fn text<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_numbered_from_one_and_values_are_escaped() {
        let fields = Fields::default()
            .list("Owner", ["self", "837727238323"])
            .with("Name", "a b&c/*")
            .with_some("Description", None::<String>);
        let form = fields.form("DescribeImages", "2016-11-15");
        assert_eq!(
            form,
            "Action=DescribeImages&Version=2016-11-15&Owner.1=self&Owner.2=837727238323&Name=a+b%26c%2F*"
        );
    }
}
