//! What the documents must tell.

use toml::{Table, Value};

use super::{modules, read};

/// The lines of a document that are headings, without those in code blocks.
fn headings(document: &str) -> Vec<usize> {
    let mut in_code = false;
    let mut levels = Vec::new();
    for line in read(document).lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if !in_code && line.starts_with('#') {
            levels.push(line.chars().take_while(|c| *c == '#').count());
        }
    }
    levels
}

#[test]
fn both_readmes_have_the_same_sections() {
    let levels = headings("README.md");
    assert!(levels.len() > 5, "{levels:?}");
    assert_eq!(levels, headings("README.zh-CN.md"));
}

/// Parts of a module are told in the line of the module, so that the map stays one screen.
#[test]
fn the_map_names_every_module_and_its_parts() {
    let map = read("ARCHITECTURE.md");
    let line = |name: &str| {
        map.lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")))
            .unwrap_or_else(|| panic!("ARCHITECTURE.md has no line for {name}"))
    };
    for module in modules().iter().filter(|m| !m.name.ends_with("tests")) {
        match module.name.split('/').collect::<Vec<_>>()[..] {
            [name] => drop(line(name)),
            [name, part] => {
                let told = line(name).contains(&format!("`{part}`"));
                assert!(told, "ARCHITECTURE.md does not tell of {name}/{part}");
            }
            // Deeper parts are their module's own business.
            _ => {}
        }
    }
}

#[test]
fn the_map_names_no_module_that_is_not_there() {
    let modules = modules();
    let map = read("ARCHITECTURE.md");
    let names = map
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    for (name, _) in names {
        assert!(
            modules.iter().any(|module| module.name == name),
            "there is no src/{name}.rs"
        );
    }
}

/// A setting without a reason in front of it, or none of its section's.
#[test]
fn every_setting_has_its_reason() {
    let text = read("config/mirror.toml");
    let is_setting = |line: &str| {
        let line = line.trim_start_matches("# ");
        line.split_once(" = ")
            .is_some_and(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut settings = 0;
    for (at, line) in lines.iter().enumerate() {
        if is_setting(line) && !line.contains("sources") {
            settings += 1;
            let before = lines[..at].iter().rev().find(|line| !is_setting(line));
            let is_told = before.is_some_and(|before| before.starts_with("# "));
            assert!(is_told, "config/mirror.toml gives no reason for: {line}");
        }
    }
    assert!(settings > 30, "{settings}");
}

#[test]
fn the_readme_tells_every_section_of_the_settings() {
    let settings: Table = read("config/mirror.toml").parse().unwrap();
    let readme = read("README.md");
    let sections = settings
        .iter()
        .filter(|(_, value)| matches!(value, Value::Table(_)));
    for (name, _) in sections {
        assert!(readme.contains(&format!("`[{name}]`")), "[{name}]");
    }
}

#[test]
fn the_readme_tells_every_exit_code() {
    use kops_mirror::report::Exit;
    for document in ["README.md", "README.zh-CN.md"] {
        let readme = read(document);
        for exit in [
            Exit::Done,
            Exit::SomeFailed,
            Exit::Unusable,
            Exit::Interrupted,
        ] {
            let row = format!("| {} |", exit.code());
            assert!(readme.contains(&row), "{document} has no row for {row}");
        }
    }
}
