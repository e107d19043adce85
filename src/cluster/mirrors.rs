//! Public mirrors of registries that are known to be gone, with dates: a node that asks one waits for nothing.

/// A host or a part of its name, and what became of it.
const GONE: [(&str, &str); 9] = [
    (
        "registry.docker-cn.com",
        "dead since spring 2019 (github.com/docker/docs issue 8793)",
    ),
    (
        "docker.mirrors.ustc.edu.cn",
        "403 from outside the campus since August 2022 (github.com/ustclug/mirrorrequest issue 361)",
    ),
    (
        "gcr.mirrors.ustc.edu.cn",
        "403 from outside the campus since August 2022 (github.com/ustclug/mirrorrequest issue 361)",
    ),
    (
        "quay.mirrors.ustc.edu.cn",
        "403 from outside the campus since August 2022 (github.com/ustclug/mirrorrequest issue 361)",
    ),
    (
        "docker.mirrors.sjtug.sjtu.edu.cn",
        "discontinued in July 2024 (github.com/sjtug/mirror-requests issue 369)",
    ),
    ("reg-mirror.qiniu.com", "ended in May 2020"),
    (
        "dockerhub.azk8s.cn",
        "only from inside Azure China since 2020",
    ),
    ("gcr.azk8s.cn", "only from inside Azure China since 2020"),
    ("hub-mirror.c.163.com", "reported withdrawn in 2024"),
];

/// What became of a mirror, if it is known to be gone.
pub fn dead(url: &str) -> Option<&'static str> {
    let host = url.split("://").last().unwrap_or(url);
    let host = host.split(['/', ':']).next().unwrap_or(host);
    let gone = GONE
        .iter()
        .find(|(name, _)| host.eq_ignore_ascii_case(name));
    gone.map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_mirror_is_known_by_its_host() {
        assert!(dead("https://registry.docker-cn.com").is_some());
        assert!(dead("https://docker.mirrors.ustc.edu.cn/v2/").is_some());
        assert!(dead("http://hub-mirror.c.163.com:80").is_some());
        assert!(dead("https://123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn").is_none());
    }
}
