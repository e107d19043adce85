//! Reads published checksums, in all the forms that Kubernetes, kops and their components use.
//!
//! | publisher | form |
//! |---|---|
//! | kops, dl.k8s.io | bare hexadecimal, with or without a newline |
//! | containerd, CNI plugins | `hash  name`, one line |
//! | `SHA256SUMS`, nerdctl | `hash  name` or `hash *name`, many lines; some old ones with the builder's own path before the name |
//! | runc | the same, PGP clear-signed under any `Hash:` header |
//! | BSD tools | `SHA256 (name) = hash` |
//!
//! What fits none of them is refused with what it is instead: an error page that was served with status 200 must not pass for
//! "no such digest". A signature is not checked: nothing tells whose key to trust, and what vouches is recorded.

use crate::digest::{Algorithm, Digest};

/// The longest list that is published has some 40 KB; an endless body must not fill the memory.
pub const LONGEST: usize = 1024 * 1024;

const SIGNED: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";

/// Why a published checksum can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChecksum {
    #[error("it has {bytes} bytes, more than any checksum file ({LONGEST})")]
    TooLong { bytes: usize },
    #[error("it is not text")]
    NotText,
    #[error("it is empty")]
    Empty,
    #[error("it is an HTML or XML page, not a checksum")]
    Page,
    #[error("line {line} ('{text}') is not a checksum")]
    NotAChecksum { line: usize, text: String },
    #[error("line {line} has {found} hexadecimal digits; {algorithm} has {}", algorithm.hex_length())]
    WrongLength {
        line: usize,
        found: usize,
        algorithm: Algorithm,
    },
    #[error("it speaks of '{found}', not of '{name}'")]
    AnotherFile { name: String, found: String },
    #[error("it does not name '{name}'")]
    NotListed { name: String },
    #[error("it names '{name}' more than once, with different digests")]
    Ambiguous { name: String },
}

/// The digest in a file that speaks of one file alone, called `name`.
pub fn sidecar(content: &[u8], algorithm: Algorithm, name: &str) -> Result<Digest, BadChecksum> {
    let text = text_of(content)?;
    let entries = entries(text, algorithm)?;
    if let [entry] = entries.as_slice() {
        return match entry.path {
            None | Some("-") => entry.digest(algorithm),
            Some(path) if last_segment(path) == last_segment(name) => entry.digest(algorithm),
            Some(path) => Err(BadChecksum::AnotherFile {
                name: name.to_owned(),
                found: excerpt(path),
            }),
        };
    }
    listed(&entries, algorithm, name)
}

/// The digest of the file `name` in a list of many. A line that is none, or is of another file, matters only where that one is missing.
///
/// `name` may have a path, and so may the list's names; one must end with the whole of the other. Of several, that with the most
/// segments in common is meant.
pub fn list(content: &[u8], algorithm: Algorithm, name: &str) -> Result<Digest, BadChecksum> {
    let (entries, rubbish) = split(text_of(content)?, algorithm);
    match (listed(&entries, algorithm, name), rubbish) {
        // It may have been the line that can't be read.
        (Err(BadChecksum::NotListed { .. }), Some(rubbish)) => Err(rubbish),
        (Err(BadChecksum::NotListed { .. }), None) if entries.is_empty() => Err(BadChecksum::Empty),
        (told, _) => told,
    }
}

fn listed(entries: &[Entry<'_>], algorithm: Algorithm, name: &str) -> Result<Digest, BadChecksum> {
    let shared = |entry: &Entry<'_>| entry.path.map_or(0, |path| segments_in_common(path, name));
    let most = entries.iter().map(shared).max().unwrap_or(0);
    if most == 0 {
        return Err(BadChecksum::NotListed {
            name: name.to_owned(),
        });
    }
    let mut found = None;
    for entry in entries.iter().filter(|entry| shared(entry) == most) {
        let digest = entry.digest(algorithm)?;
        if found.is_some_and(|first| first != digest) {
            return Err(BadChecksum::Ambiguous {
                name: name.to_owned(),
            });
        }
        found = Some(digest);
    }
    found.ok_or_else(|| BadChecksum::NotListed {
        name: name.to_owned(),
    })
}

/// One line: a digest, and whose it is unless it stands alone.
struct Entry<'a> {
    line: usize,
    hex: &'a str,
    path: Option<&'a str>,
}

