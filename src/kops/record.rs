//! Keeps what each call was and what it prints, for who has to find out what went wrong.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use jiff::Timestamp;
use tempfile::NamedTempFile;

use super::{Answer, KopsError};

/// What one call may print before the rest is left in its file: a dry run of a large cluster has some hundred kilobytes.
const READ_MAX_BYTES: u64 = 16 << 20;

/// A folder with the files of each call.
#[derive(Debug)]
pub(super) struct Records {
    folder: PathBuf,
}

/// The files of one call: `.txt` says what it was, `.out` and `.err` have what it printed.
#[derive(Debug)]
pub(super) struct Record {
    stem: PathBuf,
}

impl Records {
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes down what is called. The environment is not written: it has secrets.
    pub(super) fn begin(&self, arguments: &[&str]) -> Result<Record, KopsError> {
        let now = Timestamp::now();
        let word = arguments.first().unwrap_or(&"kops");
        let stem = self.folder.join(format!("{}-{word}", now.as_millisecond()));
        let record = Record { stem };
        let kept = |source| record.trouble(source);
        // What kops prints may have a secret in it until it ends.
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&self.folder).map_err(kept)?;
        fs::write(
            record.path("txt"),
            format!("{now} kops {}\n", arguments.join(" ")),
        )
        .map_err(kept)?;
        Ok(record)
    }
}

impl Record {
    fn path(&self, ending: &str) -> PathBuf {
        self.stem.with_extension(ending)
    }

    fn trouble(&self, source: io::Error) -> KopsError {
        KopsError::Record {
            path: self.stem.clone(),
            source,
        }
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        format!("{}.*", self.stem.display())
    }

    pub(super) fn stdout(&self) -> Result<Stdio, KopsError> {
        self.file("out")
    }

    pub(super) fn stderr(&self) -> Result<Stdio, KopsError> {
        self.file("err")
    }

    fn file(&self, ending: &str) -> Result<Stdio, KopsError> {
        let file = File::create(self.path(ending));
        file.map(Stdio::from).map_err(|source| self.trouble(source))
    }

    /// Writes down how it ended, and takes the secrets out of what it printed: with an S3 server of one's own, kops has that server's key
    /// in what it makes.
    pub(super) fn end(&self, how: &str, secrets: &[String]) -> Result<(), KopsError> {
        let opened = OpenOptions::new().append(true).open(self.path("txt"));
        opened
            .and_then(|mut file| writeln!(file, "{} exit: {how}", Timestamp::now()))
            .and_then(|()| masked(&self.path("out"), secrets))
            .and_then(|()| masked(&self.path("err"), secrets))
            .map_err(|source| self.trouble(source))
    }

    /// What it printed.
    pub(super) fn answer(&self, code: Option<i32>) -> Result<Answer, KopsError> {
        let read = |ending| whole(&self.path(ending)).map_err(|source| self.trouble(source));
        Ok(Answer {
            code,
            stdout: read("out")?,
            stderr: read("err")?,
        })
    }
}

/// Line by line, since it may be long.
fn masked(path: &Path, secrets: &[String]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut without = BufWriter::new(NamedTempFile::new_in(folder)?);
    let mut lines = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line).into_owned();
        let text = secrets
            .iter()
            .fold(text, |text, secret| text.replace(secret, "***"));
        without.write_all(text.as_bytes())?;
        line.clear();
    }
    let without = without
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    without.persist(path)?;
    Ok(())
}

fn whole(path: &Path) -> io::Result<String> {
    let mut printed = Vec::new();
    File::open(path)?
        .take(READ_MAX_BYTES)
        .read_to_end(&mut printed)?;
    Ok(String::from_utf8_lossy(&printed).into_owned())
}
