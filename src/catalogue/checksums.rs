use crate::digest::{Algorithm, Digest, NotADigest};
pub fn of_file(_c: &[u8], _a: Algorithm, _n: &str) -> Result<Digest, NotADigest> {
    "".parse()
}
pub fn in_list(_c: &[u8], _a: Algorithm, _n: &str) -> Result<Digest, NotADigest> {
    "".parse()
}
