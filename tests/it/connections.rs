//! Connections to a bucket: their certificates are checked, and their congestion control is the one that was asked for.

use kops_mirror::store::s3::{S3Options, S3Store};
use kops_mirror::store::{Store, StoreErrorKind};

use crate::support::bucket::BucketServer;
use crate::support::program::{Program, finish};
use crate::support::tls::TlsFront;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_whose_certificate_nobody_vouches_for_is_refused() {
    let server = BucketServer::start();
    let front = TlsFront::start(server.0.address(), &["127.0.0.1"]).await;
    let options = S3Options {
        endpoint: Some(front.url("").parse().unwrap()),
        ..server.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    let error = store.prepare(false).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Permanent);
    let what = error.to_string();
    assert!(what.contains("certificate"), "{what}");
    assert_eq!(server.0.log().all().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_reached_over_tls_with_any_congestion_control() {
    let server = BucketServer::start();
    let front = TlsFront::start(server.0.address(), &["127.0.0.1"]).await;
    for choice in ["auto", "system", "reno"] {
        let program = Program::with_files(1, 3_000_000);
        std::fs::write(program.path("ca.pem"), &front.certificate_pem).unwrap();
        let mut command = program.to_bucket_behind(&server, &front.url(""));
        command
            .env("SSL_CERT_FILE", program.path("ca.pem"))
            .args(["--congestion", choice]);
        let output = finish(command).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{choice}: {said}");
    }
    assert!(server.0.log().count("PutObject") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_congestion_control_that_cannot_be_had_is_refused_before_any_byte_moves() {
    let server = BucketServer::start();
    let program = Program::with_files(1, 1000);
    let mut command = program.to_bucket(&server);
    command.args(["--congestion", "nonesuch"]);
    let output = finish(command).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in [
        "nonesuch",
        "net.ipv4.tcp_",
        "_congestion_control: ",
        "--congestion",
    ] {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(program.sent(), 0);
    assert_eq!(server.0.log().all().len(), 0);
}
