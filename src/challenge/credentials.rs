//! Logins as docker and podman keep them: a `config.json` or `auth.json`, and the programs that it names.
//!
//! It is read anew for each login, so that a `docker login` counts at once. Nothing that it holds, and nothing that such a program
//! says, gets into an error or a log: neither can be told from a secret
//! (github.com/docker/cli `cli/config`, github.com/docker/docker-credential-helpers, containers-auth.json(5)).

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::login::IDENTITY_USER;
use super::{ChallengeError, Login, Logins};

/// A program that keeps logins may ask a cloud for one. None may hang a mirror.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(30);

/// What docker calls its own registry.
const HUB: &str = "https://index.docker.io/v1/";

/// The hosts that mean it.
const HUB_HOSTS: [&str; 3] = ["registry-1.docker.io", "index.docker.io", "docker.io"];

/// What a program says, and exits with 1, when it has no login: no failure.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Logins from files, the first that has one; files that are not there have none.
#[derive(Debug, Clone, Default)]
pub struct Files {
    paths: Vec<PathBuf>,
}

impl Files {
    /// `config.json` of docker, or a file of that form.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            paths: paths.into_iter().collect(),
        }
    }
}

#[async_trait]
impl Logins for Files {
    async fn login(&self, registry: &str) -> Result<Option<Login>, ChallengeError> {
        for path in &self.paths {
            let login = login_from(path, registry).await;
            let unread = |unread: Unread| ChallengeError::Unread {
                registry: registry.to_owned(),
                from: unread.program.unwrap_or_else(|| path.display().to_string()),
                what: unread.what,
            };
            if let Some(login) = login.map_err(unread)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

/// Why there is no login to be had, and from which program, where it is not the file's fault.
#[derive(Debug)]
struct Unread {
    program: Option<String>,
    what: String,
}

impl Unread {
    fn file(what: impl fmt::Display) -> Self {
        Self {
            program: None,
            what: what.to_string(),
        }
    }

    fn program(program: &str, what: impl fmt::Display) -> Self {
        Self {
            program: Some(program.to_owned()),
            what: what.to_string(),
        }
    }
}

/// What of the file is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
struct Auth {
    /// `user:password` in base64.
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
}

/// What a program answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    username: String,
    secret: String,
}

async fn login_from(path: &Path, registry: &str) -> Result<Option<Login>, Unread> {
    let text = match tokio::fs::read(path).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unread::file(error)),
    };
    // What the parser would say of it may have a password in it.
    let config: Config = serde_json::from_slice(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Unread::file(format!(
            "it is not a docker configuration: line {line}, column {column}"
        ))
    })?;
    let names = names(registry);
    let named = names.iter().find_map(|name| {
        let program = config.cred_helpers.get(*name)?;
        Some((program.as_str(), *name))
    });
    let store = config.creds_store.as_deref();
    let store = store.filter(|store| !store.is_empty());
    if let Some((program, name)) = named.or_else(|| Some((store?, names[0])))
        && let Some(login) = kept(program, name).await?
    {
        return Ok(Some(login));
    }
    let auth = names
        .iter()
        .find_map(|name| config.auths.get(*name))
        .or_else(|| {
            let mut auths = config.auths.iter();
            Some(auths.find(|(key, _)| names.contains(&host(key)))?.1)
        });
    auth.map_or(Ok(None), login_of)
}

/// What a registry may be called in a file, the most usual first.
fn names(registry: &str) -> Vec<&str> {
    if HUB_HOSTS.contains(&registry) {
        return [HUB].into_iter().chain(HUB_HOSTS).collect();
    }
    vec![registry]
}

/// `https://quay.io/v1/` is an old way to write `quay.io`. Other paths are of a part of the registry, and no name of it.
fn host(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key)
}

fn login_of(auth: &Auth) -> Result<Option<Login>, Unread> {
    if !auth.identitytoken.is_empty() {
        return Ok(Some(Login::identity_token(&auth.identitytoken)));
    }
    // Where a program keeps the login, there is an entry without one.
    if auth.auth.is_empty() {
        return Ok(None);
    }
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = GeneralPurpose::new(&alphabet::STANDARD, config).decode(auth.auth.trim());
    let pair = decoded.ok().and_then(|pair| String::from_utf8(pair).ok());
    let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
    let (user, password) = pair.ok_or_else(|| {
        Unread::file("its auth is not user:password in base64; docker login writes it anew")
    })?;
    Ok(Some(Login::password(user, password.trim_end_matches('\0'))))
}

