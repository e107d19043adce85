//! Digests: what a file must hash to, and what it did.
//!
//! Every byte that crosses is hashed with MD5 (it must equal the object's `ETag`) and SHA-256 (it goes
//! into the sidecar and the index); SHA-1 and SHA-512 only where a publisher vouches with them.

use std::fmt;
use std::str::FromStr;

use md5::Md5;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

/// The hash functions that publishers of Kubernetes and kops files use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Algorithm {
    pub const ALL: [Self; 4] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512];

    /// The name in file extensions and indexes: `sha256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of a digest in hexadecimal digits.
    pub fn hex_length(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha1 => 40,
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// The algorithm whose digests have this many hexadecimal digits.
    pub fn of_hex_length(length: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.hex_length() == length)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One digest. Prints and parses as `sha256:<hex>`; parsing also takes bare hexadecimal, told apart by length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: [u8; 64],
}

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a hexadecimal md5, sha1, sha256 or sha512 digest")]
pub struct NotADigest {
    text: String,
}

impl Digest {
    fn new(algorithm: Algorithm, hash: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes[..hash.len()].copy_from_slice(hash);
        Self { algorithm, bytes }
    }

    /// The digest of bytes at hand.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        match algorithm {
            Algorithm::Md5 => Self::new(algorithm, &Md5::digest(content)),
            Algorithm::Sha1 => Self::new(algorithm, &Sha1::digest(content)),
            Algorithm::Sha256 => Self::new(algorithm, &Sha256::digest(content)),
            Algorithm::Sha512 => Self::new(algorithm, &Sha512::digest(content)),
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// As many as the algorithm makes: 16, 20, 32 or 64.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.hex_length() / 2]
    }

    /// Bare lower-case hexadecimal, as sidecars and ETags have it.
    pub fn hex(&self) -> String {
        hex::encode(self.bytes())
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let refuse = || NotADigest {
            text: text.chars().take(80).collect(),
        };
        let (named, digits) = match text.split_once(':') {
            Some((name, digits)) => {
                let algorithm = Algorithm::ALL.into_iter().find(|a| a.name() == name);
                (Some(algorithm.ok_or_else(refuse)?), digits)
            }
            None => (None, text),
        };
        let algorithm = Algorithm::of_hex_length(digits.len()).ok_or_else(refuse)?;
        if named.is_some_and(|named| named != algorithm) {
            return Err(refuse());
        }
        let hash = hex::decode(digits).map_err(|_| refuse())?;
        Ok(Self::new(algorithm, &hash))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What a content hashed to: MD5 and SHA-256 always, the others where somebody vouches with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    pub md5: Digest,
    pub sha256: Digest,
    pub sha1: Option<Digest>,
    pub sha512: Option<Digest>,
}

impl Digests {
    /// The digests of bytes at hand, with those of `also` beside MD5 and SHA-256.
    pub fn of(content: &[u8], also: &[Algorithm]) -> Self {
        let mut hasher = Hasher::new(also);
        hasher.update(content);
        hasher.finish()
    }

    /// None where it was not computed. MD5 and SHA-256 always are.
    pub fn get(&self, algorithm: Algorithm) -> Option<Digest> {
        match algorithm {
            Algorithm::Md5 => Some(self.md5),
            Algorithm::Sha1 => self.sha1,
            Algorithm::Sha256 => Some(self.sha256),
            Algorithm::Sha512 => self.sha512,
        }
    }
}

/// Hashes a content in order, with as many functions as are needed in one pass.
#[derive(Debug, Clone)]
pub struct Hasher {
    md5: Md5,
    sha256: Sha256,
    sha1: Option<Sha1>,
    sha512: Option<Sha512>,
}

impl Hasher {
    /// MD5 and SHA-256 are always computed; `also` names what is wanted besides.
    pub fn new(also: &[Algorithm]) -> Self {
        Self {
            md5: Md5::new(),
            sha256: Sha256::new(),
            sha1: also.contains(&Algorithm::Sha1).then(Sha1::new),
            sha512: also.contains(&Algorithm::Sha512).then(Sha512::new),
        }
    }

    /// Hashes what comes next.
    pub fn update(&mut self, content: &[u8]) {
        // Slices that stay in the first-level cache while every function reads them.
        for slice in content.chunks(16 * 1024) {
            self.md5.update(slice);
            self.sha256.update(slice);
            if let Some(sha1) = &mut self.sha1 {
                sha1.update(slice);
            }
            if let Some(sha512) = &mut self.sha512 {
                sha512.update(slice);
            }
        }
    }

    /// The digests of everything that came.
    pub fn finish(self) -> Digests {
        Digests {
            md5: Digest::new(Algorithm::Md5, &self.md5.finalize()),
            sha256: Digest::new(Algorithm::Sha256, &self.sha256.finalize()),
            sha1: self
                .sha1
                .map(|h| Digest::new(Algorithm::Sha1, &h.finalize())),
            sha512: self
                .sha512
                .map(|h| Digest::new(Algorithm::Sha512, &h.finalize())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_the_published_vectors_say() {
        // RFC 1321 A.5, FIPS 180-4 examples for "abc".
        let digests = Digests::of(b"abc", &Algorithm::ALL);
        assert_eq!(digests.md5.hex(), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(
            digests.sha1.unwrap().hex(),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
        assert_eq!(
            digests.sha256.hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(
            digests
                .sha512
                .unwrap()
                .hex()
                .starts_with("ddaf35a193617abacc417349ae204131")
        );
    }

    #[test]
    fn parses_bare_and_named_hexadecimal() {
        let bare: Digest = "900150983cd24fb0d6963f7d28e17f72".parse().unwrap();
        assert_eq!(bare.to_string(), "md5:900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(bare.to_string().parse(), Ok(bare));
        assert_eq!("900150983CD24FB0D6963F7D28E17F72".parse(), Ok(bare));
    }

    #[test]
    fn refuses_what_is_no_digest() {
        for text in [
            "",
            "sha256:",
            "900150983cd24fb0d6963f7d28e17f7",
            "sha1:900150983cd24fb0d6963f7d28e17f72",
            "zz0150983cd24fb0d6963f7d28e17f72",
            "<html>",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?}");
        }
    }
}
