//! Tells what started this process: `cargo bench`, `cargo test`, nextest, or the bench itself.

/// What is asked of this process.
pub(crate) enum Asked {
    /// What its command line says.
    Bench,
    /// To show that it works.
    Test,
    /// To name its one test, or nothing.
    List {
        ignored: bool,
    },
    Nothing,
}

/// The name of the one test.
const TEST: &str = "smoke";

impl Asked {
    pub(crate) fn by(arguments: &[String]) -> Self {
        let has = |word: &str| arguments.iter().any(|argument| argument == word);
        let is_role = arguments.first().is_some_and(|word| word == "emulate");
        let names = || arguments.iter().filter(|word| !word.starts_with('-'));
        if has("--bench") || is_role {
            Self::Bench
        } else if has("--list") {
            Self::List {
                ignored: has("--ignored"),
            }
        } else if names().count() == 0 || names().any(|name| TEST.contains(name.as_str())) {
            Self::Test
        } else {
            Self::Nothing
        }
    }

    pub(crate) fn list(ignored: bool) {
        if !ignored {
            println!("{TEST}: test");
        }
    }
}