/// The login that a program keeps; None where it has none.
async fn kept(name: &str, registry: &str) -> Result<Option<Login>, Unread> {
    let program = format!("docker-credential-{name}");
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.chars().all(is_name) {
        return Err(Unread::file("it names a program that can't be one"));
    }
    let unread = |what: &dyn fmt::Display| Unread::program(&program, what);
    let output = timeout(PROGRAM_TIMEOUT, run(&program, registry)).await;
    let seconds = PROGRAM_TIMEOUT.as_secs();
    let output = output.map_err(|_| unread(&format!("no answer in {seconds} s")))?;
    let output = output.map_err(|error| unread(&error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return if said.contains(NOT_FOUND) {
            Ok(None)
        } else {
            Err(unread(&format!("it ended with {}", output.status)))
        };
    }
    let kept: Kept = serde_json::from_slice(&output.stdout)
        .map_err(|_| unread(&"it answered something else than a login"))?;
    Ok(match kept {
        Kept { secret, .. } if secret.is_empty() => None,
        Kept { username, secret } if username == IDENTITY_USER => {
            Some(Login::identity_token(secret))
        }
        Kept { username, secret } => Some(Login::password(username, secret)),
    })
}

/// Asks a program. It is ended when nobody waits for it any more.
async fn run(program: &str, registry: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(format!("{registry}\n").as_bytes()).await {
            // It may know what to say without being told for whom.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    child.wait_with_output().await
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    /// A file, and what it says of registries.
    struct Written(TempDir);

    impl Written {
        fn new(config: &serde_json::Value) -> Self {
            let dir = TempDir::new().unwrap();
            fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
            Self(dir)
        }

        async fn login(&self, registry: &str) -> Result<Option<Login>, ChallengeError> {
            let path = |name: &str| self.0.path().join(name);
            let files = Files::new([path("none.json"), path("config.json")]);
            files.login(registry).await
        }

        async fn check(&self, registry: &str, wanted: Option<Login>) {
            let login = self.login(registry).await.unwrap();
            assert!(login == wanted, "{registry}: {login:?}");
        }
    }

    fn ann() -> Login {
        Login::password("ann", "pass:word")
    }

    #[tokio::test]
    async fn logins_are_found_under_every_name_of_a_registry() {
        let auth = json!({"auth": "YW5uOnBhc3M6d29yZA=="});
        let unpadded = json!({"auth": "YW5uOnBhc3M6d29yZA"});
        let written = Written::new(&json!({"auths": {
            "https://index.docker.io/v1/": auth, "https://quay.io/v2/": unpadded,
            "localhost:5000": auth, "kept.example": {},
            "ghcr.io": {"auth": "", "identitytoken": "refresh"},
            "gcr.io/project": auth,
        }}));
        for registry in [
            "registry-1.docker.io",
            "docker.io",
            "quay.io",
            "localhost:5000",
        ] {
            written.check(registry, Some(ann())).await;
        }
        written
            .check("ghcr.io", Some(Login::identity_token("refresh")))
            .await;
        for registry in ["localhost:5001", "kept.example", "gcr.io", "io"] {
            written.check(registry, None).await;
        }
    }

    #[tokio::test]
    async fn what_is_written_wrongly_is_told_without_its_content() {
        let cases = [
            json!({"auths": {"a.example": {"auth": 4711}}}),
            json!({"auths": {"a.example": {"auth": "c2VjcmV0"}}}),
            json!({"auths": "secret"}),
            json!({"credsStore": "../secret"}),
        ];
        for case in cases {
            let error = Written::new(&case).login("a.example").await.unwrap_err();
            let told = format!("{error} {error:?}");
            let keeps = ["secret", "c2VjcmV0", "4711"]
                .iter()
                .all(|secret| !told.contains(secret));
            assert!(keeps, "{told}");
        }
    }

    /// A program on no path, since a test must not change the one of all: a path is a name for who runs it.
    fn program(dir: &TempDir, script: &str) -> String {
        let path = dir.path().join("docker-credential-kept");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    #[tokio::test]
    async fn a_program_is_asked_by_its_standard_input() {
        let dir = TempDir::new().unwrap();
        let script =
            r#"read url; echo "{\"ServerURL\":\"$url\",\"Username\":\"$1\",\"Secret\":\"$url\"}""#;
        let output = run(&program(&dir, script), "quay.io").await.unwrap();
        let kept: Kept = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (kept.username.as_str(), kept.secret.as_str()),
            ("get", "quay.io")
        );
        // Who reads nothing may answer all the same.
        let output = run(&program(&dir, "exec <&-; sleep 0.1; exit 3"), "quay.io").await;
        assert_eq!(output.unwrap().status.code(), Some(3));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_by_its_name() {
        let written = Written::new(&json!({"credHelpers": {"a.example": "no-such"}}));
        let error = written.login("a.example").await.unwrap_err().to_string();
        assert!(error.contains("docker-credential-no-such"), "{error}");
        written.check("b.example", None).await;
    }
}
