//! The secret of those who may change something.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Fewer characters can be guessed.
const LENGTH_MIN: usize = 16;

/// Why something can't be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error(
        "the token is shorter than {LENGTH_MIN} characters; make one with 'openssl rand -hex 32'"
    )]
    Short,
    #[error("the token has a character that no header can carry; use letters, digits and -._~+/=")]
    Unsendable,
}

/// A bearer token, of which only a digest is kept. Nothing shows it.
#[derive(Clone)]
pub struct Token(Hmac<Sha256>);

impl Token {
    /// The characters are those of RFC 6750, section 2.1: <https://www.rfc-editor.org/rfc/rfc6750#section-2.1>
    pub fn new(secret: &str) -> Result<Self, TokenError> {
        let is_sendable = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if !secret.bytes().all(is_sendable) {
            return Err(TokenError::Unsendable);
        }
        if secret.len() < LENGTH_MIN {
            return Err(TokenError::Short);
        }
        Ok(Self(digest(secret)))
    }

    /// Whether this is it. Takes as long for each that is wrong.
    pub(super) fn is(&self, offered: &str) -> bool {
        let own = self.0.clone().finalize().into_bytes();
        digest(offered).verify(&own).is_ok()
    }
}

/// Of one length for all, so that a comparison does not tell the length either.
fn digest(secret: &str) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(b"kops-mirror token");
    mac.expect("a key of any length will do")
        .chain_update(secret)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "correct-horse-battery-staple";

    #[test]
    fn only_the_very_same_is_it() {
        let token = Token::new(SECRET).unwrap();
        assert!(token.is(SECRET));
        for other in [
            "",
            "correct-horse-battery-stapl",
            "correct-horse-battery-staple ",
            "Correct-horse-battery-staple",
        ] {
            assert!(!token.is(other), "{other}");
        }
    }

    #[test]
    fn it_is_not_shown() {
        let token = Token::new(SECRET).unwrap();
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn what_can_be_guessed_or_not_be_sent_is_none() {
        let error = |secret| Token::new(secret).unwrap_err();
        assert_eq!(error(""), TokenError::Short);
        assert_eq!(error("fifteen-letters"), TokenError::Short);
        assert_eq!(
            error("correct horse battery staple"),
            TokenError::Unsendable
        );
    }
}
