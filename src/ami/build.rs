//! Builds an image on an instance of its own, in a private subnet: launched, worked on, stopped, made an image of, terminated.
//!
//! The account is the record of how far that is. The builder carries tags from its first moment, among them what goes into the image
//! ([`mark::RECIPE`]) and how far it has got ([`mark::PHASE`]), so that a build that was killed is taken up by the next: a builder
//! whose script runs by itself is waited for, one that is done is made an image of, and one whose script was cut off is replaced, since nobody
//! knows what a script does that runs twice. An image of that name and that recipe is the answer at once.

mod builder;
mod console;
mod imagebuilder;
mod launch;
mod program;
mod ssh;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::failure::AmiError;
use super::leftovers::{Kind, gone};
use super::mark::{self, Mark, Role};
use super::pace::Pace;
use super::resolve::{named, unfit};
use super::wait::{Which, available};
use crate::asset::Arch;
use crate::cloud::{Cloud, Filter, Image, ImageState, Images, Tag};
use crate::cluster::{BuildEngine, ImageBuild, arch_of};
use crate::digest::{Algorithm, Digest};
use crate::events::{Event, Observer, told};

/// What is to be built, and with what.
#[derive(Debug, Clone)]
pub struct BuildOrder {
    pub build: ImageBuild,
    pub cluster: Option<String>,
    /// Where programs' files are, and what they print.
    pub folder: PathBuf,
    /// The program that logs in.
    pub ssh: PathBuf,
    /// What the caller has in its environment, of which programs get what they need.
    pub callers: BTreeMap<String, String>,
    /// For each thing that is waited for: an instance's state, a login, the script, the image.
    pub pace: Pace,
    /// Whether the builder stays, for a look at it.
    pub keeps_instance: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    pub image: Image,
    /// `launch`, `imagebuilder`; None where it was there already.
    pub by: Option<&'static str>,
}

/// Is told the id of what is made as soon as it is known.
pub type Ledger<'a> = &'a (dyn Fn(Kind, &str) + Send + Sync);

/// Builds an image, or finds it built.
pub async fn build(
    cloud: &Cloud,
    order: &BuildOrder,
    ledger: Ledger<'_>,
    observer: &dyn Observer,
) -> Result<Built, AmiError> {
    let work = Work {
        cloud,
        order,
        recipe: Recipe::read(&order.build)?,
        ledger,
        observer,
    };
    let built = work.go().await;
    let cleared = match order.keeps_instance {
        true => Ok(()),
        false => work.dismiss().await,
    };
    if let Err(error) = cleared {
        let what = format!(
            "a builder is left, which kops-mirror provision ami gc takes away: {}",
            told(&error)
        );
        observer.event(&Event::Warned { what });
    }
    built
}

/// The image, where it has been built, available or on its way; asks only.
pub async fn built(cloud: &Cloud, build: &ImageBuild) -> Result<Option<Image>, AmiError> {
    let recipe = Recipe::read(build)?;
    let found = of_name(cloud, &build.name).await?;
    for image in found {
        match standing(&image, build, &recipe) {
            Standing::Ours if is_coming(&image) => return Ok(Some(image)),
            Standing::Ours | Standing::Unknown => {}
            Standing::Refused(what) => return Err(AmiError::Refused(what)),
        }
    }
    Ok(None)
}

/// One build.
struct Work<'a> {
    cloud: &'a Cloud,
    order: &'a BuildOrder,
    recipe: Recipe,
    ledger: Ledger<'a>,
    observer: &'a dyn Observer,
}

/// Everything that goes into an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Recipe {
    script: Option<String>,
    template: Option<String>,
    /// Of all of it.
    digest: Digest,
}

impl Recipe {
    fn read(build: &ImageBuild) -> Result<Self, AmiError> {
        let script = build.script.as_deref().map(text_of).transpose()?;
        let template = build.template.as_deref().map(text_of).transpose()?;
        let parts = [
            match build.engine {
                BuildEngine::Launch => "launch",
                BuildEngine::Imagebuilder => "imagebuilder",
            },
            &build.base,
            script.as_deref().unwrap_or_default(),
            template.as_deref().unwrap_or_default(),
        ];
        // Lengths keep the parts apart.
        let parts = parts.iter();
        let all: Vec<String> = parts
            .map(|part| format!("{}:{part}\n", part.len()))
            .collect();
        Ok(Self {
            script,
            template,
            digest: Digest::of(Algorithm::Sha256, all.concat().as_bytes()),
        })
    }

    /// As tags have it.
    fn tag(&self) -> String {
        self.digest.hex()
    }
}

fn text_of(path: &Path) -> Result<String, AmiError> {
    std::fs::read_to_string(path).map_err(|source| AmiError::File {
        path: path.to_owned(),
        source,
    })
}

/// Whose an image of the wanted name is.
enum Standing {
    /// Built here, of this recipe.
    Ours,
    /// Without our tags.
    Unknown,
    Refused(String),
}

fn standing(image: &Image, build: &ImageBuild, recipe: &Recipe) -> Standing {
    let (id, name) = (&image.image_id, &build.name);
    if image.tag(mark::SOURCE) != Some(source(build).as_str()) {
        return match build.engine {
            BuildEngine::Imagebuilder => Standing::Unknown,
            BuildEngine::Launch => Standing::Refused(foreign(id, name)),
        };
    }
    match image.tag(mark::RECIPE) == Some(recipe.tag().as_str()) {
        true => Standing::Ours,
        false => Standing::Refused(format!(
            "the image {id} called {name} was built from another base, script or template: give the new one another name"
        )),
    }
}

