//! Content that may be published while it arrives, but for its last chunk: that one is given out only once all is verified.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Publishable, Verdict, Verified, sealed};
use crate::digest::{Algorithm, Digest, Digests};
use crate::spool::{Seen, Spool};

/// The most that one chunk has, and how much of the end is held back. One byte would do: a length that was promised and not
/// reached makes no object.
const CHUNK_BYTES: u64 = 256 * 1024;

/// S3 gives up on a body that brings nothing for about 20 s. Who gives up before that knows why.
const STARVED_AFTER: Duration = Duration::from_secs(10);

/// Content on its way into a spool, by the word of those who vouch for it and of the transport that brings it. Readable behind
/// the spool's frontier as often as needed, but not to its end before it is verified, nor ever if it turns out to be another.
#[derive(Debug, Clone)]
pub struct Arriving {
    spool: Arc<Spool>,
    generation: u64,
    length: u64,
    digests: Digests,
    verdict: watch::Receiver<Verdict>,
}

/// Why the rest of an arriving content is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    #[error("nothing more of it arrived for {} s", STARVED_AFTER.as_secs())]
    Starved,
    #[error("what had arrived of it was discarded")]
    Discarded,
    #[error("it is not verified")]
    Unverified,
    #[error("it is not the content that was foretold")]
    Another,
}

impl From<Withheld> for io::Error {
    fn from(why: Withheld) -> Self {
        Self::other(why)
    }
}

impl Arriving {
    /// What `spool` is about to hold: `md5` is the transport's word, the SHA-256 one of `expected`. None while the length is
    /// unknown, or where nobody vouches with SHA-256: what goes with an object stands before its bytes.
    pub fn new(
        spool: &Arc<Spool>,
        expected: &[Digest],
        md5: Digest,
        verdict: watch::Receiver<Verdict>,
    ) -> Option<Self> {
        let seen = spool.seen();
        let mut sha256 = expected
            .iter()
            .filter(|digest| digest.algorithm() == Algorithm::Sha256);
        Some(Self {
            spool: Arc::clone(spool),
            generation: seen.generation,
            length: seen.length?,
            digests: Digests {
                md5,
                sha256: *sha256.next()?,
                sha1: None,
                sha512: None,
            },
            verdict,
        })
    }

    /// What it will hash to, if it is published at all.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The chunk that begins at `at`, as soon as it may be given out.
    async fn chunk(&self, at: u64) -> io::Result<Bytes> {
        let held_back_from = self.length.saturating_sub(CHUNK_BYTES);
        let end = if at < held_back_from {
            let frontier = self.beyond(at).await?;
            frontier.min(held_back_from).min(at + CHUNK_BYTES)
        } else {
            self.verdict().await?;
            self.length
        };
        let spool = Arc::clone(&self.spool);
        let read = tokio::task::spawn_blocking(move || read(&spool, at, end)).await;
        let chunk = read.map_err(io::Error::other)?;
        // What was discarded meanwhile can be read as something else: a look at the bytes comes before a look at the count.
        self.still(self.spool.seen())?;
        chunk
    }

    /// Waits until the frontier is beyond `at`, and says where it is.
    async fn beyond(&self, at: u64) -> Result<u64, Withheld> {
        let beyond = timeout(STARVED_AFTER, self.spool.beyond(at, self.generation));
        let seen = beyond.await.map_err(|_| Withheld::Starved)?;
        self.still(seen)
    }

    fn still(&self, seen: Seen) -> Result<u64, Withheld> {
        if seen.generation != self.generation || seen.length != Some(self.length) {
            return Err(Withheld::Discarded);
        }
        Ok(seen.frontier)
    }

    /// Waits for the verdict for as long as bytes still arrive. Ok only where the end may be given out.
    async fn verdict(&self) -> Result<(), Withheld> {
        let (mut arriving, mut verdict) = (self.spool.watch(), self.verdict.clone());
        loop {
            match &*verdict.borrow_and_update() {
                Verdict::Open => {}
                Verdict::Right(verified) => return self.is_this(verified),
                Verdict::Lost => return Err(Withheld::Unverified),
            }
            self.still(*arriving.borrow_and_update())?;
            let news = async {
                tokio::select! {
                    told = verdict.changed() => told.map_err(|_| Withheld::Unverified),
                    _ = arriving.changed() => Ok(()),
                }
            };
            timeout(STARVED_AFTER, news)
                .await
                .map_err(|_| Withheld::Starved)??;
        }
    }

    /// A store has been told these digests already.
    fn is_this(&self, verified: &Verified) -> Result<(), Withheld> {
        let digests = verified.digests();
        let same = verified.is_of(&self.spool)
            && verified.length() == self.length
            && digests.md5 == self.digests.md5
            && digests.sha256 == self.digests.sha256;
        if same { Ok(()) } else { Err(Withheld::Another) }
    }
}

fn read(spool: &Spool, at: u64, end: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; usize::try_from(end - at).map_err(io::Error::other)?];
    spool.read_exact_at(&mut buffer, at)?;
    Ok(buffer.into())
}

impl sealed::Sealed for Arriving {}

impl Publishable for Arriving {
    fn length(&self) -> u64 {
        self.length
    }

    fn md5(&self) -> Digest {
        self.digests.md5
    }

