//! Whether settings fit together.

use super::{Config, ConfigError, Environment};
use crate::sync::Shard;

impl Config {
    /// The shard that is said, or the one that an Indexed Job's pod is (JOB_COMPLETION_INDEX).
    pub(super) fn shard_among(
        &self,
        environment: &Environment,
    ) -> Result<Option<Shard>, ConfigError> {
        let (None, Some(shards)) = (self.shard, self.shards) else {
            return Ok(self.shard);
        };
        let index = environment.get("JOB_COMPLETION_INDEX");
        let shard = index
            .and_then(|index| index.parse().ok())
            .and_then(|index| Shard::new(index, shards.get()));
        let wrong = || ConfigError::Together {
            why: format!(
                "'shards' is {shards}, but JOB_COMPLETION_INDEX says {}: give --shard I/{shards}",
                index.unwrap_or("nothing")
            ),
        };
        shard.map(Some).ok_or_else(wrong)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |why: String| Err(ConfigError::Together { why });
        if self.to.is_empty() {
            return refuse("'to' names no target".to_owned());
        }
        for (at, target) in self.to.iter().enumerate() {
            if self.to[..at].contains(target) {
                return refuse(format!("the target {target} is given twice"));
            }
        }
        if self.arch.is_empty() {
            return refuse("'arch' names no architecture".to_owned());
        }
        if self.fetch.night_limit.is_some() && self.fetch.night.is_none() {
            return refuse(
                "'fetch.night_limit' needs 'fetch.night', which says when it holds".to_owned(),
            );
        }
        if self.retry.pause_max < self.retry.pause_min {
            return refuse("'retry.pause_max' is shorter than 'retry.pause_min'".to_owned());
        }
        self.check_sets()
    }

    /// What a service needs besides: it has nobody to ask.
    pub fn check_service(&self) -> Result<(), ConfigError> {
        if self.images && !self.registry.has_place() {
            let why = "'images' is true, and nothing says where they go: give 'registry.to' or 'registry.to_layout'";
            return Err(ConfigError::Together {
                why: why.to_owned(),
            });
        }
        Ok(())
    }

    fn check_sets(&self) -> Result<(), ConfigError> {
        let refuse = |why: String| Err(ConfigError::Together { why });
        for (name, set) in &self.sets {
            let follows = !set.kubernetes.is_empty() && !set.kops.is_empty();
            if set.kubernetes.is_empty() != set.kops.is_empty() {
                return refuse(format!(
                    "the set '{name}' needs both 'kubernetes' and 'kops': a cluster is made of the two"
                ));
            }
            if !follows && set.urls.is_empty() {
                return refuse(format!("the set '{name}' follows nothing"));
            }
            if set.to.as_ref().is_some_and(Vec::is_empty) {
                return refuse(format!("'to' of the set '{name}' names no target"));
            }
            if set.prune.is_some() && set.keep.is_empty() {
                return refuse(format!(
                    "the set '{name}' has 'prune' and no 'keep', which says what stays"
                ));
            }
            if set.scrub_rate.is_some() && set.scrub.is_none() {
                return refuse(format!("the set '{name}' has 'scrub_rate' and no 'scrub'"));
            }
        }
        for (name, hook) in &self.hooks {
            if hook.url.is_some() == hook.url_file.is_some() {
                return refuse(format!(
                    "the hook '{name}' needs 'url' or 'url_file', one of them"
                ));
            }
        }
        Ok(())
    }
}
