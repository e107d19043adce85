//! A cluster's file with everything that work on it needs: the mirror, the state store, kops, what is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::asset::Key;
use crate::audit::{self, Audit};
use crate::catalogue::Wanted;
use crate::cli::WorkArgs;
use crate::cloud::{Cloud, CloudSettings};
use crate::cluster::{self, ClusterFile, Found, Manifest};
use crate::config::{Config, Environment, Target};
use crate::consumer::Settings;
use crate::digest::{Algorithm, Digest};
use crate::events::Observer;
use crate::kops::{Kops, KopsOptions};
use crate::layout::Layout;
use crate::partition::Partition;
use crate::provision::{self, Addresses, ImageMaker, Journal, Kept, Scratch, Site};
use crate::store::Store;
use crate::store::folder::FolderStore;
use crate::store::s3::{Bucket, Emptying, S3Options, S3Store, Way};

/// Where what is kept of clusters stands in a state store, and in the working folder.
pub(super) const KEPT: &str = "_provision";
const FOLDER: &str = ".provision";

/// Work on one cluster.
pub(super) struct Worksite {
    pub(super) file: ClusterFile,
    pub(super) folder: PathBuf,
    program: Option<PathBuf>,
    mirrored_program: OnceCell<PathBuf>,
    audit: OnceCell<Arc<Audit>>,
    callers: BTreeMap<String, String>,
    config: Config,
    site: Option<Site>,
    digest: Digest,
    pub(super) found: Found,
    /// What will be done about the image before it is there; None where it is.
    pub(super) image_to_come: Option<String>,
    observer: Arc<dyn Observer>,
    stop: CancellationToken,
}

