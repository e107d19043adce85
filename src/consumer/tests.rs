use insta::assert_snapshot;

use super::*;
use crate::image::Naming;

fn input(kops: &str, kubernetes: &str, layout: Layout) -> ConsumerInput {
    ConsumerInput {
        kops: kops.parse().unwrap(),
        kubernetes: kubernetes.parse().unwrap(),
        region: Some("cn-north-1".to_owned()),
        base_url: "https://s3.cn-north-1.amazonaws.com.cn/assets/prefix/"
            .parse()
            .unwrap(),
        layout,
        archs: vec![Arch::Amd64, Arch::Arm64],
        cni: None,
        images: None,
    }
}

fn with_images(kops: &str, naming: Naming) -> ConsumerInput {
    let mut input = input(kops, "1.34.8", Layout::FileRepository);
    input.images = Some(MirroredImages {
        registry: "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/k8s".to_owned(),
        is_plain: false,
        naming,
    });
    input
}

fn rules(rules: &[(&str, &str)]) -> Naming {
    let owned = |&(from, to): &(&str, &str)| (from.to_owned(), to.to_owned());
    Naming::Rules(rules.iter().map(owned).collect())
}

fn with_cni(mut input: ConsumerInput) -> ConsumerInput {
    let url = format!("{}kubernetes/network-plugins/cni.tgz", input.base_url);
    let digest = Digest::of(crate::digest::Algorithm::Sha1, b"cni");
    input.cni = Some((url.parse().unwrap(), digest));
    input
}

fn value(settings: &[Setting], name: &str) -> Option<String> {
    let found = settings.iter().find(|setting| setting.name == name)?;
    Some(found.value.clone())
}

#[test]
fn the_seeds_release_gets_the_recipe_of_its_time() {
    let settings = settings(&with_cni(input("1.8.1", "1.8.4", Layout::Offline))).unwrap();
    let base = "https://s3.cn-north-1.amazonaws.com.cn/assets/prefix";
    let environment = |name| value(&settings.environment, name);
    assert_eq!(environment("AWS_REGION").unwrap(), "cn-north-1");
    assert_eq!(
        environment("KOPS_BASE_URL").unwrap(),
        format!("{base}/kops/1.8.1/")
    );
    assert_eq!(
        environment("CNI_VERSION_URL").unwrap(),
        format!("{base}/kubernetes/network-plugins/cni.tgz")
    );
    assert_eq!(environment("CNI_ASSET_HASH_STRING"), None);
    assert_eq!(environment("KOPS_RUN_OBSOLETE_VERSION").unwrap(), "1");
    assert_eq!(
        value(&settings.flags, "--kubernetes-version").unwrap(),
        format!("{base}/kubernetes/release/v1.8.4")
    );
    assert_eq!(settings.yaml(), None);
}

#[test]
fn a_modern_release_gets_a_file_repository_and_no_base_url() {
    let settings = settings(&input("1.36.2", "1.34.8", Layout::FileRepository)).unwrap();
    assert_eq!(
        settings.flags(),
        "--kubernetes-version 1.34.8 --channel https://s3.cn-north-1.amazonaws.com.cn/assets/prefix/kubernetes/kops/master/channels/stable --set spec.assets.fileRepository=https://s3.cn-north-1.amazonaws.com.cn/assets/prefix"
    );
    assert_eq!(
        settings.yaml().unwrap(),
        "spec:\n  assets:\n    fileRepository: \"https://s3.cn-north-1.amazonaws.com.cn/assets/prefix\"\n"
    );
    assert_eq!(value(&settings.environment, "KOPS_BASE_URL"), None);
    assert_eq!(settings.environment.len(), 1);
}

