//! Finds out where the images of a release are: by its index, at the registry that is named if they are there.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::consumer::MirroredImages;
use crate::events::{Event, Observer};
use crate::image::Naming;
use crate::index::{ImageEntry, Index};
use crate::store::registry::Address;

/// Where they are; None where the release has none, or none where they are said to be, which is told. `is_typed` says that the
/// registry was: then it is believed where no index can be seen.
pub(super) fn mirrored(
    config: &Config,
    is_typed: bool,
    index: Option<&Index>,
    observer: &dyn Observer,
) -> Option<MirroredImages> {
    let named = &config.registry.to;
    let naming = config.registry.naming();
    let Some(index) = index else {
        let address = named.first().filter(|_| is_typed)?;
        return Some(at(&address.name(), is_http(address), naming));
    };
    let plain_http = &index.release.plain_http;
    let warn = |what: String| observer.event(&Event::Warned { what });
    let places = places(&index.release.images, naming);
    let found = |address: &&Address| {
        let place = address.name();
        places.iter().any(|(there, _)| *there == place)
    };
    let release = &index.release.name;
    match (named.iter().find(found), named.first(), places.as_slice()) {
        (Some(address), _, places) => {
            let place = address.name();
            let (_, naming) = places.iter().find(|(there, _)| *there == place)?;
            Some(at(&place, is_http(address), naming.clone()))
        }
        (None, Some(named), [(place, _), ..]) => {
            warn(format!(
                "the images of {release} are at {place}, and not at {named}: 'kops-mirror sync --images --to-registry {named}' brings \
                 them there too"
            ));
            None
        }
        (None, Some(named), []) => {
            if is_typed {
                warn(format!(
                    "{release} was mirrored without its images: 'kops-mirror sync --images --to-registry {named}' brings them"
                ));
            }
            None
        }
        (None, None, [(place, naming), others @ ..]) => {
            if !others.is_empty() {
                warn(format!(
                    "the images of {release} are at {} other registries besides {place}: --to-registry chooses",
                    others.len()
                ));
            }
            let address: Address = place.parse().ok()?;
            let is_plain = is_http(&address) || plain_http.contains(&address.host());
            Some(at(place, is_plain, naming.clone()))
        }
        (None, None, []) => None,
    }
}

fn is_http(address: &Address) -> bool {
    address.base().scheme() == "http"
}

fn at(place: &str, is_plain: bool, naming: Naming) -> MirroredImages {
    MirroredImages {
        registry: place.to_owned(),
        is_plain,
        naming,
    }
}

/// The registries that have all the images, as the index names them, and how they are named there.
fn places(images: &[ImageEntry], naming: Naming) -> Vec<(String, Naming)> {
    let mut places: Vec<(String, Naming)> = Vec::new();
    for naming in [naming, Naming::ContainerRegistry, Naming::ContainerProxy] {
        let mut of_all: Option<BTreeSet<String>> = None;
        for image in images {
            let of_this: BTreeSet<String> = places_of(image, &naming).collect();
            of_all = Some(match of_all {
                None => of_this,
                Some(before) => before.intersection(&of_this).cloned().collect(),
            });
        }
        for place in of_all.into_iter().flatten() {
            if !places.iter().any(|(there, _)| *there == place) {
                places.push((place, naming.clone()));
            }
        }
    }
    places
}

