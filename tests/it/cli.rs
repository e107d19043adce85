//! What may be typed, and what is said when it is wrong.

use std::fs;
use std::process::Output;

use assert_cmd::Command;

/// The program with nothing of this machine's environment in it.
fn kops_mirror(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("kops-mirror").unwrap();
    command.env_clear().args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    kops_mirror(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs what must be refused: exit code 2, nothing on standard output, and every word in the message.
fn check_refused(arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    for word in words {
        assert!(message.contains(word), "{arguments:?}: {message}");
    }
}

const SUBCOMMANDS: [&str; 12] = [
    "sync",
    "plan",
    "assets",
    "verify",
    "repair",
    "env",
    "serve",
    "bench",
    "demo",
    "bucket-policy",
    "completions",
    "man",
];

const SELECTION: &[&str] = &[
    "--kubernetes",
    "--kops",
    "--arch",
    "--networking",
    "--container-runtime",
    "--install-nerdctl",
    "--install-crictl",
    "--skip-container-runtime",
    "--cilium-portmap",
    "--cluster-option",
    "--with-base-url",
    "--with-kubernetes-url",
    "--images",
    "--no-clients",
    "--no-pointers",
    "--include",
    "--exclude",
    "--layout",
    "--assets",
    "--catalogue",
];

const TARGET: &[&str] = &[
    "--to",
    "--endpoint",
    "--region",
    "--profile",
    "--path-style",
];

const TRANSFER: &[&str] = &[
    "--create-bucket",
    "--acl",
    "--publish",
    "--origin",
    "--connections",
    "--limit",
    "--spool",
];

const EVERYWHERE: &[&str] = &["--config", "--output", "--verbose", "--quiet"];

#[test]
fn mistakes_in_the_command_are_refused_by_name() {
    check_refused(&[], &["Usage"]);
    check_refused(&["snyc"], &["snyc", "sync"]);
    check_refused(&["sync", "--arch", "riscv64"], &["--arch", "riscv64"]);
    check_refused(
        &["sync", "--layout", "flat"],
        &["--layout", "flat", "offline"],
    );
    check_refused(&["sync", "--to", "gs://mirror"], &["--to", "gs://mirror"]);
    check_refused(&["sync", "--limit", "20"], &["--limit", "20mbit"]);
    check_refused(&["sync", "--connections", "0"], &["--connections"]);
    check_refused(&["sync", "--include", "a["], &["--include", "a["]);
    check_refused(
        &["sync", "--origin", "dl.k8s.io"],
        &["--origin", "HOST=URL"],
    );
    check_refused(&["sync", "--origin", "a/b=http://c"], &["--origin", "a/b"]);
    check_refused(&["sync", "--acl", "public-read-write"], &["--acl"]);
    check_refused(
        &["sync", "--publish", "multipart"],
        &["--publish", "staged"],
    );
    check_refused(&["sync", "--congestion", "b b r"], &["--congestion", "bbr"]);
    check_refused(&["sync", "--endpoint", "127.0.0.1:9000"], &["--endpoint"]);
    check_refused(&["bench", "--budget", "64"], &["--budget", "64MiB"]);
    check_refused(&["bench", "--seconds", "0"], &["--seconds"]);
    check_refused(&["bench", "--congestion", "a b"], &["--congestion", "bbr"]);
    check_refused(&["bench", "--only", "origins"], &["--only", "store"]);
    check_refused(&["bench", "--only", "store"], &["--to s3://"]);
    check_refused(&["plan", "-v", "-q"], &["--verbose", "--quiet"]);
}

#[test]
fn mistakes_in_the_settings_are_refused_by_line_and_variable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mirror.toml");
    fs::write(&file, "kops = \"1.36.2\"\n\n[fetch]\nconections = 7\n").unwrap();
    let path = file.to_str().unwrap();
    let line = format!("{path}, line 4: unknown field `conections`");
    check_refused(&["assets", "--config", path], &[&line, "connections"]);
    let missing = folder.path().join("missing.toml");
    let missing = missing.to_str().unwrap();
    check_refused(&["assets", "--config", missing], &[missing, "No such file"]);

    for (name, value) in [
        ("KOPS_MIRROR_CONFIG", path),
        ("KOPS_MIRROR_SPOOL_LIMIT", "20"),
    ] {
        let output = kops_mirror(&["assets"]).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
        let message = text(&output.stderr);
        assert!(message.contains(value), "{name}: {message}");
        assert_eq!(message.matches("error:").count(), 1, "{message}");
    }
}

#[test]
fn help_names_every_flag_of_its_subcommand() {
    let check = |subcommand: &str, flags: &[&[&str]]| {
        let output = run(&[subcommand, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{subcommand}");
        let help = text(&output.stdout);
        for flag in flags.concat() {
            assert!(help.contains(flag), "{subcommand} --help lacks {flag}");
        }
    };
    check("sync", &[SELECTION, TARGET, TRANSFER, EVERYWHERE]);
    check("plan", &[SELECTION, TARGET, TRANSFER, EVERYWHERE]);
    check("assets", &[SELECTION, &["--base-url"], EVERYWHERE]);
    check("verify", &[TARGET, &["--deep"], EVERYWHERE]);
    check("repair", &[TARGET, TRANSFER, &["--deep"], EVERYWHERE]);
    check(
        "env",
        &[SELECTION, TARGET, &["--base-url", "--as"], EVERYWHERE],
    );
    check("serve", &[&["--listen"], EVERYWHERE]);
    let fetching = ["--origin", "--connections", "--limit"];
    let measuring = [
        "--url",
        "--only",
        "--congestion",
        "--budget",
        "--seconds",
        "--svg",
    ];
    check(
        "bench",
        &[SELECTION, TARGET, &fetching, &measuring, EVERYWHERE],
    );
    check("demo", &[&["--keep"], EVERYWHERE]);
    let policy = [
        "--to",
        "--region",
        "--vpc-endpoint",
        "--vpc",
        "--source-ip",
        "--public",
    ];
    check("bucket-policy", &[&policy, EVERYWHERE]);
    check("man", &[&["--dir"], EVERYWHERE]);
}

#[test]
fn the_main_help_tells_subcommands_variables_and_exit_codes() {
    let output = run(&["--help"]);
    let help = text(&output.stdout);
    for word in SUBCOMMANDS {
        assert!(help.contains(word), "{word}");
    }
    for word in [
        "Examples:",
        "KOPS_MIRROR_CONFIG",
        "NO_COLOR",
        "Exit codes:",
        "130",
    ] {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn a_bucket_policy_is_of_its_regions_partition() {
    let policy = |region: &str| {
        let to = [
            "bucket-policy",
            "--to",
            "s3://mirror/k8s",
            "--region",
            region,
        ];
        let readers = ["--vpc-endpoint", "vpce-0123456789abcdef0"];
        let output = run(&[&to[..], &readers].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let resource = |policy: serde_json::Value| policy["Statement"][0]["Resource"].clone();
    assert_eq!(
        resource(policy("cn-north-1")),
        "arn:aws-cn:s3:::mirror/k8s/*"
    );
    assert_eq!(resource(policy("eu-west-1")), "arn:aws:s3:::mirror/k8s/*");

    let region = ["--region", "cn-north-1"];
    let command = ["bucket-policy", "--to", "s3://mirror"];
    check_refused(&[&command[..], &region].concat(), &["who may read"]);
    check_refused(&[&command[..], &["--public"]].concat(), &["--region"]);
    check_refused(
        &["bucket-policy", "--public"],
        &["./mirror is a folder", "--to"],
    );
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = text(&output.stdout);
        for word in ["bucket-policy", "kubernetes"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn the_manual_has_a_page_per_subcommand() {
    let page = run(&["man"]);
    assert!(text(&page.stdout).starts_with(".ie"), "a roff page");
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let output = run(&["man", "--dir", pages.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    for subcommand in SUBCOMMANDS {
        let page = pages.join(format!("kops-mirror-{subcommand}.1"));
        assert!(fs::read_to_string(page).unwrap().contains(".SH"));
    }
    assert!(pages.join("kops-mirror.1").exists());
}

#[test]
fn the_version_is_told() {
    let output = run(&["--version"]);
    let wanted = concat!("kops-mirror ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(text(&output.stdout), wanted);
}

/// The first command of the README's chapter about a cluster, with the example as it stands.
#[test]
fn the_example_of_a_cluster_is_rendered_offline() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/cluster.example.yaml");
    let output = run(&["provision", "render", "-f", example, "--offline"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let manifest = text(&output.stdout);
    assert_eq!(manifest.matches("kind: InstanceGroup").count(), 4);
    assert!(manifest.contains("cidr: 10.0.64.0/19"), "{manifest}");
}
