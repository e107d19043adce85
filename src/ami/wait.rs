//! Waits for an image. EC2 is consistent only eventually: an image that was just made is not found at first, by name or by id
//! (kube-deploy#293 gave up there), and then is pending for minutes.

use super::failure::AmiError;
use super::pace::Pace;
use crate::cloud::{Cloud, CloudError, Filter, Image, ImageState, Images};
use crate::events::{Event, Observer};
use crate::retry::Class;

/// Which image is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// `ami-…`
    Id(&'a str),
    /// The account's own of this name; the newest where there are several.
    Name(&'a str),
}

/// Waits until an image is available. Not to be found and pending are "not yet"; a state that it never leaves is an error at once.
pub async fn available(
    cloud: &Cloud,
    which: Which<'_>,
    pace: Pace,
    observer: &dyn Observer,
) -> Result<Image, AmiError> {
    let mut wait = pace.begin();
    let mut told = None;
    loop {
        let found = look(cloud, which).await?;
        let state = found.as_ref().map(|image| image.state);
        match (found, state) {
            (Some(image), Some(ImageState::Available)) => return Ok(image),
            (Some(image), Some(state)) if is_final(state) => {
                return Err(AmiError::Dead {
                    id: image.image_id,
                    region: cloud.region().to_owned(),
                    state,
                    why: image.state_reason.map(|reason| reason.message),
                });
            }
            _ => {}
        }
        if told != Some(state) {
            told = Some(state);
            let how = state.map_or_else(
                || "not to be found yet".to_owned(),
                |state| state.to_string(),
            );
            let what = format!("{} in {} ({how})", which.name(), cloud.region());
            observer.event(&Event::Waiting { what });
        }
        if !wait.pause().await {
            let what = format!("{} in {}", which.name(), cloud.region());
            return Err(AmiError::TooLate {
                what,
                until: "available",
                waited: wait.waited(),
            });
        }
    }
}

async fn look(cloud: &Cloud, which: Which<'_>) -> Result<Option<Image>, CloudError> {
    let asked = match which {
        Which::Id(id) => Images {
            ids: vec![id.to_owned()],
            ..Images::default()
        },
        Which::Name(name) => Images {
            owners: vec!["self".to_owned()],
            filters: vec![Filter::new("name", name)],
            ..Images::default()
        },
    };
    match cloud.images(&asked).await {
        Ok(found) => Ok(found
            .into_iter()
            .max_by(|a, b| a.creation_date.cmp(&b.creation_date))),
        // Whoever waits for an hour outlasts this too.
        Err(error) if error.is_not_found() || error.class() == Class::Transient => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_final(state: ImageState) -> bool {
    match state {
        ImageState::Failed
        | ImageState::Error
        | ImageState::Invalid
        | ImageState::Deregistered
        | ImageState::Disabled => true,
        ImageState::Pending | ImageState::Available | ImageState::Transient => false,
    }
}

impl Which<'_> {
    fn name(self) -> String {
        match self {
            Self::Id(id) => format!("the image {id}"),
            Self::Name(name) => format!("the image called {name}"),
        }
    }
}