impl Entry<'_> {
    fn digest(&self, algorithm: Algorithm) -> Result<Digest, BadChecksum> {
        if self.hex.len() != algorithm.hex_length() {
            return Err(BadChecksum::WrongLength {
                line: self.line,
                found: self.hex.len(),
                algorithm,
            });
        }
        self.hex.parse().map_err(|_| BadChecksum::NotAChecksum {
            line: self.line,
            text: excerpt(self.hex),
        })
    }
}

fn text_of(content: &[u8]) -> Result<&str, BadChecksum> {
    if content.len() > LONGEST {
        return Err(BadChecksum::TooLong {
            bytes: content.len(),
        });
    }
    let text = std::str::from_utf8(content).map_err(|_| BadChecksum::NotText)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('<') {
        return Err(BadChecksum::Page);
    }
    Ok(text)
}

/// All lines that speak of this algorithm; every line must be one.
fn entries(text: &str, algorithm: Algorithm) -> Result<Vec<Entry<'_>>, BadChecksum> {
    let (found, rubbish) = split(text, algorithm);
    match rubbish {
        Some(rubbish) => Err(rubbish),
        None if found.is_empty() => Err(BadChecksum::Empty),
        None => Ok(found),
    }
}

/// The lines that speak of this algorithm, and the first that says nothing; BSD lists may have several algorithms in one file.
fn split(text: &str, algorithm: Algorithm) -> (Vec<Entry<'_>>, Option<BadChecksum>) {
    let (mut found, mut rubbish) = (Vec::new(), None);
    for (line, text) in signed_lines(text) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let parsed = bsd(text)
            .map(|(named, path, hex)| (hex, Some(path), named == algorithm))
            .or_else(|| gnu(text).map(|(hex, path)| (hex, path, true)));
        match parsed {
            Some((hex, path, true)) => found.push(Entry { line, hex, path }),
            Some(_) => {}
            None => {
                rubbish.get_or_insert_with(|| BadChecksum::NotAChecksum {
                    line,
                    text: excerpt(text),
                });
            }
        }
    }
    (found, rubbish)
}

/// The numbered lines of a text, or of what is signed in it: a clear-signed text has its armour's headers up to an empty line,
/// ends at the signature, and has "- " before each line that begins with a dash (RFC 9580, section 7).
fn signed_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_signed = text.lines().any(|line| line.trim_end() == SIGNED);
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    if is_signed {
        lines.find(|(_, line)| line.trim_end() == SIGNED);
        lines.find(|(_, line)| line.trim().is_empty());
    }
    lines
        .take_while(move |(_, line)| !is_signed || line.trim_end() != SIGNATURE)
        .map(move |(at, line)| match line.strip_prefix("- ") {
            Some(escaped) if is_signed => (at, escaped),
            _ => (at, line),
        })
}

/// `SHA256 (name) = hash`
fn bsd(line: &str) -> Option<(Algorithm, &str, &str)> {
    let (named, rest) = line.split_once(" (")?;
    let (path, hex) = rest.rsplit_once(") = ")?;
    let algorithm = Algorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.name().eq_ignore_ascii_case(named))?;
    is_hex(hex).then_some((algorithm, path, hex))
}

/// `hash`, `hash  name` or `hash *name`
fn gnu(line: &str) -> Option<(&str, Option<&str>)> {
    let (hex, path) = match line.split_once([' ', '\t']) {
        None => (line, None),
        Some((hex, path)) => {
            let path = path.trim_start();
            (hex, Some(path.strip_prefix('*').unwrap_or(path)))
        }
    };
    is_hex(hex).then_some((hex, path))
}

