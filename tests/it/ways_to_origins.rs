//! How the program gets to its origins: through proxies, with headers, within limits.

use kops_mirror::loopback::origin::{Expiry, Fault, File, When};

use crate::support::list::{Desk, told};
use crate::support::proxy::Proxy;
use crate::support::tls::TlsFront;

const MIB: u64 = 1 << 20;

/// Two hosts with a file each; names that no resolver knows.
fn desk() -> Desk {
    let mut desk = Desk::new();
    desk.publish("http://far.test/bin/far", File::generated(1, 3 * MIB));
    desk.publish("http://near.test/bin/near", File::generated(2, 3 * MIB));
    // What comes without a folder for the host, as behind a proxy that is asked for the host itself.
    let far = desk.origin.file("/far.test/bin/far").unwrap();
    desk.origin.publish("/bin/far", far);
    desk
}

#[tokio::test]
async fn a_hosts_own_proxy_is_for_that_host_alone() {
    for scheme in ["socks5h", "http"] {
        let desk = desk();
        let proxy = match scheme {
            "http" => Proxy::http(desk.origin.address()).await,
            _ => Proxy::socks(desk.origin.address()).await,
        };
        let config = format!(
            "[origins.\"far.test\"]\nproxy = \"{scheme}://{}\"\n",
            proxy.address
        );
        desk.write("mirror.toml", &config);
        let near = desk.origin_of("near.test");
        let flags = ["--config", "mirror.toml", &near[0], &near[1]];
        let output = desk.run("sync", &flags).await;
        assert_eq!(output.status.code(), Some(0), "{scheme}: {}", told(&output));
        assert!(desk.read("mirror/bin/far").is_some());
        let asked = proxy.asked();
        assert!(!asked.is_empty());
        assert!(asked.iter().all(|host| host == "far.test:80"), "{asked:?}");
    }
}

