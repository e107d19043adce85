//! moto's buckets, as somebody else with the account's keys.

use aws_sdk_s3::types::{BucketVersioningStatus, Tag, Tagging, VersioningConfiguration};

use super::Overlay;

const CHINA: &str = "cn-north-1";

impl Overlay {
    pub(crate) async fn keep_versions(&self, bucket: &str) {
        let on = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        let client = self.inner.s3(CHINA);
        let set = client.put_bucket_versioning().bucket(bucket);
        set.versioning_configuration(on).send().await.unwrap();
    }

    pub(crate) async fn tag_bucket(&self, bucket: &str, key: &str, value: &str) {
        let tag = Tag::builder().key(key).value(value).build().unwrap();
        let tags = Tagging::builder().tag_set(tag).build().unwrap();
        let client = self.inner.s3(CHINA);
        let set = client.put_bucket_tagging().bucket(bucket);
        set.tagging(tags).send().await.unwrap();
    }

    pub(crate) async fn put(&self, bucket: &str, key: &str, text: &str) {
        let client = self.inner.s3(CHINA);
        let put = client.put_object().bucket(bucket).key(key);
        let body = text.as_bytes().to_vec().into();
        put.body(body).send().await.unwrap();
    }

    pub(crate) async fn delete(&self, bucket: &str, key: &str) {
        let client = self.inner.s3(CHINA);
        let delete = client.delete_object().bucket(bucket).key(key);
        delete.send().await.unwrap();
    }

    pub(crate) async fn has_bucket(&self, bucket: &str) -> bool {
        let client = self.inner.s3(CHINA);
        client.head_bucket().bucket(bucket).send().await.is_ok()
    }

    /// Removes a bucket with what it holds.
    pub(crate) async fn remove_bucket(&self, bucket: &str) {
        let client = self.inner.s3(CHINA);
        let listed = client.list_object_versions().bucket(bucket).send();
        let listed = listed.await.unwrap();
        let versions = listed
            .versions()
            .iter()
            .map(|one| (one.key(), one.version_id()));
        let markers = listed
            .delete_markers()
            .iter()
            .map(|one| (one.key(), one.version_id()));
        for (key, version) in versions.chain(markers) {
            let delete = client.delete_object().bucket(bucket).key(key.unwrap());
            delete
                .set_version_id(version.map(str::to_owned))
                .send()
                .await
                .unwrap();
        }
        client.delete_bucket().bucket(bucket).send().await.unwrap();
    }
}
