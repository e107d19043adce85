//! Which images must be signed, and by whom.

use globset::{Glob, GlobSet};

use super::{Offer, Refusal, Signer};
use crate::digest::Digest;
use crate::image::Reference;

/// Some images, and by whom they must be signed.
#[derive(Debug)]
pub struct Policy {
    images: GlobSet,
    except: GlobSet,
    signer: Signer,
    text: String,
}

/// All policies; an image must satisfy each that fits it.
#[derive(Debug, Default)]
pub struct Policies(Vec<Policy>);

impl Policy {
    /// Globs are compared with an image's name, `registry.k8s.io/kube-proxy`, and with all of its reference: `…:v1.34.8`. A `*` stands
    /// for slashes too.
    pub fn new(images: &[Glob], except: &[Glob], signer: Signer) -> Result<Self, globset::Error> {
        let texts: Vec<&str> = images.iter().map(Glob::glob).collect();
        Ok(Self {
            images: GlobSet::new(images)?,
            except: GlobSet::new(except)?,
            text: format!("{} ({signer})", texts.join(", ")),
            signer,
        })
    }

    fn fits(&self, image: &Reference) -> bool {
        let (name, whole) = (image.name(), image.to_string());
        let is_of = |globs: &GlobSet| globs.is_match(&name) || globs.is_match(&whole);
        is_of(&self.images) && !is_of(&self.except)
    }

    /// Whether a signature of the image with this digest is one that is asked for. `content` is what the offer's blob holds; that it
    /// hashes to its digest is the caller's to see.
    pub fn check(&self, image: Digest, offer: &Offer, content: &[u8]) -> Result<(), Refusal> {
        self.signer.check(image, offer, content)
    }

    /// The images and who must sign them, in a few words.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Policies {
    pub fn new(policies: Vec<Policy>) -> Self {
        Self(policies)
    }

    /// Those that an image must satisfy.
    pub fn of(&self, image: &Reference) -> Vec<&Policy> {
        self.0.iter().filter(|policy| policy.fits(image)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use sigstore_verify::crypto::KeyPair;

    use super::*;
    use crate::signature::Key;

    fn policy(images: &[&str], except: &[&str]) -> Policy {
        let globs = |texts: &[&str]| -> Vec<Glob> {
            texts.iter().map(|text| Glob::new(text).unwrap()).collect()
        };
        let key = KeyPair::generate_ecdsa_p256().unwrap();
        let pem = key.public_key_der().unwrap().to_pem();
        let signer = Signer::Key(Key::from_pem(&pem).unwrap());
        Policy::new(&globs(images), &globs(except), signer).unwrap()
    }

    #[test]
    fn a_policy_is_for_names_with_and_without_tags() {
        let policy = policy(
            &["registry.k8s.io/**", "quay.io/cilium/cilium"],
            &["registry.k8s.io/pause:3.6", "registry.k8s.io/old/*"],
        );
        for (name, fits) in [
            ("registry.k8s.io/kube-proxy:v1.34.8", true),
            ("registry.k8s.io/coredns/coredns:v1.12.1", true),
            ("registry.k8s.io/pause:3.10", true),
            ("registry.k8s.io/pause:3.6", false),
            ("registry.k8s.io/old/tool:v1", false),
            ("quay.io/cilium/cilium:v1.18.3", true),
            ("quay.io/cilium/operator:v1.18.3", false),
            ("registry.k8s.io.example/kube-proxy:v1", false),
        ] {
            assert_eq!(policy.fits(&name.parse().unwrap()), fits, "{name}");
        }
    }
}
