//! Makes an asset of a catalogue's entry: its URLs filled in, its witnesses gathered, its place in the mirror found.

use semver::Version;
use url::Url;

use super::CatalogueError;
use super::known::Known;
use super::table::{File, Part};
use super::template::{Template, machine};
use crate::asset::{Arch, Asset, Role, Voucher, Witness};
use crate::digest::Algorithm;
use crate::layout::Layout;

/// An entry that fits a cluster, with everything that fills its placeholders.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) file: &'a File,
    pub(super) kops: &'a Version,
    pub(super) kubernetes: &'a Version,
    /// None for a file that serves all architectures.
    pub(super) arch: Option<Arch>,
    /// The version of the entry's component, if it has one.
    pub(super) version: Option<&'a str>,
}

impl Entry<'_> {
    /// The asset, with the sidecars that kops of that version reads.
    pub(super) fn asset(
        &self,
        known: &Known,
        layout: Layout,
        sidecars: &[Algorithm],
    ) -> Result<Asset, CatalogueError> {
        let template = self.template();
        let canonical = template.url(&self.file.url)?;
        let alternates = urls(&template, &self.file.alternates)?;
        let unvouched = self.file.unvouched.clone();
        let sidecars = match unvouched {
            None => sidecars.to_vec(),
            Some(_) => Vec::new(),
        };
        Ok(Asset {
            key: layout.key(&canonical)?,
            witnesses: self.witnesses(known, &template, &canonical, &alternates)?,
            canonical,
            alternates,
            unvouched,
            sidecars,
            role: match self.file.part {
                Part::Pointers => Role::Pointer,
                Part::Release | Part::Clients => Role::File,
            },
            arch: self.arch,
            listed_by_kops: self.file.listed,
        })
    }

    fn template(&self) -> Template {
        let minor = format!("{}.{}", self.kubernetes.major, self.kubernetes.minor);
        let mut template = Template::new()
            .with("kops", self.kops.to_string())
            .with("kubernetes", self.kubernetes.to_string())
            .with("minor", minor);
        if let Some(arch) = self.arch {
            template = template
                .with("arch", arch.name())
                .with("machine", machine(arch));
        }
        if let Some(version) = self.version {
            template = template.with("version", version);
        }
        template
    }

    /// What needs no request comes first, then each publisher.
    fn witnesses(
        &self,
        known: &Known,
        template: &Template,
        canonical: &Url,
        alternates: &[Url],
    ) -> Result<Vec<Witness>, CatalogueError> {
        let carried = self
            .carried_by_entry()
            .or_else(|| known.voucher(std::iter::once(canonical).chain(alternates)));
        let mut witnesses: Vec<Witness> = carried.into_iter().map(|one| vec![one]).collect();
        let template = template.clone().with("url", canonical.as_str());
        for publisher in &self.file.witnesses {
            let sidecars = urls(&template, publisher)?;
            let witness = sidecars.into_iter().map(|url| self.sidecar(url));
            witnesses.push(witness.collect::<Result<_, _>>()?);
        }
        if let Some(list) = &self.file.list {
            witnesses.push(vec![self.in_list(template.url(list)?, canonical)?]);
        }
        Ok(witnesses)
    }

    fn carried_by_entry(&self) -> Option<Voucher> {
        let arch = self.arch.map_or("any", Arch::name);
        let known = &self.file.known;
        let digest = known.get(arch).or_else(|| known.get("any"))?;
        Some(Voucher::Carried {
            digest: *digest,
            source: format!("kops {}'s source", self.kops),
        })
    }

    fn sidecar(&self, url: Url) -> Result<Voucher, CatalogueError> {
        let algorithm = self.algorithm_of(&url)?;
        Ok(Voucher::Sidecar { url, algorithm })
    }

    fn in_list(&self, url: Url, canonical: &Url) -> Result<Voucher, CatalogueError> {
        let name = canonical.path().rsplit('/').next().unwrap_or_default();
        Ok(Voucher::List {
            algorithm: self.algorithm_of(&url)?,
            url,
            name: name.to_owned(),
        })
    }

    /// A checksum file says by its name what it holds: `.sha256`, `.sha256sum`, `-sha1`, `SHA256SUMS`.
    fn algorithm_of(&self, url: &Url) -> Result<Algorithm, CatalogueError> {
        let path = url.path().to_lowercase();
        let named = path.strip_suffix("sums").or(path.strip_suffix("sum"));
        let named = named.unwrap_or(&path);
        Algorithm::ALL
            .into_iter()
            .find(|algorithm| named.ends_with(algorithm.name()))
            .ok_or_else(|| CatalogueError::File {
                name: self.file.name.clone(),
                why: format!("has a witness whose name does not say its algorithm: {url}"),
            })
    }
}

fn urls(template: &Template, texts: &[String]) -> Result<Vec<Url>, CatalogueError> {
    texts.iter().map(|text| template.url(text)).collect()
}
