//! Gathers settings from the places that may give them, so that a later place replaces what an earlier one said.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};
use url::Url;

use super::{Config, ConfigError, Host, Rate};

/// The form of a setting's value where it comes as a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Number,
    Switch,
    /// Texts with commas between them.
    List,
}

/// Every setting that an environment variable can give: all but those of `origins`, `sets`, `hooks`, `s3.buckets`, `registry.rules`
/// and `registry.policies`, which need more structure than a variable has.
const SETTINGS: [(&str, Form); 72] = [
    ("to", Form::List),
    ("kubernetes", Form::List),
    ("kops", Form::Text),
    ("arch", Form::List),
    ("networking", Form::Text),
    ("container_runtime", Form::Text),
    ("install_nerdctl", Form::Switch),
    ("install_crictl", Form::Switch),
    ("skip_container_runtime", Form::Switch),
    ("cilium_portmap", Form::Switch),
    ("cluster_options", Form::List),
    ("with_base_url", Form::Switch),
    ("with_kubernetes_url", Form::Switch),
    ("images", Form::Switch),
    ("files", Form::Switch),
    ("clients", Form::Switch),
    ("pointers", Form::Switch),
    ("include", Form::List),
    ("exclude", Form::List),
    ("layout", Form::Text),
    ("catalogue", Form::Text),
    ("publish", Form::Text),
    ("spool.dir", Form::Text),
    ("spool.limit", Form::Text),
    ("fetch.connections", Form::Number),
    ("fetch.files", Form::Number),
    ("fetch.memory", Form::Text),
    ("fetch.limit", Form::Text),
    ("fetch.night", Form::Text),
    ("fetch.night_limit", Form::Text),
    ("fetch.connect_timeout", Form::Text),
    ("fetch.stall_window", Form::Text),
    ("fetch.stall_floor", Form::Text),
    ("fetch.hedge_after", Form::Text),
    ("retry.attempts", Form::Number),
    ("retry.pause_min", Form::Text),
    ("retry.pause_max", Form::Text),
    ("s3.region", Form::Text),
    ("s3.profile", Form::Text),
    ("s3.endpoint", Form::Text),
    ("s3.path_style", Form::Switch),
    ("s3.acl", Form::Text),
    ("s3.create_bucket", Form::Switch),
    ("s3.congestion", Form::Text),
    ("registry.to", Form::List),
    ("registry.to_layout", Form::Text),
    ("registry.from_layout", Form::Text),
    ("registry.also", Form::List),
    ("registry.platforms", Form::List),
    ("registry.naming", Form::Text),
    ("registry.signatures", Form::Switch),
    ("registry.auth_file", Form::Text),
    ("registry.blob_regions", Form::List),
    ("registry.ecr.profile", Form::Text),
    ("registry.ecr.endpoint", Form::Text),
    ("registry.ecr.region", Form::Text),
    ("registry.ecr.encryption", Form::Text),
    ("registry.ecr.scan_on_push", Form::Switch),
    ("registry.ecr.immutable_tags", Form::Switch),
    ("registry.ecr.lifecycle_policy_file", Form::Text),
    ("registry.ecr.repository_policy_file", Form::Text),
    ("registry.ecr_source.profile", Form::Text),
    ("registry.ecr_source.endpoint", Form::Text),
    ("registry.ecr_source.region", Form::Text),
    ("shard", Form::Text),
    ("shards", Form::Number),
    ("service.listen", Form::Text),
    ("service.state", Form::Text),
    ("service.token_file", Form::Text),
    ("service.drain", Form::Text),
    ("service.lease", Form::Text),
    ("service.runs_kept", Form::Number),
];