fn foreign(id: &str, name: &str) -> String {
    format!(
        "there is an image called {name} already, {id}, and it was not built here: give another name, or have it as image.use"
    )
}

/// Whether it is available, or may come to be.
fn is_coming(image: &Image) -> bool {
    matches!(
        image.state,
        ImageState::Available | ImageState::Pending | ImageState::Transient
    )
}

/// `build/NAME`
fn source(build: &ImageBuild) -> String {
    format!("build/{}", build.name)
}

/// The account's own images of a name, the newest first.
async fn of_name(cloud: &Cloud, name: &str) -> Result<Vec<Image>, AmiError> {
    let which = Images {
        owners: vec!["self".to_owned()],
        filters: vec![Filter::new("name", name)],
        ..Images::default()
    };
    let mut found = cloud.images(&which).await?;
    found.sort_by(|a, b| b.creation_date.cmp(&a.creation_date));
    Ok(found)
}

impl Work<'_> {
    fn build(&self) -> &ImageBuild {
        &self.order.build
    }

    fn arch(&self) -> Arch {
        arch_of(&self.build().machine_type)
    }

    async fn go(&self) -> Result<Built, AmiError> {
        if let Some(image) = self.earlier().await? {
            return Ok(Built { image, by: None });
        }
        let base = named(self.cloud, &self.build().base, self.arch()).await?;
        let by = match self.build().engine {
            BuildEngine::Launch => "launch",
            BuildEngine::Imagebuilder => "imagebuilder",
        };
        let image = match self.build().engine {
            BuildEngine::Launch => launch::image(self, &base).await?,
            BuildEngine::Imagebuilder => imagebuilder::image(self, &base).await?,
        };
        if let Some(why) = unfit(&image, self.arch()) {
            let what = format!("the image {} that was built {why}", image.image_id);
            return Err(AmiError::Refused(what));
        }
        Ok(Built {
            image,
            by: Some(by),
        })
    }

    /// What an earlier run has built, or begun to.
    async fn earlier(&self) -> Result<Option<Image>, AmiError> {
        for image in of_name(self.cloud, &self.build().name).await? {
            match standing(&image, self.build(), &self.recipe) {
                Standing::Ours => {}
                Standing::Refused(what) => return Err(AmiError::Refused(what)),
                // The program makes images without tags: with the builder still there it is what that run did not live to mark.
                Standing::Unknown if !self.builders().await?.is_empty() => {}
                Standing::Unknown => {
                    let what = foreign(&image.image_id, &self.build().name);
                    return Err(AmiError::Refused(what));
                }
            }
            match self.finished(&image.image_id).await {
                Ok(image) => return Ok(Some(image)),
                // It never will be, and is gone.
                Err(AmiError::Dead { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Waits for an image that has been made, and marks it. One that failed is taken away: it is in the way of its name.
    async fn finished(&self, id: &str) -> Result<Image, AmiError> {
        (self.ledger)(Kind::Image, id);
        let ended = available(self.cloud, Which::Id(id), self.order.pace, self.observer).await;
        let image = match ended {
            Err(AmiError::Dead { .. }) => {
                let failed = self.cloud.image(id).await?;
                if let Some(failed) = failed {
                    gone(self.cloud, &failed).await?;
                }
                return ended;
            }
            ended => ended?,
        };
        let tags = self.tags(Role::Image);
        let is_marked = |tag: &Tag| image.tags.contains(tag);
        if !tags.iter().all(is_marked) {
            let mut ids = vec![id];
            ids.extend(image.snapshots());
            self.cloud.tag(&ids, &tags).await?;
        }
        Ok(image)
    }

    fn tags(&self, role: Role) -> Vec<Tag> {
        let mark = Mark {
            cluster: self.order.cluster.clone(),
            role,
            source: Some(source(self.build())),
        };
        let mut tags = mark.tags();
        tags.push(Tag::new(mark::RECIPE, self.recipe.tag()));
        tags
    }

    /// A file of this build's.
    fn file(&self, ending: &str) -> PathBuf {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name = self.build().name.chars();
        let name: String = name.map(|c| if is_plain(c) { c } else { '_' }).collect();
        self.order.folder.join(format!("{name}.{ending}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> ImageBuild {
        ImageBuild {
            engine: BuildEngine::Launch,
            base: "ami-1".to_owned(),
            name: "hardened".to_owned(),
            subnet: "subnet-1".to_owned(),
            security_group: None,
            machine_type: "t3.medium".to_owned(),
            key_name: None,
            private_key: None,
            user: "ubuntu".to_owned(),
            script: None,
            imagebuilder: None,
            template: None,
        }
    }

    #[test]
    fn a_recipe_is_of_what_goes_into_the_image_and_of_nothing_else() {
        let folder = tempfile::TempDir::new().unwrap();
        let script = folder.path().join("a.sh");
        std::fs::write(&script, "true").unwrap();
        let with_script = ImageBuild {
            script: Some(script.clone()),
            ..order()
        };
        let digest = |build: &ImageBuild| Recipe::read(build).unwrap().digest;
        let first = digest(&with_script);
        assert_ne!(first, digest(&order()));
        let elsewhere = ImageBuild {
            subnet: "subnet-2".to_owned(),
            ..with_script.clone()
        };
        assert_eq!(first, digest(&elsewhere));
        std::fs::write(&script, "false").unwrap();
        assert_ne!(first, digest(&with_script));
        std::fs::remove_file(&script).unwrap();
        let error = Recipe::read(&with_script).unwrap_err();
        assert!(error.to_string().contains("a.sh"), "{error}");
    }
}
