//! Turns a selection of versions into the files that clusters of those versions ask for.
//!
//! What there is stands in `config/catalogue.toml`, as data: this module knows how to read it, nothing of what it says. It asks
//! nobody: the same selection gives the same list on an aeroplane.

mod answer;
pub mod checksums;
mod entry;
pub mod images;
mod known;
pub mod listing;
mod selection;
mod table;
mod template;
pub mod version;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use semver::Version;
use url::Url;

pub use self::answer::{CatalogueError, Warning};
pub use self::selection::{ClusterOption, Form, Runtime, Selection};
use crate::asset::{Arch, Asset, Key};
use crate::digest::Algorithm;
use crate::layout::Layout;
use entry::Entry;
use known::Known;
use table::{Cluster, File, Table};
use version::Range;

const BUILTIN: &str = include_str!("../config/catalogue.toml");
const BUILTIN_DIGESTS: &str = include_str!("../config/digests.toml");

/// What a selection comes to.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub layout: Layout,
    /// In the order in which `kops get assets` lists them, then what is ours besides.
    pub assets: Vec<Asset>,
    pub warnings: Vec<Warning>,
}

/// The files of all releases that it knows.
#[derive(Debug, Clone)]
pub struct Catalogue {
    table: Arc<Table>,
    known: Arc<Known>,
}

impl Catalogue {
    /// The catalogue that the program carries.
    pub fn builtin() -> Self {
        static READ: LazyLock<Catalogue> = LazyLock::new(|| {
            Catalogue::parse(BUILTIN).expect("the tests read the catalogue that is compiled in")
        });
        READ.clone()
    }

