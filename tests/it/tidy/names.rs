//! What files may be called, how long they may be, and what no code does.

use super::{code, modules};

/// Names that say nothing of what is inside.
const BANNED: [&str; 12] = [
    "base",
    "common",
    "core",
    "data",
    "handler",
    "helper",
    "info",
    "manager",
    "misc",
    "processor",
    "shared",
    "util",
];

/// Longer than this, a file has more than one idea.
const LINES_MAX: usize = 700;

fn is_banned(word: &str) -> bool {
    BANNED
        .iter()
        .any(|banned| word == *banned || word == format!("{banned}s"))
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    for module in modules() {
        let mut words = module.name.split(['/', '_']);
        assert!(!words.any(is_banned), "src/{}.rs", module.name);
    }
}

#[test]
fn no_type_has_a_name_that_says_nothing() {
    for module in modules() {
        let code = code(&module.text);
        let declared = ["struct ", "enum ", "trait ", "type "];
        let names = declared
            .iter()
            .flat_map(|keyword| code.split(keyword).skip(1));
        for name in names {
            let name = name.split(|c: char| !c.is_alphanumeric()).next();
            let name = name.unwrap_or_default();
            let says_nothing = ["Util", "Helper", "Manager", "Handler", "Processor"]
                .iter()
                .any(|word| name.contains(word));
            assert!(!says_nothing, "{name} in src/{}.rs", module.name);
        }
    }
}

#[test]
fn no_file_is_too_long() {
    for module in modules() {
        let lines = module.text.lines().count();
        assert!(
            lines <= LINES_MAX,
            "src/{}.rs has {lines} lines: give part of it a file of its own",
            module.name
        );
    }
}

#[test]
fn every_module_begins_with_a_sentence_of_what_it_does() {
    for module in modules().iter().filter(|m| !m.name.ends_with("/tests")) {
        let first = module.text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! "), "src/{}.rs", module.name);
    }
}

#[test]
fn only_config_reads_the_environment() {
    for module in modules().iter().filter(|m| m.top() != "config") {
        let code = code(&module.text);
        let shipped = code.split("#[cfg(test)]").next().unwrap_or_default();
        let reads = ["env::var", "env::args", "env::home_dir", "env::temp_dir"]
            .iter()
            .find(|call| shipped.contains(*call));
        assert_eq!(reads, None, "in src/{}.rs", module.name);
    }
}

#[test]
fn every_task_has_an_owner() {
    for module in modules() {
        let code = code(&module.text);
        for call in ["tokio::spawn(", "task::spawn(", "unbounded_channel"] {
            assert!(!code.contains(call), "{call} in src/{}.rs", module.name);
        }
    }
}
