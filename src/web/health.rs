//! Whether the process lives, and whether it does its work.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Served;
use super::problem::Problem;
use crate::board::Status;

/// That an answer comes is the answer.
pub(super) async fn alive() -> Json<Value> {
    Json(json!({"alive": true}))
}

pub(super) async fn ready(State(served): State<Arc<Served>>) -> Result<Json<Value>, Problem> {
    match reason(&served.board.status()) {
        None => Ok(Json(json!({"ready": true}))),
        Some(reason) => Err(Problem::not_ready(reason)),
    }
}

/// Why a service is not ready, if it is not.
fn reason(status: &Status) -> Option<String> {
    if status.draining {
        return Some("it ends as soon as what is under way has ended".to_owned());
    }
    if status.ready {
        return None;
    }
    let unseen: Vec<&str> = status
        .sets
        .iter()
        .filter(|set| set.last_run.is_none())
        .map(|set| set.name.as_str())
        .collect();
    Some(if status.sets.is_empty() {
        "it has just started".to_owned()
    } else if unseen.is_empty() {
        "something stands in the way of its runs: see the notes of /api/v1/status".to_owned()
    } else {
        format!("not looked at yet: {}", unseen.join(", "))
    })
}
