//! The instance that an image is built on.

use super::Work;
use super::program::Ended;
use crate::ami::failure::AmiError;
use crate::ami::leftovers::Kind;
use crate::ami::mark::{IMAGEBUILDER, PHASE, RECIPE, Role, made_of};
use crate::cloud::{CloudError, Filter, Image, Instance, NewInstance, Tag};
use crate::events::Event;
use crate::retry::Class;

/// How far a builder is, as its tag has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It starts, and runs what it was given as user data.
    Launched,
    /// The script has been begun, and nobody has seen it end.
    Scripted,
    /// It is what the image is to be.
    Done,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Launched => "launched",
            Self::Scripted => "scripted",
            Self::Done => "done",
        }
    }

    fn named(name: Option<&str>) -> Self {
        match name {
            Some("done") => Self::Done,
            Some("scripted") => Self::Scripted,
            _ => Self::Launched,
        }
    }
}

/// A builder that is there.
#[derive(Debug, Clone)]
pub(super) struct Builder {
    pub(super) id: String,
    pub(super) phase: Phase,
    /// As it was when it was looked for.
    pub(super) state: String,
}

impl Work<'_> {
    /// Builders of this image that are there, the newest last.
    pub(super) async fn builders(&self) -> Result<Vec<Instance>, AmiError> {
        let made = made_of(&super::source(self.build()), Role::Way);
        Ok(self.cloud.living(made).await?)
    }

    /// A builder of an earlier run that `goes_on`, else a new one. All others of this image are terminated.
    pub(super) async fn builder(
        &self,
        base: &Image,
        user_data: Option<&str>,
        goes_on: impl Fn(&Builder) -> bool,
    ) -> Result<Builder, AmiError> {
        let mut kept = None;
        for instance in self.builders().await?.into_iter().rev() {
            let is_of_recipe = instance.tag(RECIPE) == Some(self.recipe.tag().as_str());
            let builder = Builder {
                phase: Phase::named(instance.tag(PHASE)),
                state: instance.state().to_owned(),
                id: instance.instance_id,
            };
            if kept.is_none() && is_of_recipe && goes_on(&builder) {
                self.tell(format!(
                    "{} of an earlier run goes on, {}",
                    builder.id,
                    builder.phase.name()
                ));
                kept = Some(builder);
            } else {
                self.cloud.terminate_instance(&builder.id).await?;
            }
        }
        match kept {
            Some(builder) => Ok(builder),
            None => self.launch(base, user_data).await,
        }
    }

    async fn launch(&self, base: &Image, user_data: Option<&str>) -> Result<Builder, AmiError> {
        let build = self.build();
        let mut tags = self.tags(Role::Way);
        tags.push(Tag::new("Name", format!("builder of {}", build.name)));
        tags.push(Tag::new(PHASE, Phase::Launched.name()));
        tags.push(Tag::new(IMAGEBUILDER, "1"));
        // For this call and its repetitions alone: a builder is found again by its tags, and EC2 remembers a token when it is gone.
        let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let new = NewInstance {
            image: &base.image_id,
            machine_type: &build.machine_type,
            subnet: &build.subnet,
            security_group: build.security_group.as_deref(),
            key_name: build.key_name.as_deref(),
            user_data,
            profile: None,
            token: &token,
            tags: &tags,
        };
        let instance = self.cloud.run_instance(&new).await?;
        (self.ledger)(Kind::Instance, &instance.instance_id);
        self.tell(format!(
            "{} builds {}",
            instance.instance_id,
            self.build().name
        ));
        Ok(Builder {
            state: instance.state().to_owned(),
            id: instance.instance_id,
            phase: Phase::Launched,
        })
    }

    /// Writes down how far it is.
    pub(super) async fn reached(&self, id: &str, phase: Phase) -> Result<(), AmiError> {
        let tag = Tag::new(PHASE, phase.name());
        Ok(self.cloud.tag(&[id], &[tag]).await?)
    }

    /// Waits until it runs. It must be told apart from one that stopped by itself.
    pub(super) async fn running(&self, id: &str) -> Result<Instance, AmiError> {
        let instance = self.until(id, "running", &["stopping", "stopped"]).await?;
        match &instance.public_ip_address {
            None => Ok(instance),
            Some(address) => Err(self.failed(
                id,
                format!("it has a public address, {address}, though none was asked for"),
            )),
        }
    }

    /// Waits until it has stopped.
    pub(super) async fn stopped(&self, id: &str) -> Result<Instance, AmiError> {
        self.until(id, "stopped", &[]).await
    }

    async fn until(
        &self,
        id: &str,
        wanted: &'static str,
        never: &[&str],
    ) -> Result<Instance, AmiError> {
        let mut wait = self.order.pace.begin();
        let mut told = None;
        loop {
            let found = self.look(id).await?;
            let state = found.as_ref().map_or("", Instance::state).to_owned();
            match found {
                Some(instance) if state == wanted => return Ok(instance),
                Some(instance) if !instance.is_living() || never.contains(&state.as_str()) => {
                    let why = instance.reason().map(|why| format!(": {why}"));
                    let why = format!("it is {state}{}", why.unwrap_or_default());
                    return Err(self.failed(id, why));
                }
                _ => {}
            }
            if told.as_ref() != Some(&state) {
                let what = match state.as_str() {
                    "" => format!("the builder {id} (not to be found yet)"),
                    state => format!("the builder {id} to be {wanted} ({state})"),
                };
                self.observer.event(&Event::Waiting { what });
                told = Some(state.clone());
            }
            if !wait.pause().await {
                let waited = wait.waited().as_secs();
                return Err(self.failed(
                    id,
                    format!("it was not {wanted} within {waited} s, but {state}"),
                ));
            }
        }
    }

    /// The instance; None where it is not there yet, or EC2 is not to be asked at the moment.
    pub(super) async fn look(&self, id: &str) -> Result<Option<Instance>, AmiError> {
        match self.cloud.instances(&[id], &[]).await {
            Ok(found) => Ok(found.into_iter().next()),
            Err(error) if is_passing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What it has written on its console by now.
    pub(super) async fn console(&self, id: &str) -> Result<Option<String>, AmiError> {
        match self.cloud.console_output(id).await {
            Ok(output) => Ok(output),
            Err(error) if is_passing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the builders of this image away.
    pub(super) async fn dismiss(&self) -> Result<(), AmiError> {
        for instance in self.builders().await? {
            self.cloud.terminate_instance(&instance.instance_id).await?;
        }
        Ok(())
    }

    /// Refuses a region where the external program would find an instance that is not ours.
    pub(super) async fn refuse_other_builders(&self, id: &str) -> Result<(), AmiError> {
        let tagged = Filter::new("tag-key", IMAGEBUILDER);
        let others = self.cloud.living(vec![tagged]).await?;
        let other = others.iter().find(|other| other.instance_id != id);
        match other {
            None => Ok(()),
            Some(other) => Err(AmiError::Refused(format!(
                "{} in {} has the tag {IMAGEBUILDER} too, and imagebuilder takes any: wait for that build, or terminate it",
                other.instance_id,
                self.cloud.region()
            ))),
        }
    }

    pub(super) fn failed(&self, id: &str, why: String) -> AmiError {
        AmiError::Builder {
            id: id.to_owned(),
            region: self.cloud.region().to_owned(),
            why,
        }
    }

    /// What ended and was not well.
    pub(super) fn program_failed(&self, what: &str, ended: Ended, record: String) -> AmiError {
        let what = what.to_owned();
        match ended.is_too_late {
            true => AmiError::TimedOut {
                what,
                limit: self.order.pace.deadline,
                said: ended.said,
                record,
            },
            false => AmiError::Program {
                what,
                code: ended.code,
                said: ended.said,
                record,
            },
        }
    }

    pub(super) fn tell(&self, what: String) {
        self.observer.event(&Event::Stepped {
            step: "image".to_owned(),
            what,
        });
    }
}

/// Whoever waits for an hour outlasts it.
fn is_passing(error: &CloudError) -> bool {
    error.is_not_found() || error.class() == Class::Transient
}