impl Worksite {
    /// Reads the file; asks nobody.
    pub(super) fn open(
        args: &WorkArgs,
        environment: &Environment,
        config: &Config,
        observer: Arc<dyn Observer>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let path = args.file.display();
        let text =
            std::fs::read_to_string(&args.file).with_context(|| format!("can't read {path}"))?;
        let file =
            ClusterFile::parse(&text).with_context(|| format!("{path} is no cluster's file"))?;
        let folder = match &args.folder {
            Some(folder) => folder.clone(),
            None => PathBuf::from(FOLDER).join(&file.name),
        };
        let folder = std::path::absolute(&folder)
            .with_context(|| format!("can't find {}", folder.display()))?;
        let used = file.image.used.iter();
        let images =
            used.flat_map(|image| file.archs().into_iter().map(|arch| (arch, image.clone())));
        let found = Found {
            images: images.collect(),
            ..Found::default()
        };
        Ok(Self {
            digest: Digest::of(Algorithm::Sha256, text.as_bytes()),
            file,
            folder,
            program: args.kops.clone(),
            mirrored_program: OnceCell::new(),
            audit: OnceCell::new(),
            callers: environment.variables().clone(),
            config: config.clone(),
            site: None,
            found,
            image_to_come: None,
            observer,
            stop,
        })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Whether a kops is named that could be called.
    pub(super) fn has_kops(&self) -> bool {
        self.program.is_some()
    }

    /// Of the file's text.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Finds out what the file does not say.
    pub(super) async fn look_up(&mut self) -> anyhow::Result<()> {
        let cloud = self.cloud().await?;
        let addresses = Addresses::look_up(&cloud, &self.file).await?;
        addresses.put_into(&mut self.found);
        let sight = provision::look_up(&cloud, &self.file).await?;
        self.found.images = sight.images;
        self.image_to_come = sight.to_come;
        Ok(())
    }

    /// The account that the cluster is made in.
    pub(super) async fn cloud(&self) -> anyhow::Result<Cloud> {
        let mut settings = CloudSettings::new(&self.file.region);
        settings.profile = self.file.profile.clone();
        Ok(Cloud::connect(settings).await?)
    }

    /// What the cluster's image is made with, where it is copied or built.
    pub(super) async fn image_maker(
        &self,
        ssh: PathBuf,
        rollback: bool,
    ) -> anyhow::Result<ImageMaker> {
        Ok(ImageMaker {
            cloud: self.cloud().await?,
            callers: self.callers.clone(),
            ssh,
            folder: self.folder.join("ami"),
            rollback,
        })
    }

    /// The state store's bucket, as one that may be removed.
    pub(super) async fn emptying(&self) -> anyhow::Result<Emptying> {
        Ok(Emptying::connect(&self.state_options("")).await?)
    }

    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub(super) fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.observer)
    }

    /// The manifest, by what has been found.
    pub(super) fn render(&self) -> anyhow::Result<Manifest> {
        Ok(cluster::manifest(
            &self.file,
            &self.settings()?,
            &self.found,
        )?)
    }

    /// The mirror's address as nodes reach it.
    pub(super) fn base_url(&self) -> anyhow::Result<Url> {
        let mirror = &self.file.mirror;
        if let Some(url) = &mirror.url {
            return Ok(url.clone());
        }
        let Target::Bucket { bucket, prefix } = mirror.at.parse()? else {
            bail!(
                "nodes read a mirror over HTTP: give the address at which they find the folder as mirror.url"
            );
        };
        let region = mirror.region.as_ref().unwrap_or(&self.file.region);
        let host = match &mirror.endpoint {
            Some(endpoint) => format!("{}/{bucket}", endpoint.as_str().trim_end_matches('/')),
            // One host for all of it: kops moves files whose host is another than fileRepository's.
            None => format!(
                "https://{}/{bucket}",
                Partition::of_region(region).s3_host(region)
            ),
        };
        let url = match prefix.is_empty() {
            true => host,
            false => format!("{host}/{prefix}"),
        };
        Url::parse(&url).with_context(|| {
            format!("'{url}' is not an address that nodes could use; give mirror.url")
        })
    }

    /// How kops is told to use the mirror.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let base = self.base_url()?;
        let cni = match self.file.layout() {
            Layout::Offline => cni(&self.file.files()?, &base),
            Layout::FileRepository => None,
        };
        Ok(self.file.settings(base, cni)?)
    }

    /// Where kops' channel is in the mirror; None where it is read from elsewhere.
    pub(super) fn channel_key(&self) -> anyhow::Result<Option<Key>> {
        let base = self.base_url()?;
        let base = format!("{}/", base.as_str().trim_end_matches('/'));
        let channel = cluster::channel(&self.file, &self.settings()?);
        Ok(channel.strip_prefix(&base).and_then(|key| key.parse().ok()))
    }

    /// The variables that every call of kops gets.
    pub(super) fn environment(&self) -> anyhow::Result<BTreeMap<String, String>> {
        Ok(provision::environment(&self.file, &self.settings()?))
    }

    /// The bucket of the mirror; None where it is a folder.
    pub(super) fn mirror_options(&self) -> anyhow::Result<Option<S3Options>> {
        let mirror = &self.file.mirror;
        let Target::Bucket { bucket, prefix } = mirror.at.parse()? else {
            return Ok(None);
        };
        let region = mirror.region.as_ref().unwrap_or(&self.file.region);
        Ok(Some(S3Options {
            region: Some(region.clone()),
            endpoint: mirror.endpoint.clone(),
            path_style: mirror.endpoint.as_ref().map(|_| true),
            profile: self.file.profile.clone(),
            way: Way::SinglePart,
            ..S3Options::new(bucket, prefix)
        }))
    }

    /// The mirror's store.
    pub(super) async fn mirror(&self) -> anyhow::Result<Arc<dyn Store>> {
        if let Some(options) = self.mirror_options()? {
            return Ok(Arc::new(S3Store::connect(options).await?));
        }
        Ok(Arc::new(FolderStore::new(&self.file.mirror.at)))
    }

    /// The mirror against its indexes, looked at once.
    pub(super) async fn audit(&self) -> anyhow::Result<Arc<Audit>> {
        let looking = async {
            let mirror = self.mirror().await?;
            let audit = audit::audit(mirror.as_ref(), false).await;
            Ok(Arc::new(audit.context("can't look into the mirror")?))
        };
        self.audit.get_or_try_init(|| looking).await.cloned()
    }

    fn state_options(&self, prefix: &str) -> S3Options {
        S3Options {
            region: Some(self.file.region.clone()),
            profile: self.file.profile.clone(),
            way: Way::SinglePart,
            asks_for_sse_s3: true,
            ..S3Options::new(&self.file.state_store.bucket, prefix)
        }
    }

    /// The state store's bucket, there or not.
    pub(super) async fn state_bucket(&self) -> anyhow::Result<Bucket> {
        Ok(Bucket::connect(&self.state_options("")).await?)
    }

    /// A part of the state store, whether its bucket is there or not.
    pub(super) async fn state_part(&self, prefix: &str) -> anyhow::Result<Arc<dyn Store>> {
        Ok(Arc::new(
            S3Store::connect(self.state_options(prefix)).await?,
        ))
    }

    /// A part of the state store.
    async fn state(&self, prefix: &str) -> anyhow::Result<Arc<dyn Store>> {
        let store = S3Store::connect(self.state_options(prefix)).await?;
        store.prepare(false).await?;
        Ok(Arc::new(store))
    }

    /// A part of the state store for kops' dry run.
    pub(super) async fn scratch(&self) -> anyhow::Result<Scratch> {
        let (bucket, name) = (&self.file.state_store.bucket, &self.file.name);
        let place = format!("{KEPT}/{name}/preview");
        Ok(Scratch::Bucket {
            state_store: format!("s3://{bucket}/{place}"),
            store: self.state(&format!("{place}/{name}")).await?,
        })
    }

    /// Takes what is kept in the state store, and what is kept here, for the work.
    pub(super) async fn open_state_store(&mut self) -> anyhow::Result<()> {
        let name = self.file.name.clone();
        let kept = Kept::new(self.state(&format!("{KEPT}/{name}")).await?);
        let state = self.state(&name).await?;
        let there = kept.journal(&name).await?;
        let site = self.site_mut()?;
        if let Some(journal) = there {
            site.journal.unite(journal);
        }
        site.kept = Some(kept);
        site.state = Some(state);
        Ok(())
    }

    /// The work as its steps see it, begun where it is not.
    pub(super) fn site_mut(&mut self) -> anyhow::Result<&mut Site> {
        if self.site.is_none() {
            let journal = provision::journal_in(&self.folder, &self.file.name)?;
            self.site = Some(Site {
                file: self.file.clone(),
                digest: self.digest,
                settings: self.settings()?,
                found: self.found.clone(),
                manifest: None,
                journal: journal.unwrap_or_else(|| Journal::new(&self.file.name)),
                kept: None,
                state: None,
                folder: self.folder.clone(),
                acted: BTreeSet::new(),
                observer: Arc::clone(&self.observer),
                stop: self.stop.clone(),
            });
        }
        self.site.as_mut().context("the work was just begun")
    }

    pub(super) fn site(&self) -> anyhow::Result<&Site> {
        self.site
            .as_ref()
            .context("the state store has not been opened")
    }

    /// The program of kops: the one that was named, or the mirrored one, looked at once.
    async fn program(&self) -> anyhow::Result<PathBuf> {
        if let Some(program) = &self.program {
            return Ok(std::path::absolute(program).unwrap_or_else(|_| program.clone()));
        }
        let mirrored = async {
            let (mirror, audit) = (self.mirror().await?, self.audit().await?);
            let found =
                provision::program(mirror.as_ref(), audit.indexes(), &self.file, &self.folder);
            anyhow::Ok(found.await?)
        };
        self.mirrored_program
            .get_or_try_init(|| mirrored)
            .await
            .cloned()
    }

    /// How kops is called for this cluster.
    pub(super) async fn kops_options(&self) -> anyhow::Result<KopsOptions> {
        Ok(KopsOptions {
            program: self.program().await?,
            version: self.file.kops_version.clone(),
            cluster: self.file.name.clone(),
            state_store: format!("s3://{}", self.file.state_store.bucket),
            folder: self.folder.clone(),
            environment: self.environment()?,
            callers: self.callers.clone(),
            timeout: self.file.timeouts.kops,
        })
    }

    /// kops, of the right version.
    pub(super) async fn kops(&self) -> anyhow::Result<Kops> {
        Ok(Kops::new(self.kops_options().await?).await?)
    }
}

/// The CNI archive that nodes are told of in mode B, and what it hashes to.
fn cni(wanted: &Wanted, base: &Url) -> Option<(Url, Digest)> {
    let mut assets = wanted.assets.iter();
    let asset = assets.find(|asset| asset.key.file_name().starts_with("cni-"))?;
    let mut witnesses = asset.witnesses.iter().flatten();
    let digest = witnesses.find_map(crate::asset::Voucher::digest)?;
    let url = format!("{}/{}", base.as_str().trim_end_matches('/'), asset.key);
    Some((url.parse().ok()?, digest))
}
