//! The bench itself: which rows, which tools, and what is printed of them.

mod asked;
mod figures;
mod freight;
mod hosts;
mod image;
mod interrupt;
mod lab;
mod line;
mod measure;
mod memory;
mod options;
mod plot;
mod release;
mod scenario;
mod table;
mod tools;

use std::fs;
use std::io;
use std::process::ExitCode;

use clap::Parser;

use asked::Asked;
use figures::{Figures, Row};
use freight::Freight;
use line::{By, emulator};
use measure::{Measured, Task, measure};
use options::{Options, Role};
use scenario::{Crossing, Scenario, Trouble};
use tools::{Peer, Tool};

pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match Asked::by(&arguments) {
        Asked::Bench => Options::parse(),
        Asked::Test => Options::of_a_test(),
        Asked::List { ignored } => {
            Asked::list(ignored);
            return ExitCode::SUCCESS;
        }
        Asked::Nothing => return ExitCode::SUCCESS,
    };
    let end = match &options.role {
        Some(Role::Emulate(line)) => emulator::run(line).map(|()| ExitCode::SUCCESS),
        None => bench(options),
    };
    end.unwrap_or_else(|error| {
        eprintln!("link: {error}");
        ExitCode::FAILURE
    })
}

fn bench(options: Options) -> io::Result<ExitCode> {
    if let Some(missing) = hosts::missing() {
        println!("link: skipped: {missing}");
        return Ok(ExitCode::from(u8::from(options.require)));
    }
    hosts::sweep();
    interrupt::listen()?;
    let by = options.line.map_or_else(By::default_here, Ok)?;
    let (is_there, missing): (Vec<Peer>, Vec<Peer>) = options
        .peers()
        .into_iter()
        .partition(|peer| peer.missing().is_none());
    let mut bench = Bench {
        options,
        by,
        peers: is_there,
        known: Vec::new(),
    };
    let rows = bench.rows()?;
    bench.tell(&Figures { rows, missing })
}

/// What peers took, for all rows that share a crossing.
type Known = (Crossing, Vec<(Peer, Vec<Measured>)>);

struct Bench {
    options: Options,
    by: By,
    peers: Vec<Peer>,
    known: Vec<Known>,
}

impl Bench {
    fn rows(&mut self) -> io::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for scenario in self.options.scenarios() {
            let freight = Freight::new(scenario.crossing.load);
            let row = Row {
                scenario,
                wanted: freight.bytes(),
                ours: self.runs(&scenario, Tool::Ours, &freight)?,
                peers: self.peers(&scenario, &freight)?,
            };
            rows.push(row);
        }
        Ok(rows)
    }

    fn peers(
        &mut self,
        scenario: &Scenario,
        freight: &Freight,
    ) -> io::Result<Vec<(Peer, Vec<Measured>)>> {
        if scenario.trouble != Trouble::None {
            return Ok(Vec::new());
        }
        let crossing = scenario.crossing;
        if let Some((_, known)) = self.known.iter().find(|(known, _)| *known == crossing) {
            return Ok(known.clone());
        }
        let mut measured = Vec::new();
        let kind = freight.kind();
        for peer in self.peers.iter().filter(|peer| peer.carries == kind) {
            measured.push((*peer, self.runs(scenario, Tool::Peer(*peer), freight)?));
        }
        self.known.push((crossing, measured.clone()));
        Ok(measured)
    }

    fn runs(
        &self,
        scenario: &Scenario,
        tool: Tool,
        freight: &Freight,
    ) -> io::Result<Vec<Measured>> {
        let mut flags = scenario.flags.to_vec();
        flags.extend(self.options.flags());
        let mut runs = Vec::new();
        for seed in self.options.seeds() {
            let run = measure(&Task {
                name: scenario.name,
                tool,
                flags: &flags,
                crossing: &scenario.crossing,
                trouble: scenario.trouble,
                freight,
                cap: self.options.cap(),
                by: self.by,
                seed,
            })?;
            eprintln!("{}", table::line(scenario, tool, &run, freight.bytes()));
            runs.push(run);
        }
        Ok(runs)
    }

    fn tell(&self, figures: &Figures) -> io::Result<ExitCode> {
        let markdown = table::markdown(figures);
        println!("{markdown}");
        if let Some(file) = &self.options.markdown {
            fs::write(file, markdown)?;
        }
        if let Some(file) = &self.options.json {
            fs::write(file, serde_json::to_string_pretty(&figures.document())?)?;
        }
        if let Some(file) = &self.options.svg {
            fs::write(file, plot::svg(figures))?;
        }
        let broken = figures.broken();
        for broken in &broken {
            eprintln!("FAILED: {broken}");
        }
        Ok(ExitCode::from(u8::from(!broken.is_empty())))
    }
}