#[test]
fn the_last_element_of_kops_base_url_is_the_version_without_a_v() {
    for kops in ["1.8.1", "1.21.5", "1.36.2", "1.37.0-alpha.1"] {
        let settings = settings(&input(kops, "1.30.0", Layout::Offline)).unwrap();
        let url = value(&settings.environment, "KOPS_BASE_URL").unwrap();
        assert_eq!(url.trim_end_matches('/').rsplit('/').next(), Some(kops));
    }
}

#[test]
fn a_cni_url_never_goes_without_its_digest_where_kops_needs_one() {
    for kops in ["1.9.0", "1.10.1", "1.18.3", "1.36.2"] {
        let mut input = with_cni(input(kops, "1.10.12", Layout::Offline));
        input.archs = vec![Arch::Amd64];
        let settings = settings(&input).unwrap();
        assert!(value(&settings.environment, "CNI_VERSION_URL").is_some());
        let hash = value(&settings.environment, "CNI_ASSET_HASH_STRING").unwrap();
        assert_eq!(hash.len(), 40);
    }
    let settings = settings(&with_cni(input("1.36.2", "1.34.8", Layout::Offline))).unwrap();
    assert_eq!(value(&settings.environment, "CNI_VERSION_URL"), None);
    assert!(
        settings
            .notes
            .iter()
            .any(|note| note.contains("two architectures"))
    );
}

#[test]
fn a_mirror_of_one_architecture_tells_kops_to_ask_for_no_other() {
    let mut one = input("1.36.2", "1.34.8", Layout::FileRepository);
    one.archs = vec![Arch::Arm64];
    let arch = |input: &ConsumerInput| value(&settings(input).unwrap().environment, "KOPS_ARCH");
    assert_eq!(arch(&one), Some("arm64".to_owned()));
    assert_eq!(
        arch(&input("1.36.2", "1.34.8", Layout::FileRepository)),
        None
    );
    one.kops = Version::new(1, 10, 1);
    assert_eq!(arch(&one), None);
}

#[test]
fn the_way_to_set_the_repository_is_the_one_that_release_has() {
    let of = |kops| settings(&input(kops, "1.20.0", Layout::FileRepository)).unwrap();
    assert!(value(&of("1.36.2").flags, "--set").is_some());
    assert_eq!(value(&of("1.36.2").environment, "KOPS_FEATURE_FLAGS"), None);
    assert_eq!(
        value(&of("1.24.0").environment, "KOPS_FEATURE_FLAGS").unwrap(),
        "+SpecOverrideFlag"
    );
    let old = of("1.10.1");
    assert_eq!(value(&old.flags, "--set"), None);
    assert!(old.yaml().is_some());
    assert!(
        old.notes
            .iter()
            .any(|note| note.contains("kops edit cluster"))
    );
}

#[test]
fn an_address_or_layout_that_kops_cannot_use_is_refused() {
    let refusal = |url: &str, kops: &str| {
        let mut input = input(kops, "1.34.8", Layout::FileRepository);
        input.base_url = url.parse().unwrap();
        settings(&input).unwrap_err().to_string()
    };
    assert!(refusal("https://host/a,b", "1.36.2").contains("comma"));
    assert!(refusal("https://host/a%2Cb", "1.36.2").contains("comma"));
    assert!(refusal("s3://bucket/prefix", "1.36.2").contains("not http or https"));
    assert!(refusal("file:///mirror", "1.36.2").contains("not http or https"));
    let secret = refusal("https://user:secret@host/a", "1.36.2");
    assert!(
        secret.contains("plain address") && !secret.contains("secret"),
        "{secret}"
    );
    assert!(refusal("https://host/a?token=secret", "1.36.2").contains("plain address"));
    assert!(refusal("https://host/a", "1.8.1").contains("--layout offline"));
    let mut input = input("1.36.2", "1.34.8", Layout::FileRepository);
    input.region = Some("cn-north-1; rm -rf".to_owned());
    assert!(
        settings(&input)
            .unwrap_err()
            .to_string()
            .contains("is not an AWS region")
    );
}

