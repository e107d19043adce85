//! `provision ami build`: by flags, over what the cluster's file says.

use anyhow::Context;

use super::{Place, failed, pace, show, shown};
use crate::ami::{self, BuildOrder};
use crate::cli::{BuildArgs, Output};
use crate::cluster::{BuildEngine, ImageBuild};
use crate::config::{Config, Environment};
use crate::events::Observer;
use crate::report::Exit;

/// What a builder is where nothing says.
const MACHINE_TYPE: &str = "t3.medium";
const USER: &str = "ubuntu";

pub(super) async fn build(
    args: &BuildArgs,
    output: Output,
    environment: &Environment,
    config: &Config,
    observer: &dyn Observer,
) -> anyhow::Result<Exit> {
    let place = Place::of(&args.place)?;
    let order = BuildOrder {
        build: wanted(args, &place)?,
        cluster: place.file.as_ref().map(|file| file.name.clone()),
        folder: config.ami_folder()?,
        ssh: args.ssh.clone(),
        callers: environment.variables().clone(),
        pace: pace(args.timeout, &place),
        keeps_instance: args.keep_instance,
    };
    let cloud = place.cloud().await?;
    match ami::build(&cloud, &order, &|_, _| {}, observer).await {
        Ok(built) => {
            let by = built.by.unwrap_or("an earlier run").to_owned();
            show(&shown(&cloud, &built.image, by), output).map(|()| Exit::Done)
        }
        Err(error) => failed(error, observer),
    }
}

/// What was typed, over what the file says.
fn wanted(args: &BuildArgs, place: &Place) -> anyhow::Result<ImageBuild> {
    let file = place.file.as_ref();
    let of_file = file.and_then(|file| file.image.build.clone());
    let needed = |typed: &Option<String>, field: fn(&ImageBuild) -> &String, what: &'static str| {
        let of_file = of_file.as_ref().map(|build| field(build).clone());
        typed.clone().or(of_file).context(what)
    };
    let base = needed(
        &args.base,
        |build| &build.base,
        "say what it is built from: --base IMAGE, or image.build in the cluster's file",
    )?;
    let name = needed(
        &args.name,
        |build| &build.name,
        "say what it is called: --name",
    )?;
    let subnet = needed(
        &args.subnet,
        |build| &build.subnet,
        "say where the builder stands: --subnet, a private one",
    )?;
    let of_file = of_file.unwrap_or_else(|| ImageBuild {
        engine: BuildEngine::Launch,
        base: String::new(),
        name: String::new(),
        subnet: String::new(),
        security_group: None,
        machine_type: MACHINE_TYPE.to_owned(),
        key_name: None,
        private_key: None,
        user: USER.to_owned(),
        script: None,
        imagebuilder: None,
        template: None,
    });
    let build = ImageBuild {
        engine: args.engine.unwrap_or(of_file.engine),
        base,
        name,
        subnet,
        security_group: args.security_group.clone().or(of_file.security_group),
        machine_type: args.machine_type.clone().unwrap_or(of_file.machine_type),
        key_name: args.key_name.clone().or(of_file.key_name),
        private_key: args.private_key.clone().or(of_file.private_key),
        user: args.user.clone().unwrap_or(of_file.user),
        script: args.script.clone().or(of_file.script),
        imagebuilder: args.imagebuilder.clone().or(of_file.imagebuilder),
        template: args.template.clone().or(of_file.template),
    };
    if build.engine == BuildEngine::Launch && build.script.is_none() {
        anyhow::bail!("name the script that makes the image what it is: --script");
    }
    Ok(build)
}
