//! An occasion in words, English or Chinese: a title, facts, and a list that may be cut.

use indicatif::BinaryBytes;

use super::Language;
use super::occasion::{Change, Occasion, cut};
use crate::record::{End, Purpose};

/// A fact or a line of a list is cut there, in characters.
const LINE_MAX: usize = 300;

/// What a title may have everywhere (Slack's headers have the least room), in characters.
const TITLE_MAX: usize = 140;

/// A message as any form can write it. Every text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) title: String,
    /// What is told of it, with its name.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) list: Vec<String>,
    /// How many more there are than the list has.
    more: u64,
    /// What follows from it.
    pub(super) advice: Option<&'static str>,
    language: Language,
}

/// How a form writes a text.
pub(super) struct Style {
    /// Around a fact's name.
    pub(super) name: [&'static str; 2],
    /// Before a line of the list.
    pub(super) item: &'static str,
    /// Between lines.
    pub(super) between: &'static str,
    /// Takes the meaning out of characters that have one.
    pub(super) plain: fn(&str) -> String,
}

impl Message {
    pub(super) fn new(occasion: &Occasion, language: Language) -> Self {
        let mut message = Self {
            title: title(occasion, language),
            facts: facts(occasion, language),
            list: list(occasion),
            more: 0,
            advice: advice(occasion, language),
            language,
        };
        message.more = counted(occasion).saturating_sub(message.list.len() as u64);
        message.title = one_line(&message.title, TITLE_MAX);
        let facts = message.facts.iter_mut().map(|(_, fact)| fact);
        for line in facts.chain(&mut message.list) {
            *line = one_line(line, LINE_MAX);
        }
        message
    }

    /// The text without its title, with as much of the list as fits: `fits` says of a text whether it does.
    pub(super) fn fitted(&self, style: &Style, fits: impl Fn(&str) -> bool) -> String {
        let texts = (0..=self.list.len())
            .rev()
            .map(|listed| self.text(style, listed));
        let mut fitting = texts.skip_while(|text| !fits(text));
        fitting.next().unwrap_or_else(|| {
            let mut text = self.text(style, 0);
            while !fits(&text) && text.pop().is_some() {}
            text
        })
    }

    fn text(&self, style: &Style, listed: usize) -> String {
        let [before, after] = style.name;
        let colon = self.language.of(": ", ":");
        let facts = self.facts.iter();
        let facts = facts.map(|(name, fact)| {
            let fact = (style.plain)(fact);
            format!("{before}{name}{after}{colon}{fact}")
        });
        let list = self.list.iter().take(listed);
        let list = list.map(|line| format!("{}{}", style.item, (style.plain)(line)));
        let more = self.more + (self.list.len() - listed) as u64;
        let more = (more > 0).then(|| match self.language {
            Language::En => format!("{}and {more} more", style.item),
            Language::Zh => format!("{}另有 {more} 项", style.item),
        });
        let lines = facts.chain(list).chain(more);
        let lines = lines.chain(self.advice.map(ToOwned::to_owned));
        lines.collect::<Vec<_>>().join(style.between)
    }
}

impl Language {
    pub(super) fn of<T>(self, en: T, zh: T) -> T {
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }
}

fn title(occasion: &Occasion, language: Language) -> String {
    let text = match (occasion, language) {
        (Occasion::Mirrored { release, .. }, Language::En) => format!("{release} is mirrored"),
        (Occasion::Mirrored { release, .. }, Language::Zh) => format!("{release} 已完成镜像"),
        (
            Occasion::RunFailed {
                set,
                purpose,
                end: End::SomeFailed,
                failed: 0,
                ..
            },
            language,
        ) => match language {
            Language::En => format!("the {purpose} of {set} is not complete"),
            Language::Zh => format!("{set} 的{}未全部完成", of_purpose(*purpose, language)),
        },
        (
            Occasion::RunFailed {
                set,
                end: End::SomeFailed,
                failed,
                ..
            },
            language,
        ) => match language {
            Language::En => format!("{failed} {} of {set} failed", files(*failed)),
            Language::Zh => format!("{set} 有 {failed} 个文件失败"),
        },
        (Occasion::RunFailed { set, purpose, .. }, Language::En) => {
            format!("the {purpose} of {set} failed")
        }
        (Occasion::RunFailed { set, purpose, .. }, Language::Zh) => {
            format!("{set} 的{}失败", of_purpose(*purpose, language))
        }
        (
            Occasion::Damaged {
                place,
                damaged,
                repaired,
                ..
            },
            language,
        ) => damage(place, *damaged, *repaired, language),
        (
            Occasion::Upstream {
                release, change, ..
            },
            language,
        ) => match change {
            Change::Changed => language.of(
                format!("upstream changed {release}"),
                format!("上游更改了 {release}"),
            ),
            Change::Withdrawn => language.of(
                format!("upstream withdrew {release}"),
                format!("上游撤回了 {release}"),
            ),
        },
        (Occasion::Test, language) => language.of("this is a test", "这是一条测试消息").to_owned(),
    };
    language.of(
        format!("kops-mirror: {text}"),
        format!("kops-mirror:{text}"),
    )
}

fn damage(place: &str, damaged: u64, repaired: u64, language: Language) -> String {
    let left = damaged.saturating_sub(repaired);
    match (language, left) {
        (Language::En, 0) => {
            format!("{damaged} damaged {} at {place}, repaired", files(damaged))
        }
        (Language::Zh, 0) => format!("{place} 有 {damaged} 个文件损坏,已修复"),
        (Language::En, left) => format!(
            "{damaged} damaged {} at {place}, {left} not repaired",
            files(damaged)
        ),
        (Language::Zh, left) => {
            format!("{place} 有 {damaged} 个文件损坏,{left} 个未修复")
        }
    }
}

fn files(count: u64) -> &'static str {
    if count == 1 { "file" } else { "files" }
}

