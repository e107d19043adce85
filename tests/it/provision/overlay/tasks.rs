//! The tasks that store and restore images, which moto lacks. The object is really there, in parts, so that its ETag is no MD5.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use super::{Answer, Asked, Inner, xml};

/// The least that S3 takes, and an uneven rest.
const PART_BYTES: usize = 5 << 20;
const OBJECT_BYTES: usize = 2 * PART_BYTES + 12_345;

/// A task.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    image: String,
    bucket: String,
    tags: String,
    asks_left: u32,
    state: &'static str,
    why: String,
    began: usize,
}

impl Inner {
    pub(super) async fn store_image(&self, asked: &Asked) -> Answer {
        let image = asked.field("ImageId").unwrap_or_default().to_owned();
        let bucket = asked.field("Bucket").unwrap_or_default().to_owned();
        let fields = [
            ("Action", "DescribeImages"),
            ("ImageId.1", image.as_str()),
            ("Owner.1", "self"),
        ];
        let (status, _, body) = self.ask_ec2(asked, &fields).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        // Public images can't be stored: they must be the account's own.
        if !status.is_success() || xml::element(&text, "imageId").is_none() {
            return xml::refusal(403, "AuthFailure", "Not authorized for image");
        }
        let asks_left = self.orders().storing;
        let tags: Vec<String> = (1..)
            .map_while(|n| {
                let key = asked.field(&format!("S3ObjectTag.{n}.Key"))?;
                let value = asked.field(&format!("S3ObjectTag.{n}.Value"))?;
                let encoded = |text: &str| {
                    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
                };
                Some(format!("{}={}", encoded(key), encoded(value)))
            })
            .collect();
        let mut seen = self.seen();
        let began = seen.stored.len();
        seen.stored.push(Stored {
            image: image.clone(),
            bucket,
            tags: tags.join("&"),
            asks_left,
            state: "InProgress",
            why: String::new(),
            began,
        });
        xml::answer(
            "CreateStoreImageTask",
            &format!("<objectKey>{image}.bin</objectKey>"),
        )
    }

    pub(super) async fn store_tasks(&self, asked: &Asked) -> Answer {
        let image = asked.field("ImageId.1").unwrap_or_default().to_owned();
        let mut tasks: Vec<Stored> = self.seen().stored.clone();
        let mut items = String::new();
        for task in tasks.iter_mut().rev().filter(|task| task.image == image) {
            self.advance(asked, task).await;
            items.push_str(&task.item());
        }
        self.seen().stored = tasks;
        xml::answer(
            "DescribeStoreImageTasks",
            &format!("<storeImageTaskResultSet>{items}</storeImageTaskResultSet>"),
        )
    }

    async fn advance(&self, asked: &Asked, task: &mut Stored) {
        if task.state != "InProgress" {
            return;
        }
        if task.asks_left > 0 {
            task.asks_left -= 1;
            return;
        }
        let fails = self.orders().storing_fails.clone();
        if let Some(why) = fails {
            (task.state, task.why) = ("Failed", why);
            return;
        }
        self.put_object(asked, task).await;
        task.state = "Completed";
    }

    async fn put_object(&self, asked: &Asked, task: &Stored) {
        let client = self.s3(&asked.region);
        let key = format!("{}.bin", task.image);
        let begun = client
            .create_multipart_upload()
            .bucket(&task.bucket)
            .key(&key)
            .metadata("ami-name", "noble")
            .metadata("ami-owner-account", "123456789012")
            .tagging(&task.tags)
            .send()
            .await
            .unwrap();
        let id = begun.upload_id().unwrap();
        let content = content();
        let mut parts = Vec::new();
        for (number, part) in (1..).zip(content.chunks(PART_BYTES)) {
            let put = client
                .upload_part()
                .bucket(&task.bucket)
                .key(&key)
                .upload_id(id)
                .part_number(number)
                .body(ByteStream::from(part.to_vec()));
            let put = put.send().await.unwrap();
            parts.push(
                CompletedPart::builder()
                    .part_number(number)
                    .e_tag(put.e_tag().unwrap())
                    .build(),
            );
        }
        let completing = client
            .complete_multipart_upload()
            .bucket(&task.bucket)
            .key(&key)
            .upload_id(id)
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(parts))
                    .build(),
            );
        // moto gives its answer another name than AWS, which the SDK does not read.
        drop(completing.send().await);
        client
            .head_object()
            .bucket(&task.bucket)
            .key(&key)
            .send()
            .await
            .unwrap();
    }

    /// Makes an image only of an object that is what was stored, byte for byte.
    pub(super) async fn restore_image(&self, asked: &Asked) -> Answer {
        let bucket = asked.field("Bucket").unwrap_or_default();
        let key = asked.field("ObjectKey").unwrap_or_default();
        let got = self
            .s3(&asked.region)
            .get_object()
            .bucket(bucket)
            .key(key)
            .send()
            .await;
        let Ok(got) = got else {
            return xml::refusal(400, "InvalidParameterValue", "There is no such object");
        };
        let is_named = got
            .metadata()
            .is_some_and(|metadata| metadata.contains_key("ami-name"));
        let body = got.body.collect().await.unwrap().into_bytes();
        if body != content() || !is_named {
            return xml::refusal(
                400,
                "InvalidParameterValue",
                "The object is no stored image",
            );
        }
        let name = asked.field("Name").unwrap_or_default();
        let fields = [("Action", "RegisterImage"), ("Name", name)];
        let (status, _, body) = self.ask_ec2(asked, &fields).await;
        assert!(status.is_success(), "{body:?}");
        let text = String::from_utf8_lossy(&body).into_owned();
        let id = xml::element(&text, "imageId").unwrap();
        let answer = xml::answer(
            "CreateRestoreImageTask",
            &format!("<imageId>{id}</imageId>"),
        );
        self.note(asked, &answer).await;
        answer
    }
}

impl Stored {
    fn item(&self) -> String {
        let Self {
            image,
            bucket,
            state,
            why,
            began,
            ..
        } = self;
        let percent = if *state == "InProgress" { 40 } else { 100 };
        format!(
            "<item><amiId>{image}</amiId><bucket>{bucket}</bucket><progressPercentage>{percent}</progressPercentage>\
             <s3objectKey>{image}.bin</s3objectKey><storeTaskState>{state}</storeTaskState>\
             <storeTaskFailureReason>{why}</storeTaskFailureReason><taskStartTime>2026-01-01T00:00:{began:02}.000Z</taskStartTime></item>"
        )
    }
}

/// What an image is as an object.
pub(in crate::provision) fn content() -> Vec<u8> {
    let mut noise = fastrand::Rng::with_seed(7);
    let mut content = vec![0; OBJECT_BYTES];
    noise.fill(&mut content);
    content
}
