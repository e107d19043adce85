//! Where images go and come from, as it may be typed.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{path, say_list};
use crate::config::Layer;
use crate::image::{Platform, Reference};
use crate::store::registry::Address;

const IMAGES: &str = "Container images";

/// Where images are.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = IMAGES)]
pub struct ShelfArgs {
    #[command(flatten)]
    pub registries: RegistryArgs,
    /// The folder in the OCI image layout that they go to, to be carried by hand
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub to_layout: Option<PathBuf>,
}

/// The registry alone.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = IMAGES)]
pub struct RegistryArgs {
    /// The registry that the images of the release go to: HOST or HOST/PATH (repeatable)
    #[arg(long, value_name = "HOST[/PATH]")]
    pub to_registry: Vec<Address>,
}

impl ShelfArgs {
    pub(super) fn say(&self, layer: &mut Layer) {
        self.registries.say(layer);
        layer.set_some("registry.to_layout", self.to_layout.as_deref().map(path));
    }

    fn are_named(&self) -> bool {
        !self.registries.to_registry.is_empty() || self.to_layout.is_some()
    }
}

impl RegistryArgs {
    pub(super) fn say(&self, layer: &mut Layer) {
        say_list(layer, "registry.to", &self.to_registry);
    }
}

/// Which images, from where, to where.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = IMAGES)]
pub struct ImageArgs {
    #[command(flatten)]
    pub shelves: ShelfArgs,
    /// Take images from such a folder, all that it has unless versions are given
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub from_layout: Option<PathBuf>,
    /// Take this image too; alone, no files (repeatable)
    #[arg(long, value_name = "IMAGE", value_delimiter = ',')]
    pub image: Vec<Reference>,
    /// Take images of this platform alone, linux/amd64 say: the index is another one then (repeatable) [default: all]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub platform: Vec<Platform>,
    /// Take no files, images alone
    #[arg(long)]
    pub no_files: bool,
}

impl ImageArgs {
    pub(super) fn say(&self, layer: &mut Layer) {
        self.shelves.say(layer);
        layer.set_some(
            "registry.from_layout",
            self.from_layout.as_deref().map(path),
        );
        say_list(layer, "registry.also", &self.image);
        say_list(layer, "registry.platforms", &self.platform);
        layer.set_some("files", self.no_files.then_some(false));
        layer.set_some("images", self.shelves.are_named().then_some(true));
    }
}
