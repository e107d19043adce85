//! The webhooks of the settings, with what their files hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use url::Url;

use crate::config::{Config, HookSettings};
use crate::notify::{Hook, Kind, Notifier, Secret};
use crate::service::Teller;

impl Teller for Notifier {
    fn tell(&self, occasion: crate::notify::Occasion) {
        self.offer(occasion);
    }
}

/// All hooks, by name. An error names the hook and never its address.
pub(in crate::command) fn hooks(config: &Config) -> anyhow::Result<Vec<(String, Hook)>> {
    config
        .hooks
        .iter()
        .map(|(name, settings)| {
            let hook =
                hook(settings).with_context(|| format!("the hook '{name}' can't be used"))?;
            let named = Hook {
                name: name.clone(),
                ..hook
            };
            Ok((name.clone(), named))
        })
        .collect()
}

fn hook(settings: &HookSettings) -> anyhow::Result<Hook> {
    let url = match (&settings.url, &settings.url_file) {
        (Some(url), _) => url.clone(),
        (None, Some(file)) => {
            let text = content(file)?;
            Url::parse(&text)
                .ok()
                .with_context(|| format!("{} holds no URL", file.display()))?
        }
        (None, None) => bail!("it has no address"),
    };
    if !matches!(url.scheme(), "http" | "https") {
        bail!("its address is no http:// or https:// URL");
    }
    let secret = settings.secret_file.as_deref().map(content).transpose()?;
    let occasions = settings.on.iter().map(|name| kind(name));
    Ok(Hook {
        secret: secret.map(Secret::new),
        occasions: occasions.collect::<anyhow::Result<BTreeSet<Kind>>>()?,
        language: settings.language,
        ..Hook::new(url, settings.kind)
    })
}

fn kind(name: &str) -> anyhow::Result<Kind> {
    Ok(match name {
        "mirrored" => Kind::Mirrored,
        "failed" => Kind::RunFailed,
        "damage" => Kind::Damaged,
        "upstream" => Kind::Upstream,
        other => bail!("'{other}' is nothing to be told of: mirrored, failed, damage or upstream"),
    })
}

/// What a file of one secret holds.
pub(in crate::command) fn content(file: &Path) -> anyhow::Result<String> {
    let text =
        fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    Ok(text.trim().to_owned())
}
