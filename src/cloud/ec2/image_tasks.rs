//! The tasks that put an image into a bucket as one object, and make an image of one: the way between partitions that AWS documents.

use serde::Deserialize;

use super::Tag;
use super::images::Made;
use crate::cloud::query::{Fields, text};
use crate::cloud::{Cloud, CloudError};

/// An image on its way into a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreTask {
    pub ami_id: String,
    pub bucket: String,
    #[serde(rename = "s3objectKey")]
    pub key: String,
    #[serde(default)]
    pub progress_percentage: u8,
    #[serde(rename = "storeTaskState")]
    pub state: StoreState,
    #[serde(default, rename = "storeTaskFailureReason", deserialize_with = "text")]
    pub why: Option<String>,
    #[serde(default)]
    pub task_start_time: String,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum StoreState {
    InProgress,
    Completed,
    Failed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Begun {
    object_key: String,
}

impl Cloud {
    /// Begins to put an image into a bucket of the same region; gives the object's key.
    pub async fn store_image(
        &self,
        image: &str,
        bucket: &str,
        tags: &[Tag],
    ) -> Result<String, CloudError> {
        let fields = Fields::default()
            .with("ImageId", image)
            .with("Bucket", bucket);
        let fields = (1..).zip(tags).fold(fields, |fields, (number, tag)| {
            fields
                .with(format!("S3ObjectTag.{number}.Key"), &tag.key)
                .with(format!("S3ObjectTag.{number}.Value"), &tag.value)
        });
        let purpose = format!("store the image {image} in s3://{bucket}");
        let begun: Begun = self.once("CreateStoreImageTask", &purpose, &fields).await?;
        Ok(begun.object_key)
    }

    /// The tasks of the last 31 days for an image.
    pub async fn store_tasks(&self, image: &str) -> Result<Vec<StoreTask>, CloudError> {
        let fields = Fields::default().list("ImageId", [image]);
        let purpose = format!("see how far {image} is stored");
        self.described("DescribeStoreImageTasks", &purpose, fields)
            .await
    }

    /// Begins to make an image of an object; gives the image's id.
    pub async fn restore_image(
        &self,
        bucket: &str,
        key: &str,
        name: &str,
        tags: &[Tag],
    ) -> Result<String, CloudError> {
        let fields = Fields::default()
            .with("Bucket", bucket)
            .with("ObjectKey", key)
            .with("Name", name)
            .tagged(&["image", "snapshot"], tags);
        let purpose = format!("restore an image from s3://{bucket}/{key}");
        let made: Made = self
            .once("CreateRestoreImageTask", &purpose, &fields)
            .await?;
        Ok(made.image_id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::asking::read;
    use super::*;

    #[test]
    fn tasks_are_read() {
        let xml = r"<DescribeStoreImageTasksResponse><requestId>1</requestId><storeImageTaskResultSet><item><amiId>ami-1</amiId><bucket>b</bucket><progressPercentage>17</progressPercentage><s3objectKey>ami-1.bin</s3objectKey><storeTaskState>InProgress</storeTaskState><taskStartTime>2021-01-01T01:01:01.001Z</taskStartTime></item></storeImageTaskResultSet></DescribeStoreImageTasksResponse>";
        let (tasks, _) = read::<StoreTask>(xml);
        assert_eq!(
            (tasks[0].state, tasks[0].progress_percentage),
            (StoreState::InProgress, 17)
        );
        assert_eq!(
            (tasks[0].key.as_str(), tasks[0].why.as_deref()),
            ("ami-1.bin", None)
        );
    }
}
