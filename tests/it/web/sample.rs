//! The sample of `/metrics` that alerts and the dashboard are checked by is what the server tells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Lab;

/// Labels that have the same values everywhere: a query that names another one finds nothing.
const CLOSED: [&str; 5] = ["state", "end", "purpose", "class", "result"];

/// What a metric is, however many series it has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    /// The names of each series' labels: one combination, if they are as they should be.
    labels: BTreeSet<Vec<String>>,
    /// The values of labels that are closed.
    values: BTreeMap<String, BTreeSet<String>>,
}

fn metrics(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            kind.clone_into(&mut metrics.entry(name.to_owned()).or_default().kind);
        } else if !line.starts_with('#') && !line.is_empty() {
            let series = line.rsplit_once(' ').unwrap().0;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let metric = metrics.entry(name.to_owned()).or_default();
            let mut names = Vec::new();
            for label in labels
                .trim_end_matches('}')
                .split("\",")
                .filter(|l| !l.is_empty())
            {
                let (label, value) = label.split_once("=\"").unwrap();
                names.push(label.to_owned());
                if CLOSED.contains(&label) {
                    let values = metric.values.entry(label.to_owned()).or_default();
                    values.insert(value.trim_end_matches('"').to_owned());
                }
            }
            names.sort();
            metric.labels.insert(names);
        }
    }
    metrics
}

#[tokio::test]
async fn the_sample_of_metrics_is_what_the_server_tells() {
    let lab = Lab::start().await;
    let told = metrics(&lab.get("/metrics").await.text().await.unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/metrics.prom");
    let mut sample = metrics(&std::fs::read_to_string(path).unwrap());
    if !cfg!(target_os = "linux") {
        sample.retain(|name, _| !name.starts_with("process_"));
    }
    let names = |of: &BTreeMap<String, Metric>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&sample), names(&told));
    for (name, metric) in &told {
        assert_eq!(
            metric.labels.len(),
            1,
            "{name} has series of different labels"
        );
        assert_eq!(&sample[name], metric, "{name} in tests/deploy/metrics.prom");
    }
}
