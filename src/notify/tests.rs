use super::*;

#[test]
fn names_are_those_of_the_settings() {
    for body in Body::ALL {
        let written = serde_json::to_value(body).unwrap();
        assert_eq!(written, body.name());
    }
}

#[test]
fn a_hook_is_told_of_what_it_wants() {
    let url: Url = "https://hooks.example/a".parse().unwrap();
    let everything = Hook::new(url.clone(), Body::Json);
    let upstream = Hook {
        occasions: BTreeSet::from([Kind::Upstream]),
        ..Hook::new(url, Body::Json)
    };
    let withdrawn = Occasion::Upstream {
        set: "cn".to_owned(),
        release: "r".to_owned(),
        change: Change::Withdrawn,
        what: None,
    };
    let damaged = Occasion::Damaged {
        set: "cn".to_owned(),
        place: "s3://mirror".to_owned(),
        damaged: 1,
        repaired: 1,
        files: vec![],
    };
    let wanted = |hook: &Hook| [&withdrawn, &damaged, &Occasion::Test].map(|o| hook.wants(o));
    assert_eq!(wanted(&everything), [true, true, true]);
    assert_eq!(wanted(&upstream), [true, false, true]);
    assert_ne!(everything.id(), upstream.id());
}
