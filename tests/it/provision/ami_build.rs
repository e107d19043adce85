//! Images that are built on an instance of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kops_mirror::ami::{BuildOrder, Built, Kind, build, built};
use kops_mirror::cloud::{Cloud, Image};
use kops_mirror::cluster::{BuildEngine, ImageBuild};
use kops_mirror::events::Silent;
use tokio::sync::Mutex;

use super::overlay::program;
use super::world::{CHINA, PACE, UBUNTU_CHINA, World};

pub(super) const NAME: &str = "hardened-2026-11";

/// A subnet, a script, and a program that stands for ssh: it notes what it is told, and runs the command on this machine.
pub(super) struct Yard {
    pub(super) world: World,
    pub(super) cloud: Cloud,
    pub(super) subnet: String,
}

impl Yard {
    pub(super) async fn open() -> Option<Self> {
        let world = World::start().await?;
        let yard = Self {
            cloud: world.cloud(CHINA).await,
            subnet: world.overlay.make_subnet(CHINA).await,
            world,
        };
        let dir = yard.world.dir.path().display().to_string();
        let ssh = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$@\" --- >>{dir}/ssh.argv\nenv >>{dir}/ssh.env\n\
             [ -e {dir}/closed ] && {{ echo 'connect to host: Connection refused' >&2; exit 255; }}\n\
             for command in \"$@\"; do :; done\n\
             [ -e {dir}/dead ] && [ \"$command\" != true ] && exec sleep 600\n\
             PATH={dir}/bin:$PATH HOME={dir}/builder exec sh -c \"$command\"\n"
        );
        program(&yard.path("bin/ssh"), &ssh);
        // It runs what is below the folder alone: the machine's own keys are nobody's business.
        let sudo = format!(
            "#!/bin/sh\necho \"$@\" >>{dir}/sudo.argv\nshift\ncase $1 in rm) ;; *) exec \"$@\" ;; esac\n"
        );
        program(&yard.path("bin/sudo"), &sudo);
        std::fs::create_dir_all(yard.path("builder/.ssh")).unwrap();
        std::fs::write(yard.path("builder/.ssh/authorized_keys"), "builder's").unwrap();
        std::fs::write(yard.path("key.pem"), "key").unwrap();
        yard.script("#!/bin/sh\nset -e\necho hardening\ntouch \"$HOME/hardened\"\n");
        Some(yard)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.world.dir.path().join(name)
    }

    pub(super) fn script(&self, text: &str) {
        std::fs::write(self.path("harden.sh"), text).unwrap();
    }

    /// By ssh.
    pub(super) fn order(&self) -> BuildOrder {
        let build = ImageBuild {
            engine: BuildEngine::Launch,
            base: UBUNTU_CHINA.to_owned(),
            name: NAME.to_owned(),
            subnet: self.subnet.clone(),
            security_group: None,
            machine_type: "t3.medium".to_owned(),
            key_name: None,
            private_key: Some(self.path("key.pem")),
            user: "ubuntu".to_owned(),
            script: Some(self.path("harden.sh")),
            imagebuilder: None,
            template: None,
        };
        let path = std::env::var("PATH").unwrap();
        BuildOrder {
            build,
            cluster: Some("prod.k8s.local".to_owned()),
            folder: self.path("ami"),
            ssh: self.path("bin/ssh"),
            callers: BTreeMap::from([
                ("PATH".to_owned(), path),
                ("SECRET".to_owned(), "s3cr3t".to_owned()),
            ]),
            pace: PACE,
            keeps_instance: false,
        }
    }

    /// By user data.
    pub(super) fn unattended(&self) -> BuildOrder {
        let mut order = self.order();
        order.build.private_key = None;
        order
    }

    pub(super) async fn built(&self, order: &BuildOrder) -> Built {
        self.try_to_build(order).await.unwrap()
    }

    pub(super) async fn try_to_build(
        &self,
        order: &BuildOrder,
    ) -> Result<Built, kops_mirror::ami::AmiError> {
        build(&self.cloud, order, &|_, _| {}, &Silent).await
    }

    pub(super) fn argv(&self) -> String {
        std::fs::read_to_string(self.path("ssh.argv")).unwrap_or_default()
    }

    pub(super) async fn instances(&self) -> Vec<(String, String)> {
        self.world.overlay.instances(CHINA).await
    }

    /// The account's own images.
    pub(super) async fn images(&self) -> Vec<Image> {
        let own = kops_mirror::cloud::Images {
            owners: vec!["self".to_owned()],
            ..kops_mirror::cloud::Images::default()
        };
        self.cloud.images(&own).await.unwrap()
    }
}

