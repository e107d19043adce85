//! Folders and spools that can't be written to, or are full.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Output};
use std::sync::Arc;

use kops_mirror::asset::Voucher;
use kops_mirror::digest::Digest;
use kops_mirror::report::Exit;
use kops_mirror::spool::SpoolFolder;
use kops_mirror::store::StoreErrorKind;
use kops_mirror::sync::SyncError;
use kops_mirror::transfer::Mirror;
use tokio_util::sync::CancellationToken;

use super::{Trial, VICTIM};
use crate::support::program::{Program, finish, without_spool_flag};

fn digest(trial: &Trial) -> Digest {
    let Voucher::Known { digest, .. } = &trial.victim.witnesses[0][0] else {
        panic!("the digest is known");
    };
    *digest
}

#[tokio::test]
async fn a_full_spool_disk_is_told_with_its_folder_and_the_rest_carried_on() {
    let trial = Trial::new().await;
    fs::create_dir_all(trial.world.spool()).unwrap();
    let part = format!("sha256-{}.part", digest(&trial).hex());
    // Every write to this device fails as on a full disk.
    symlink("/dev/full", trial.world.spool().join(&part)).unwrap();
    let folder = trial.world.spool().display().to_string();
    trial
        .gives_up(&[&folder, "is there room", "No space left"])
        .await;
    fs::remove_file(trial.world.spool().join(part)).unwrap();
    trial.survives().await;
}

/// Runs the program with a disk of a few MiB mounted at `small`; what is on it afterwards is copied to `kept`. None where this
/// machine lets nobody mount.
async fn on_small_disk(program: &Program, mebibytes: u32, command: &Command) -> Option<Output> {
    const SCRIPT: &str = r#"
        mount -t tmpfs -o "size=$SIZE" tmpfs "$SMALL" || exit 99
        "$@"; code=$?
        cp -R "$SMALL" "$KEPT"; exit $code"#;
    fs::create_dir_all(program.path("small")).unwrap();
    for namespaces in ["-m", "-rm"] {
        let mut unshare = Command::new("unshare");
        unshare.args([namespaces, "sh", "-c", SCRIPT, "sh"]);
        unshare.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            unshare.env(name, value.unwrap_or_default());
        }
        unshare.env("SIZE", format!("{mebibytes}m"));
        unshare.env("SMALL", program.path("small"));
        unshare.env("KEPT", program.path("kept"));
        let ended = tokio::task::spawn_blocking(move || unshare.output()).await;
        match ended.unwrap() {
            Ok(output)
                if matches!(output.status.code(), Some(0..=2)) && !said_by_unshare(&output) =>
            {
                return Some(output);
            }
            _ => {}
        }
    }
    None
}

