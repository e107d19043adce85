//! What the cluster will ask the mirror for: the same list that `kops-mirror assets` prints for it.

use super::file::{Bastion, ClusterFile, NodeGroup};
use super::manifest;
use crate::asset::Arch;
use crate::catalogue::{Catalogue, CatalogueError, Selection, Wanted};
use crate::consumer::{self, ConsumerError, ConsumerInput, MirroredImages, Settings};
use crate::digest::Digest;
use crate::image::Naming;
use url::Url;

impl ClusterFile {
    /// The kinds of processors that its hosts have.
    pub fn archs(&self) -> Vec<Arch> {
        let nodes = self.nodes.iter().map(NodeGroup::arch);
        let mut archs: Vec<_> = std::iter::once(self.control_plane.arch())
            .chain(nodes)
            .chain(self.bastion.iter().map(Bastion::arch))
            .collect();
        archs.sort();
        archs.dedup();
        archs
    }

    /// The kinds of processors of those hosts that start from the cluster's image, and not from one of their own.
    pub fn archs_of_image(&self) -> Vec<Arch> {
        let control_plane = &self.control_plane;
        let control_plane = control_plane.image.is_none().then(|| control_plane.arch());
        let nodes = self.nodes.iter().filter(|group| group.image.is_none());
        let bastion = self
            .bastion
            .iter()
            .filter(|bastion| bastion.image.is_none());
        let mut archs: Vec<_> = control_plane
            .into_iter()
            .chain(nodes.map(NodeGroup::arch))
            .chain(bastion.map(Bastion::arch))
            .collect();
        archs.sort();
        archs.dedup();
        archs
    }

    /// What to ask the catalogue for it. kops asks for digests of both architectures, whatever the hosts are.
    pub fn selection(&self) -> Selection {
        let mut selection = Selection::new(
            self.kops_version.clone(),
            vec![self.kubernetes_version.clone()],
        );
        selection.networking = Some(manifest::networking_name(self).to_owned());
        selection.options = self.options.clone();
        selection.layout = Some(self.layout());
        selection.clients = false;
        // Of what moves from day to day only the channel is asked for, and that by the address it is given.
        selection.pointers = false;
        selection
    }

    /// The files that it will ask for.
    pub fn files(&self) -> Result<Wanted, CatalogueError> {
        Catalogue::builtin().assets(&self.selection())
    }

    /// The images that it will ask for, where a registry stands in for their own.
    pub fn images(&self) -> Result<Vec<String>, CatalogueError> {
        match self.naming() {
            Some(_) => Catalogue::builtin().images(&self.selection()),
            None => Ok(Vec::new()),
        }
    }

    /// How images are called at its registry, if it has one.
    pub fn naming(&self) -> Option<Naming> {
        let registry = &self.registry;
        let by_names = registry
            .container_registry
            .as_ref()
            .map(|_| Naming::ContainerRegistry);
        by_names.or_else(|| {
            registry
                .container_proxy
                .as_ref()
                .map(|_| Naming::ContainerProxy)
        })
    }

    /// How kops is told to use the mirror at this address; `cni` is the archive of it that `CNI_VERSION_URL` names.
    pub fn settings(
        &self,
        base_url: Url,
        cni: Option<(Url, Digest)>,
    ) -> Result<Settings, ConsumerError> {
        let registry = &self.registry;
        let host = registry
            .container_registry
            .as_ref()
            .or(registry.container_proxy.as_ref());
        let images = self
            .naming()
            .zip(host)
            .map(|(naming, host)| MirroredImages {
                registry: host.clone(),
                is_plain: false,
                naming,
            });
        consumer::settings(&ConsumerInput {
            kops: self.kops_version.clone(),
            kubernetes: self.kubernetes_version.clone(),
            region: Some(self.region.clone()),
            base_url,
            layout: self.layout(),
            archs: vec![Arch::Amd64, Arch::Arm64],
            cni,
            images,
        })
    }
}