#[tokio::test]
async fn a_script_runs_by_ssh_at_the_private_address_and_becomes_an_image() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    let told = Mutex::new(Vec::new());
    let ledger = |kind: Kind, id: &str| told.try_lock().unwrap().push((kind, id.to_owned()));
    let order = yard.order();
    assert_eq!(built(&yard.cloud, &order.build).await.unwrap(), None);
    let done = build(&yard.cloud, &order, &ledger, &Silent).await.unwrap();
    assert_eq!(done.by, Some("launch"));
    assert_eq!(done.image.name.as_deref(), Some(NAME));
    assert_eq!(
        done.image.tag("kops-mirror/cluster"),
        Some("prod.k8s.local")
    );
    assert!(yard.path("builder/hardened").exists());
    // Nobody who starts from the image is let in by the builder's key.
    assert!(!yard.path("builder/.ssh/authorized_keys").exists());
    assert_eq!(yard.instances().await, []);
    let told = told.into_inner();
    assert_eq!(told[0].0, Kind::Instance);
    assert_eq!(told[1], (Kind::Image, done.image.image_id.clone()));

    let asked = &yard.world.overlay.asked("RunInstances")[0];
    let field = |name: &str| asked.field(name).unwrap_or("none");
    assert_eq!(
        field("NetworkInterface.1.AssociatePublicIpAddress"),
        "false"
    );
    assert_eq!(field("NetworkInterface.1.SubnetId"), yard.subnet);
    assert_eq!(field("MetadataOptions.HttpTokens"), "required");
    assert_eq!(asked.tag("k8s.io/role/imagebuilder"), Some("1"));
    assert_eq!(asked.tag("kops-mirror/made-by"), Some("kops-mirror"));
    assert!(field("ClientToken").len() >= 32);

    let argv = yard.argv();
    for wanted in [
        "BatchMode=yes\n",
        "StrictHostKeyChecking=accept-new\n",
        "IdentitiesOnly=yes\n",
        "ubuntu@10.7.0.",
    ] {
        assert!(argv.contains(wanted), "{wanted}: {argv}");
    }
    let environment = std::fs::read_to_string(yard.path("ssh.env")).unwrap();
    assert!(!environment.contains("s3cr3t"), "{environment}");

    // Asked again, it is there.
    assert_eq!(yard.built(&order).await.by, None);
    assert_eq!(yard.world.overlay.count("RunInstances"), 1);
    let found = built(&yard.cloud, &order.build).await.unwrap().unwrap();
    assert_eq!(found.image_id, done.image.image_id);
}

#[tokio::test]
async fn without_a_key_the_script_runs_as_user_data_and_says_on_the_console_how_it_ended() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    let marker = yard.path("marker");
    yard.script(&format!(
        "#!/bin/sh\necho \"it's $1\" > {}\n",
        marker.display()
    ));
    yard.world.overlay.orders().runs_user_data = true;
    let done = yard.built(&yard.unattended()).await;
    assert_eq!(done.by, Some("launch"));
    assert_eq!(std::fs::read_to_string(&marker).unwrap(), "it's \n");
    assert_eq!(yard.argv(), "");
    assert_eq!(yard.instances().await, []);
}

#[tokio::test]
async fn the_key_that_the_console_tells_is_the_only_one_that_is_believed() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    let console = "-----BEGIN SSH HOST KEY KEYS-----\nssh-ed25519 AAAAC3Nz root@x\n-----END SSH HOST KEY KEYS-----\n";
    yard.world.overlay.orders().console = Some(console.to_owned());
    let mut order = yard.order();
    order.keeps_instance = true;
    yard.built(&order).await;
    assert!(yard.argv().contains("StrictHostKeyChecking=yes"));
    assert!(!yard.argv().contains("accept-new"));
    let (id, state) = yard.instances().await.remove(0);
    assert_eq!(state, "stopped");
    let known = yard.path(&format!("ami/{NAME}.{id}.known_hosts"));
    let known = std::fs::read_to_string(known).unwrap();
    assert!(
        known.starts_with("10.7.0.") && known.ends_with(" ssh-ed25519 AAAAC3Nz\n"),
        "{known}"
    );
}

