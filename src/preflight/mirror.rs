//! The mirror as nodes see it: P06, P07 and P17.

use url::Url;

use super::facts::{Answered, Expected, Facts, Read};
use super::findings::Findings;
use super::{Finding, Told};
use crate::cluster::ClusterFile;
use crate::partition::Partition;
use crate::store::bucket_policy::Audience;

/// P06: the mirror can be read without credentials, as nodes read it.
pub(super) fn reads(facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(6);
    let Some(reads) = found.known(&facts.reads) else {
        return found.or_fine("");
    };
    let from_within = match &facts.audience {
        Ok(Some(Audience::Limited(limits))) => Some(limits.join(", ")),
        _ => None,
    };
    for read in reads {
        let Some(answer) = found.known(&read.answer) else {
            continue;
        };
        judge_read(&mut found, facts, read, answer, from_within.as_deref());
    }
    found.or_fine(format!("{} files that kops and nodes read first are there for everybody, and are what the index says", reads.len()))
}

fn judge_read(
    found: &mut Findings,
    facts: &Facts,
    read: &Read,
    answer: &Answered,
    from_within: Option<&str>,
) {
    let Read { what, url, .. } = read;
    let is_listed = facts
        .mirror
        .as_ref()
        .is_ok_and(|audit| read.key.as_ref().is_none_or(|key| audit.holds(key)));
    match answer.status {
        200..300 => {
            if let Some(why) = differs(answer, read.expected.as_ref()) {
                found.error(
                    format!("{what} at {url} is not what was mirrored: {why}"),
                    "does mirror.url lead to this mirror? 'kops-mirror repair' mends what is wrong in it",
                );
            }
        }
        // S3 says this to who may not list, of what is not there too.
        401 | 403 if !is_listed && facts.mirror.is_ok() => found.error(
            format!("{what} is not in the mirror ({} at {url})", answer.status),
            "run 'kops-mirror sync'",
        ),
        401 | 403 => match from_within {
            Some(limits) => found.unknown(
                format!("{what} at {url} is for who comes from {limits}, and this machine does not"),
                "run this on a machine in the VPC",
            ),
            None => found.error(
                format!("{what} at {url} is refused ({}): nodes read without credentials", answer.status),
                "let the cluster's VPC endpoint read: 'kops-mirror bucket-policy --vpc-endpoint vpce-… --to s3://…' prints the policy",
            ),
        },
        404 => found.error(
            format!("{what} is not at {url}"),
            "run 'kops-mirror sync' for this release, or correct mirror.url",
        ),
        status => found.error(
            format!("{what} at {url} is answered with {status}"),
            "nodes follow no redirect to a login and wait for no server: see what is at that address",
        ),
    }
}

/// What is otherwise than the index says.
fn differs(answer: &Answered, expected: Option<&Expected>) -> Option<String> {
    match expected? {
        Expected::File { length, md5 } => {
            if answer.length.is_some_and(|got| got != *length) {
                return Some(format!(
                    "{} bytes, not {length}",
                    answer.length.unwrap_or_default()
                ));
            }
            let etag = answer
                .etag
                .as_deref()
                .filter(|etag| etag.len() == md5.len());
            etag.filter(|etag| etag != md5)
                .map(|etag| format!("its ETag is {etag}, not {md5}"))
        }
        Expected::Digest(hex) => {
            let text = answer.text.as_deref().unwrap_or_default();
            let got = text.split_whitespace().next().unwrap_or_default();
            (got != hex).then(|| {
                format!(
                    "it says '{}', not {hex}",
                    got.chars().take(70).collect::<String>().escape_debug()
                )
            })
        }
    }
}

/// P07: who may read the mirror.
pub(super) fn readers(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(7);
    let Some(audience) = found.known(&facts.audience) else {
        return found.or_fine("");
    };
    let at = &file.mirror.at;
    // Objects may be public by their own ACL, of which the bucket's policy says nothing.
    let audience = match audience {
        Some(Audience::Nobody) if are_read(facts) => &Some(Audience::Everybody),
        audience => audience,
    };
    let is_china = Partition::of_region(&file.region).is_china();
    match audience {
        Some(Audience::Everybody) if is_china => found.warning(
            format!("everybody may read {at}: in China content without a login needs an ICP filing, and without one AWS may block it"),
            "let in only the VPC's endpoint for S3: 'kops-mirror bucket-policy --vpc-endpoint vpce-… --to s3://…'",
        ),
        Some(Audience::Everybody) => found.warning(
            format!("everybody may read {at}, and its traffic is paid for"),
            "let in only the VPC's endpoint for S3: 'kops-mirror bucket-policy --vpc-endpoint vpce-… --to s3://…'",
        ),
        Some(Audience::Nobody) => found.error(
            format!("the policy of {at} lets nobody read without credentials, as nodes do"),
            "let in the VPC's endpoint for S3: 'kops-mirror bucket-policy --vpc-endpoint vpce-… --to s3://…' prints the policy",
        ),
        Some(Audience::Limited(_)) | None => {}
    }
    found.or_fine(match audience {
        Some(Audience::Limited(limits)) => {
            format!("{at} is read by who comes from {}", limits.join(", "))
        }
        _ => "the mirror is read by an address of its own, whose access is not S3's affair"
            .to_owned(),
    })
}

/// Whether everything that was asked for without credentials came.
fn are_read(facts: &Facts) -> bool {
    let came =
        |read: &Read| matches!(&read.answer, Ok(answer) if (200..300).contains(&answer.status));
    matches!(&facts.reads, Ok(reads) if !reads.is_empty() && reads.iter().all(came))
}

/// P17: the addresses of the mirror are what kops takes.
pub(super) fn addresses(file: &ClusterFile, told: &Told) -> Vec<Finding> {
    const BLOCKED: [&str; 2] = ["raw.githubusercontent.com", "github.com"];
    let mut found = Findings::of(17);
    let settings = &told.settings;
    let channel = &told.channel;
    let host = |text: &str| {
        Url::parse(text)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
    };
    let is_blocked = host(channel).is_some_and(|host| BLOCKED.contains(&host.as_str()));
    if !channel.contains("://") || is_blocked {
        found.error(
            format!(
                "kops reads its channel '{channel}' from a host that is blocked or slow in China"
            ),
            "leave mirror.channel out, or give the mirror's own",
        );
    }
    let base = settings
        .environment
        .iter()
        .find(|setting| setting.name == "KOPS_BASE_URL");
    let base = base.map(|setting| setting.value.trim_end_matches('/'));
    if let Some(base) = base {
        let last = base.rsplit('/').next().unwrap_or_default();
        let version = file.kops_version.to_string();
        if last != version {
            found.error(
                format!("KOPS_BASE_URL ends in '{last}', which kops takes for its own version, and it is {version}"),
                "let mirror.url lead to the mirror's root",
            );
        }
    }
    let hosts: Vec<_> = [base, settings.file_repository.as_deref()]
        .into_iter()
        .flatten()
        .filter_map(host)
        .collect();
    if let [one, other] = hosts.as_slice()
        && one != other
    {
        found.error(
            format!("KOPS_BASE_URL is at {one} and fileRepository at {other}: kops moves files whose host is another"),
            "give both by one host",
        );
    }
    if told.base_url.scheme() == "http" {
        found.warning(
            format!("{} is read without TLS", told.base_url),
            "use https: old releases of kops hand nodes no digest of some files",
        );
    }
    found.or_fine(format!(
        "files are at {}, kops' channel at {channel}",
        told.base_url
    ))
}
