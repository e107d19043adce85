use std::time::{Duration, Instant};

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::StreamBody;
use kops_mirror::loopback::s3::{Fault, Options, Trouble};

use super::{BUCKET, Rig, is, md5_hex, quoted, refusal};

fn put(rig: &Rig, key: &str) -> PutObjectFluentBuilder {
    let put = rig.s3.put_object().bucket(BUCKET).key(key);
    put.body(ByteStream::from_static(b"content"))
}

/// A streamed body of `frames` times 64 KiB, a frame each `pace`.
fn paced(frames: u64, pace: Duration) -> (ByteStream, i64) {
    let frame = Bytes::from(vec![1; 65_536]);
    let stream = futures::stream::iter(0..frames).then(move |_| {
        let frame = frame.clone();
        async move {
            tokio::time::sleep(pace).await;
            Ok::<_, std::io::Error>(Frame::data(frame))
        }
    });
    let body = StreamBody::new(sync_stream(stream));
    let length = i64::try_from(frames * 65_536).unwrap();
    (ByteStream::new(SdkBody::from_body_1_x(body)), length)
}

/// The SDK wants bodies that are Sync; a channel's receiver is.
fn sync_stream<T: Send + 'static>(
    stream: impl futures::Stream<Item = T> + Send + 'static,
) -> impl futures::Stream<Item = T> + Send + Sync + 'static {
    let (sender, receiver) = futures::channel::mpsc::channel(1);
    tokio::spawn(stream.map(Ok).forward(sender));
    receiver
}

#[tokio::test]
async fn a_busy_server_refuses_as_often_as_ordered() {
    let rig = Rig::default();
    rig.server
        .faults()
        .order(Fault::slow_down().on("PutObject").key("a/*").times(2));
    assert!(put(&rig, "b").send().await.is_ok());
    for _ in 0..2 {
        assert_eq!(refusal(put(&rig, "a/1").send().await), is(503, "SlowDown"));
    }
    assert!(put(&rig, "a/1").send().await.is_ok());
    assert_eq!(rig.server.faults().outstanding(), 0);
}

#[tokio::test]
async fn an_operation_can_be_denied_for_good() {
    let rig = Rig::default();
    rig.server
        .faults()
        .order(Fault::access_denied().on("ListObjectsV2").always());
    for _ in 0..2 {
        let list = rig.s3.list_objects_v2().bucket(BUCKET).send().await;
        assert_eq!(refusal(list), is(403, "AccessDenied"));
    }
    assert!(put(&rig, "k").send().await.is_ok());
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let rig = Rig::default();
    rig.server.faults().order(Fault::slow_down());
    let (body, length) = paced(40, Duration::from_millis(2));
    let put = rig.s3.put_object().bucket(BUCKET).key("k");
    let sent = put.content_length(length).body(body).send().await;
    assert_eq!(refusal(sent), is(503, "SlowDown"));
}

#[tokio::test]
async fn a_failure_after_the_body_stores_or_does_not() {
    let rig = Rig::default();
    for stored in [false, true] {
        rig.server
            .faults()
            .order(Fault::new(Trouble::Failed { stored }));
        let failed = put(&rig, "k").send().await;
        assert_eq!(refusal(failed), is(500, "InternalError"));
        assert_eq!(rig.stored("k").is_some(), stored);
    }
    assert_eq!(rig.server.log().all()[0].body_bytes, 7);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_object_stored() {
    let rig = Rig::default();
    rig.server.faults().order(Fault::new(Trouble::AnswerLost));
    let lost = put(&rig, "k").send().await.unwrap_err();
    assert!(matches!(lost, SdkError::DispatchFailure(_)), "{lost:?}");
    assert_eq!(rig.stored("k").unwrap(), b"content");
    assert_eq!(rig.server.log().all()[0].status, None);
}

#[tokio::test]
async fn a_wrong_etag_is_answered_not_stored() {
    let rig = Rig::default();
    rig.server.faults().order(Fault::new(Trouble::WrongEtag));
    let answered = put(&rig, "k").send().await.unwrap().e_tag.unwrap();
    assert_ne!(answered, quoted(&md5_hex("content")));
    assert_eq!(rig.bucket().object("k").unwrap().etag, md5_hex("content"));
}

#[tokio::test]
async fn a_connection_is_cut_in_the_middle_of_a_body() {
    let rig = Rig::default();
    rig.bucket().insert("k", "old");
    rig.server.faults().order(Fault::new(Trouble::Cut {
        after_bytes: 100_000,
    }));
    let (body, length) = paced(20, Duration::from_millis(1));
    let put = rig.s3.put_object().bucket(BUCKET).key("k");
    let cut = put
        .content_length(length)
        .body(body)
        .send()
        .await
        .unwrap_err();
    assert!(matches!(cut, SdkError::DispatchFailure(_)), "{cut:?}");
    assert_eq!(rig.stored("k").unwrap(), b"old");
    let log = rig.server.log().all();
    assert_eq!(log[0].status, None);
    assert!((100_000..200_000).contains(&log[0].body_bytes), "{log:?}");
}

#[tokio::test]
async fn a_body_that_stalls_is_timed_out() {
    let rig = Rig::new(Options {
        stall_limit: Duration::from_millis(200),
        ..Options::default()
    });
    rig.bucket().insert("k", "old");
    let put = |body, length| {
        let put = rig.s3.put_object().bucket(BUCKET).key("k");
        put.content_length(length).body(body).send()
    };
    let (stalling, length) = paced(3, Duration::from_secs(1));
    assert_eq!(
        refusal(put(stalling, length).await),
        is(400, "RequestTimeout")
    );
    assert_eq!(rig.stored("k").unwrap(), b"old");
    // Slow is not stalled, however long it takes.
    let (slow, length) = paced(10, Duration::from_millis(50));
    put(slow, length).await.unwrap();
    assert_eq!(rig.stored("k").unwrap().len(), 655_360);
}

#[tokio::test]
async fn a_slow_server_reads_at_the_rate_ordered() {
    let rig = Rig::default();
    let rate = Trouble::Slow {
        bytes_per_second: 1_000_000,
    };
    rig.server.faults().order(Fault::new(rate));
    let (body, length) = paced(5, Duration::ZERO);
    let began = Instant::now();
    let put = rig.s3.put_object().bucket(BUCKET).key("k");
    put.content_length(length).body(body).send().await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(327), "{took:?}");
}

#[tokio::test]
async fn a_late_answer_is_late_after_all_is_done() {
    let rig = Rig::default();
    let late = Trouble::Late(Duration::from_millis(300));
    rig.server.faults().order(Fault::new(late));
    let sent = put(&rig, "k").send();
    let impatient = tokio::time::timeout(Duration::from_millis(150), sent).await;
    assert!(impatient.is_err());
    assert_eq!(rig.stored("k").unwrap(), b"content");
}