#[tokio::test]
async fn an_https_origin_is_reached_through_a_tunnel_and_its_certificate_is_checked_there() {
    for (named, code) in [("far.test", 0), ("another.test", 1)] {
        let mut desk = Desk::new();
        desk.publish("https://far.test/bin/far", File::generated(1, 3 * MIB));
        let far = desk.origin.file("/far.test/bin/far").unwrap();
        desk.origin.publish("/bin/far", far);
        let tls = TlsFront::start(desk.origin.address(), &[named]).await;
        let proxy = Proxy::http(tls.address).await;
        let retries = "[retry]\nattempts = 1\n";
        let config = format!(
            "{retries}[origins.\"far.test\"]\nproxy = \"http://{}\"\n",
            proxy.address
        );
        desk.write("mirror.toml", &config);
        desk.write("roots.pem", &tls.certificate_pem);
        desk.set("SSL_CERT_FILE", "roots.pem");
        let output = desk.run("sync", &["--config", "mirror.toml"]).await;
        let said = told(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        let asked = proxy.asked();
        assert!(!asked.is_empty());
        assert!(asked.iter().all(|host| host == "far.test:443"), "{asked:?}");
        assert_eq!(desk.read("mirror/bin/far").is_some(), code == 0);
        assert_eq!(said.contains("certificate"), code == 1, "{said}");
    }
}

#[tokio::test]
async fn a_socks5_proxy_gets_addresses_that_were_resolved_here() {
    let mut desk = Desk::new();
    desk.publish("http://far.test/bin/far", File::generated(1, MIB));
    let proxy = Proxy::socks(desk.origin.address()).await;
    let source = "http://localhost:9/far.test";
    let config = format!(
        "[origins.\"far.test\"]\nsources = [\"{source}\"]\nproxy = \"socks5://{}\"\n",
        proxy.address
    );
    desk.write("mirror.toml", &config);
    let output = desk.run("sync", &["--config", "mirror.toml"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let asked = proxy.asked();
    assert!(asked.iter().all(|host| host == "127.0.0.1:9"), "{asked:?}");
}

#[tokio::test]
async fn the_environments_proxies_are_heard() {
    for (variable, is_used) in [
        ("http_proxy", true),
        ("ALL_PROXY", true),
        ("NO_PROXY", false),
    ] {
        let mut desk = desk();
        let proxy = Proxy::http(desk.origin.address()).await;
        desk.set("http_proxy", format!("http://{}", proxy.address));
        if variable == "ALL_PROXY" {
            desk.set("http_proxy", "");
        }
        let value = match variable {
            "NO_PROXY" => "far.test".to_owned(),
            _ => format!("http://{}", proxy.address),
        };
        desk.set(variable, value);
        desk.write("mirror.toml", "[retry]\nattempts = 3\n");
        let near = desk.origin_of("near.test");
        let flags = ["--config", "mirror.toml", &near[0], &near[1]];
        let output = desk.run("sync", &flags).await;
        let expected = i32::from(!is_used);
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{variable}: {}",
            told(&output)
        );
        let asked = proxy.asked();
        assert_eq!(
            asked.contains(&"far.test:80".to_owned()),
            is_used,
            "{asked:?}"
        );
        // This machine's own addresses need no proxy.
        assert!(
            !asked.iter().any(|host| host.starts_with("127.")),
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn headers_go_to_the_source_and_not_to_where_it_redirects() {
    let mut desk = Desk::new();
    desk.publish("https://far.test/bin/far", File::generated(1, 3 * MIB));
    let fault = Fault::RedirectSigned(Expiry::default());
    desk.origin.order("*", When::Always, fault);
    let config = format!(
        "[origins.\"far.test\"]\nsources = [\"{}\"]\nheaders = {{ Authorization = \"Bearer hidden\" }}\n",
        desk.origin.host_url("far.test")
    );
    desk.write("mirror.toml", &config);
    let output = desk.run("sync", &["--config", "mirror.toml", "-vvv"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let exchanges = desk.origin.log().exchanges();
    assert!(exchanges.iter().any(|exchange| exchange.signed));
    for exchange in exchanges {
        let sent = exchange.header("authorization").is_some();
        assert_eq!(sent, !exchange.signed, "{exchange:?}");
    }
}

#[tokio::test]
async fn no_secret_is_told_however_much_is_told() {
    let mut desk = Desk::new();
    desk.publish("https://far.test/bin/far", File::generated(1, MIB));
    let fault = Fault::RedirectSigned(Expiry::default());
    desk.origin.order("*", When::Always, fault);
    desk.origin.order("*", When::Nth(4), Fault::status(503));
    let mut source = desk.origin.host_url("far.test");
    source.set_username("user").unwrap();
    source.set_password(Some("hidden-password")).unwrap();
    let proxy = Proxy::http(desk.origin.address()).await;
    let config = format!(
        "[origins.\"far.test\"]\nsources = [\"{source}\"]\nproxy = \"http://user:hidden-proxy@{}\"\n\
         headers = {{ X-Token = \"hidden-token\" }}\n",
        proxy.address
    );
    desk.write("mirror.toml", &config);
    let output = desk.run("sync", &["--config", "mirror.toml", "-vvv"]).await;
    let told = told(&output) + &String::from_utf8_lossy(&output.stdout);
    assert!(
        told.contains("/bin/far?…"),
        "a signed URL was told of: {told}"
    );
    let signatures = desk.origin.log().exchanges();
    let signed = &signatures.iter().find(|e| e.signed).unwrap().query;
    let signature = signed.rsplit('=').next().unwrap();
    for secret in ["hidden", signature] {
        let line = told.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

#[tokio::test]
async fn a_hosts_connections_stay_below_their_cap() {
    for (cap, flags) in [
        (3, ["--connections", "3"]),
        (2, ["--config", "mirror.toml"]),
    ] {
        let mut desk = Desk::new();
        for seed in 0..4 {
            let url = format!("https://far.test/bin/{seed}");
            desk.publish(&url, File::generated(seed, 4 * MIB));
        }
        desk.origin.order("*", When::Always, Fault::Rate(8 * MIB));
        desk.write("mirror.toml", "[origins.\"far.test\"]\nconnections = 2\n");
        let far = desk.origin_of("far.test");
        let flags = [flags[0], flags[1], &far[0], &far[1]];
        let output = desk.run("sync", &flags).await;
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        let peak = desk.origin.log().connections().peak;
        // One more when a request begins in the moment in which another's connection becomes free.
        assert!((cap..=cap + 1).contains(&peak), "{peak}");
    }
}

#[tokio::test]
async fn a_limit_is_kept_and_used() {
    let mut desk = Desk::new();
    for seed in 0..2 {
        let url = format!("https://far.test/bin/{seed}");
        desk.publish(&url, File::generated(seed, 4 * MIB));
    }
    let far = desk.origin_of("far.test");
    let limit = ["--limit", "2MiB/s", "-o", "json"];
    let output = desk
        .run("sync", &[&limit[..], &[&far[0], &far[1]]].concat())
        .await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let speed = report["totals"]["mean_bytes_per_second"].as_f64().unwrap();
    let part = speed / (2.0 * 1024.0 * 1024.0);
    assert!((0.8..1.2).contains(&part), "{part}");
}
