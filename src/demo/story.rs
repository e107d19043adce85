//! Holds what a demo did and saw, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use tokio::time::Instant;

use crate::report::Exit;

/// One step: what was done, and what was seen then.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub number: usize,
    pub name: &'static str,
    pub title: &'static str,
    pub did: String,
    pub saw: Vec<String>,
    /// What was seen, for programs.
    pub figures: BTreeMap<&'static str, u64>,
}

/// The step that saw something else than it must.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    pub number: usize,
    pub step: &'static str,
    pub why: String,
}

/// Everything that a demo did and saw.
#[derive(Debug, Serialize)]
pub struct Story {
    pub steps: Vec<Step>,
    pub failed: Option<Failure>,
    pub seconds: f64,
}

impl Story {
    pub fn exit(&self) -> Exit {
        match self.failed {
            None => Exit::Done,
            Some(_) => Exit::SomeFailed,
        }
    }

    /// The last line.
    pub fn moral(&self) -> String {
        match &self.failed {
            None => format!(
                "All {} steps saw what they must, in {:.1} s.\n",
                self.steps.len(),
                self.seconds
            ),
            Some(Failure { number, step, why }) => {
                format!("Step {number} ('{step}') saw something else than it must: {why}\n")
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>2}. {}", self.number, self.title)?;
        writeln!(f, "    {}", self.did)?;
        for saw in &self.saw {
            writeln!(f, "    - {saw}")?;
        }
        writeln!(f)
    }
}

/// What a step has to tell.
#[derive(Debug, Default)]
pub(super) struct Told {
    did: String,
    saw: Vec<String>,
    figures: BTreeMap<&'static str, u64>,
}

impl Told {
    pub(super) fn did(what: impl Into<String>) -> Self {
        Self {
            did: what.into(),
            ..Self::default()
        }
    }

    pub(super) fn saw(mut self, what: impl Into<String>) -> Self {
        self.saw.push(what.into());
        self
    }

    pub(super) fn figure(mut self, name: &'static str, figure: impl TryInto<u64>) -> Self {
        let figure = figure.try_into().unwrap_or(u64::MAX);
        self.figures.insert(name, figure);
        self
    }
}

/// The story can't go on: what it needs was not seen.
#[derive(Debug)]
pub(super) struct Broken(Failure);

/// Tells a story step by step.
pub(super) struct Teller<'a> {
    tell: &'a mut (dyn FnMut(&Step) + Send),
    steps: Vec<Step>,
    begun: Instant,
}

impl<'a> Teller<'a> {
    pub(super) fn new(tell: &'a mut (dyn FnMut(&Step) + Send)) -> Self {
        Self {
            tell,
            steps: Vec::new(),
            begun: Instant::now(),
        }
    }

    /// Carries out one step; an error is something that it should not have seen.
    pub(super) async fn step<T>(
        &mut self,
        name: &'static str,
        title: &'static str,
        act: impl Future<Output = anyhow::Result<(Told, T)>>,
    ) -> Result<T, Broken> {
        let number = self.steps.len() + 1;
        let (told, found) = act.await.map_err(|error| {
            Broken(Failure {
                number,
                step: name,
                why: format!("{error:#}"),
            })
        })?;
        let step = Step {
            number,
            name,
            title,
            did: told.did,
            saw: told.saw,
            figures: told.figures,
        };
        (self.tell)(&step);
        self.steps.push(step);
        Ok(found)
    }

    pub(super) fn end(self, played: Result<(), Broken>) -> Story {
        Story {
            steps: self.steps,
            failed: played.err().map(|Broken(failure)| failure),
            seconds: self.begun.elapsed().as_secs_f64(),
        }
    }
}
