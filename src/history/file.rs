//! The database's file: opened or begun anew, read and written, kept small.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    Table, TableDefinition, TableError,
};

use crate::record::Run;

/// Runs as JSON, by id.
const RUNS: TableDefinition<&str, &[u8]> = TableDefinition::new("runs");

type Runs<'t> = Table<'t, &'static str, &'static [u8]>;

/// Among so many runs before it, one is looked for that a run repeats: dozens of sets have each a run in between.
const LOOKED_BACK: usize = 256;

/// What is remembered by name.
const VALUES: TableDefinition<&str, &str> = TableDefinition::new("values");

/// What the file itself is: `format`.
const FORMATS: TableDefinition<&str, u64> = TableDefinition::new("formats");

/// Of the tables above; a file of another one is not read.
const FORMAT: u64 = 1;

/// Of memory, where redb would take a gigabyte.
const CACHE_BYTES: usize = 4 << 20;

/// A file that is no larger than this is not worth making smaller.
const SMALL_BYTES: u64 = 4 << 20;

/// Writes between two looks at how much of the file is free.
const LOOK_EVERY: u64 = 256;

/// Why something is not remembered, or not known.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error(
        "another process has the history {} open: one service at a time uses a state folder; stop it, or give this one a folder of its own",
        path.display()
    )]
    Locked { path: PathBuf },
    #[error(
        "can't make or open the history {}: check that its folder is there and may be written to", path.display()
    )]
    Unusable {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("can't {action} the history {}", path.display())]
    Failed {
        action: &'static str,
        path: PathBuf,
        source: redb::Error,
    },
    #[error("the history was left in the middle of a call")]
    Left { source: tokio::task::JoinError },
}

/// The file of a history.
pub(super) struct File {
    path: PathBuf,
    runs_max: AtomicU64,
    open: Mutex<Open>,
}

struct Open {
    /// None after a failure of the disk: redb wants to be opened anew then.
    database: Option<Database>,
    writes: u64,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .field("runs_max", &self.runs_max)
            .finish_non_exhaustive()
    }
}

impl File {
    pub(super) fn open(path: PathBuf, runs_max: u64) -> Result<Self, HistoryError> {
        let database = open_or_begin(&path)?;
        let file = Self {
            path,
            runs_max: AtomicU64::new(runs_max.max(1)),
            open: Mutex::new(Open {
                database: Some(database),
                writes: 0,
            }),
        };
        file.with("shrink", |database| file.shrink(database))?;
        Ok(file)
    }

    pub(super) fn keep(&self, runs_max: u64) {
        self.runs_max.store(runs_max.max(1), Ordering::Relaxed);
    }

    /// How it is remembered.
    pub(super) fn add(&self, run: Run) -> Result<Run, HistoryError> {
        let mut remembered = run.clone();
        self.write(|database| {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(RUNS)?;
                if let Some(before) = repeats(&table, &run)? {
                    remembered = run.in_place_of(&before);
                    table.remove(before.id.as_str())?;
                }
                self.insert(&mut table, [&remembered])?;
            }
            Ok(transaction.commit()?)
        })?;
        Ok(remembered)
    }

    pub(super) fn add_all(&self, runs: &[Run]) -> Result<(), HistoryError> {
        self.write(|database| {
            let transaction = database.begin_write()?;
            self.insert(&mut transaction.open_table(RUNS)?, runs)?;
            Ok(transaction.commit()?)
        })
    }

    fn insert<'a>(
        &self,
        table: &mut Runs<'_>,
        runs: impl IntoIterator<Item = &'a Run>,
    ) -> Result<(), redb::Error> {
        for run in runs {
            let text = serde_json::to_vec(run).expect("a run has only strings for keys");
            table.insert(run.id.as_str(), text.as_slice())?;
        }
        while table.len()? > self.runs_max.load(Ordering::Relaxed) {
            table.pop_first()?;
        }
        Ok(())
    }

    pub(super) fn run(&self, id: &str) -> Result<Option<Run>, HistoryError> {
        self.with("read", |database| {
            let table = database.begin_read()?.open_table(RUNS)?;
            let text = table.get(id)?;
            Ok(text.and_then(|text| parsed(id, text.value())))
        })
    }

    pub(super) fn runs(&self, most: usize, before: Option<&str>) -> Result<Vec<Run>, HistoryError> {
        self.with("read", |database| {
            let table = database.begin_read()?.open_table(RUNS)?;
            let range = match before {
                Some(before) => table.range(..before)?,
                None => table.iter()?,
            };
            let mut runs = Vec::new();
            for entry in range.rev() {
                if runs.len() == most {
                    break;
                }
                let (id, text) = entry?;
                runs.extend(parsed(id.value(), text.value()));
            }
            Ok(runs)
        })
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<String>, HistoryError> {
        self.with("read", |database| {
            let table = database.begin_read()?.open_table(VALUES)?;
            Ok(table.get(name)?.map(|value| value.value().to_owned()))
        })
    }

    pub(super) fn set(&self, name: &str, value: &str) -> Result<(), HistoryError> {
        self.write(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(VALUES)?.insert(name, value)?;
            Ok(transaction.commit()?)
        })
    }

    fn write(
        &self,
        act: impl FnOnce(&Database) -> Result<(), redb::Error>,
    ) -> Result<(), HistoryError> {
        self.with("write", |database| act(database))?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.writes += 1;
        let is_time = open.writes.is_multiple_of(LOOK_EVERY);
        drop(open);
        if is_time {
            self.with("shrink", |database| self.shrink(database))?;
        }
        Ok(())
    }

    /// Does something with the database, which is opened anew where the last time failed.
    pub(super) fn with<T>(
        &self,
        action: &'static str,
        act: impl FnOnce(&mut Database) -> Result<T, redb::Error>,
    ) -> Result<T, HistoryError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut database = match open.database.take() {
            Some(database) => database,
            None => open_or_begin(&self.path)?,
        };
        // What redb says or panics about is left to the next opening, which checks the file.
        let ended = act(&mut database);
        if ended.is_ok() {
            open.database = Some(database);
        }
        ended.map_err(|source| HistoryError::Failed {
            action,
            path: self.path.clone(),
            source,
        })
    }

    /// Gives back what is free when that is most of the file.
    fn shrink(&self, database: &mut Database) -> Result<(), redb::Error> {
        let length = fs::metadata(&self.path).map_or(0, |file| file.len());
        if length <= SMALL_BYTES {
            return Ok(());
        }
        let transaction = database.begin_write()?;
        let stats = transaction.stats()?;
        transaction.abort()?;
        let used = stats.allocated_pages() * stats.page_size() as u64;
        if used < length / 2 {
            database.compact()?;
        }
        Ok(())
    }
}

