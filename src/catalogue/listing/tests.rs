use super::super::{Catalogue, ClusterOption, Selection, version};
use super::*;

fn wanted(kops: &str, kubernetes: &str, networking: &str) -> (Selection, Vec<Asset>) {
    let mut selection = Selection::new(
        version::kops(kops).unwrap(),
        vec![version::kubernetes(kubernetes).unwrap()],
    );
    selection.networking = Some(networking.to_owned());
    selection.options.push(ClusterOption::DnsController);
    let assets = Catalogue::builtin().assets(&selection).unwrap().assets;
    (selection, assets)
}

/// The amd64 half of kops' own test of `get assets` (tests/integration/update_cluster/containerd/assets.yaml at v1.32.4), which
/// has no files of kops itself.
const KOPS_1_32_4: &str = "\
- canonical: https://dl.k8s.io/release/v1.32.0/bin/linux/amd64/kubelet
  download: https://dl.k8s.io/release/v1.32.0/bin/linux/amd64/kubelet
  sha: 5ad4965598773d56a37a8e8429c3dc3d86b4c5c26d8417ab333ae345c053dae2
- canonical: https://dl.k8s.io/release/v1.32.0/bin/linux/amd64/kubectl
  download: https://dl.k8s.io/release/v1.32.0/bin/linux/amd64/kubectl
  sha: 646d58f6d98ee670a71d9cdffbf6625aeea2849d567f214bc43a35f8ccb7bf70
- canonical: https://artifacts.k8s.io/binaries/cloud-provider-aws/v1.27.1/linux/amd64/ecr-credential-provider-linux-amd64
  download: https://artifacts.k8s.io/binaries/cloud-provider-aws/v1.27.1/linux/amd64/ecr-credential-provider-linux-amd64
  sha: 5035d7814c95cd3cedbc5efb447ef25a4942ef05caab2159746d55ce1698c74a
- canonical: https://github.com/containernetworking/plugins/releases/download/v1.6.2/cni-plugins-linux-amd64-v1.6.2.tgz
  download: https://github.com/containernetworking/plugins/releases/download/v1.6.2/cni-plugins-linux-amd64-v1.6.2.tgz
  sha: b8e811578fb66023f90d2e238d80cec3bdfca4b44049af74c374d4fae0f9c090
- canonical: https://github.com/containerd/containerd/releases/download/v1.7.25/containerd-1.7.25-linux-amd64.tar.gz
  download: https://github.com/containerd/containerd/releases/download/v1.7.25/containerd-1.7.25-linux-amd64.tar.gz
  sha: 02990fa281c0a2c4b073c6d2415d264b682bd693aa7d86c5d8eb4b86d684a18c
- canonical: https://github.com/opencontainers/runc/releases/download/v1.2.4/runc.amd64
  download: https://github.com/opencontainers/runc/releases/download/v1.2.4/runc.amd64
  sha: e83565aa78ec8f52a4d2b4eb6c4ca262b74c5f6770c1f43670c3029c20175502
- canonical: https://github.com/containerd/nerdctl/releases/download/v1.7.4/nerdctl-1.7.4-linux-amd64.tar.gz
  download: https://github.com/containerd/nerdctl/releases/download/v1.7.4/nerdctl-1.7.4-linux-amd64.tar.gz
  sha: 71aee9d987b7fad0ff2ade50b038ad7e2356324edc02c54045960a3521b3e6a7
- canonical: https://github.com/kubernetes-sigs/cri-tools/releases/download/v1.29.0/crictl-v1.29.0-linux-amd64.tar.gz
  download: https://github.com/kubernetes-sigs/cri-tools/releases/download/v1.29.0/crictl-v1.29.0-linux-amd64.tar.gz
  sha: d16a1ffb3938f5a19d5c8f45d363bd091ef89c0bc4d44ad16b933eede32fdcbb
";

#[test]
fn files_are_printed_as_kops_1_32_4_printed_them_in_its_own_test() {
    let (_, assets) = wanted("1.32.4", "1.32.0", "cni");
    let yaml = Listing::new(&assets, &[], None).yaml();
    assert!(yaml.starts_with("files:\n"), "{yaml}");
    assert!(yaml.contains(KOPS_1_32_4), "{yaml}");
}

#[test]
fn json_has_images_before_files_and_yaml_after_as_go_writes_them() {
    let listing = Listing {
        images: vec![ListedImage {
            canonical: "registry.k8s.io/pause:3.9".to_owned(),
            download: "registry.k8s.io/pause:3.9".to_owned(),
        }],
        files: vec![ListedFile {
            canonical: "https://host/a?b&c".to_owned(),
            download: "https://host/a?b&c".to_owned(),
            sha: String::new(),
        }],
    };
    assert_eq!(
        listing.json(),
        r#"{"images":[{"canonical":"registry.k8s.io/pause:3.9","download":"registry.k8s.io/pause:3.9"}],"files":[{"canonical":"https://host/a?b\u0026c","download":"https://host/a?b\u0026c","sha":""}]}"#
    );
    assert_eq!(
        listing.yaml(),
        "files:\n- canonical: https://host/a?b&c\n  download: https://host/a?b&c\n  sha: \"\"\nimages:\n- canonical: registry.k8s.io/pause:3.9\n  download: registry.k8s.io/pause:3.9\n"
    );
    assert_eq!(Listing::default().json(), "{}");
    assert_eq!(Listing::default().yaml(), "{}\n");
}