/// kube-deploy#293, and more of what EC2 does on a bad day.
#[tokio::test]
async fn an_image_that_is_not_found_at_first_is_waited_for() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    {
        let mut orders = yard.world.overlay.orders();
        (orders.hidden, orders.pending) = (3, 3);
        for operation in [
            "RunInstances",
            "CreateTags",
            "StopInstances",
            "DescribeInstances",
        ] {
            orders.throttled.insert(operation.to_owned(), 2);
        }
    }
    let done = yard.built(&yard.order()).await;
    assert_eq!(done.image.name.as_deref(), Some(NAME));
    assert_eq!(yard.instances().await, []);
}

#[tokio::test]
async fn the_external_program_gets_its_settings_and_an_instance_of_ours() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    let order = imagebuilder(&yard);
    // Its own look for the image comes too early.
    yard.world.overlay.orders().hidden = 3;
    let done = yard.built(&order).await;
    assert_eq!(done.by, Some("imagebuilder"));
    assert_eq!(done.image.name.as_deref(), Some(NAME));
    let read = |name: &str| std::fs::read_to_string(yard.path(name)).unwrap();
    let argv = read("imagebuilder.argv");
    assert!(
        argv.contains("--up=false\n") && argv.contains("--down=false\n"),
        "{argv}"
    );
    let settings: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&read(&format!("ami/{NAME}.aws.yaml"))).unwrap();
    let setting = |name: &str| settings[name].as_str().unwrap_or("none").to_owned();
    assert_eq!(setting("Cloud"), "aws");
    assert_eq!(setting("Region"), CHINA);
    assert_eq!(setting("ImageID"), UBUNTU_CHINA);
    assert_eq!(setting("SubnetID"), yard.subnet);
    assert_eq!(setting("SSHUsername"), "admin");
    assert_eq!(
        setting("TemplatePath"),
        yard.path("template.yml").display().to_string()
    );
    assert_eq!(settings["SetupCommands"][0][0].as_str(), Some("set"));
    let environment = read("imagebuilder.env");
    assert!(
        environment.contains("AWS_REGION=cn-north-1\n"),
        "{environment}"
    );
    assert!(!environment.contains("s3cr3t"), "{environment}");
    // It has our tags, whatever the program gave it.
    let found = yard.images().await.remove(0);
    assert_eq!(
        found.tag("kops-mirror/source"),
        Some("build/hardened-2026-11")
    );
    assert_eq!(yard.instances().await, []);
    assert_eq!(yard.built(&order).await.by, None);
}

/// A program that stands for imagebuilder: it finds the instance by its tag, makes an image of it, and looks for that once.
pub(super) fn imagebuilder(yard: &Yard) -> BuildOrder {
    let dir = yard.world.dir.path().display();
    let url = yard.world.overlay.url();
    let key = yard.world.overlay.account_key();
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >>{dir}/imagebuilder.argv\nenv >>{dir}/imagebuilder.env\n\
         ec2() {{ curl -s --noproxy '*' -H 'authorization: AWS4-HMAC-SHA256 Credential={key}/20260101/{CHINA}/ec2/aws4_request, \
         SignedHeaders=host, Signature=0' -d \"Version=2016-11-15&$1\" {url}; }}\n\
         instance=$(ec2 'Action=DescribeInstances&Filter.1.Name=tag-key&Filter.1.Value.1=k8s.io/role/imagebuilder&\
         Filter.2.Name=instance-state-name&Filter.2.Value.1=running' \
         | sed -n 's:.*<instanceId>\\([^<]*\\)</instanceId>.*:\\1:p' | head -n 1)\n\
         [ -n \"$instance\" ] || {{ echo no instance; exit 1; }}\n\
         [ -e {dir}/broken ] && {{ echo 'bootstrap-vz: no debootstrap'; exit 1; }}\n\
         ec2 \"Action=CreateImage&InstanceId=$instance&Name={NAME}\" >/dev/null\n\
         echo 'image not found after build: {NAME}' >&2\nexit 1\n"
    );
    program(&yard.path("bin/imagebuilder"), &text);
    std::fs::write(yard.path("template.yml"), format!("---\nname: {NAME}\n")).unwrap();
    let mut order = yard.order();
    order.build.engine = BuildEngine::Imagebuilder;
    order.build.imagebuilder = Some(yard.path("bin/imagebuilder"));
    order.build.template = Some(yard.path("template.yml"));
    order.build.user = "admin".to_owned();
    order
}