#[test]
fn a_value_is_one_word_to_a_shell_whatever_is_in_it() {
    assert_eq!(quoted("https://host/a_b-c.d"), "https://host/a_b-c.d");
    assert_eq!(quoted("a'b $(c)"), r"'a'\''b $(c)'");
    assert_eq!(quoted(""), "''");
    let mut input = input("1.8.1", "1.8.4", Layout::Offline);
    input.base_url = "https://host/it's$(x)&y".parse().unwrap();
    let shell = settings(&input).unwrap().shell();
    assert!(
        shell.contains(r"export KOPS_BASE_URL='https://host/it'\''s$(x)&y/kops/1.8.1/'"),
        "{shell}"
    );
}

#[test]
fn json_has_every_setting_with_its_reason() {
    let settings = settings(&input("1.36.2", "1.34.8", Layout::FileRepository)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&settings.json()).unwrap();
    assert_eq!(json["environment"][0]["name"], "AWS_REGION");
    assert!(json["flags"][0]["why"].is_string());
}

#[test]
fn images_come_from_the_registry_by_a_flag_and_in_the_spec() {
    let settings = settings(&with_images("1.36.2", Naming::ContainerRegistry)).unwrap();
    assert_snapshot!(settings.shell(), @"");
    assert_snapshot!(settings.yaml().unwrap(), @"");
    let json: serde_json::Value = serde_json::from_str(&settings.json()).unwrap();
    assert_eq!(
        json["container_registry"],
        "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/k8s"
    );
    assert_eq!(json.get("registry_mirrors"), None);
}

#[test]
fn a_kops_without_the_flag_has_images_in_its_spec_alone() {
    let of = |kops| settings(&with_images(kops, Naming::ContainerRegistry)).unwrap();
    let old = of("1.21.5");
    assert_eq!(value(&old.flags, "--set"), None);
    assert!(
        old.shell().contains("#       containerRegistry: \"123"),
        "{}",
        old.shell()
    );
    let flags = of("1.22.0").flags();
    assert!(
        flags.contains("--set spec.assets.containerRegistry=123"),
        "{flags}"
    );
}

#[test]
fn names_as_a_proxy_has_them_are_for_the_proxy() {
    let settings = settings(&with_images("1.36.2", Naming::ContainerProxy)).unwrap();
    assert_snapshot!(settings.yaml().unwrap(), @"");
    assert!(settings.flags().contains("spec.assets.containerProxy=123"));
    assert!(!settings.flags().contains("containerRegistry"));
}

#[test]
fn names_by_rules_are_mirrors_of_containerd_as_far_as_these_go() {
    let rules = rules(&[
        ("quay.io/cilium/", "c/"),
        ("registry.k8s.io/", "k8s/"),
        ("quay.io/", ""),
    ]);
    let settings_of = |kops| settings(&with_images(kops, rules.clone())).unwrap();
    let modern = settings_of("1.36.2");
    assert_snapshot!(modern.yaml().unwrap(), @"");
    assert!(!modern.flags().contains("container"), "{}", modern.flags());
    let told =
        |settings: &Settings, what: &str| settings.notes.iter().any(|note| note.contains(what));
    assert!(told(
        &modern,
        "can't use the rule from quay.io/cilium/ to c/"
    ));
    assert!(told(&modern, "useECRCredentialsForMirrors"));
    assert!(modern.shell().contains("registryMirrors:"));
    let old = settings_of("1.18.3");
    assert!(old.registry_mirrors.is_empty() && told(&old, "can't use the names"));
}

#[test]
fn images_are_not_for_the_offline_layout() {
    let mut input = with_images("1.36.2", Naming::ContainerRegistry);
    input.layout = Layout::Offline;
    let settings = settings(&input).unwrap();
    assert!(!settings.flags().contains("containerRegistry"));
    assert!(
        settings
            .notes
            .iter()
            .any(|note| note.contains("are not used in this layout"))
    );
}
