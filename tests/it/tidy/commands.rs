//! What the documents tell people to type must be something that the program takes.

use clap::Parser as _;
use kops_mirror::cli::Cli;

use super::read;

/// The lines of a document's code blocks that run the program, continued lines joined.
fn commands(document: &str) -> Vec<String> {
    commands_in(&read(document))
}

fn commands_in(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let blocks = text.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).map(|line| {
        let line = without_variables(line.trim().trim_start_matches("$ "));
        line.split(" #").next().unwrap_or_default()
    });
    lines
        .filter_map(|line| {
            line.strip_prefix("cargo run --release -- ")
                .map(|rest| format!("kops-mirror {rest}"))
                .or_else(|| line.starts_with("kops-mirror ").then(|| line.to_owned()))
        })
        .collect()
}

/// A command without the variables that are set for it.
fn without_variables(line: &str) -> &str {
    match line.split_once(' ') {
        Some((first, rest)) if first.starts_with("KOPS_MIRROR_") && first.contains('=') => {
            without_variables(rest)
        }
        _ => line,
    }
}

/// The words of a command up to where its output goes elsewhere; quotes hold words together.
fn words(command: &str) -> Vec<String> {
    let command = command.split(['>', '|']).next().unwrap_or_default();
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in command.chars() {
        match c {
            '\'' | '"' if quote.is_none() => quote = Some(c),
            c if quote == Some(c) => quote = None,
            c if c.is_whitespace() && quote.is_none() => words.push(String::new()),
            c => words.last_mut().expect("it begins with one").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn commands_are_found_in_blocks_alone() {
    let text = "kops-mirror a\n```sh\n$ kops-mirror b \\\n  c\nKOPS_MIRROR_D=e kops-mirror f\n```\n`kops-mirror g`";
    assert_eq!(commands_in(text), ["kops-mirror b    c", "kops-mirror f"]);
    assert_eq!(words("a 'b c' d=\"e f\" > g"), ["a", "b c", "d=e f"]);
}

#[test]
fn every_command_of_the_documents_is_one() {
    for document in [
        "README.md",
        "README.zh-CN.md",
        "CHANGELOG.md",
        "ARCHITECTURE.md",
    ] {
        for command in commands(document) {
            if let Err(error) = Cli::try_parse_from(words(&command)) {
                assert!(!error.use_stderr(), "{document}: {command}\n{error}");
            }
        }
    }
}

#[test]
fn the_readme_shows_every_subcommand_that_others_rely_on() {
    let shown = commands("README.md");
    for name in [
        "sync",
        "plan",
        "assets",
        "verify",
        "repair",
        "env",
        "serve",
        "bench",
        "demo",
        "bucket-policy",
    ] {
        let is_shown = shown
            .iter()
            .any(|command| command.split_whitespace().any(|word| word == name));
        assert!(is_shown, "README.md never runs {name}");
    }
}

#[test]
fn both_readmes_show_the_same_commands() {
    assert_eq!(commands("README.md"), commands("README.zh-CN.md"));
}
