//! Keeps what each call was and what it printed, for who has to find out what went wrong.

use std::fmt::Write as _;
use std::path::PathBuf;

use jiff::Timestamp;

use super::{Answer, KopsError};

/// A folder with a file for each call.
#[derive(Debug)]
pub(super) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes a call down and says where. The environment is not written: it has secrets.
    pub(super) async fn keep(
        &self,
        arguments: &[&str],
        answer: &Answer,
        is_late: bool,
    ) -> Result<String, KopsError> {
        let now = Timestamp::now();
        let word = arguments.first().unwrap_or(&"kops");
        let millisecond = now.as_millisecond();
        let path = self.folder.join(format!("{millisecond}-{word}.txt"));
        let end = match (is_late, answer.code) {
            (true, _) => "stopped: it took too long".to_owned(),
            (false, Some(code)) => code.to_string(),
            (false, None) => "ended by a signal".to_owned(),
        };
        let mut text = format!("{now} kops {}\nexit: {end}\n", arguments.join(" "));
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "--- stdout\n{}\n--- stderr\n{}\n",
            answer.stdout, answer.stderr
        );
        let kept = |source| KopsError::Record {
            path: path.clone(),
            source,
        };
        tokio::fs::create_dir_all(&self.folder)
            .await
            .map_err(kept)?;
        tokio::fs::write(&path, text).await.map_err(kept)?;
        Ok(path.display().to_string())
    }
}
