//! Who may use whom. The layers are the groups of `src/lib.rs`, first to last.

use std::collections::{BTreeMap, BTreeSet};

use super::{code, modules, read};

/// The layer of each module of the crate, counted from the top.
fn layers() -> BTreeMap<String, usize> {
    let text = read("src/lib.rs");
    let groups = text
        .split("\n\n")
        .filter(|group| group.contains("pub mod "));
    let mut layers = BTreeMap::new();
    for (layer, group) in groups.enumerate() {
        for line in group.lines() {
            if let Some(name) = line.strip_prefix("pub mod ") {
                layers.insert(name.trim_end_matches(';').to_owned(), layer);
            }
        }
    }
    layers
}

/// The modules of the crate that a source names: `crate::a`, `crate::{a, b::{c}}`.
fn used(text: &str) -> BTreeSet<String> {
    let code = code(text);
    let after = code.split("crate::").skip(1);
    after.flat_map(firsts).collect()
}

/// The first names of a path, or of each path of a group in braces.
fn firsts(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![first(path)];
    };
    let mut depth = 1;
    let mut names = Vec::new();
    let mut start = 0;
    for (at, c) in group.char_indices() {
        let ends = match c {
            '{' => {
                depth += 1;
                false
            }
            '}' => {
                depth -= 1;
                depth == 0
            }
            ',' => depth == 1,
            _ => false,
        };
        if ends {
            names.push(first(&group[start..at]));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn first(path: &str) -> String {
    path.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Who uses whom, with the first file that does.
fn uses() -> BTreeMap<(String, String), String> {
    let layers = layers();
    let mut uses = BTreeMap::new();
    for module in modules() {
        for other in used(&module.text) {
            if other != module.top() && layers.contains_key(&other) {
                uses.entry((module.top().to_owned(), other))
                    .or_insert_with(|| module.name.clone());
            }
        }
    }
    uses
}

#[test]
fn names_in_nested_groups_are_found() {
    let text =
        "use crate::{a::{b, c}, d, e::f};\nuse crate::g::h;\nlet i = crate::j::k(); // crate::l";
    let wanted = ["a", "d", "e", "g", "j"].map(str::to_owned);
    assert_eq!(used(text), BTreeSet::from(wanted));
}

#[test]
fn every_module_has_a_layer() {
    let layers = layers();
    for module in modules() {
        let top = module.top();
        assert!(layers.contains_key(top), "src/lib.rs does not name {top}");
    }
}

#[test]
fn a_module_uses_only_modules_above_and_beside_it() {
    let layers = layers();
    let wrong: Vec<String> = uses()
        .into_iter()
        .filter(|((user, used), _)| layers[user] < layers[used])
        .map(|((user, used), file)| format!("{user} uses {used} below it, in src/{file}.rs"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_modules_use_each_other_even_roundabout() {
    let mut uses = uses();
    loop {
        let users: BTreeSet<String> = uses.keys().map(|(user, _)| user.clone()).collect();
        let before = uses.len();
        // Whoever uses nobody any more closes no circle.
        uses.retain(|(_, used), _| users.contains(used));
        if uses.len() == before {
            break;
        }
    }
    assert!(uses.is_empty(), "in a circle: {uses:?}");
}

#[test]
fn only_the_demo_and_the_tests_use_the_loopback_servers() {
    for ((user, used), file) in uses() {
        let may = matches!(user.as_str(), "demo" | "command");
        assert!(used != "loopback" || may, "src/{file}.rs uses loopback");
    }
}
