use super::*;

fn selection(kops: &str, kubernetes: &str) -> Selection {
    let kops = version::kops(kops).unwrap();
    let kubernetes = version::kubernetes(kubernetes).unwrap();
    let mut selection = Selection::new(kops, vec![kubernetes]);
    selection.clients = false;
    selection.pointers = false;
    selection
}

fn urls(selection: &Selection) -> Vec<String> {
    let wanted = Catalogue::builtin().assets(selection).unwrap();
    wanted
        .assets
        .iter()
        .map(|a| a.canonical.to_string())
        .collect()
}

#[test]
fn kops_1_36_2_lists_the_14_files_that_were_observed() {
    insta::assert_snapshot!(urls(&selection("1.36.2", "1.34.8")).join("\n"), @"");
}

#[test]
fn golden_check() {
    let cases: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string("/tmp/cat/cases.json").unwrap()).unwrap();
    let catalogue = Catalogue::builtin();
    let mut bad = 0;
    for case in cases.as_array().unwrap() {
        let text = |k: &str| case[k].as_str().unwrap();
        let mut s = selection(text("kops"), text("kubernetes"));
        s.networking = Some(text("networking").to_owned());
        s.runtime = case["runtime"].as_str().map(|r| r.parse().unwrap());
        let wanted = match catalogue.assets(&s) {
            Ok(w) => w,
            Err(e) => {
                println!("ERR {case:.100} {e}");
                bad += 1;
                continue;
            }
        };
        let known: std::collections::HashMap<String, String> = wanted
            .assets
            .iter()
            .filter_map(|a| {
                a.witnesses.iter().flatten().find_map(|v| match v {
                    crate::asset::Voucher::Carried { digest, .. } => {
                        Some((a.canonical.to_string(), digest.hex()))
                    }
                    _ => None,
                })
            })
            .collect();
        let mine: std::collections::BTreeSet<String> = wanted
            .assets
            .iter()
            .map(|a| a.canonical.to_string())
            .filter(|u| !u.contains("/kops/"))
            .collect();
        let theirs: std::collections::BTreeSet<String> = case["urls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|u| u.as_str().unwrap().to_owned())
            .filter(|u| !u.contains("/kops/"))
            .collect();
        for (u, h) in case["hashes"].as_object().unwrap() {
            if let Some(k) = known.get(u) {
                if k != h.as_str().unwrap() {
                    println!("HASH {} {u} {k} {h}", text("kops"));
                    bad += 1;
                }
            }
        }
        if mine != theirs {
            bad += 1;
            println!(
                "DIFF {} {} {} {}: only kops {:?} only ours {:?}",
                text("kops"),
                text("kubernetes"),
                text("networking"),
                text("dir"),
                theirs.difference(&mine).collect::<Vec<_>>(),
                mine.difference(&theirs).collect::<Vec<_>>()
            );
        }
    }
    panic!("{bad} of {}", cases.as_array().unwrap().len());
}
