//! The status as Prometheus reads it. Made anew for each scrape, so that what is gone from the board is gone here.
//!
//! Names and units follow <https://prometheus.io/docs/practices/naming/>. Counts of what did not happen yet are there as zero, since
//! a rate needs a first value.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus::{CounterVec, GaugeVec, Opts, Registry, TextEncoder};

use super::process::Usage;
use super::states;
use crate::board::{ReleaseState, SetStatus, Status};
use crate::record::{End, FailureClass, Purpose};

const RELEASE: [&str; 3] = ["set", "target", "release"];

/// In the text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>
pub(super) fn text(status: &Status, usage: Option<&Usage>) -> prometheus::Result<String> {
    let metrics = Metrics::default();
    service(&metrics, status)?;
    releases(&metrics, &status.sets)?;
    sets(&metrics, &status.sets)?;
    counters(&metrics, status)?;
    if let Some(usage) = usage {
        process(&metrics, usage)?;
    }
    TextEncoder::new().encode_to_string(&metrics.0.gather())
}

#[derive(Default)]
struct Metrics(Registry);

impl Metrics {
    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<CounterVec> {
        let counter = CounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

fn service(metrics: &Metrics, status: &Status) -> prometheus::Result<()> {
    let help = "Always 1; the label tells the version.";
    metrics
        .gauge("kops_mirror_build_info", help, &["version"])?
        .with_label_values(&[&status.version])
        .set(1.0);
    let help = "Whether every set was looked at and nothing stands in the way of its runs.";
    metrics
        .gauge("kops_mirror_ready", help, &[])?
        .with_label_values::<&str>(&[])
        .set(f64::from(u8::from(status.ready && !status.draining)));
    let help = "When the service started.";
    metrics
        .gauge("kops_mirror_start_time_seconds", help, &[])?
        .with_label_values::<&str>(&[])
        .set(seconds(status.started));
    Ok(())
}

fn releases(metrics: &Metrics, sets: &[SetStatus]) -> prometheus::Result<()> {
    let complete = metrics.gauge(
        "kops_mirror_release_complete",
        "Whether all of a release is known to be at a target, verified and marked.",
        &RELEASE,
    )?;
    let completed = metrics.gauge(
        "kops_mirror_release_completed_timestamp_seconds",
        "When a release became complete at a target.",
        &RELEASE,
    )?;
    let missing = metrics.gauge(
        "kops_mirror_release_missing_files",
        "Files of a release that are not at a target yet.",
        &RELEASE,
    )?;
    for set in sets {
        for release in &set.releases {
            for at in &release.targets {
                let labels = [&set.name, &at.place, &release.name];
                let is_complete = at.state == ReleaseState::Complete;
                let is_complete = f64::from(u8::from(is_complete));
                complete.with_label_values(&labels).set(is_complete);
                if at.state != ReleaseState::Unknown {
                    missing.with_label_values(&labels).set(at.missing as f64);
                }
                if let Some(time) = at.completed {
                    completed.with_label_values(&labels).set(seconds(time));
                }
            }
        }
    }
    by_state(metrics, sets)
}

fn by_state(metrics: &Metrics, sets: &[SetStatus]) -> prometheus::Result<()> {
    let releases = metrics.gauge(
        "kops_mirror_releases",
        "Releases of a set by their state at a target.",
        &["set", "target", "state"],
    )?;
    for set in sets {
        for place in &set.targets {
            for state in states::ALL {
                releases.with_label_values(&[set.name.as_str(), place, states::name(state)]);
            }
        }
        for at in set.releases.iter().flat_map(|release| &release.targets) {
            let labels = [set.name.as_str(), &at.place, states::name(at.state)];
            releases.with_label_values(&labels).inc();
        }
    }
    Ok(())
}

fn sets(metrics: &Metrics, sets: &[SetStatus]) -> prometheus::Result<()> {
    let success = metrics.gauge(
        "kops_mirror_last_success_timestamp_seconds",
        "When a set last had all that was wanted.",
        &["set"],
    )?;
    let next = metrics.gauge(
        "kops_mirror_next_run_timestamp_seconds",
        "When a set is to run next.",
        &["set"],
    )?;
    let running = metrics.gauge(
        "kops_mirror_run_in_progress",
        "Whether a run of a set is under way.",
        &["set"],
    )?;
    let queued = metrics.gauge(
        "kops_mirror_queued_runs",
        "Runs of a set that wait.",
        &["set"],
    )?;
    let goodput = metrics.gauge(
        "kops_mirror_goodput_bytes_per_second",
        "What the run under way brings, over the last seconds; 0 without one.",
        &["set"],
    )?;
    for set in sets {
        let labels = [&set.name];
        if let Some(time) = set.last_success {
            success.with_label_values(&labels).set(seconds(time));
        }
        if let Some(time) = set.next_run {
            next.with_label_values(&labels).set(seconds(time));
        }
        let speed = set.progress.as_ref().map(|run| run.bytes_per_second);
        let is_running = f64::from(u8::from(set.progress.is_some()));
        running.with_label_values(&labels).set(is_running);
        queued.with_label_values(&labels).set(set.queued as f64);
        goodput
            .with_label_values(&labels)
            .set(speed.unwrap_or_default());
    }
    Ok(())
}

fn counters(metrics: &Metrics, status: &Status) -> prometheus::Result<()> {
    let counted = &status.counters;
    let origins = metrics.counter(
        "kops_mirror_origin_bytes_total",
        "Bytes that an origin brought since the service started.",
        &["origin"],
    )?;
    for (origin, bytes) in &counted.bytes_by_origin {
        origins.with_label_values(&[origin]).inc_by(*bytes as f64);
    }
    ends_and_failures(metrics, status)?;
    let messages = metrics.counter(
        "kops_mirror_messages_total",
        "Messages to webhooks: sent, and given up after all tries.",
        &["result"],
    )?;
    for (result, count) in [("sent", counted.told), ("given-up", counted.untold)] {
        messages.with_label_values(&[result]).inc_by(count as f64);
    }
    for (name, help, count) in [
        (
            "kops_mirror_scrubbed_objects_total",
            "Objects that scrubs read again.",
            counted.scrubbed,
        ),
        (
            "kops_mirror_damaged_objects_total",
            "Objects that scrubs found to be wrong.",
            counted.damaged,
        ),
    ] {
        let objects = metrics.counter(name, help, &[])?;
        objects.with_label_values::<&str>(&[]).inc_by(count as f64);
    }
    Ok(())
}

fn ends_and_failures(metrics: &Metrics, status: &Status) -> prometheus::Result<()> {
    let runs = metrics.counter(
        "kops_mirror_runs_total",
        "Runs that ended, by what they were for and how they ended.",
        &["set", "purpose", "end"],
    )?;
    let failures = metrics.counter(
        "kops_mirror_failures_total",
        "Files that failed, by what the failure was of.",
        &["set", "class"],
    )?;
    let withheld = metrics.counter(
        "kops_mirror_withheld_pointers_total",
        "Pointers that stayed where they were, since a release of their run was not complete.",
        &["set"],
    )?;
    for set in &status.sets {
        let count = status.counters.withheld.get(&set.name);
        let count = count.copied().unwrap_or_default();
        withheld
            .with_label_values(&[&set.name])
            .inc_by(count as f64);
    }
    for (labels, count) in run_counts(status) {
        runs.with_label_values(&labels).inc_by(count as f64);
    }
    for (labels, count) in failure_counts(status) {
        failures.with_label_values(&labels).inc_by(count as f64);
    }
    Ok(())
}

/// With a zero for what did not happen.
fn run_counts(status: &Status) -> BTreeMap<[&str; 3], u64> {
    let mut counts = BTreeMap::new();
    for set in &status.sets {
        for purpose in Purpose::ALL {
            for end in End::ALL {
                counts.insert([&*set.name, purpose.name(), end.name()], 0);
            }
        }
    }
    for (set, purpose, end, count) in &status.counters.runs {
        *counts.entry([set, purpose.name(), end.name()]).or_default() += count;
    }
    counts
}

/// With a zero for what did not happen.
fn failure_counts(status: &Status) -> BTreeMap<[&str; 2], u64> {
    let mut counts = BTreeMap::new();
    for set in &status.sets {
        for class in FailureClass::ALL {
            counts.insert([&*set.name, class.name()], 0);
        }
    }
    for (set, class, count) in &status.counters.failures {
        *counts.entry([set, class.name()]).or_default() += count;
    }
    counts
}

fn process(metrics: &Metrics, usage: &Usage) -> prometheus::Result<()> {
    let help = "Memory of this process that is in RAM.";
    metrics
        .gauge("process_resident_memory_bytes", help, &[])?
        .with_label_values::<&str>(&[])
        .set(usage.resident_bytes as f64);
    let help = "Files and sockets that this process has open.";
    metrics
        .gauge("process_open_fds", help, &[])?
        .with_label_values::<&str>(&[])
        .set(usage.open_files as f64);
    let help = "Processor time that this process took, its own and the kernel's for it.";
    metrics
        .counter("process_cpu_seconds_total", help, &[])?
        .with_label_values::<&str>(&[])
        .inc_by(usage.processor_seconds);
    Ok(())
}
