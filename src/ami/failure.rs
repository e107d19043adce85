//! Why there is no image.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::cloud::{CloudError, ImageState};
use crate::retry::Class;
use crate::store::StoreError;

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum AmiError {
    #[error(transparent)]
    Cloud(#[from] CloudError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing answers the query.
    #[error("no image in {region} is {wanted}: {why}")]
    None {
        region: String,
        wanted: String,
        why: String,
    },
    /// It will never be available.
    #[error("the image {id} in {region} is {state}{}", reason(why.as_deref()))]
    Dead {
        id: String,
        region: String,
        state: ImageState,
        why: Option<String>,
    },
    #[error("{what} was not {until} within {} s; it may still come: wait longer, with kops-mirror provision ami wait", waited.as_secs())]
    TooLate {
        what: String,
        until: &'static str,
        waited: Duration,
    },
    /// A task of EC2, or a snapshot, that failed there.
    #[error("can't {what}: EC2 gave up{}", reason(why.as_deref()))]
    GaveUp { what: String, why: Option<String> },
    /// What was asked for can't be done so.
    #[error("{0}")]
    Refused(String),
    /// What arrived is not what was sent.
    #[error("{0}")]
    Corrupt(String),
    /// The instance that an image is built on.
    #[error("the builder {id} in {region}: {why}")]
    Builder {
        id: String,
        region: String,
        why: String,
    },
    /// The script, or the external program, that makes an image what it is.
    #[error("{what} ended {}, saying {said} (all of it is in {record})", how(*code))]
    Program {
        what: String,
        /// None when a signal ended it.
        code: Option<i32>,
        /// Its last words.
        said: String,
        record: String,
    },
    #[error("{what} did not end within {} s and was stopped, saying {said} (all of it is in {record})", limit.as_secs())]
    TimedOut {
        what: String,
        limit: Duration,
        said: String,
        record: String,
    },
    #[error("can't run {}", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("can't read or write {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("can't keep what has been carried in {}", path.display())]
    Journal {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn reason(why: Option<&str>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

fn how(code: Option<i32>) -> String {
    match code {
        Some(code) => format!("with {code}"),
        None => "by a signal".to_owned(),
    }
}

impl AmiError {
    pub fn class(&self) -> Class {
        match self {
            Self::Cloud(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::TooLate { .. } => Class::Transient,
            Self::Corrupt(_) => Class::Corrupt,
            _ => Class::Permanent,
        }
    }
}
