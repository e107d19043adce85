//! The API: what is on the board, what has been, what would be done, and the two things that can be asked for.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Served;
use super::admission::Entitled;
use super::problem::Problem;
use crate::board::{AtTarget, Progress, ReleaseState, ReleaseStatus, Status, WaitingRun};
use crate::record::{Purpose, Run};

/// Written by hand, and held true by tests.
const DESCRIPTION: &str = include_str!("openapi.json");

/// Runs of one answer.
const RUNS_MAX: usize = 200;
const RUNS_USUAL: usize = 50;

/// Far longer than any id of a run.
const ID_LENGTH_MAX: usize = 64;

type Asked<T> = Result<T, Problem>;

pub(super) async fn description() -> Response {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}

pub(super) async fn status(State(served): State<Arc<Served>>) -> Json<Status> {
    Json(served.board.status())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleasesAsked {
    set: Option<String>,
    state: Option<ReleaseState>,
}

#[derive(Debug, Serialize)]
pub(super) struct Releases {
    releases: Vec<ReleaseOfSet>,
}

/// A release, with the set that follows it.
#[derive(Debug, Serialize)]
struct ReleaseOfSet {
    set: String,
    #[serde(flatten)]
    release: ReleaseStatus,
}

/// Those of one set or of all, and of those the ones that have a state at any target.
pub(super) async fn releases(
    State(served): State<Arc<Served>>,
    asked: Result<Query<ReleasesAsked>, QueryRejection>,
) -> Asked<Json<Releases>> {
    let Query(asked) = asked?;
    let status = served.board.status();
    if let Some(name) = asked
        .set
        .as_deref()
        .filter(|name| status.set(name).is_none())
    {
        return Err(Problem::absent("set", name));
    }
    let is_wanted = |target: &AtTarget| asked.state.is_none_or(|state| target.state == state);
    let of_set = |name: &String| asked.set.as_ref().is_none_or(|set| set == name);
    let releases = status
        .sets
        .into_iter()
        .filter(|set| of_set(&set.name))
        .flat_map(|set| {
            let name = set.name;
            set.releases.into_iter().map(move |release| ReleaseOfSet {
                set: name.clone(),
                release,
            })
        })
        .filter(|of| asked.state.is_none() || of.release.targets.iter().any(is_wanted))
        .collect();
    Ok(Json(Releases { releases }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunsAsked {
    limit: Option<usize>,
    before: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Runs {
    runs: Vec<Run>,
    /// What `before` has to be for the next ones; none when there are no more.
    next: Option<String>,
}

pub(super) async fn runs(
    State(served): State<Arc<Served>>,
    asked: Result<Query<RunsAsked>, QueryRejection>,
) -> Asked<Json<Runs>> {
    let Query(asked) = asked?;
    let most = asked.limit.unwrap_or(RUNS_USUAL);
    if !(1..=RUNS_MAX).contains(&most) {
        return Err(Problem::malformed(format!("limit is from 1 to {RUNS_MAX}")));
    }
    if asked.before.as_deref().is_some_and(|id| !is_id(id)) {
        return Err(Problem::malformed("before is the id of a run"));
    }
    // One more tells whether there are more.
    let mut runs = served.desk.runs(most + 1, asked.before.as_deref()).await?;
    let has_more = runs.len() > most;
    runs.truncate(most);
    let last = runs.last().map(|run| run.id.clone());
    let next = last.filter(|_| has_more);
    Ok(Json(Runs { runs, next }))
}

/// A run that waits, is under way, or has ended.
#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(super) enum RunFound {
    Ended { run: Run },
    Waiting { set: String, waiting: WaitingRun },
    Running { set: String, progress: Progress },
}

pub(super) async fn run(
    State(served): State<Arc<Served>>,
    id: Result<Path<String>, PathRejection>,
) -> Asked<Json<RunFound>> {
    let Path(id) = id?;
    if !is_id(&id) {
        return Err(Problem::absent("run", &id));
    }
    for set in served.board.status().sets {
        // One that has just begun may be shown as both.
        if let Some(progress) = set.progress_of(&id).cloned() {
            let set = set.name;
            return Ok(Json(RunFound::Running { set, progress }));
        }
        let mut waiting = set.waiting.into_iter();
        if let Some(waiting) = waiting.find(|waiting| waiting.run == id) {
            let set = set.name;
            return Ok(Json(RunFound::Waiting { set, waiting }));
        }
    }
    let run = served.desk.run(&id).await?;
    let run = run.ok_or_else(|| Problem::absent("run", &id))?;
    Ok(Json(RunFound::Ended { run }))
}

pub(super) async fn plan(
    _: Entitled,
    State(served): State<Arc<Served>>,
    set: Result<Path<String>, PathRejection>,
) -> Asked<Json<Value>> {
    let Path(set) = set?;
    Ok(Json(served.desk.plan(&set).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunWanted {
    purpose: Purpose,
}

pub(super) async fn start(
    _: Entitled,
    State(served): State<Arc<Served>>,
    set: Result<Path<String>, PathRejection>,
    wanted: Result<Json<RunWanted>, JsonRejection>,
) -> Asked<Response> {
    let Path(set) = set?;
    let Json(wanted) = wanted?;
    let run = served.desk.start(&set, wanted.purpose).await?;
    tracing::info!(set, purpose = %wanted.purpose, run, "a run was asked for over HTTP");
    let place = format!(
        "/api/v1/runs/{}",
        utf8_percent_encode(&run, NON_ALPHANUMERIC)
    );
    let told = Json(json!({"run": run}));
    Ok((StatusCode::ACCEPTED, [(LOCATION, place)], told).into_response())
}

pub(super) async fn cancel(
    _: Entitled,
    State(served): State<Arc<Served>>,
    id: Result<Path<String>, PathRejection>,
) -> Asked<(StatusCode, Json<Value>)> {
    let Path(id) = id?;
    if !is_id(&id) {
        return Err(Problem::absent("run", &id));
    }
    served.desk.cancel(&id).await?;
    tracing::info!(run = id, "a run was cancelled over HTTP");
    Ok((StatusCode::ACCEPTED, Json(json!({"run": id}))))
}

fn is_id(text: &str) -> bool {
    let is_of_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=ID_LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_of_id)
}