fn said_by_unshare(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).starts_with("unshare: ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_mirror_is_told_and_leaves_nothing_half_done() {
    let program = Program::with_files(2, 6_000_000);
    let mut command = program.to(&program.path("small/mirror"));
    command.env("KOPS_MIRROR_FETCH_FILES", "1");
    let Some(output) = on_small_disk(&program, 8, &command).await else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the disk is full"), "{said}");
    assert!(said.contains("small/mirror/files/"), "{said}");
    let kept = fs::read_dir(program.path("kept/mirror/files")).unwrap();
    let mut kept: Vec<String> = kept
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["0.tgz", "0.tgz.sha256"], "no draft is left");
    let bytes = fs::read(program.path("kept/mirror/files/0.tgz")).unwrap();
    assert!(bytes == program.content("files/0.tgz"));
    assert!(!program.path("kept/mirror/releases").exists());
    let crossed = program.sent();
    let next = finish(program.to_folder()).await;
    assert_eq!(next.status.code(), Some(0));
    assert_eq!(
        program.sent(),
        crossed + 6_000_000,
        "one waited in the spool"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_does_not_fit_the_spools_disk_is_refused_before_it_moves() {
    let program = Program::with_files(1, 20_000_000);
    let mut command = program.to_folder();
    command.env("KOPS_MIRROR_SPOOL_DIR", program.path("small"));
    let command = without_spool_flag(&program, &command);
    let Some(output) = on_small_disk(&program, 4, &command).await else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in ["20000000 are needed", "--spool DIR", "small"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(program.sent() <= 2 << 20, "{}", program.sent());
}

#[tokio::test]
async fn a_small_spool_makes_assets_wait_for_each_other_and_nothing_else() {
    let mut trial = Trial::new().await;
    // One connection for all: whoever held it while waiting for room would never get any.
    trial.world.settings.connections = 1;
    for n in 10..16 {
        let file = kops_mirror::loopback::origin::File::generated(n, 3_000_000);
        let asset = trial.world.asset(&format!("files/{n}"), file);
        trial.others.push(asset);
    }
    let made = trial.world.mirror(vec![trial.store.clone()]);
    let made = Arc::into_inner(made).unwrap();
    // One run has a spool at a time.
    drop(made.spools);
    let mirror = Arc::new(Mirror {
        spools: SpoolFolder::open(&trial.world.spool(), 4 << 20).unwrap(),
        origins: made.origins,
        limits: made.limits,
        targets: made.targets,
        policy: made.policy,
        observer: made.observer,
        in_flight: 8,
        draining: CancellationToken::new(),
    });
    trial.store.prepare(true).await.unwrap();
    let mut assets = trial.others.clone();
    assets.push(trial.victim.clone());
    let wanted = vec![kops_mirror::sync::Wanted {
        release: kops_mirror::index::Release {
            name: "test".to_owned(),
            ..kops_mirror::index::Release::default()
        },
        assets,
        ..kops_mirror::sync::Wanted::default()
    }];
    let stop = CancellationToken::new();
    let run = async {
        let prepared = kops_mirror::sync::prepare(&mirror, wanted, &stop)
            .await
            .unwrap();
        kops_mirror::sync::carry_out(&mirror, prepared, &stop).await
    };
    let report = tokio::time::timeout(std::time::Duration::from_secs(20), run)
        .await
        .expect("nobody waits for ever");
    assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
}

#[tokio::test]
async fn a_spool_that_can_not_be_used_is_told() {
    let trial = Trial::new().await;
    fs::write(trial.world.spool(), "a file").unwrap();
    let error = SpoolFolder::open(&trial.world.spool(), 1 << 30).unwrap_err();
    let said = kops_mirror::events::told(&error);
    assert!(said.contains("--spool DIR"), "{said}");
    assert!(said.contains(&trial.world.spool().display().to_string()));
}

#[tokio::test]
async fn a_folder_where_nothing_may_be_written_is_found_before_any_byte_moves() {
    let trial = Trial::new().await;
    let mirror = trial.world.dir.path().join("mirror");
    fs::write(&mirror, "a file").unwrap();
    let ended = trial
        .world
        .try_sync(
            std::slice::from_ref(&trial.store),
            std::slice::from_ref(&trial.victim),
            &CancellationToken::new(),
        )
        .await;
    let Err(SyncError::Store(error)) = ended else {
        panic!("it began: {ended:?}");
    };
    assert_eq!(error.kind, StoreErrorKind::Permanent);
    assert!(error.what.contains("move it away"), "{error}");
    assert_eq!(trial.world.origin.log().exchanges().len(), 0);

    // Root may write everywhere, so the refusal can only be seen by others.
    fs::remove_file(&mirror).unwrap();
    fs::create_dir(&mirror).unwrap();
    fs::set_permissions(&mirror, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(mirror.join("probe"), "").is_err() {
        let error = trial.store.prepare(false).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Denied);
        assert!(error.what.contains("owner and mode"), "{error}");
    }
    fs::set_permissions(&mirror, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_file_in_the_way_of_a_folder_is_told_and_the_rest_carried_on() {
    let trial = Trial::new().await;
    let way = trial
        .world
        .dir
        .path()
        .join("mirror/release/v1.34.8/bin/linux/amd64");
    fs::create_dir_all(way.parent().unwrap()).unwrap();
    fs::write(&way, "in the way").unwrap();
    trial
        .gives_up(&[VICTIM, "a file stands where a folder is needed"])
        .await;
    fs::remove_file(&way).unwrap();
    let report = trial.survives().await;
    assert_eq!(report.bytes_fetched, 0, "it waited in the spool");
}

#[tokio::test]
async fn a_folder_in_the_way_of_a_file_is_told_and_the_rest_carried_on() {
    let trial = Trial::new().await;
    let way = trial.world.dir.path().join("mirror").join(VICTIM);
    fs::create_dir_all(way.join("deep")).unwrap();
    trial
        .gives_up(&[VICTIM, "a folder stands where the file is to be"])
        .await;
    fs::remove_dir_all(&way).unwrap();
    trial.survives().await;
}