/// What stands before an image's name where it can be pulled.
fn places_of<'a>(entry: &'a ImageEntry, naming: &Naming) -> impl Iterator<Item = String> + 'a {
    let name = naming.repository(&entry.image).ok().map(|repository| {
        let tag = entry.image.tag().map(|tag| format!(":{tag}"));
        let tag = tag.unwrap_or_else(|| format!("@{}", entry.digest));
        format!("/{repository}{tag}")
    });
    let before = move |at: &'a String| Some(at.strip_suffix(name.as_deref()?)?.to_owned());
    entry.at.iter().filter_map(before)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::digest::{Algorithm, Digest};
    use crate::index::Release;

    #[derive(Debug, Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
        fn event(&self, event: &Event) {
            if let Event::Warned { what } = event {
                self.0.lock().unwrap().push(what.clone());
            }
        }
    }

    /// An index with two images at these registries.
    fn index(registries: &[&str], naming: &Naming) -> Index {
        let entry = |image: &str| {
            let image: crate::image::Reference = image.parse().unwrap();
            let repository = naming.repository(&image).unwrap();
            let at = registries
                .iter()
                .map(|registry| format!("{registry}/{repository}:{}", image.tag().unwrap()));
            ImageEntry {
                at: at.collect(),
                digest: Digest::of(Algorithm::Sha256, repository.as_bytes()),
                image,
            }
        };
        let images = ["registry.k8s.io/pause:3.10.1", "quay.io/cilium/cilium:v1"];
        let release = Release {
            name: "kops-1.36.2".to_owned(),
            images: images.map(entry).to_vec(),
            ..Release::default()
        };
        Index::of(release, Vec::new(), Vec::new(), None)
    }

    fn config(named: &[&str]) -> Config {
        let mut config = Config::default();
        config.registry.to = named.iter().map(|named| named.parse().unwrap()).collect();
        config
    }

    fn found(named: &[&str], is_typed: bool, index: Option<&Index>) -> (Option<String>, usize) {
        let heard = Heard::default();
        let images = mirrored(&config(named), is_typed, index, &heard);
        let warnings = heard.0.lock().unwrap().len();
        (images.map(|images| images.registry), warnings)
    }

    const CHINA: &str = "registry.example.cn/k8s";
    const OTHER: &str = "other.example.cn";

    #[test]
    fn the_registry_that_is_named_goes_before_what_the_index_says() {
        let both = index(&[CHINA, OTHER], &Naming::ContainerRegistry);
        let at = |registry: &str| Some(registry.to_owned());
        assert_eq!(found(&[OTHER], true, Some(&both)), (at(OTHER), 0));
        assert_eq!(found(&[CHINA], false, Some(&both)), (at(CHINA), 0));
        // The first, and that there is another.
        assert_eq!(found(&[], false, Some(&both)), (at(OTHER), 1));
        let one = index(&[CHINA], &Naming::ContainerRegistry);
        assert_eq!(found(&[], false, Some(&one)), (at(CHINA), 0));
        assert_eq!(found(&[OTHER], true, Some(&one)), (None, 1));
        assert_eq!(found(&[OTHER], true, None), (at(OTHER), 0));
        assert_eq!(found(&[OTHER], false, None), (None, 0));
        let none = index(&[], &Naming::ContainerRegistry);
        assert_eq!(found(&[OTHER], true, Some(&none)), (None, 1));
        assert_eq!(found(&[OTHER], false, Some(&none)), (None, 0));
    }

    #[test]
    fn a_registry_without_tls_is_known_by_the_settings_or_by_the_index() {
        let mut index = index(&["registry.lan:5000/k8s"], &Naming::ContainerProxy);
        let is_plain = |named: &[&str], index: &Index| {
            let images = mirrored(&config(named), true, Some(index), &Heard::default()).unwrap();
            assert_eq!(images.registry, "registry.lan:5000/k8s");
            images.is_plain
        };
        assert!(!is_plain(&[], &index));
        assert!(is_plain(&["http://registry.lan:5000/k8s"], &index));
        index.release.plain_http = vec!["registry.lan:5000".to_owned()];
        assert!(is_plain(&[], &index));
        // What is said goes before.
        assert!(!is_plain(&["registry.lan:5000/k8s"], &index));
    }

    #[test]
    fn names_tell_how_they_were_made() {
        for naming in [Naming::ContainerRegistry, Naming::ContainerProxy] {
            let index = index(&[CHINA], &naming);
            let images = mirrored(&config(&[]), false, Some(&index), &Heard::default());
            let images = images.unwrap();
            assert_eq!((images.registry.as_str(), images.naming), (CHINA, naming));
        }
    }
}
