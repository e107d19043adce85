//! Holds the rules that a compiler does not: who may use whom, what may be called how, what must be documented.

mod commands;
mod documents;
mod layers;
mod names;

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository, whole.
fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A source file: its path below `src` without `.rs`, and its text.
struct Module {
    name: String,
    text: String,
}

impl Module {
    /// The module of the crate that it is, or is part of.
    fn top(&self) -> &str {
        self.name.split('/').next().unwrap_or(&self.name)
    }
}

/// Every file of `src` but the two roots.
fn modules() -> Vec<Module> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules: Vec<Module> = files_below(&src)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .map(|path| Module {
            name: path
                .strip_prefix(&src)
                .unwrap()
                .with_extension("")
                .to_str()
                .unwrap()
                .to_owned(),
            text: fs::read_to_string(&path).unwrap(),
        })
        .filter(|module| !matches!(module.name.as_str(), "lib" | "main"))
        .collect();
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(modules.len() > 30, "the sources were not found");
    modules
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// A source without its comments and without what its strings say.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['/', '"', '\'']) {
        code.push_str(&rest[..at]);
        rest = &rest[at..];
        let skipped = skipped(rest, &code);
        if skipped == 0 {
            let one = rest.chars().next().map_or(1, char::len_utf8);
            code.push_str(&rest[..one]);
            rest = &rest[one..];
        } else {
            code.extend(rest[..skipped].chars().filter(|&c| c == '\n'));
            rest = &rest[skipped..];
        }
    }
    code + rest
}

/// The length of the comment, string or quote that a text begins with, after some code; 0 when it begins with none.
fn skipped(text: &str, before: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("'\"'") {
        return 3;
    }
    if !text.starts_with('"') {
        return 0;
    }
    if before.ends_with("r#") {
        return text.find("\"#").map_or(text.len(), |at| at + 2);
    }
    let is_raw = before.ends_with('r');
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' if !is_raw => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[test]
fn code_has_no_comments_and_no_strings() {
    let text =
        "use a; // b\nlet c = \"d \\\" // e\"; let f = '\"'; let g = r\"\\\"; h / i; r#\"\"j\"#; k";
    assert_eq!(
        code(text),
        "use a; \nlet c = ; let f = ; let g = r; h / i; r#; k"
    );
}
