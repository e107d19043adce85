//! The engine `launch`: a script on the builder, then an image of it.
//!
//! With a private key somebody logs in and sees the script end. Without, the script is the builder's user data: it says on the console how it
//! ended and stops its machine, and both are waited for.

use super::Work;
use super::builder::{Builder, Phase};
use super::console::{self, USER_DATA_MAX_BYTES};
use super::ssh::{Login, SSH_FAILED, is_another_host};
use crate::ami::failure::AmiError;
use crate::ami::mark::Role;
use crate::cloud::{Image, NewImage, is_living};
use crate::events::Event;

/// Puts the script into a file, since it may be in any language, and runs that as root.
const RUN_AS_ROOT: &str = r#"f=$(mktemp) && cat >"$f" && chmod 700 "$f" && sudo -n "$f" </dev/null; c=$?; rm -f "$f"; exit $c"#;
const RUN: &str =
    r#"f=$(mktemp) && cat >"$f" && chmod 700 "$f" && "$f" </dev/null; c=$?; rm -f "$f"; exit $c"#;

/// The builder's key is let in by no host that starts from the image.
const FORGET_KEYS: &str =
    r#"rm -f "$HOME/.ssh/authorized_keys"; sudo -n rm -f ~root/.ssh/authorized_keys || true; sync"#;

/// The length of the mark by which a console's last line is known.
const MARK_CHARS: usize = 16;

pub(super) async fn image(work: &Work<'_>, base: &Image) -> Result<Image, AmiError> {
    let script = work.recipe.script.as_deref().unwrap_or_default();
    let builder = match &work.build().private_key {
        Some(_) => by_login(work, base, script).await?,
        None => by_itself(work, base, script).await?,
    };
    image_of(work, &builder).await
}

/// Logs in, and runs the script.
async fn by_login(work: &Work<'_>, base: &Image, script: &str) -> Result<String, AmiError> {
    // A script that was cut off has left nobody knows what.
    let goes_on = |builder: &Builder| match builder.phase {
        Phase::Launched => matches!(builder.state.as_str(), "pending" | "running"),
        Phase::Scripted => false,
        Phase::Done => true,
    };
    let builder = work.builder(base, None, goes_on).await?;
    let id = builder.id;
    if builder.phase != Phase::Done {
        let login = reachable(work, &id).await?;
        work.reached(&id, Phase::Scripted).await?;
        work.tell(format!("the script runs on {id}"));
        let command = match login.user {
            "root" => RUN,
            _ => RUN_AS_ROOT,
        };
        let limit = work.order.pace.deadline;
        let ended = login.run(command, Some(script.as_bytes()), limit).await?;
        let record = login.record.display().to_string();
        if ended.code != Some(0) {
            let what = match ended.code {
                Some(SSH_FAILED) => format!("the login to {id} that runs the script"),
                _ => format!("the script on {id}"),
            };
            return Err(work.program_failed(&what, ended, record));
        }
        let ended = login.run(FORGET_KEYS, None, limit).await?;
        if ended.code != Some(0) {
            let what = format!("taking the builder's key away on {id}");
            return Err(work.program_failed(&what, ended, record));
        }
        work.reached(&id, Phase::Done).await?;
    }
    work.cloud.stop_instance(&id).await?;
    work.stopped(&id).await?;
    Ok(id)
}