/// The process's environment, read once. Prints its names alone: values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    pub fn of_process() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    /// All of it, for a program that is run with a part of it.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// The value of a variable; None when it is unset or empty, which everywhere mean the same.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let owned = |(name, value): (N, V)| (name.into(), value.into());
        Self(variables.into_iter().map(owned).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What one place says: some settings, by name.
#[derive(Clone, Default, PartialEq)]
pub struct Layer(Table);

impl Layer {
    /// Says a setting by its name in the file: `spool.dir`.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        let mut table = &mut self.0;
        let mut names = name.split('.').peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                table.insert(name.to_owned(), value.into());
                return;
            }
            let Some(inner) = inner_table(table, name) else {
                return;
            };
            table = inner;
        }
    }

    /// Says a setting when there is something to say.
    pub fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Adds to the sources that this layer gives for a host; together they replace those of an earlier layer.
    pub fn add_source(&mut self, host: &Host, url: &Url) {
        let origin =
            inner_table(&mut self.0, "origins").and_then(|all| inner_table(all, host.as_str()));
        let Some(origin) = origin else { return };
        if let Value::Array(sources) = origin
            .entry("sources")
            .or_insert_with(|| Value::Array(Vec::new()))
        {
            sources.push(url.as_str().into());
        }
    }

    /// Says the most that a host may bring.
    pub fn limit_host(&mut self, host: &Host, rate: Rate) {
        let origin =
            inner_table(&mut self.0, "origins").and_then(|all| inner_table(all, host.as_str()));
        if let Some(origin) = origin {
            origin.insert("limit".to_owned(), rate.to_string().into());
        }
    }

    /// Reads a file. What is wrong in it is said here, by line.
    pub(super) fn of_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let wrong = |error: &toml::de::Error| ConfigError::InFile {
            path: path.to_owned(),
            line: line_of(&text, error),
            why: error.message().trim().to_owned(),
        };
        toml::from_str::<Config>(&text).map_err(|error| wrong(&error))?;
        toml::from_str(&text)
            .map(Self)
            .map_err(|error| wrong(&error))
    }

    /// Reads `KOPS_MIRROR_*`. A variable that is no setting is left alone: Kubernetes puts `KOPS_MIRROR_SERVICE_HOST` and
    /// its like into each pod beside a service named kops-mirror.
    pub(super) fn of_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let mut layer = Self::default();
        for (setting, form) in SETTINGS {
            let name = variable(setting);
            let Some(text) = environment.get(&name) else {
                continue;
            };
            let wrong = |why: String| ConfigError::InEnvironment {
                name: name.clone(),
                why,
            };
            let mut alone = Self::default();
            alone.set(setting, value(text, form).map_err(wrong)?);
            alone
                .clone()
                .config()
                .map_err(|error| wrong(error.message().trim().to_owned()))?;
            layer = layer.below(alone);
        }
        Ok(layer)
    }

    /// What AWS's own tools take from the environment and we must know too: path style rests on the endpoint, ARNs and host
    /// names on the region.
    pub(super) fn of_aws(environment: &Environment) -> Self {
        let first = |names: [&str; 2]| names.into_iter().find_map(|name| environment.get(name));
        let mut layer = Self::default();
        let endpoint = first(["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        layer.set_some("s3.endpoint", endpoint);
        layer.set_some("s3.region", first(["AWS_REGION", "AWS_DEFAULT_REGION"]));
        layer
    }

    /// This layer with `above` on it: tables are joined, anything else is replaced.
    #[must_use]
    pub(super) fn below(mut self, above: Self) -> Self {
        lay(&mut self.0, above.0);
        self
    }

    /// The defaults with this layer on them.
    pub(super) fn config(self) -> Result<Config, toml::de::Error> {
        Config::deserialize(self.0)
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The environment variable of a setting: `KOPS_MIRROR_SPOOL_DIR` of `spool.dir`.
pub fn variable(setting: &str) -> String {
    format!("KOPS_MIRROR_{}", setting.replace('.', "_").to_uppercase())
}

/// The table of that name in `table`, made when missing; None where something else has the name.
fn inner_table<'a>(table: &'a mut Table, name: &str) -> Option<&'a mut Table> {
    table
        .entry(name)
        .or_insert_with(|| Value::Table(Table::new()))
        .as_table_mut()
}

fn lay(below: &mut Table, above: Table) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => lay(inner, value),
            (_, value) => {
                below.insert(name, value);
            }
        }
    }
}

fn value(text: &str, form: Form) -> Result<Value, String> {
    match form {
        Form::Text => Ok(text.into()),
        Form::Number => match text.parse::<i64>() {
            Ok(number) => Ok(number.into()),
            Err(_) => Err(format!("'{}' is not a whole number", text.escape_debug())),
        },
        Form::Switch => match text {
            "true" | "1" | "yes" => Ok(true.into()),
            "false" | "0" | "no" => Ok(false.into()),
            _ => Err(format!("'{}' is not true or false", text.escape_debug())),
        },
        Form::List => {
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            Ok(parts.map(Value::from).collect::<Vec<_>>().into())
        }
    }
}