/// The run that this one only repeats: nothing else happened to its set since then.
fn repeats(table: &Runs<'_>, run: &Run) -> Result<Option<Run>, redb::Error> {
    if !run.is_mere_repetition() {
        return Ok(None);
    }
    for entry in table.range(..run.id.as_str())?.rev().take(LOOKED_BACK) {
        let (id, text) = entry?;
        let of_set = parsed(id.value(), text.value()).filter(|before| before.set == run.set);
        match of_set {
            Some(before) if !before.is_mere_repetition() => return Ok(None),
            Some(before) if before.purpose == run.purpose => return Ok(Some(before)),
            // Of another set, or another purpose that waits for the same process.
            _ => {}
        }
    }
    Ok(None)
}

fn parsed(id: &str, text: &[u8]) -> Option<Run> {
    serde_json::from_slice(text)
        .inspect_err(|error| tracing::warn!("the run {id} can't be read in the history: {error}"))
        .ok()
}

/// Why a file was not opened.
enum NotOpened {
    /// It is damaged, or of another version.
    Broken(String),
    Failed(HistoryError),
}

fn open_or_begin(path: &Path) -> Result<Database, HistoryError> {
    make(path).map_err(|error| unusable(path, error))?;
    let why = match open(path) {
        Ok(database) => return Ok(database),
        Err(NotOpened::Failed(error)) => return Err(error),
        Err(NotOpened::Broken(why)) => why,
    };
    let aside = move_aside(path).map_err(|error| unusable(path, error))?;
    tracing::warn!(
        "the history {} can't be read, so it is begun anew; the old one is {}: {why}",
        path.display(),
        aside.display()
    );
    make(path).map_err(|error| unusable(path, error))?;
    open(path).map_err(|error| match error {
        NotOpened::Failed(error) => error,
        NotOpened::Broken(why) => unusable(path, why),
    })
}

fn unusable(
    path: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> HistoryError {
    HistoryError::Unusable {
        path: path.to_owned(),
        source: source.into(),
    }
}

/// Makes an empty file where there is none, for its owner alone.
fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(
        ".broken-{}",
        Timestamp::now().strftime("%Y%m%dT%H%M%S%.fZ")
    ));
    let aside = path.with_file_name(name);
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Opens a file and makes sure of all of it: damage that is only met later would be met in the middle of a run.
fn open(path: &Path) -> Result<Database, NotOpened> {
    // redb takes its own file's word for much and panics where that is wrong.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create(path)
            .map_err(|error| not_opened(path, error))?;
        check_format(&database).map_err(|error| not_read(path, error))??;
        Ok(database)
    }));
    opened.unwrap_or_else(|_| Err(NotOpened::Broken("it is damaged".to_owned())))
}

/// Writes the format into a new file; another one's is not read.
fn check_format(database: &Database) -> Result<Result<(), NotOpened>, redb::Error> {
    let transaction = database.begin_write()?;
    let found = {
        let mut table = match transaction.open_table(FORMATS) {
            Err(error @ TableError::TableTypeMismatch { .. }) => {
                return Ok(Err(NotOpened::Broken(error.to_string())));
            }
            table => table?,
        };
        let found = table.get("format")?.map(|format| format.value());
        table.insert("format", found.unwrap_or(FORMAT))?;
        found
    };
    if let Some(found) = found.filter(|found| *found != FORMAT) {
        let why = format!("it has format {found} where this program has {FORMAT}");
        return Ok(Err(NotOpened::Broken(why)));
    }
    transaction.open_table(RUNS)?;
    transaction.open_table(VALUES)?;
    transaction.commit()?;
    Ok(Ok(()))
}

fn not_opened(path: &Path, error: DatabaseError) -> NotOpened {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            NotOpened::Failed(HistoryError::Locked {
                path: path.to_owned(),
            })
        }
        DatabaseError::UpgradeRequired(_) | DatabaseError::RepairAborted => {
            NotOpened::Broken(error.to_string())
        }
        error => not_read(path, error.into()),
    }
}

fn not_read(path: &Path, error: redb::Error) -> NotOpened {
    let is_of_the_disk = match &error {
        redb::Error::Io(error) => !matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        ),
        _ => false,
    };
    if is_of_the_disk {
        NotOpened::Failed(unusable(path, error))
    } else {
        NotOpened::Broken(error.to_string())
    }
}
