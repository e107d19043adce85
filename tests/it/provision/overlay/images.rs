//! Images that are made are not found at first, then pending, then available, or failed; and they have the tags that were asked for.

use kops_mirror::partition::Partition;

use super::{Answer, Asked, Inner, xml};

impl Inner {
    pub(super) async fn describe_images(&self, asked: &Asked) -> Answer {
        let (status, headers, body) = self.forward(asked).await;
        if !status.is_success() {
            return (status, headers, body);
        }
        let (fails, heals) = {
            let orders = self.orders();
            (orders.image_fails.clone(), orders.heals)
        };
        let fails = fails.filter(|(region, _)| *region == asked.region);
        let by_id = asked.field("ImageId.1").map(str::to_owned);
        let mut is_hidden = false;
        let text = std::str::from_utf8(&body).unwrap();
        let edited = xml::edited(text, "imagesSet", |item| {
            let id = xml::element(item, "imageId").unwrap().to_owned();
            let mut seen = self.seen();
            let Some((hidden, left)) = seen.images.get_mut(&id) else {
                return Some(item.to_owned());
            };
            if *hidden > 0 {
                *hidden -= 1;
                is_hidden |= by_id.as_deref() == Some(&id);
                return None;
            }
            if *left > 0 {
                *left -= 1;
                return Some(item.replace("<imageState>available<", "<imageState>pending<"));
            }
            let is_well = heals && !seen.failed.contains(&id);
            let Some((_, why)) = fails.as_ref().filter(|_| !is_well) else {
                return Some(item.to_owned());
            };
            let reason = format!(
                "<imageState>failed</imageState><stateReason><code>Client.InternalError</code><message>{why}</message></stateReason>"
            );
            Some(item.replace("<imageState>available</imageState>", &reason))
        });
        if is_hidden {
            let message = format!(
                "The image id '[{}]' does not exist",
                by_id.unwrap_or_default()
            );
            return xml::refusal(400, "InvalidAMIID.NotFound", &message);
        }
        let page = self.orders().page;
        let edited = page.map_or(edited.clone(), |page| paged(asked, &edited, page));
        (status, headers, edited.into())
    }

    /// Lets moto make an image, and gives it what moto forgets.
    pub(super) async fn make_image(&self, asked: &Asked) -> Answer {
        // moto knows no tags of snapshots here, and forgets those of images.
        let without: Vec<_> = asked
            .fields()
            .filter(|(name, _)| !name.starts_with("TagSpecification"))
            .collect();
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(without)
            .finish();
        let answer = self
            .forward(&Asked {
                body: body.into(),
                ..asked.clone()
            })
            .await;
        self.note(asked, &answer).await;
        answer
    }

    /// Copies do not cross partitions: moto does not know.
    pub(super) async fn copy_image(&self, asked: &Asked) -> Answer {
        let from = asked.field("SourceRegion").unwrap_or_default();
        if Partition::of_region(from) != Partition::of_region(&asked.region) {
            let message = format!("The source region {from} is in another partition");
            return xml::refusal(400, "InvalidRequest", &message);
        }
        self.make_image(asked).await
    }

    pub(super) async fn note(&self, asked: &Asked, answer: &Answer) {
        let text = String::from_utf8_lossy(&answer.2).into_owned();
        let Some(id) = xml::element(&text, "imageId") else {
            return;
        };
        let asks = {
            let orders = self.orders();
            let is_slow = orders
                .slow_region
                .as_ref()
                .is_none_or(|region| *region == asked.region);
            (orders.hidden, if is_slow { orders.pending } else { 0 })
        };
        self.seen().images.insert(id.to_owned(), asks);
        let snapshot = self.snapshot_of(asked, id).await;
        for resource in [Some(id.to_owned()), snapshot].into_iter().flatten() {
            self.tag(asked, &resource).await;
        }
    }

    /// The tags that were asked for with what was made.
    pub(super) async fn tag(&self, asked: &Asked, resource: &str) {
        let head = "TagSpecification.1.Tag.";
        let tags: Vec<(&str, &str)> = asked
            .fields()
            .filter_map(|(name, value)| Some((name.strip_prefix(head)?, value)))
            .collect();
        if tags.is_empty() {
            return;
        }
        let names: Vec<String> = tags.iter().map(|(name, _)| format!("Tag.{name}")).collect();
        let mut fields = vec![("Action", "CreateTags"), ("ResourceId.1", resource)];
        fields.extend(
            names
                .iter()
                .zip(&tags)
                .map(|(name, (_, value))| (name.as_str(), *value)),
        );
        let (status, _, body) = self.ask_ec2(asked, &fields).await;
        assert!(status.is_success(), "{body:?}");
    }

    async fn snapshot_of(&self, asked: &Asked, image: &str) -> Option<String> {
        let fields = [("Action", "DescribeImages"), ("ImageId.1", image)];
        let (_, _, body) = self.ask_ec2(asked, &fields).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        xml::element(&text, "snapshotId").map(str::to_owned)
    }
}

/// One page of a list: moto gives it whole.
fn paged(asked: &Asked, text: &str, page: usize) -> String {
    let from: usize = asked
        .field("NextToken")
        .map_or(0, |token| token.parse().unwrap());
    let mut at = 0;
    let shown = xml::edited(text, "imagesSet", |item| {
        at += 1;
        (from..from + page)
            .contains(&(at - 1))
            .then(|| item.to_owned())
    });
    match at > from + page {
        true => {
            let next = format!("</imagesSet><nextToken>{}</nextToken>", from + page);
            shown.replace("</imagesSet>", &next)
        }
        false => shown,
    }
}
