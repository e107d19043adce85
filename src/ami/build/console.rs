//! What a builder's console tells: the keys of its host, and how a script ended that nobody watched.

use super::program::last_words;

/// Between these two, cloud-init prints the host's public keys.
const KEYS_BEGIN: &str = "-----BEGIN SSH HOST KEY KEYS-----";
const KEYS_END: &str = "-----END SSH HOST KEY KEYS-----";

/// User data is not longer (EC2 user guide, "Work with instance user data").
pub(super) const USER_DATA_MAX_BYTES: usize = 16 << 10;

/// The host's public keys, as files of known hosts have them: `ssh-ed25519 AAAA…`. None where they have not been printed.
pub(super) fn host_keys(console: &str) -> Option<Vec<String>> {
    let (_, after) = console.rsplit_once(KEYS_BEGIN)?;
    let (keys, _) = after.split_once(KEYS_END)?;
    let keys: Vec<String> = keys.lines().filter_map(host_key).collect();
    (!keys.is_empty()).then_some(keys)
}

fn host_key(line: &str) -> Option<String> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| !word.starts_with("ssh-") && !word.starts_with("ecdsa-"));
    let (kind, key) = (words.next()?, words.next()?);
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    key.chars().all(is_base64).then(|| format!("{kind} {key}"))
}

/// What the builder runs when it starts: the script, and then it says how that ended and stops, whatever came of it.
///
/// `mark` is what its last line is known by among all that a console tells.
pub(super) fn user_data(script: &str, mark: &str) -> String {
    let said = said(mark);
    let end = match script.ends_with('\n') {
        true => "",
        false => "\n",
    };
    format!(
        "#!/bin/sh\n\
         script=$(mktemp /var/tmp/builder.XXXXXX)\n\
         cat >\"$script\" <<'END_{mark}'\n\
         {script}{end}END_{mark}\n\
         chmod 700 \"$script\"\n\
         \"$script\" </dev/null\n\
         code=$?\n\
         rm -f \"$script\"\n\
         sync\n\
         echo \"{said} $code\" >/dev/console\n\
         shutdown -h now\n"
    )
}

/// How the script ended, and what the console said before; None where it does not tell yet.
pub(super) fn verdict(console: &str, mark: &str) -> Option<(i32, String)> {
    let (before, after) = console.rsplit_once(&said(mark))?;
    let code = after.split_whitespace().next()?.parse().ok()?;
    Some((code, last_words(before)))
}

fn said(mark: &str) -> String {
    format!("kops-mirror {mark}: the script ended with")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_keys_are_read_as_cloud_init_prints_them() {
        let console = "[   12.3] cloud-init[900]: Cloud-init v. 24.1 running\r\n\
            -----BEGIN SSH HOST KEY KEYS-----\r\n\
            ecdsa-sha2-nistp256 AAAAE2Vj= root@ip-10-0-0-7\r\n\
            <14>Nov 28 cloud-init: ssh-ed25519 AAAAC3Nz root@ip-10-0-0-7\r\n\
            ssh-rsa ;rm root@x\r\n\
            -----END SSH HOST KEY KEYS-----\r\n";
        let keys = host_keys(console).unwrap();
        assert_eq!(
            keys,
            ["ecdsa-sha2-nistp256 AAAAE2Vj=", "ssh-ed25519 AAAAC3Nz"]
        );
        assert_eq!(host_keys("booting"), None);
        assert_eq!(
            host_keys("-----BEGIN SSH HOST KEY KEYS-----\nssh-rsa A"),
            None
        );
    }

    #[test]
    fn the_last_line_tells_how_the_script_ended_and_only_that_of_this_builder() {
        let console = "one\ntwo\nE: no package\nkops-mirror a1: the script ended with 100\r\n[ 99.0] reboot: Power down\n";
        let (code, said) = verdict(console, "a1").unwrap();
        assert_eq!((code, said.as_str()), (100, "one; two; E: no package"));
        assert_eq!(verdict(console, "b2"), None);
        assert_eq!(verdict("kops-mirror a1: the script ended with", "a1"), None);
    }

    #[test]
    fn user_data_is_a_script_that_a_shell_takes() {
        let text = user_data("#!/bin/sh\necho 'it''s' \"$x\" $(uname)", "a1");
        let check = std::process::Command::new("sh")
            .args(["-n", "-c", &text])
            .status();
        assert!(check.unwrap().success(), "{text}");
        assert!(text.contains("\necho 'it''s' \"$x\" $(uname)\nEND_a1\n"));
    }
}
