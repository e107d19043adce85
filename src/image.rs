//! Container images: how they are named, and what they consist of.
//!
//! An image is a tree that digests hold together: an index names manifests, one per platform; a manifest names a configuration and
//! layers, which are blobs. Whoever knows the digest of the root can tell every byte of it, whoever brings it. Manifests are kept
//! as the bytes that came: kops and signatures pin their digests
//! (github.com/opencontainers/image-spec, github.com/opencontainers/distribution-spec).

mod manifest;
mod naming;
mod platform;
mod reference;

pub use self::manifest::{BadManifest, Blob, Child, Manifest, media};
pub use self::naming::{BadNaming, Naming};
pub use self::platform::{BadPlatform, Platform};
pub use self::reference::{BadReference, Reference};
