//! The engine `imagebuilder`: the program of kube-deploy, which wraps bootstrap-vz (retired since 2019, and still in use).
//!
//! Left to itself it asks for a public address, waits without end, and looks for its image once, 0.2 s after it was made
//! (kube-deploy#293). So the instance is ours and it is told not to bring up any (`--up=false`); it finds it by its tag. It is limited in
//! time, and how it ends counts less than whether there is an image, which is looked for patiently.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Work;
use super::builder::{Builder, Phase};
use super::program::Program;
use crate::ami::failure::AmiError;
use crate::ami::mark::Role;
use crate::ami::wait::{Which, available};
use crate::cloud::Image;

/// As much of its settings (pkg/imagebuilder/config.go) as there is something to say about.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Settings<'a> {
    cloud: &'static str,
    template_path: &'a Path,
    /// Each a command in words; None: the program's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    setup_commands: Option<Vec<Vec<&'a str>>>,
    #[serde(rename = "SSHUsername")]
    ssh_username: &'a str,
    #[serde(rename = "SSHPublicKey")]
    ssh_public_key: String,
    #[serde(rename = "SSHPrivateKey")]
    ssh_private_key: &'a Path,
    tags: std::collections::BTreeMap<String, String>,
    region: &'a str,
    #[serde(rename = "ImageID")]
    image_id: &'a str,
    instance_type: &'a str,
    #[serde(rename = "SSHKeyName", skip_serializing_if = "Option::is_none")]
    ssh_key_name: Option<&'a str>,
    #[serde(rename = "SubnetID")]
    subnet_id: &'a str,
    #[serde(rename = "SecurityGroupID", skip_serializing_if = "Option::is_none")]
    security_group_id: Option<&'a str>,
}

pub(super) async fn image(work: &Work<'_>, base: &Image) -> Result<Image, AmiError> {
    let build = work.build();
    let program = needed(build.imagebuilder.as_deref(), "the program: imagebuilder")?;
    let template = needed(build.template.as_deref(), "its template: template")?;
    let key = needed(
        build.private_key.as_deref(),
        "the key to log in with: privateKey",
    )?;
    check_name(work)?;
    let goes_on = |builder: &Builder| match builder.phase {
        Phase::Launched => matches!(builder.state.as_str(), "pending" | "running"),
        Phase::Scripted | Phase::Done => false,
    };
    let builder = work.builder(base, None, goes_on).await?;
    work.refuse_other_builders(&builder.id).await?;
    work.running(&builder.id).await?;
    let settings = write_settings(work, base, template, key)?;
    work.reached(&builder.id, Phase::Scripted).await?;
    run(work, program, &settings).await?;
    let which = Which::Name(&build.name);
    let image = available(work.cloud, which, work.order.pace, work.observer).await?;
    work.finished(&image.image_id).await
}

fn needed<'a>(path: Option<&'a Path>, what: &str) -> Result<&'a Path, AmiError> {
    path.ok_or_else(|| AmiError::Refused(format!("the engine imagebuilder needs {what}")))
}

/// The template names the image, and by that name it is looked for. One with placeholders (`{%Y}`) is taken at its word.
fn check_name(work: &Work<'_>) -> Result<(), AmiError> {
    let (wanted, template) = (&work.build().name, work.recipe.template.as_deref());
    let mut lines = template.unwrap_or_default().lines();
    let named = lines.find_map(|line| line.strip_prefix("name:"));
    let named = named.map(|name| name.trim().trim_matches(['"', '\'']));
    match named {
        Some(name) if !name.contains('{') && name != wanted => Err(AmiError::Refused(format!(
            "the template calls the image '{name}', and it would be looked for as '{wanted}': give both the same name"
        ))),
        _ => Ok(()),
    }
}

fn write_settings(
    work: &Work<'_>,
    base: &Image,
    template: &Path,
    key: &Path,
) -> Result<std::path::PathBuf, AmiError> {
    let build = work.build();
    let key = &whole(key);
    let settings = Settings {
        cloud: "aws",
        template_path: &whole(template),
        setup_commands: work.recipe.script.as_deref().map(commands),
        ssh_username: &build.user,
        ssh_public_key: format!("{}.pub", key.display()),
        ssh_private_key: key,
        tags: work
            .tags(Role::Image)
            .into_iter()
            .map(|tag| (tag.key, tag.value))
            .collect(),
        region: work.cloud.region(),
        image_id: &base.image_id,
        instance_type: &build.machine_type,
        ssh_key_name: build.key_name.as_deref(),
        subnet_id: &build.subnet,
        security_group_id: build.security_group.as_deref(),
    };
    let path = work.file("aws.yaml");
    let text = serde_yaml_ng::to_string(&settings).expect("it has only texts");
    let written = fs::create_dir_all(&work.order.folder).and_then(|()| fs::write(&path, text));
    match written {
        Ok(()) => Ok(path),
        Err(source) => Err(AmiError::File { path, source }),
    }
}

/// The program is run in a folder of its own.
fn whole(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A script's lines as the commands that the program runs before: it knows words, and no shell.
fn commands(script: &str) -> Vec<Vec<&str>> {
    let lines = script.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect())
        .collect()
}

async fn run(work: &Work<'_>, program: &Path, settings: &Path) -> Result<(), AmiError> {
    let record = work.file("imagebuilder.log");
    let logs = work.file("logs");
    let mut environment = crate::kops::passed(&work.order.callers);
    let region = work.cloud.region().to_owned();
    environment.insert("AWS_REGION".to_owned(), region.clone());
    environment.insert("AWS_DEFAULT_REGION".to_owned(), region);
    environment.insert("AWS_SDK_LOAD_CONFIG".to_owned(), "1".to_owned());
    let home = work.order.folder.display().to_string();
    environment.insert("HOME".to_owned(), home);
    if let Some(profile) = &work.cloud.settings().profile {
        environment.insert("AWS_PROFILE".to_owned(), profile.clone());
    }
    let program = whole(program);
    let program = Program {
        path: &program,
        arguments: vec![
            format!("--config={}", settings.display()),
            "--up=false".to_owned(),
            "--down=false".to_owned(),
            "--publish=false".to_owned(),
            "--replicate=false".to_owned(),
            format!("--logdir={}", logs.display()),
        ],
        environment,
        input: None,
        record: record.clone(),
        limit: work.order.pace.deadline,
    };
    work.tell("imagebuilder runs".to_owned());
    let ended = program.run().await?;
    // It looks for its image once, too early, and gives up: the image is there all the same.
    let is_too_early = ended.said.contains("image not found after build");
    match ended.code {
        Some(0) => Ok(()),
        Some(_) if is_too_early => Ok(()),
        _ => Err(work.program_failed("imagebuilder", ended, record.display().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_commands_in_words() {
        let script = "#!/bin/sh\n\n# tools\nsudo apt-get update\n  sudo apt-get  install -y git\n";
        assert_eq!(
            commands(script),
            [
                vec!["sudo", "apt-get", "update"],
                vec!["sudo", "apt-get", "install", "-y", "git"]
            ]
        );
    }
}
