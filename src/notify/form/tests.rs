use super::*;
use crate::record::{End, Failure, FailureClass, Purpose};

const SECRET: &str = "SEC0123456789";

fn hook(body: Body, language: Language) -> Hook {
    let url = "https://hooks.example/robot/send?access_token=abc";
    Hook {
        secret: Some(Secret::new(SECRET)),
        language,
        ..Hook::new(url.parse().unwrap(), body)
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn mirrored() -> Occasion {
    Occasion::Mirrored {
        set: "cn".to_owned(),
        release: "kops-1.36.2_kubernetes-1.34.8".to_owned(),
        targets: vec!["s3://bei/k8s".to_owned(), "s3://nx/k8s".to_owned()],
        files: 61,
        bytes: 2 << 30,
    }
}

fn failed(count: usize, why: &str) -> Occasion {
    let failure = |number| Failure {
        key: format!("release/v1.34.8/bin/linux/amd64/file-{number}"),
        class: FailureClass::Origin,
        why: why.to_owned(),
    };
    Occasion::RunFailed {
        set: "cn".to_owned(),
        run: "20261124T210500Z-0".to_owned(),
        purpose: Purpose::Sync,
        end: End::SomeFailed,
        why: None,
        failed: count as u64 + 900,
        failures: (0..count).map(failure).collect(),
    }
}

fn document(body: Body, language: Language, occasion: &Occasion) -> Value {
    let post = post(&hook(body, language), occasion, "d1", now());
    serde_json::from_str(&post.body).unwrap()
}

#[test]
fn our_own_document_says_what_it_is_and_is_signed_with_its_time() {
    let post = post(&hook(Body::Json, Language::En), &mirrored(), "d1", now());
    let document: Value = serde_json::from_str(&post.body).unwrap();
    assert_eq!(
        document,
        json!({
            "version": 1,
            "delivery": "d1",
            "title": "kops-mirror: kops-1.36.2_kubernetes-1.34.8 is mirrored",
            "text": "Set: cn\nTargets: s3://bei/k8s, s3://nx/k8s\nFiles: 61\nSize: 2.00 GiB",
            "occasion": "mirrored",
            "set": "cn",
            "release": "kops-1.36.2_kubernetes-1.34.8",
            "targets": ["s3://bei/k8s", "s3://nx/k8s"],
            "files": 61,
            "bytes": 2_147_483_648_u64,
        })
    );
    let header = |wanted: &str| {
        let found = post.headers.iter().find(|(name, _)| *name == wanted);
        found.unwrap().1.clone()
    };
    assert_eq!(header("x-kops-mirror-delivery"), "d1");
    assert_eq!(header("x-kops-mirror-timestamp"), "1700000000");
    let signed = hmac(SECRET, &format!("1700000000.{}", post.body));
    assert_eq!(
        header("x-kops-mirror-signature"),
        format!("sha256={}", hex::encode(signed))
    );
    let unsigned = Hook {
        secret: None,
        ..hook(Body::Json, Language::En)
    };
    let names = super::post(&unsigned, &mirrored(), "d1", now()).headers;
    assert_eq!(names.len(), 2);
}

/// RFC 4231, test case 2.
#[test]
fn hmacs_are_those_of_everybody() {
    let got = hex::encode(hmac("Jefe", "what do ya want for nothing?"));
    let wanted = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(got, wanted);
}

/// The signatures were computed with Python's hmac.
#[test]
fn dingtalk_is_signed_in_the_url() {
    let post = post(
        &hook(Body::DingTalk, Language::Zh),
        &mirrored(),
        "d1",
        now(),
    );
    assert_eq!(
        post.url.query().unwrap(),
        "access_token=abc&timestamp=1700000000000&sign=VloEIlTtJU6a%2FAGf2pud1WypXdicIlyQAOpspu6OP6s%3D"
    );
    let document: Value = serde_json::from_str(&post.body).unwrap();
    assert_eq!(
        document,
        json!({
            "msgtype": "markdown",
            "markdown": {
                "title": "kops-mirror:kops-1.36.2_kubernetes-1.34.8 已完成镜像",
                "text": "### kops-mirror:kops-1.36.2_kubernetes-1.34.8 已完成镜像\n\n**集合**:cn\n\n**目标**:s3://bei/k8s、s3://nx/k8s\n\n**文件数**:61\n\n**大小**:2.00 GiB",
            },
        })
    );
}

#[test]
fn feishu_is_signed_in_the_document() {
    let document = document(Body::Feishu, Language::Zh, &Occasion::Test);
    assert_eq!(
        document,
        json!({
            "timestamp": "1700000000",
            "sign": "ukltNRENYMvqlIpTDbO14XaB5X9Lc3nYKcFTY1Yb7Rk=",
            "msg_type": "post",
            "content": {"post": {"zh_cn": {
                "title": "kops-mirror:这是一条测试消息",
                "content": [[{"tag": "text", "text": "此镜像的消息会发送到这里。"}]],
            }}},
        })
    );
}

#[test]
fn wecom_and_slack_have_their_shapes() {
    let occasion = failed(1, "https://dl.k8s.io/a?b=c&d can't be reached");
    let wecom = document(Body::WeCom, Language::En, &occasion);
    assert_eq!(wecom["msgtype"], "markdown");
    let content = wecom["markdown"]["content"].as_str().unwrap();
    assert!(content.starts_with("### kops-mirror: 901 files of cn failed\n**Set**: cn\n"));
    assert!(content.contains("\n> and 900 more\n"), "{content}");

    let slack = document(Body::Slack, Language::En, &occasion);
    assert_eq!(slack["text"], "kops-mirror: 901 files of cn failed");
    assert_eq!(slack["blocks"][0]["type"], "header");
    let text = slack["blocks"][1]["text"]["text"].as_str().unwrap();
    assert!(text.contains("b=c&amp;d can't"), "{text}");
}

#[test]
fn long_lists_are_cut_to_what_each_takes_and_say_so() {
    for why in ["broke", "坏了", "\"\\\n\u{1}<&>[]"] {
        let occasion = failed(100, &why.repeat(200)).bounded();
        for language in [Language::En, Language::Zh] {
            let more = language.of("more", "另有");
            let of = |body| document(body, language, &occasion);
            let texts = [
                (of(Body::DingTalk)["markdown"]["text"].clone(), 20_000),
                (of(Body::WeCom)["markdown"]["content"].clone(), 4096),
                (of(Body::Slack)["blocks"][1]["text"]["text"].clone(), 3000),
                (of(Body::Json)["text"].clone(), 32_000),
            ];
            for (text, most) in texts {
                let text = text.as_str().unwrap();
                assert!(text.len() <= most, "{} > {most}", text.len());
                assert!(text.contains(more) && text.contains("file-0"), "{text}");
            }
            let whole = |body| post(&hook(body, language), &occasion, "d1", now()).body;
            assert!(whole(Body::DingTalk).len() <= 20_000);
            let feishu = whole(Body::Feishu);
            assert!(feishu.len() <= 20_000, "{}", feishu.len());
            assert!(feishu.contains(more) && feishu.contains("file-0"));
        }
    }
}

#[test]
fn even_facts_that_are_too_long_are_cut() {
    let occasion = Occasion::Upstream {
        set: "集".repeat(2000),
        release: "版".repeat(2000),
        change: super::super::Change::Changed,
        what: Some("内".repeat(2000)),
    };
    for body in Body::ALL {
        let post = post(&hook(body, Language::Zh), &occasion, "d1", now());
        serde_json::from_str::<Value>(&post.body).unwrap();
    }
    let wecom = document(Body::WeCom, Language::Zh, &occasion);
    assert!(wecom["markdown"]["content"].as_str().unwrap().len() <= 4096);
    let slack = document(Body::Slack, Language::Zh, &occasion);
    let header = slack["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(header.chars().count() <= 150);
}

#[test]
fn words_of_others_make_no_links_and_call_nobody() {
    let why = "[log in](https://evil) <@all> <at user_id=\"all\"></at> <!channel> **now**";
    let occasion = failed(1, why);
    for body in [Body::DingTalk, Body::WeCom] {
        let text = document(body, Language::En, &occasion)["markdown"].to_string();
        for mark in ["](", "<@", "<at", "<!", "**now"] {
            assert!(!text.contains(mark), "{mark}: {text}");
        }
    }
    let slack = document(Body::Slack, Language::En, &occasion).to_string();
    assert!(!slack.contains('<') && slack.contains("&lt;!channel&gt;"));
}