    /// Reads a catalogue in the form of `config/catalogue.toml`; unknown keys are errors.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let table: Table = toml::from_str(text).map_err(|source| CatalogueError::Syntax {
            what: "the catalogue",
            source: Box::new(source),
        })?;
        let known = Known::parse(BUILTIN_DIGESTS)?;
        let catalogue = Self {
            table: Arc::new(table),
            known: Arc::new(known),
        };
        catalogue
            .table
            .file
            .iter()
            .try_for_each(|file| catalogue.check(file))?;
        Ok(catalogue)
    }

    /// An entry that can't be used is found when the catalogue is read, not when its version is first asked for.
    fn check(&self, file: &File) -> Result<(), CatalogueError> {
        let refuse = |why: String| {
            Err(CatalogueError::File {
                name: file.name.clone(),
                why,
            })
        };
        if let Some(component) = &file.component
            && !self.table.component.contains_key(component)
        {
            return refuse(format!(
                "names the component '{component}', which is not there"
            ));
        }
        let named = file.when.networking.iter().chain(&file.when.not_networking);
        for name in named {
            if !self.table.networking.contains_key(name) {
                return refuse(format!("names the networking '{name}', which is not there"));
            }
        }
        let release = Version::new(1, 30, 0);
        let entry = Entry {
            file,
            kops: &release,
            kubernetes: &release,
            arch: Some(Arch::Amd64),
            version: file.component.is_some().then_some("1.0.0"),
        };
        for layout in Layout::ALL {
            entry.asset(&self.known, layout, &[])?;
        }
        Ok(())
    }

    /// The layout that a kops release can use.
    pub fn layout(&self, kops: &Version) -> Layout {
        if self.table.span.file_repository.contains(kops) {
            Layout::FileRepository
        } else {
            Layout::Offline
        }
    }

    /// Whether a kops release takes a Kubernetes version without being overruled.
    pub fn supports(&self, kops: &Version, kubernetes: &Version) -> bool {
        let supported = self.table.supported(kops);
        supported.is_some_and(|range| range.contains(kubernetes))
    }

    /// Whether `kops create cluster` of a release takes this name for its networking.
    pub fn takes_networking(&self, kops: &Version, name: &str) -> bool {
        let found = self.table.networking(name);
        found.is_some_and(|(_, networking)| networking.kops.contains(kops))
    }

    /// Every file that clusters of the selection ask for, without asking anybody.
    pub fn assets(&self, selection: &Selection) -> Result<Wanted, CatalogueError> {
        self.check_span(selection)?;
        let layout = selection
            .layout
            .unwrap_or_else(|| self.layout(&selection.kops));
        let networking = self.networking(selection)?;
        let mut assets = Vec::new();
        for kubernetes in &selection.kubernetes {
            let runtime = self.runtime(selection, kubernetes);
            let cluster = Cluster {
                kops: &selection.kops,
                kubernetes,
                networking,
                runtime,
                options: &selection.options,
                forms: &selection.forms(layout),
                parts: &selection.parts(),
            };
            self.files_of(&cluster, &selection.archs, layout, &mut assets)?;
        }
        if !assets.iter().any(|asset| asset.arch.is_some()) {
            let archs: Vec<_> = selection.archs.iter().map(|arch| arch.name()).collect();
            return Err(CatalogueError::NoAssets {
                kops: selection.kops.clone(),
                archs: archs.join(" and "),
            });
        }
        let mut assets = without_repeats(assets)?;
        self.sort_as_kops(&mut assets, &selection.kops);
        let warnings = self.warnings(selection, networking, &assets);
        Ok(Wanted {
            layout,
            assets,
            warnings,
        })
    }

    fn check_span(&self, selection: &Selection) -> Result<(), CatalogueError> {
        let within = |product, version: &Version, span: &Range| {
            if span.contains(version) {
                return Ok(());
            }
            Err(CatalogueError::Span {
                product,
                version: version.clone(),
                span: span.to_string(),
            })
        };
        within("kops", &selection.kops, &self.table.span.kops)?;
        for kubernetes in &selection.kubernetes {
            within("Kubernetes", kubernetes, &self.table.span.kubernetes)?;
        }
        if selection.kubernetes.is_empty() {
            return Err(CatalogueError::Nothing {
                what: "Kubernetes version",
            });
        }
        if selection.archs.is_empty() {
            return Err(CatalogueError::Nothing {
                what: "architecture",
            });
        }
        Ok(())
    }

    fn networking<'a>(&'a self, selection: &'a Selection) -> Result<&'a str, CatalogueError> {
        let asked = selection.networking.as_deref();
        let Some(asked) = asked.or_else(|| self.table.default_networking(&selection.kops)) else {
            return Ok("");
        };
        let found = self.table.networking(asked);
        let (name, _) = found.ok_or_else(|| CatalogueError::Networking {
            networking: asked.to_owned(),
            known: comma_separated(self.table.networking.keys()),
        })?;
        Ok(name)
    }

    fn runtime(&self, selection: &Selection, kubernetes: &Version) -> Runtime {
        selection
            .runtime
            .or_else(|| self.table.default_runtime(&selection.kops, kubernetes))
            .unwrap_or(Runtime::Containerd)
    }

    /// The files of one cluster: of the entries with one name, the first that fits.
    fn files_of(
        &self,
        cluster: &Cluster<'_>,
        archs: &[Arch],
        layout: Layout,
        assets: &mut Vec<Asset>,
    ) -> Result<(), CatalogueError> {
        let mut chosen = Vec::new();
        for arch in archs.iter().copied().map(Some).chain([None]) {
            let mut found = Vec::new();
            for file in &self.table.file {
                if found.contains(&&file.name) || !file.fits(cluster, arch) {
                    continue;
                }
                let version = match &file.component {
                    Some(component) => match self.table.component(component, cluster) {
                        Some(version) => Some(version),
                        None => continue,
                    },
                    None => None,
                };
                found.push(&file.name);
                chosen.push(Entry {
                    file,
                    kops: cluster.kops,
                    kubernetes: cluster.kubernetes,
                    arch,
                    version,
                });
            }
        }
        chosen.sort_by_key(|entry| entry.file.pass);
        let sidecars = self.sidecars(cluster.kops);
        for entry in chosen {
            assets.push(vouched(entry.asset(&self.known, layout, sidecars)?)?);
        }
        Ok(())
    }

    fn sidecars(&self, kops: &Version) -> &'static [Algorithm] {
        if self.table.span.sha1_sidecars.contains(kops) {
            &[Algorithm::Sha256, Algorithm::Sha1]
        } else {
            &[Algorithm::Sha256]
        }
    }

    /// What kops lists comes first, in its order; the rest keeps its own.
    fn sort_as_kops(&self, assets: &mut [Asset], kops: &Version) {
        if self.table.span.sorted.contains(kops) {
            assets.sort_by(|a, b| {
                let listed = b.listed_by_kops.cmp(&a.listed_by_kops);
                listed.then_with(|| {
                    if a.listed_by_kops {
                        a.canonical.as_str().cmp(b.canonical.as_str())
                    } else {
                        Ordering::Equal
                    }
                })
            });
        } else {
            assets.sort_by_key(|asset| !asset.listed_by_kops);
        }
    }

    fn warnings(&self, selection: &Selection, networking: &str, assets: &[Asset]) -> Vec<Warning> {
        let kops = &selection.kops;
        let mut warnings = Vec::new();
        let supported = self.table.supported(kops);
        for kubernetes in &selection.kubernetes {
            if let Some(range) = supported.filter(|range| !range.contains(kubernetes)) {
                warnings.push(Warning::Unsupported {
                    kops: kops.clone(),
                    kubernetes: kubernetes.clone(),
                    supported: range.to_string(),
                });
            }
        }
        let entry = self.table.networking(networking);
        if entry.is_some_and(|(_, entry)| !entry.kops.contains(kops)) {
            warnings.push(Warning::Networking {
                kops: kops.clone(),
                networking: networking.to_owned(),
            });
        }
        let checked = &self.table.span.checked.0;
        if (kops.major, kops.minor) == (checked.major, checked.minor) && kops > checked {
            warnings.push(Warning::Unchecked {
                kops: kops.clone(),
                checked: checked.clone(),
            });
        }
        for arch in &selection.archs {
            if !assets
                .iter()
                .any(|a| a.arch == Some(*arch) && a.listed_by_kops)
            {
                warnings.push(Warning::NoArch {
                    kops: kops.clone(),
                    arch: *arch,
                });
            }
        }
        warnings.extend(self.notes(selection));
        warnings
    }

    fn notes(&self, selection: &Selection) -> impl Iterator<Item = Warning> {
        self.table
            .note
            .iter()
            .filter(|note| {
                note.kops.contains(&selection.kops)
                    && selection.kubernetes.iter().any(|kubernetes| {
                        let runtime = self.runtime(selection, kubernetes);
                        note.kubernetes.contains(kubernetes)
                            && note.runtime.is_none_or(|it| it == runtime)
                    })
            })
            .map(|note| Warning::Note(note.text.clone()))
    }
}

/// A file that nobody vouches for is refused, unless the catalogue says why it is right to take it.
fn vouched(asset: Asset) -> Result<Asset, CatalogueError> {
    if asset.witnesses.is_empty() && asset.unvouched.is_none() {
        return Err(CatalogueError::NoWitness {
            canonical: asset.canonical,
        });
    }
    Ok(asset)
}

/// Several Kubernetes versions share most of their files.
fn without_repeats(assets: Vec<Asset>) -> Result<Vec<Asset>, CatalogueError> {
    let mut seen: HashMap<Key, Url> = HashMap::new();
    let mut kept = Vec::with_capacity(assets.len());
    for asset in assets {
        match seen.get(&asset.key) {
            None => {
                seen.insert(asset.key.clone(), asset.canonical.clone());
                kept.push(asset);
            }
            Some(first) if *first == asset.canonical => {}
            Some(first) => {
                return Err(CatalogueError::SameKey {
                    key: asset.key,
                    first: first.clone(),
                    second: asset.canonical,
                });
            }
        }
    }
    Ok(kept)
}

fn comma_separated<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
