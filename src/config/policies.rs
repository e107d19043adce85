//! Reads by whom images must be signed: `[[registry.policies]]`.

use std::fmt;
use std::path::PathBuf;

use globset::Glob;
use serde::{Deserialize, Deserializer};

/// Some images, and by whom they must be signed before they come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct PolicySettings {
    /// At least one.
    pub images: Vec<Glob>,
    /// Those of them that the policy is not for.
    pub except: Vec<Glob>,
    pub signer: SignerSettings,
}

/// By whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerSettings {
    /// The file of a public key.
    Key(PathBuf),
    Identity {
        /// `*` stands for anything but a slash.
        identity: String,
        issuer: String,
        /// None: the one that is compiled in.
        trust_root: Option<PathBuf>,
    },
}

/// A policy as it stands in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(deserialize_with = "globs")]
    images: Vec<Glob>,
    #[serde(default, deserialize_with = "globs")]
    except: Vec<Glob>,
    key: Option<PathBuf>,
    identity: Option<String>,
    issuer: Option<String>,
    trust_root: Option<PathBuf>,
}

impl TryFrom<Written> for PolicySettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { images, except, .. } = written;
        let texts: Vec<&str> = images.iter().map(Glob::glob).collect();
        let of = texts.join(", ");
        if images.is_empty() {
            return Err("a policy names no images".to_owned());
        }
        let signer = match (written.key, written.identity, written.issuer) {
            (Some(key), None, None) if written.trust_root.is_none() => SignerSettings::Key(key),
            (Some(_), None, None) => {
                return Err(format!(
                    "the policy for {of} has 'trust_root', which a 'key' has no use for"
                ));
            }
            (None, Some(identity), Some(issuer)) => SignerSettings::Identity {
                identity,
                issuer,
                trust_root: written.trust_root,
            },
            _ => {
                return Err(format!(
                    "the policy for {of} needs 'key', or 'identity' and 'issuer', and not both"
                ));
            }
        };
        Ok(Self {
            images,
            except,
            signer,
        })
    }
}

impl fmt::Display for PolicySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.images.iter().map(Glob::glob).collect();
        write!(f, "the policy for {}", texts.join(", "))
    }
}

/// One glob, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(Vec<String>),
}

fn globs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Glob>, D::Error> {
    let texts = match Texts::deserialize(deserializer)? {
        Texts::One(text) => vec![text],
        Texts::Several(texts) => texts,
    };
    let globs = texts.iter().map(|text| Glob::new(text));
    globs
        .collect::<Result<_, _>>()
        .map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PolicySettings, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn images_are_one_glob_or_several() {
        let one = read("images = \"quay.io/**\"\nkey = \"cosign.pub\"").unwrap();
        assert_eq!(one.signer, SignerSettings::Key("cosign.pub".into()));
        let several = "images = [\"a.example/*\", \"b.example/*\"]\nexcept = \"a.example/old\"\n\
            identity = \"x@y.example\"\nissuer = \"https://y.example\"\ntrust_root = \"root.json\"";
        let several = read(several).unwrap();
        assert_eq!(
            several.to_string(),
            "the policy for a.example/*, b.example/*"
        );
        assert_eq!(several.except.len(), 1);
        let SignerSettings::Identity { trust_root, .. } = several.signer else {
            panic!("{several:?}");
        };
        assert_eq!(trust_root, Some("root.json".into()));
    }

    #[test]
    fn a_policy_says_by_whom_and_in_one_way() {
        for wrong in [
            "",
            "key = \"k\"\nidentity = \"i\"\nissuer = \"s\"",
            "identity = \"i\"",
            "issuer = \"s\"",
            "key = \"k\"\nissuer = \"s\"",
            "key = \"k\"\ntrust_root = \"r\"",
            "key = \"k\"\nkeys = []",
        ] {
            let text = format!("images = \"a.example/**\"\n{wrong}");
            assert!(read(&text).is_err(), "{wrong}");
        }
        assert!(read("images = []\nkey = \"k\"").is_err());
        assert!(read("images = \"[\"\nkey = \"k\"").is_err());
        assert!(read("key = \"k\"").is_err());
    }

    /// What is commented out there is what people copy.
    #[test]
    fn the_examples_of_the_commented_file_can_be_used() {
        let file = include_str!("../../config/mirror.toml");
        let (_, rest) = file.split_once("# [[registry.policies]]\n").unwrap();
        let (rest, _) = rest.split_once("\n# Repositories in ECR").unwrap();
        let policies = rest.split("# [[registry.policies]]\n").map(|policy| {
            let lines = policy.lines().filter_map(|line| line.strip_prefix("# "));
            let settings: Vec<&str> = lines.filter(|line| line.contains(" = ")).collect();
            read(&settings.join("\n")).unwrap().signer
        });
        let signers: Vec<SignerSettings> = policies.collect();
        let [
            SignerSettings::Identity { issuer, .. },
            SignerSettings::Key(_),
        ] = &signers[..]
        else {
            panic!("{signers:?}");
        };
        assert_eq!(issuer, "https://accounts.google.com");
    }
}