/// Waits until the builder lets in, at its private address.
async fn reachable<'a>(work: &'a Work<'_>, id: &str) -> Result<Login<'a>, AmiError> {
    let instance = work.running(id).await?;
    let address = instance.private_ip_address.unwrap_or_default();
    let build = work.build();
    let mut login = Login {
        ssh: &work.order.ssh,
        user: &build.user,
        address: address.clone(),
        private_key: build
            .private_key
            .as_deref()
            .unwrap_or(std::path::Path::new("")),
        known_hosts: work.file(&format!("{id}.known_hosts")),
        is_known: false,
        environment: crate::kops::passed(&work.order.callers),
        record: work.file("ssh.log"),
    };
    let what = format!("{id} to let in {} at {address}", login.user);
    work.observer.event(&Event::Waiting { what });
    let mut wait = work.order.pace.begin();
    loop {
        if !login.is_known
            && let Some(keys) = work
                .console(id)
                .await?
                .as_deref()
                .and_then(console::host_keys)
        {
            login.know(&keys)?;
        }
        let knocked = login.knock().await?;
        if knocked.code == Some(0) {
            return Ok(login);
        }
        if is_another_host(&knocked.said) {
            let why = format!(
                "at {address} answers a host with another key than its console tells: {}",
                knocked.said
            );
            return Err(work.failed(id, why));
        }
        let state = work
            .look(id)
            .await?
            .map(|instance| instance.state().to_owned());
        if let Some(state) = state.filter(|state| !is_living(state) || state.starts_with("stop")) {
            return Err(work.failed(id, format!("it is {state} before anybody could log in")));
        }
        if !wait.pause().await {
            let why = format!(
                "nobody could log in at its private address {address} as {} within {} s: {} (all of it is in {}); is there a way \
                 from here to {}, does its security group let port 22 in, and is {} the key that key_name stands for?",
                login.user,
                wait.waited().as_secs(),
                knocked.said,
                login.record.display(),
                build.subnet,
                login.private_key.display(),
            );
            return Err(work.failed(id, why));
        }
    }
}

/// The builder runs the script by itself, and stops.
async fn by_itself(work: &Work<'_>, base: &Image, script: &str) -> Result<String, AmiError> {
    let mark = &work.recipe.tag()[..MARK_CHARS];
    let user_data = console::user_data(script, mark);
    if user_data.len() > USER_DATA_MAX_BYTES {
        return Err(AmiError::Refused(format!(
            "the script is too long for user data ({} bytes of {USER_DATA_MAX_BYTES}): give a privateKey, and it goes by ssh",
            user_data.len()
        )));
    }
    let builder = work.builder(base, Some(&user_data), |_| true).await?;
    let id = builder.id;
    if builder.phase != Phase::Done {
        work.stopped(&id).await?;
        let (code, said) = verdict(work, &id, mark).await?;
        if code != 0 {
            return Err(AmiError::Program {
                what: format!("the script on {id}"),
                code: Some(code),
                said,
                record: "the console of the instance".to_owned(),
            });
        }
        work.reached(&id, Phase::Done).await?;
    }
    work.stopped(&id).await?;
    Ok(id)
}

/// How the script ended. EC2 takes the console down some time after the stop.
async fn verdict(work: &Work<'_>, id: &str, mark: &str) -> Result<(i32, String), AmiError> {
    let mut wait = work.order.pace.begin();
    loop {
        let console = work.console(id).await?;
        if let Some(verdict) = console
            .as_deref()
            .and_then(|text| console::verdict(text, mark))
        {
            return Ok(verdict);
        }
        if !wait.pause().await {
            let last = console.map_or_else(
                || "nothing".to_owned(),
                |text| super::program::last_words(&text),
            );
            return Err(work.failed(
                id,
                format!(
                    "it stopped without saying how the script ended; its console ends with {last}"
                ),
            ));
        }
    }
}

/// Makes an image of a builder that has stopped.
async fn image_of(work: &Work<'_>, id: &str) -> Result<Image, AmiError> {
    let name = &work.build().name;
    let tags = work.tags(Role::Image);
    let new = NewImage {
        instance: id,
        name,
        description: None,
        tags: &tags,
    };
    let image = match work.cloud.create_image(new).await {
        Ok(image) => image,
        // The call of an earlier run, or one whose answer was lost.
        Err(error) if error.code == "InvalidAMIName.Duplicate" => {
            let which = crate::ami::Which::Name(name);
            let image = crate::ami::available(work.cloud, which, work.order.pace, work.observer);
            image.await?.image_id
        }
        Err(error) => return Err(error.into()),
    };
    work.tell(format!("{image} is made of {id}"));
    work.finished(&image).await
}