fn of_purpose(purpose: Purpose, language: Language) -> &'static str {
    match purpose {
        Purpose::Sync => language.of("sync", "同步"),
        Purpose::Scrub => language.of("scrub", "校验"),
        Purpose::Prune => language.of("prune", "清理"),
    }
}

fn facts(occasion: &Occasion, language: Language) -> Vec<(&'static str, String)> {
    let set_is = |set: &String| (language.of("Set", "集合"), set.clone());
    match occasion {
        Occasion::Mirrored {
            set,
            targets,
            files,
            bytes,
            ..
        } => vec![
            set_is(set),
            (
                language.of("Targets", "目标"),
                targets.join(language.of(", ", "、")),
            ),
            (language.of("Files", "文件数"), files.to_string()),
            (language.of("Size", "大小"), BinaryBytes(*bytes).to_string()),
        ],
        Occasion::RunFailed {
            set,
            run,
            purpose,
            why,
            ..
        } => {
            let purpose = of_purpose(*purpose, language).to_owned();
            let mut facts = vec![
                set_is(set),
                (language.of("Run", "任务"), format!("{run} ({purpose})")),
            ];
            facts.extend(
                why.iter()
                    .map(|why| (language.of("Why", "原因"), why.clone())),
            );
            facts
        }
        Occasion::Damaged { set, place, .. } => {
            vec![set_is(set), (language.of("Target", "目标"), place.clone())]
        }
        Occasion::Upstream {
            set, release, what, ..
        } => {
            let mut facts = vec![
                set_is(set),
                (language.of("Release", "版本"), release.clone()),
            ];
            facts.extend(
                what.iter()
                    .map(|what| (language.of("What", "内容"), what.clone())),
            );
            facts
        }
        Occasion::Test => vec![],
    }
}

fn list(occasion: &Occasion) -> Vec<String> {
    match occasion {
        Occasion::RunFailed { failures, .. } => failures
            .iter()
            .map(|failure| format!("{}: {}", failure.key, failure.why))
            .collect(),
        Occasion::Damaged { files, .. } => files.clone(),
        _ => vec![],
    }
}

/// How many there are of what is listed.
fn counted(occasion: &Occasion) -> u64 {
    match occasion {
        Occasion::RunFailed { failed, .. } => *failed,
        Occasion::Damaged { damaged, .. } => *damaged,
        _ => 0,
    }
}

fn advice(occasion: &Occasion, language: Language) -> Option<&'static str> {
    Some(match occasion {
        Occasion::Mirrored { .. } => return None,
        Occasion::RunFailed { .. } => language.of(
            "The next run tries again, and fetches nothing twice that has arrived.",
            "下次任务会重试,已下载的内容不会重复下载。",
        ),
        Occasion::Damaged {
            damaged, repaired, ..
        } if repaired >= damaged => language.of(
            "It is right again, but somebody or something changed it: see who may write there.",
            "内容已恢复正确,但曾被改动:请检查谁有写权限。",
        ),
        Occasion::Damaged { .. } => language.of(
            "The next sync brings what is missing; 'kops-mirror repair' does it now.",
            "下次同步会补全;也可立即运行 kops-mirror repair。",
        ),
        Occasion::Upstream { .. } => language.of(
            "What is mirrored was left as it is.",
            "已镜像的内容保持不变。",
        ),
        Occasion::Test => language.of(
            "Messages of this mirror arrive here.",
            "此镜像的消息会发送到这里。",
        ),
    })
}

/// A text as one line without control characters, of at most so many characters.
fn one_line(text: &str, most: usize) -> String {
    let mut line = text.replace(char::is_control, " ");
    cut(&mut line, most);
    line
}