/// Shorter than any digest is not a digest of the wrong kind but a word: "dead", "404".
fn is_hex(text: &str) -> bool {
    text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// How many last segments two paths share, provided that one ends with the whole of the other.
fn segments_in_common(one: &str, other: &str) -> usize {
    let segments = |path: &str| -> Vec<String> {
        path.split('/')
            .filter(|segment| !matches!(*segment, "" | "."))
            .map(str::to_owned)
            .collect()
    };
    let (one, other) = (segments(one), segments(other));
    let (short, long) = if one.len() <= other.len() {
        (one, other)
    } else {
        (other, one)
    };
    if long.ends_with(&short) {
        short.len()
    } else {
        0
    }
}

fn last_segment(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn excerpt(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn sha256(content: &str) -> Digest {
        Digest::of(Algorithm::Sha256, content.as_bytes())
    }

    fn one(text: &str) -> Result<Digest, BadChecksum> {
        sidecar(text.as_bytes(), Algorithm::Sha256, "runc.amd64")
    }

    fn many(text: &str, name: &str) -> Result<Digest, BadChecksum> {
        list(text.as_bytes(), Algorithm::Sha256, name)
    }

    #[test]
    fn a_sidecar_is_read_in_every_form_it_is_published_in() {
        let digest = sha256("runc");
        let hex = digest.hex();
        for text in [
            hex.clone(),
            format!("{hex}\n"),
            format!("{}\r\n", hex.to_uppercase()),
            format!("\u{feff}{hex}\n"),
            format!("  {hex}  \n\n"),
            format!("{hex}  runc.amd64\n"),
            format!("{hex} *runc.amd64\n"),
            format!("{hex}\t./out/runc.amd64\n"),
            format!("{hex}  -\n"),
            format!("SHA256 (runc.amd64) = {hex}\n"),
        ] {
            assert_eq!(one(&text), Ok(digest), "{text:?}");
        }
    }

    #[test]
    fn rubbish_is_refused_with_what_it_is() {
        let short = &sha256("x").hex()[..63];
        for (text, refusal) in [
            ("", "it is empty"),
            ("\n \n", "it is empty"),
            (
                "<!DOCTYPE html>",
                "it is an HTML or XML page, not a checksum",
            ),
            (
                "  <?xml version='1.0'?><Error>",
                "it is an HTML or XML page, not a checksum",
            ),
            ("Not Found", "line 1 ('Not Found') is not a checksum"),
            ("404", "line 1 ('404') is not a checksum"),
            (short, "line 1 has 63 hexadecimal digits; sha256 has 64"),
            (
                "d41d8cd98f00b204e9800998ecf8427e",
                "line 1 has 32 hexadecimal digits; sha256 has 64",
            ),
        ] {
            assert_eq!(one(text).unwrap_err().to_string(), refusal);
        }
        assert_eq!(
            sidecar(&[0xff, 0xfe], Algorithm::Sha256, "x"),
            Err(BadChecksum::NotText)
        );
        let endless = vec![b'a'; LONGEST + 1];
        assert!(matches!(
            sidecar(&endless, Algorithm::Sha256, "x"),
            Err(BadChecksum::TooLong { .. })
        ));
    }

    #[test]
    fn a_sidecar_of_another_file_is_refused() {
        let text = format!("{}  runc.arm64\n", sha256("other").hex());
        assert_eq!(
            one(&text).unwrap_err().to_string(),
            "it speaks of 'runc.arm64', not of 'runc.amd64'"
        );
    }

    #[test]
    fn a_clear_signed_list_is_read_under_any_hash_header() {
        let digest = sha256("runc");
        for header in [
            "Hash: SHA256\n",
            "Hash: SHA512\n",
            "Hash: SHA384,SHA512\n",
            "",
        ] {
            let text = format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\n{header}\n{}  libseccomp.tar.gz\n{}  runc.amd64\n-----BEGIN PGP SIGNATURE-----\n\niQIz=\n-----END PGP SIGNATURE-----\n",
                sha256("other").hex(),
                digest.hex(),
            );
            assert_eq!(many(&text, "runc.amd64"), Ok(digest), "{header:?}");
            assert_eq!(many(&text.replace('\n', "\r\n"), "runc.amd64"), Ok(digest));
        }
    }

    #[test]
    fn dash_escapes_of_a_clear_signed_text_are_undone() {
        let digest = sha256("dashed");
        let text = format!(
            "{SIGNED}\nHash: SHA256\n\n- {}  -dashed\n{SIGNATURE}\n",
            digest.hex()
        );
        assert_eq!(many(&text, "-dashed"), Ok(digest));
    }

    #[test]
    fn the_builders_own_path_before_a_name_does_not_hide_it() {
        let (amd64, arm64) = (sha256("amd64"), sha256("arm64"));
        let text = format!(
            "{}  /workspace/src/k8s.io/kubernetes/_output/gcs-stage/v1.9.11/bin/linux/amd64/kubelet\n{}  bin/linux/arm64/kubelet\n",
            amd64.hex(),
            arm64.hex(),
        );
        assert_eq!(many(&text, "bin/linux/amd64/kubelet"), Ok(amd64));
        assert_eq!(many(&text, "bin/linux/arm64/kubelet"), Ok(arm64));
        assert_eq!(
            many(&text, "kubelet"),
            Err(BadChecksum::Ambiguous {
                name: "kubelet".to_owned()
            })
        );
        assert_eq!(
            many(&text, "bin/linux/s390x/kubelet"),
            Err(BadChecksum::NotListed {
                name: "bin/linux/s390x/kubelet".to_owned()
            })
        );
    }

    #[test]
    fn a_line_of_rubbish_hides_no_other_files_digest() {
        let digest = sha256("kubelet");
        let text = format!("{}  kubelet\n# a remark\nsee the notes\n", digest.hex());
        assert_eq!(many(&text, "kubelet"), Ok(digest));
        assert_eq!(
            many(&text, "kubectl").unwrap_err().to_string(),
            "line 3 ('see the notes') is not a checksum"
        );
        assert_eq!(many("# nothing\n", "kubectl"), Err(BadChecksum::Empty));
    }

    #[test]
    fn of_several_algorithms_in_one_list_the_asked_one_is_taken() {
        let md5 = Digest::of(Algorithm::Md5, b"x").hex();
        let text = format!("MD5 (x) = {md5}\nSHA256 (x) = {}\n", sha256("x").hex());
        assert_eq!(many(&text, "x"), Ok(sha256("x")));
    }

    proptest! {
        #[test]
        fn whatever_is_published_its_digest_is_found_and_no_other(
            content in ".{0,20}",
            name in "[a-z][a-z0-9._-]{0,20}",
            prefix in prop::sample::select(vec!["", "./", "bin/linux/", "/workspace/_output/"]),
            separator in prop::sample::select(vec!["  ", " *", "\t"]),
            ending in prop::sample::select(vec!["", "\n", "\r\n", "\n\n"]),
            upper in any::<bool>(),
            others in prop::collection::vec("[A-Z]{1,12}", 0..4),
        ) {
            let digest = sha256(&content);
            let hex = if upper { digest.hex().to_uppercase() } else { digest.hex() };
            let mut text = String::new();
            for other in &others {
                writeln!(text, "{}  {other}", sha256(other).hex()).unwrap();
            }
            text.extend([hex.as_str(), separator, prefix, &name, ending]);
            prop_assert_eq!(many(&text, &name), Ok(digest));
        }

        #[test]
        fn no_content_yields_a_digest_that_it_does_not_hold(content in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(digest) = sidecar(&content, Algorithm::Md5, "x") {
                let text = String::from_utf8(content).unwrap().to_lowercase();
                prop_assert!(text.contains(&digest.hex()));
            }
        }

        #[test]
        fn no_text_of_checksum_like_words_makes_it_panic(
            words in prop::collection::vec(prop::sample::select(vec![
                "-----BEGIN PGP SIGNED MESSAGE-----", "-----BEGIN PGP SIGNATURE-----", "Hash: SHA512", "- ", "\n", "\r\n", " ",
                "d41d8cd98f00b204e9800998ecf8427e", "MD5 (x) = ", "*", "x", "/", "#", "\u{feff}", "\\", ") = ", " (",
            ]), 0..12),
        ) {
            let text = words.concat();
            if let Ok(digest) = list(text.as_bytes(), Algorithm::Md5, "x") {
                prop_assert_eq!(digest.hex(), "d41d8cd98f00b204e9800998ecf8427e");
            }
        }
    }
}