fn line_of(text: &str, error: &toml::de::Error) -> usize {
    let at = error.span().map_or(0, |span| span.start);
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that a table of the settings takes, from what it says to one that it doesn't take.
    fn names_in(table: &str) -> Vec<String> {
        let text = if table.is_empty() {
            "unknown = 1".to_owned()
        } else {
            format!("[{table}]\nunknown = 1")
        };
        let error = toml::from_str::<Config>(&text).unwrap_err();
        let (_, list) = error.message().split_once("expected one of ").unwrap();
        list.split(", ")
            .map(|name| name.trim().trim_matches('`').to_owned())
            .collect()
    }

    /// Every setting's name, by the types alone.
    fn every_setting() -> Vec<String> {
        let mut names = Vec::new();
        for name in names_in("") {
            match name.as_str() {
                "spool" => names.extend(["spool.dir".to_owned(), "spool.limit".to_owned()]),
                "fetch" | "retry" | "s3" | "registry" | "service" => {
                    let inner = names_in(&name).into_iter();
                    for inner in inner.map(|inner| format!("{name}.{inner}")) {
                        match inner.as_str() {
                            "s3.buckets" | "registry.rules" | "registry.policies" => {}
                            "registry.ecr" | "registry.ecr_source" => names.extend(
                                names_in(&inner)
                                    .iter()
                                    .map(|name| format!("{inner}.{name}")),
                            ),
                            _ => names.push(inner),
                        }
                    }
                }
                "origins" | "sets" | "hooks" => {}
                _ => names.push(name),
            }
        }
        names
    }

    #[test]
    fn every_setting_has_a_variable() {
        let mut listed: Vec<_> = SETTINGS.map(|(name, _)| name.to_owned()).into();
        let mut all = every_setting();
        listed.sort();
        all.sort();
        assert_eq!(listed, all);
    }

    #[test]
    fn the_commented_file_names_every_setting() {
        let file = include_str!("../../config/mirror.toml");
        let mut table = String::new();
        let mut named = Vec::new();
        for line in file.lines().map(|line| line.trim_start_matches("# ")) {
            if let Some(head) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                table = format!("{head}.");
            } else if let Some((name, _)) = line.split_once(" = ") {
                named.push(format!("{table}{name}"));
            }
        }
        for setting in every_setting() {
            assert!(named.contains(&setting), "{setting} is missing");
        }
        for table in [
            "s3.buckets.mirror-cn-northwest-1",
            "origins.\"dl.k8s.io\"",
            "sets.production",
            "hooks.oncall",
        ] {
            for setting in names_in(table) {
                let name = format!("{table}.{setting}");
                assert!(named.contains(&name), "{name} is missing");
            }
        }
    }

    #[test]
    fn a_later_layer_replaces_values_and_joins_tables() {
        let host: Host = "dl.k8s.io".parse().unwrap();
        let mut file = Layer(
            toml::from_str(
                r#"
                to = ["/a", "/b"]
                [spool]
                dir = "/file"
                limit = "1GiB"
                [origins."dl.k8s.io"]
                sources = ["http://one/", "http://two/"]
                connections = 3
                "#,
            )
            .unwrap(),
        );
        let mut flags = Layer::default();
        flags.set("spool.dir", "/flag");
        flags.set("to", vec![Value::from("/c")]);
        flags.add_source(&host, &"http://three/".parse().unwrap());
        flags.add_source(&host, &"http://four/".parse().unwrap());
        file = file.below(flags);
        let config = file.config().unwrap();
        assert_eq!(config.to, ["/c".parse().unwrap()]);
        assert_eq!(config.spool.dir, Some("/flag".into()));
        assert_eq!(config.spool.limit.bytes(), 1 << 30);
        let origin = &config.origins[&host];
        let sources: Vec<_> = origin.sources.iter().map(Url::as_str).collect();
        assert_eq!(sources, ["http://three/", "http://four/"]);
        assert_eq!(origin.connections.map(usize::from), Some(3));
    }
}
