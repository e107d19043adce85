//! Writes published checksums in each of the forms that upstreams use.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::{Algorithm, Digest};

/// Bare hexadecimal on a line: kops.
pub(super) fn bare(digest: Digest) -> String {
    format!("{}\n", digest.hex())
}

/// Bare hexadecimal and nothing else: Kubernetes.
pub(super) fn bare_without_newline(digest: Digest) -> String {
    digest.hex()
}

/// `hash  name` on a line: containerd, CNI plugins.
pub(super) fn named(digest: Digest, name: &str) -> String {
    format!("{}  {name}\n", digest.hex())
}

/// Many lines of `hash  name`.
pub(super) fn list<'a>(entries: impl IntoIterator<Item = (Digest, &'a str)>) -> String {
    entries
        .into_iter()
        .map(|(digest, name)| named(digest, name))
        .collect()
}

/// A list between the lines of a PGP clear-signed message: runc. The signature has the look of one.
pub(super) fn clear_signed(list: &str) -> String {
    let noise = Digest::of(Algorithm::Sha512, list.as_bytes());
    let signature = BASE64.encode(noise.bytes());
    let (first, second) = signature.split_at(64);
    format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{list}\
         -----BEGIN PGP SIGNATURE-----\n\n{first}\n{second}\n=4ATE\n-----END PGP SIGNATURE-----\n"
    )
}