#[test]
fn download_is_the_repositorys_url_with_the_canonical_path_joined() {
    let (_, assets) = wanted("1.36.2", "1.34.8", "cilium");
    for (repository, expected) in [
        (
            "https://s3.cn-north-1.amazonaws.com.cn/bucket/prefix/",
            "https://s3.cn-north-1.amazonaws.com.cn/bucket/prefix/release/v1.34.8/bin/linux/amd64/kubelet",
        ),
        (
            "http://127.0.0.1:8080",
            "http://127.0.0.1:8080/release/v1.34.8/bin/linux/amd64/kubelet",
        ),
        (
            "https://dl.k8s.io/elsewhere",
            "https://dl.k8s.io/release/v1.34.8/bin/linux/amd64/kubelet",
        ),
    ] {
        let repository: Url = repository.parse().unwrap();
        let listing = Listing::new(&assets, &[], Some(&repository));
        let kubelet = listing
            .files
            .iter()
            .find(|f| f.canonical.ends_with("amd64/kubelet"));
        assert_eq!(kubelet.unwrap().download, expected);
    }
}

#[test]
fn clients_and_pointers_are_not_in_the_list_that_is_compared_with_kops() {
    let (_, assets) = wanted("1.36.2", "1.34.8", "cilium");
    assert!(assets.len() > 14);
    assert_eq!(Listing::new(&assets, &[], None).files.len(), 14);
}

#[test]
fn what_is_printed_is_read_back_as_the_same_files() {
    for (kops, kubernetes) in [
        ("1.36.2", "1.34.8"),
        ("1.10.1", "1.10.12"),
        ("1.28.7", "1.28.7"),
    ] {
        let (_, assets) = wanted(kops, kubernetes, "calico");
        let listing = Listing::new(&assets, &["registry.k8s.io/pause:3.9".to_owned()], None);
        for text in [listing.json(), listing.yaml()] {
            assert_eq!(Listing::parse(&text).unwrap(), listing);
            let read = from_listing(&text, Layout::FileRepository).unwrap();
            let listed = assets.iter().filter(|a| a.listed_by_kops);
            let keys: Vec<_> = listed.map(|a| &a.key).collect();
            assert_eq!(read.iter().map(|a| &a.key).collect::<Vec<_>>(), keys);
        }
    }
}

#[test]
fn a_file_without_digest_is_vouched_for_by_what_is_published_beside_it() {
    let text = r#"{"files":[{"canonical":"https://artifacts.k8s.io/binaries/kops/1.36.2/linux/arm64/nodeup"}]}"#;
    let assets = from_listing(text, Layout::Offline).unwrap();
    assert_eq!(assets[0].key.as_str(), "kops/1.36.2/linux/arm64/nodeup");
    let Voucher::Sidecar { url, algorithm } = &assets[0].witnesses[0][0] else {
        panic!("{:?}", assets[0].witnesses);
    };
    assert_eq!(*algorithm, Algorithm::Sha256);
    assert!(url.path().ends_with("/nodeup.sha256"));
}

#[test]
fn a_bad_list_is_refused_with_the_entry_named() {
    let hex = "0".repeat(64);
    for (text, refusal) in [
        (
            "CANONICAL  DOWNLOAD",
            "this is not the output of `kops get assets -o json` or `-o yaml`",
        ),
        ("", "the list has no files"),
        ("{}", "the list has no files"),
        (
            "files:\n- sha: abc",
            "file 1 of the list has no canonical URL",
        ),
        (
            "files:\n- canonical: /kubelet",
            "file 1 of the list: '/kubelet' is not a URL",
        ),
        (
            "files:\n- canonical: s3://bucket/kubelet",
            "file 1 of the list: s3://bucket/kubelet can't be fetched",
        ),
        (
            "files:\n- canonical: https://host/signed?X-Amz-Signature=secret\n  sha: abc",
            "file 1 of the list (https://host/signed): 'abc' is not a digest",
        ),
        (
            "files:\n- canonical: https://host/a%2F..%2Fb",
            "file 1 of the list",
        ),
        (
            "files:\n- canonical: https://one/a\n- canonical: https://other/a",
            "files 1 and 2 of the list would both be 'a' in the mirror",
        ),
    ] {
        let shown = match from_listing(text, Layout::FileRepository) {
            Err(refused) => refused.to_string(),
            Ok(assets) => panic!("{text}: {assets:?}"),
        };
        assert!(shown.contains(refusal), "{text:?}: {shown}");
    }
    let sha1 = format!("files:\n- canonical: https://host/a\n  sha: {}", &hex[..40]);
    let legacy = from_listing(&sha1, Layout::FileRepository).unwrap();
    assert_eq!(legacy[0].sidecars, [Algorithm::Sha256, Algorithm::Sha1]);
}