    /// The stream ends with an error, before the last chunk, where the content can't be given out.
    fn chunks(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let reading = Some((self.clone(), 0));
        stream::unfold(reading, |reading| async {
            let (content, at) = reading.filter(|(content, at)| *at < content.length)?;
            Some(match content.chunk(at).await {
                Ok(chunk) => {
                    let next = at + chunk.len() as u64;
                    (Ok(chunk), Some((content, next)))
                }
                Err(error) => (Err(error), None),
            })
        })
        .fuse()
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::SpoolFolder;
    use crate::verify;

    const LENGTH: usize = 600_000;
    const HELD_BACK_FROM: usize = LENGTH - 256 * 1024;

    struct Desk {
        _dir: tempfile::TempDir,
        spool: Arc<Spool>,
        content: Vec<u8>,
        expected: Digest,
        verdict: watch::Sender<Verdict>,
    }

    fn desk() -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let folder = SpoolFolder::open(dir.path(), 1 << 30).unwrap();
        let content: Vec<u8> = (0..=u8::MAX).cycle().take(LENGTH).collect();
        let expected = Digest::of(Algorithm::Sha256, &content);
        let spool = Arc::new(folder.spool(&expected).unwrap());
        spool.set_length(LENGTH as u64).unwrap();
        Desk {
            _dir: dir,
            spool,
            content,
            expected,
            verdict: watch::Sender::default(),
        }
    }

    impl Desk {
        fn arriving(&self) -> Arriving {
            let md5 = Digest::of(Algorithm::Md5, &self.content);
            let verdict = self.verdict.subscribe();
            Arriving::new(&self.spool, &[self.expected], md5, verdict).unwrap()
        }

        fn write(&self, at: usize, end: usize) {
            let piece = Bytes::copy_from_slice(&self.content[at..end]);
            self.spool.write_at(at as u64, &[piece]).unwrap();
        }

        async fn judge(&self) {
            let spool = Arc::clone(&self.spool);
            let verdict = verify::follow(spool, &[self.expected], &[]).await;
            self.verdict.send_replace(verdict.unwrap().into());
        }
    }

    /// What comes of a content before it is withheld, or all of it.
    async fn read_all(content: &Arriving) -> (Vec<u8>, Option<String>) {
        let mut bytes = Vec::new();
        let mut chunks = content.chunks();
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(error) => return (bytes, Some(error.to_string())),
            }
        }
        (bytes, None)
    }

    #[tokio::test]
    async fn all_but_the_end_comes_as_it_arrives_and_the_end_with_the_verdict() {
        let desk = desk();
        let content = desk.arriving();
        let mut chunks = content.chunks();
        desk.write(0, 100_000);
        assert_eq!(
            chunks.next().await.unwrap().unwrap(),
            desk.content[..100_000]
        );
        desk.write(100_000, LENGTH);
        let rest = chunks.next().await.unwrap().unwrap();
        assert_eq!(rest, desk.content[100_000..HELD_BACK_FROM]);
        assert!(futures::poll!(chunks.next()).is_pending());
        desk.judge().await;
        assert_eq!(
            chunks.next().await.unwrap().unwrap(),
            desk.content[HELD_BACK_FROM..]
        );
        assert!(chunks.next().await.is_none());
        assert_eq!(read_all(&content).await, (desk.content.clone(), None));
    }

    #[tokio::test]
    async fn what_is_never_verified_never_comes_to_its_end() {
        let mut desk = desk();
        let content = desk.arriving();
        *desk.content.last_mut().unwrap() ^= 1;
        desk.write(0, LENGTH);
        desk.judge().await;
        let wanted = (HELD_BACK_FROM, Some("it is not verified".to_owned()));
        let (bytes, why) = read_all(&content).await;
        assert_eq!((bytes.len(), why), wanted);
        drop(std::mem::take(&mut desk.verdict));
        let (bytes, why) = read_all(&content).await;
        assert_eq!((bytes.len(), why), wanted, "nobody is left to judge");
    }

    #[tokio::test]
    async fn a_content_with_another_md5_than_was_told_is_withheld() {
        let desk = desk();
        let wrong = Digest::of(Algorithm::Md5, b"another");
        let verdict = desk.verdict.subscribe();
        let content = Arriving::new(&desk.spool, &[desk.expected], wrong, verdict).unwrap();
        desk.write(0, LENGTH);
        desk.judge().await;
        let (bytes, why) = read_all(&content).await;
        assert!(bytes.len() < LENGTH);
        assert_eq!(why.unwrap(), "it is not the content that was foretold");
    }

    #[tokio::test]
    async fn what_is_discarded_is_withheld_though_it_comes_again() {
        let desk = desk();
        let content = desk.arriving();
        let mut chunks = content.chunks();
        desk.write(0, 100_000);
        chunks.next().await.unwrap().unwrap();
        desk.spool.discard().unwrap();
        desk.spool.set_length(LENGTH as u64).unwrap();
        desk.write(0, LENGTH);
        desk.judge().await;
        let error = chunks.next().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "what had arrived of it was discarded");
        assert!(chunks.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_starves_is_told_so() {
        let desk = desk();
        desk.write(0, 1);
        for arrived in [1, LENGTH - 1] {
            desk.write(0, arrived);
            let (bytes, why) = read_all(&desk.arriving()).await;
            assert!(bytes.len() < LENGTH);
            assert_eq!(why.unwrap(), "nothing more of it arrived for 10 s");
        }
    }

    #[test]
    fn without_a_vouched_sha256_nothing_can_be_said_beforehand() {
        let desk = desk();
        let md5 = Digest::of(Algorithm::Md5, &desk.content);
        let sha1 = Digest::of(Algorithm::Sha1, &desk.content);
        assert!(Arriving::new(&desk.spool, &[sha1], md5, desk.verdict.subscribe()).is_none());
    }
}
